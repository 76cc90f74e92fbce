"""The fields of a well are chosen by its own lots, whatever happens elsewhere."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcs_utils.data import sampling
from hcs_utils.errors import InputError


def manifest(plates: int = 3, wells: int = 6, fields: int = 9) -> pd.DataFrame:
    """Two wells in six are controls, one of each kind."""
    k = np.arange(plates * wells * fields)
    plate, well = k // (wells * fields), k // fields % wells
    frame = pd.DataFrame({"plate": plate, "well": well, "site": k % fields + 1})
    frame = frame.assign(
        plate="p" + frame["plate"].astype(str), well="A0" + (frame["well"] + 1).astype(str)
    )
    role = np.where(well % 6 == 0, "negcon", np.where(well % 6 == 1, "poscon", "trt"))
    ids = frame["plate"] + "_" + frame["well"] + "_" + frame["site"].astype(str)
    return frame.assign(site_id=ids, role=role)


def chosen(frame: pd.DataFrame, **options) -> set[str]:
    return set(sampling.sample_fields(frame, **options)["site_id"])


def test_a_slow_loop_chooses_the_same():
    frame = manifest()
    lot = pd.Series(sampling.lots(7, frame["plate"], frame["well"], frame["site_id"]))
    expected = []
    for (_, _, role), part in frame.groupby(["plate", "well", "role"]):
        order = lot[part.index].sort_values().index[: 6 if role == "trt" else 3]
        expected += part.loc[order, "site_id"].tolist()
    assert chosen(frame, seed=7) == set(expected)


def test_the_papers_counts_are_six_of_a_treated_well_and_three_of_a_control():
    frame = manifest()
    kept = sampling.kept(frame, sampling.sample_fields(frame))
    assert (kept["there"] == 9).all() and len(kept) == 18
    assert kept.groupby("role")["kept"].agg(["min", "max"]).to_dict("index") == {
        "negcon": {"min": 3, "max": 3},
        "poscon": {"min": 3, "max": 3},
        "trt": {"min": 6, "max": 6},
    }


def test_zero_keeps_all_and_a_small_well_keeps_what_it_has():
    frame = manifest(fields=2)
    pd.testing.assert_frame_equal(sampling.sample_fields(frame), frame)
    frame = manifest()
    pd.testing.assert_frame_equal(sampling.sample_fields(frame, 0, 0), frame)
    assert sampling.sample_fields(frame, 0, 1)["role"].value_counts().to_dict() == {
        "trt": 108,
        "negcon": 3,
        "poscon": 3,
    }


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_other_wells_and_the_order_of_rows_do_not_matter(random, seed):
    frame = manifest()
    whole = chosen(frame, seed=seed)
    rows = list(range(len(frame)))
    random.shuffle(rows)
    shuffled = frame.iloc[rows]
    assert chosen(shuffled, seed=seed) == whole
    wells = random.sample(sorted({*zip(frame["plate"], frame["well"], strict=True)}), 5)
    part = shuffled[
        [pair in wells for pair in zip(shuffled["plate"], shuffled["well"], strict=True)]
    ]
    assert chosen(part, seed=seed) == whole & set(part["site_id"])
    unread = random.sample(sorted(set(frame["site_id"]) - whole), 9)  # their loss changes nothing
    assert chosen(frame[~frame["site_id"].isin(unread)], seed=seed) == whole


def test_rows_stay_in_order_with_all_columns():
    frame = manifest().sample(frac=1, random_state=0).assign(moa="x")
    got = sampling.sample_fields(frame)
    assert got["site_id"].tolist() == [s for s in frame["site_id"] if s in set(got["site_id"])]
    assert list(got.columns) == list(frame.columns) and got.index.equals(pd.RangeIndex(len(got)))


def test_seeds_choose_differently_and_every_field_equally_often():
    frame = manifest(plates=1, wells=3, fields=9).assign(role="trt")
    times = sum(
        sampling.sample_fields(frame, 3, seed=s)["site"]
        .value_counts()
        .reindex(range(1, 10))
        .fillna(0)
        for s in range(200)
    )
    assert times.sum() == 200 * 9 and times.between(140, 260).all()  # 200 expected, sd 12


def test_lots_are_the_same_in_every_process_and_were_so_before():
    code = (
        "import pandas as pd; from hcs_utils.data.sampling import lots;"
        "print(lots(3, pd.Series(['p1', 'p1']), pd.Series(['A01', 'A02'])).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "5"},
    ).stdout  # fmt: skip
    here = sampling.lots(3, pd.Series(["p1", "p1"]), pd.Series(["A01", "A02"])).tolist()
    assert out.strip() == str(here) == "[12413135433965572918, 8731773144611860230]"
    assert sampling.lots(3, pd.Series(["ab"]), pd.Series(["c"])) != sampling.lots(
        3, pd.Series(["a"]), pd.Series(["bc"])
    )


def test_counts_that_are_none_are_refused():
    with pytest.raises(InputError, match="treatment is -1"):
        sampling.sample_fields(manifest(), treatment=-1)
    assert sampling.sample_fields(manifest().iloc[:0]).empty

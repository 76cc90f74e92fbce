"""Parts of the training fields: what each keeps, whatever the order of the rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcs_utils.data import subsets
from hcs_utils.errors import InputError

ROLE = {"DMSO": "negcon", "p1": "poscon", "p2": "poscon"}


@st.composite
def manifests(draw):
    """Up to 40 fields of some treatments on three plates, in any order, with a split."""
    fields = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["DMSO", "p1", "p2", "a", "b", "c", "d", "e"]),
                st.sampled_from(["P1", "P2", "P3"]),
                st.sampled_from(["A01", "A02", "B01"]),
                st.integers(1, 12),
            ),
            unique_by=lambda f: f[1:], max_size=40,
        )
    )  # fmt: skip
    table = pd.DataFrame(fields, columns=["treatment", "plate", "well", "site"])
    table["role"] = table["treatment"].map(ROLE).fillna("trt").astype(str)
    table["site_id"] = table["plate"] + table["well"] + table["site"].astype(str)
    table["split"] = table["plate"].map({"P1": "train", "P2": "train", "P3": "test"}).astype(str)
    return table


def released(table):
    """RxRx1's two images of a treatment on a plate: the code drops the first, by its order."""
    ids = table["treatment"] + table["plate"]
    return (table["role"] != "trt") | ids.duplicated(keep="first")


@given(manifests())
@settings(max_examples=40, deadline=None)
def test_each_subset_keeps_what_its_name_says(table):
    role, treated = table["role"], table["role"] == "trt"
    got = {name: subsets.kept(table, name) for name in subsets.SUBSETS}
    assert got["all"].all()
    assert (got["controls"] == role.isin(["negcon", "poscon"])).all()
    assert (got["treatments"] == ~got["controls"]).all()
    names = sorted(table.loc[treated, "treatment"].unique())
    assert set(table.loc[got["half"] & treated, "treatment"]) == set(names[1::2])
    for name in ("half", "half_released"):
        assert got[name][~treated].all()
    for _, rows in table[treated].groupby(["plate", "treatment"]):
        fields = rows.sort_values(["well", "site"]).index
        assert got["half_released"][fields].tolist() == [k % 2 == 1 for k in range(len(fields))]
        assert len(set(got["half"][fields])) == 1  # a treatment whole, or not at all


@given(manifests(), st.randoms())
@settings(max_examples=40, deadline=None)
def test_neither_the_order_of_rows_nor_other_plates_matter(table, random):
    order = random.sample(range(len(table)), len(table))
    for name in subsets.SUBSETS:
        assert subsets.kept(table.iloc[order], name).tolist() == (
            subsets.kept(table, name)[order].tolist()
        )
    train = (table["split"] == "train").to_numpy()
    for name in ("controls", "treatments", "half_released"):
        alone = subsets.kept(table[train], name)
        assert alone.tolist() == subsets.kept(table, name)[train].tolist()


@pytest.fixture
def table():
    """Two plates to train on and one to test, two fields of each treatment, as RxRx1."""
    names = ["DMSO", "p1", *"abcd"]
    rows = [(p, n, f"A{k + 1:02d}", s) for p in (1, 2, 3) for k, n in enumerate(names)
            for s in (1, 2)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["plate", "treatment", "well", "site"])
    table["plate"] = "P" + table["plate"].astype(str)
    table["role"] = table["treatment"].map(ROLE).fillna("trt").astype(str)
    table["site_id"] = np.arange(len(table)).astype(str)
    return table.assign(split=np.where(table["plate"] == "P3", "test", "train"))


def test_two_fields_of_a_treatment_on_a_plate_go_as_in_the_released_code(table):
    assert (subsets.kept(table, "half_released") == released(table)).all()


def test_training_rows_are_the_training_part_of_the_subset(table):
    for name, count in dict(all=24, controls=8, treatments=16, half=16, half_released=16).items():
        rows = subsets.training_rows(table, name)
        assert len(rows) == count and (np.diff(rows) > 0).all()
        assert set(table["split"].iloc[rows]) == {"train"}
        assert subsets.kept(table, name)[rows].all()
    assert set(table["treatment"].iloc[subsets.training_rows(table, "half")]) == {
        "DMSO", "p1", "b", "d"
    }  # fmt: skip


def test_nothing_or_one_treatment_left_is_told(table):
    bare = table[table["role"] == "trt"]
    nothing = r"'controls' leaves no field of the training part.*poscon"
    with pytest.raises(InputError, match=nothing):
        subsets.training_rows(bare, "controls")
    with pytest.raises(InputError, match=r"leaves one treatment only \(DMSO\).*two treatments"):
        subsets.training_rows(table[table["treatment"] != "p1"], "controls")
    with pytest.raises(InputError, match=r"one treatment only \(b\)"):
        subsets.training_rows(bare[bare["treatment"] < "d"], "half")
    with pytest.raises(InputError, match="Unknown subset 'thirds'; there are: all, controls"):
        subsets.kept(table, "thirds")

"""Labels by lot: balanced, nested, one a field, and never a plate on both sides."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_utils.data import label_draws
from hcs_utils.errors import InputError


def crops(plates=12, fields=20, each=3):
    plate = np.repeat(np.arange(plates), fields * each)
    frame = pd.DataFrame({"plate": [f"P{k:02d}" for k in plate]})
    frame["field"] = np.arange(len(frame)) // each
    frame["site_id"] = [f"s{k}" for k in range(len(frame))]
    return frame.assign(abnormal=frame["field"] % 3 == 0)


def test_a_plate_never_straddles_and_parts_have_their_shares():
    table = crops().sample(frac=1, random_state=0)
    for seed in range(5):
        part = label_draws.split(table, seed, test_share=0.4)
        assert part.index.equals(table.index) and set(part) == {"train", "val", "test"}
        assert part.groupby(table["plate"]).nunique().eq(1).all()
        assert 0.3 < part.eq("test").mean() < 0.5
    same = label_draws.split(table.sort_index(), 4, test_share=0.4)
    pd.testing.assert_series_equal(part.sort_index(), same)
    with pytest.raises(InputError, match="Crops of 2 plates"):
        label_draws.split(crops(plates=2))


@given(st.integers(0, 50), st.integers(2, 100))
def test_a_draw_is_balanced_from_the_pool_and_one_crop_a_field(seed, budget):
    table = crops(plates=9)  # 60 abnormal fields, 120 normal
    pool = np.flatnonzero(table["plate"] != "P00")
    abnormal, field = table["abnormal"].to_numpy(), table["field"].to_numpy()
    chosen = label_draws.draw(abnormal, field, pool, budget, seed)
    assert len(np.unique(chosen)) == budget and np.isin(chosen, pool).all()
    assert abnormal[chosen].sum() == budget // 2
    fields = table["field"].iloc[chosen]
    assert fields.is_unique  # up to 50 of each of at least 53 fields
    np.testing.assert_array_equal(
        chosen, label_draws.draw(abnormal, field, pool[::-1].copy(), budget, seed)
    )


def test_draws_are_nested_and_differ_by_seed():
    table = crops(plates=20, fields=40)
    abnormal, field = table["abnormal"].to_numpy(), table["field"].to_numpy()
    rows = np.arange(len(table))
    draws = [label_draws.draw(abnormal, field, rows, b, 3) for b in label_draws.BUDGETS]
    for larger, smaller in itertools.pairwise(draws):
        assert set(smaller) < set(larger)
    other = label_draws.draw(abnormal, field, rows, 10, 4)
    assert set(other) != set(draws[-1])
    often = np.bincount(
        np.concatenate([label_draws.draw(abnormal, field, rows, 10, k) for k in range(200)]),
        minlength=len(rows),
    )
    assert often.max() < 12  # of 200 draws, each of 5 out of 800 or 1600


def test_a_second_crop_of_a_field_comes_only_when_fields_are_used_up():
    table = crops(plates=1, fields=9)  # 3 abnormal fields, 6 normal, 3 crops each
    abnormal, field = table["abnormal"].to_numpy(), table["field"].to_numpy()
    chosen = label_draws.draw(abnormal, field, np.arange(27), 8, 0)
    counts = table.iloc[chosen].groupby("abnormal")["field"].nunique()
    assert counts[True] == 3 and counts[False] == 4
    assert len(label_draws.draw(abnormal, field, np.arange(27), 19, 0)) == 19


def test_what_cannot_be_drawn_is_told_with_numbers():
    table = crops(plates=1, fields=9)
    abnormal, field = table["abnormal"].to_numpy(), table["field"].to_numpy()
    rows = np.arange(27)
    with pytest.raises(InputError, match="fewer than the two classes"):
        label_draws.draw(abnormal, field, rows, 1, 0)
    with pytest.raises(InputError, match="One class only: there are 18 normal and 0 abnormal"):
        label_draws.draw(abnormal, field, rows[~abnormal], 4, 0)
    with pytest.raises(InputError, match=r"18 normal and 9 abnormal crops. .* budget is 19"):
        label_draws.draw(abnormal, field, rows, 50, 0)

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from hcs_utils.errors import InputError
from hcs_utils.evaluation.aggregation import aggregate
from tests import oracles_postprocess as oracles
from tests.evaluation.planted import quick, seeds


def sites(seed=0, n=60):
    """Two plates of four wells with a few sites each; the treatment belongs to the well."""
    rng = np.random.default_rng(seed)
    plate, well = rng.integers(0, 2, n), rng.integers(0, 4, n)
    table = pd.DataFrame(
        {
            "site_id": [f"s{k}" for k in range(n)],
            "plate": [f"P{p}" for p in plate],
            "well": [f"A0{w + 1}" for w in well],
            "treatment": [f"T{w}" for w in well],
            "dose_um": np.where(well == 0, np.nan, well * 1.5),
            "cells": rng.integers(1, 90, n),
        }
    )
    return table, rng.normal(size=(n, 3))


@given(seeds)
@quick
def test_agrees_with_the_loop_and_with_pandas(seed):
    table, features = sites(seed)
    keys = list(zip(table["plate"], table["well"], strict=True))
    for how in ("median", "mean"):
        out, values = aggregate(table, features, how=how)
        np.testing.assert_allclose(values, oracles.aggregate(keys, features, how), atol=1e-12)
        theirs = pd.DataFrame(features).groupby([table["plate"], table["well"]]).agg(how)
        np.testing.assert_allclose(values, theirs.to_numpy(), atol=1e-12)
        assert list(zip(out["plate"], out["well"], strict=True)) == list(theirs.index)


@given(seeds)
@quick
def test_order_of_rows_does_not_matter(seed):
    table, features = sites(seed)
    order = np.random.default_rng(seed + 1).permutation(len(table))
    first = aggregate(table, features, "treatment", "mean", weight="cells")
    second = aggregate(table.iloc[order], features[order], "treatment", "mean", weight="cells")
    pd.testing.assert_frame_equal(first[0], second[0])
    np.testing.assert_allclose(first[1], second[1], atol=1e-12)


def test_columns_that_are_constant_in_every_group_stay():
    table, features = sites()
    out, _ = aggregate(table, features)
    assert list(out.columns) == ["plate", "well", "treatment", "dose_um", "rows"]
    assert out["rows"].sum() == 60 and len(out) == 8
    by_well = out.set_index(["plate", "well"])
    assert by_well.loc[("P1", "A03"), "treatment"] == "T2"
    assert by_well["dose_um"].isna().sum() == 2  # missing throughout the group
    only, _ = aggregate(table, features, keep=["treatment"])
    assert list(only.columns) == ["plate", "well", "treatment", "rows"]


def test_site_to_well_to_treatment_weighted_by_rows_is_the_mean_of_sites():
    table, features = sites()
    wells, at_wells = aggregate(table, features, how="mean")
    out, found = aggregate(wells, at_wells, "treatment", "mean", weight="rows")
    _, direct = aggregate(table, features, "treatment", "mean")
    np.testing.assert_allclose(found, direct, atol=1e-12)
    assert out["rows"].tolist() == table.groupby("treatment").size().tolist()
    _, unweighted = aggregate(wells, at_wells, "treatment", "mean")
    assert np.abs(unweighted - direct).max() > 1e-3
    keys, weights = table["treatment"], table["cells"]
    _, by_cells = aggregate(table, features, "treatment", "mean", weight="cells")
    slow = oracles.aggregate(keys.tolist(), features, "mean", weights)
    np.testing.assert_allclose(by_cells, slow, atol=1e-12)


def test_one_row_a_group_is_the_table_itself():
    table, features = sites()
    out, values = aggregate(table, features, "site_id")
    order = np.argsort(table["site_id"].to_numpy(str))
    np.testing.assert_array_equal(values, features[order])
    assert set(out.columns) == {*table.columns, "rows"}


def test_bad_input_is_told():
    table, features = sites()
    with pytest.raises(InputError, match=r"vary within a group of plate, well .*: site_id, cells"):
        aggregate(table, features, keep=["site_id", "treatment", "cells"])
    with pytest.raises(InputError, match="no column batch, day; it has site_id"):
        aggregate(table, features, ("batch", "plate"), keep=["day"])
    with pytest.raises(InputError, match='how must be "median" or "mean"'):
        aggregate(table, features, how="max")
    with pytest.raises(InputError, match='A weight is for how="mean"'):
        aggregate(table, features, weight="cells")
    with pytest.raises(InputError, match="60 rows and features 59"):
        aggregate(table, features[:-1])
    with pytest.raises(InputError, match=r"dose_um in 1[0-9] rows"):
        aggregate(table, features, "dose_um")
    with pytest.raises(InputError, match="must be above 0 in every row; it is not in row 0"):
        aggregate(table.assign(cells=np.arange(60)), features, how="mean", weight="cells")
    with pytest.raises(InputError, match="no column count"):
        aggregate(table, features, how="mean", weight="count")
    with pytest.raises(InputError, match="at least one column"):
        aggregate(table, features, [])
    features[5, 0] = np.inf
    with pytest.raises(InputError, match="first is row 5"):
        aggregate(table, features)

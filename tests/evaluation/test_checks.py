import numpy as np
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import checks


def test_tables_come_back_as_float64_with_one_batch_where_none_is_given():
    features, batch = checks.features_and_batch([[1, 2], [3, 4]])
    assert features.dtype == np.float64 and batch.tolist() == [0, 0]


def test_missing_names_are_told_by_row():
    with pytest.raises(InputError, match="batch is missing in row 1, row 2"):
        checks.features_and_batch(np.ones((3, 1)), np.array(["a", None, np.nan], dtype=object))
    with pytest.raises(InputError, match="and 5 more"):
        checks.features_and_batch(np.ones((25, 1)), np.full(25, np.nan), "day")


def test_empty_and_flat_tables_are_told():
    for bad in (np.empty((0, 3)), np.empty((3, 0)), np.ones(3), np.ones((2, 2, 2))):
        with pytest.raises(InputError, match="table"):
            checks.features_and_batch(bad)


def test_controls_are_a_mask():
    assert checks.controls([True, False], 2).tolist() == [True, False]
    for bad in ([1, 0], [True], ["negcon", "trt"]):
        with pytest.raises(InputError, match="one True or False for each of the 2 rows"):
            checks.controls(bad, 2)


def test_batches_with_too_few_rows_are_all_listed():
    batch = np.array(["a", "a", "b", "c", "c"])
    enough = np.array(["a", "c", "a", "c"])
    names, code = checks.enough_in_each(enough, np.ones(4, bool), "It", "rows", "leave them out")
    assert names.tolist() == ["a", "c"] and code.tolist() == [0, 1, 0, 1]
    with pytest.raises(InputError, match="It needs at least two rows in every batch: b has 1, c"):
        checks.enough_in_each(batch, np.arange(5) != 4, "It", "rows", "leave them out")

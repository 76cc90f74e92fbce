"""Splits follow the paper's table, use every batch once, and never mix."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_utils.data.splits import assert_disjoint, batch_folds, leave_one_out, split_sites
from hcs_utils.errors import InputError

HUVEC = [f"HUVEC-{k:02d}" for k in range(1, 25)]
TABLE = {  # RxRx1-HUVEC: first batch (from 0) of train, of val, of test
    1: (0, 16, 20),
    2: (4, 20, 0),
    3: (8, 0, 4),
    4: (12, 4, 8),
    5: (16, 8, 12),
    6: (20, 12, 16),
}


@pytest.mark.parametrize("fold", TABLE)
def test_24_batches_give_the_folds_of_the_paper(fold):
    got = batch_folds(reversed(HUVEC), fold)
    for part, first, length in zip(("train", "val", "test"), TABLE[fold], (16, 4, 4), strict=True):
        assert got[part] == [HUVEC[(first + k) % 24] for k in range(length)]


@given(n=st.integers(3, 40), folds=st.integers(3, 40), fold=st.integers(1, 40))
def test_every_batch_is_in_exactly_one_part(n, folds, fold):
    names = [f"b{k:02d}" for k in range(n)]
    if folds > n or fold > folds:
        with pytest.raises(InputError):
            batch_folds(names, fold, folds)
        return
    got = batch_folds(names, fold, folds)
    assert sorted(got["train"] + got["val"] + got["test"]) == names
    assert len(got["val"]) == len(got["test"]) == n // folds
    assert got["train"]


def test_when_folds_divide_the_batches_each_is_tested_once_and_validated_once():
    for part in ("val", "test"):
        assert sorted(b for fold in range(1, 7) for b in batch_folds(HUVEC, fold)[part]) == HUVEC


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["b1"], 1), "3 batches or more; there are 1"),
        ((["b1", "b2", "b1"], 1, 3), "there are 2"),
        ((["b1", "b2", "b3"], 1), "choose 3 to 3"),
        ((HUVEC, 0), "fold is 0; choose 1 to 6"),
        ((HUVEC, 7), "fold is 7; choose 1 to 6"),
        ((HUVEC, 1, 2), "choose 3 to 24"),
    ],
)
def test_impossible_folds_say_what_is_possible(arguments, words):
    with pytest.raises(InputError, match=words):
        batch_folds(*arguments)


def test_leave_one_out_tests_each_group_once():
    plates = ["p2", "p1", "p3", "p1"]
    assert leave_one_out(plates, 2) == {"train": ["p1", "p3"], "val": [], "test": ["p2"]}
    assert [leave_one_out(plates, fold)["test"] for fold in (1, 2, 3)] == [["p1"], ["p2"], ["p3"]]
    with pytest.raises(InputError, match="choose 1 to 3"):
        leave_one_out(plates, 4)
    with pytest.raises(InputError, match="2 groups or more"):
        leave_one_out(["p1"], 1)


@pytest.fixture
def manifest():
    return pd.DataFrame(
        {
            "site_id": list("abcdef"),
            "batch": ["b1", "b1", "b2", "b2", "b3", "b4"],
            "compound": ["x", "y", "x", "z", "y", "w"],
        }
    )


def test_sites_follow_their_batch(manifest):
    split = split_sites(manifest, {"train": ["b1"], "val": [], "test": ["b3", "b2"]})
    assert split.to_dict() == dict(
        zip("abcdef", ["train", "train", "test", "test", "test", ""], strict=True)
    )
    assert_disjoint(manifest, split, "batch")


def test_a_value_in_two_parts_is_found_and_named(manifest):
    split = split_sites(manifest, {"train": ["b1"], "test": ["b2", "b3"]})
    with pytest.raises(InputError, match=r"2 values of compound") as caught:
        assert_disjoint(manifest, split, "compound")
    assert "x: test, train" in str(caught.value) and "z" not in str(caught.value)


def test_unknown_and_repeated_names_are_refused(manifest):
    with pytest.raises(InputError, match=r"No batch is called 'B1' \(nearest: b1"):
        split_sites(manifest, {"train": ["B1"]})
    with pytest.raises(InputError, match="'b1' is in both train and test"):
        split_sites(manifest, {"train": ["b1"], "test": ["b1"]})

"""Splits follow the paper's table, use every batch once, and never mix."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcs_utils.data.splits import (
    assert_disjoint,
    batch_folds,
    grouped_folds,
    grouped_split,
    groups,
    leave_one_out,
    split_sites,
)
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


@settings(deadline=None)
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


MOLECULES = [  # SMILES; rings joined by the letter of their scaffold, "" for none
    ("c1ccccc1O", "b"),
    ("Cc1ccccc1", "b"),
    ("c1ccncc1C", "p"),
    ("N[C@@H](C)C(=O)O", ""),
    ("N[C@H](C)C(=O)O", ""),
    ("CCO", ""),
    ("C1CCCCC1CC", "h"),
    ("", ""),
]


def screen(wells, seed=0):
    """A screen of so many wells of 1 … 4 fields, everything drawn, molecules among `MOLECULES`."""
    rng = np.random.default_rng(seed)
    fields = rng.integers(1, 5, wells)
    molecule = rng.integers(0, 24, wells)  # compound c3 has the molecule 3, as have c11 and c19
    well = pd.DataFrame(
        {
            "plate": [f"p{k}" for k in rng.integers(0, 12, wells)],
            "well": [f"{chr(65 + k % 16)}{k // 16 % 24 + 1:02d}" for k in range(wells)],
            "compound": [f"c{k}" for k in molecule],
            "smiles": [MOLECULES[k % 8][0] for k in molecule],
            "role": np.where(rng.random(wells) < 0.2, "negcon", "trt"),
        }
    )
    well.loc[well["role"] == "negcon", ["compound", "smiles"]] = ["DMSO", "CS(C)=O"]
    rows = well.loc[np.repeat(np.arange(wells), fields)].reset_index(drop=True)
    rows["treatment"] = rows["compound"]
    number = rows["plate"].str[1:].astype(int)
    rows["batch"], rows["source"] = "b" + (number // 2).astype(str), "s" + (number // 4).astype(str)
    return rows.assign(site_id=[f"s{k}" for k in range(len(rows))])


BY = ("batch", "plate", "source", "well", "treatment", "compound", "scaffold")


@settings(max_examples=30, deadline=None)
@given(
    by=st.sampled_from(BY),
    wells=st.integers(150, 250),
    seed=st.integers(0, 99),
    controls=st.sampled_from(["spread", "group"]),
    shares=st.sampled_from([(8, 1, 1), (1, 1, 1), (0.5, 0.3, 0.2), (6, 3, 1)]),
)
def test_no_group_straddles_every_site_has_one_part_and_shares_are_met(
    by, wells, seed, controls, shares
):
    table = screen(wells, seed)
    fractions = dict(zip(("train", "val", "test"), shares, strict=True))
    split = grouped_split(table, by, fractions, seed, controls)
    assert split.index.tolist() == table["site_id"].tolist()
    assert set(split) == {"train", "val", "test"}
    part = split.to_numpy()
    spread = by in ("compound", "scaffold") and controls == "spread"
    grouped = ~(spread & (table["role"] == "negcon")).to_numpy()
    group = groups(table, by)[grouped]
    assert (pd.Series(part[grouped]).groupby(group.to_numpy()).nunique() == 1).all()
    wells_of = table["plate"] + table["well"]
    assert (pd.Series(part).groupby(wells_of.to_numpy()).nunique() == 1).all()
    largest = group.value_counts(normalize=True).max()
    for name, share in fractions.items():
        met = (part[grouped] == name).mean()
        assert abs(met - share / sum(shares)) <= 3 * largest  # parts - 1, and a last one
    again = table.sample(frac=1, random_state=seed)
    pd.testing.assert_series_equal(
        grouped_split(again, by, fractions, seed, controls).sort_index(), split.sort_index()
    )
    if by in ("well", "compound"):
        other = grouped_split(table, by, fractions, seed + 1, controls)
        assert (other.to_numpy() != part).any()


@settings(max_examples=15, deadline=None)
@given(by=st.sampled_from(["plate", "well", "compound"]), seed=st.integers(0, 99))
def test_each_group_is_tested_once_and_validated_once(by, seed):
    table = screen(200, seed)
    parts = pd.concat({f: grouped_folds(table, by, 4, f, seed) for f in (1, 2, 3, 4)}, axis=1)
    counts = parts.apply(lambda row: row.value_counts(), axis=1)
    assert (counts[["train", "val", "test"]] == [2, 1, 1]).all(axis=None)
    group = groups(table, by)
    for fold in parts:
        treated = (table["role"] == "trt").to_numpy()
        one = parts[fold][treated].groupby(group[treated].to_numpy()).nunique()
        assert (one == 1).all()


def partition(group):
    return {frozenset(rows) for rows in pd.Series(group).groupby(group).groups.values()}


def test_compounds_of_one_molecule_are_one_group_and_scaffolds_join_them():
    smiles = [one for one, _ in MOLECULES] + ["Oc1ccccc1", "c1ccccc1CC"]
    names = [f"c{k}" for k in range(len(smiles))]
    table = pd.DataFrame({"compound": names, "smiles": smiles, "treatment": names})
    by_compound = partition(groups(table, "compound"))
    # phenol is written twice; the two alanines are stereoisomers
    assert by_compound == {
        frozenset(rows) for rows in [{0, 8}, {1}, {2}, {3, 4}, {5}, {6}, {7}, {9}]
    }
    by_scaffold = partition(groups(table, "scaffold"))
    # benzenes together; what has no ring, or no SMILES, by itself
    assert by_scaffold == {frozenset(rows) for rows in [{0, 1, 8, 9}, {2}, {3, 4}, {5}, {6}, {7}]}


def test_one_name_with_two_molecules_joins_their_scaffolds():
    table = pd.DataFrame(
        {
            "compound": ["x", "x", "y", "z", "w"],
            "smiles": ["c1ccccc1O", "c1ccncc1C", "Cc1ccccc1", "Cc1ccncc1", "CCO"],
            "treatment": "t",
        }
    )
    assert partition(groups(table, "scaffold")) == {frozenset({0, 1, 2, 3}), frozenset({4})}
    assert partition(groups(table, "compound")) == {
        frozenset(rows) for rows in [{0, 1}, {2}, {3}, {4}]
    }


def test_given_inchikeys_are_believed_and_no_name_means_the_treatment():
    table = pd.DataFrame(
        {
            "compound": ["a", "b", "", ""],
            "smiles": "",
            "treatment": ["a", "b", "u", "v"],
            "inchikey": ["QTBSBXVTEAMEQO-UHFFFAOYSA-N", "QTBSBXVTEAMEQO-UHFFFAOYSA-M", "", ""],
        }
    )
    got = partition(groups(table, "compound"))
    assert got == {frozenset({0, 1}), frozenset({2}), frozenset({3})}


def test_bad_smiles_are_all_named():
    table = pd.DataFrame({"compound": list("abc"), "treatment": "t"})
    table["smiles"] = ["CCO", "C1CC(", "nonsense"]
    for by in ("compound", "scaffold"):
        with pytest.raises(InputError, match=r"2 SMILES cannot be read") as caught:
            groups(table, by)
        assert "'C1CC('" in str(caught.value) and "'nonsense'" in str(caught.value)
    with pytest.raises(InputError, match=r"no scaffolds\. Split by"):
        groups(table.assign(smiles=""), "scaffold")


def test_controls_are_spread_by_wells_or_stay_together():
    table = screen(240)
    negative = (table["role"] == "negcon").to_numpy()
    spread = grouped_split(table, "compound")
    assert set(spread[negative]) == {"train", "val", "test"}
    together = grouped_split(table, "compound", controls="group")
    assert together[negative].nunique() == 1


def test_only_the_split_named_leaky_parts_the_fields_of_a_well():
    table = screen(240)
    wells = (table["plate"] + table["well"]).to_numpy()
    leaky = grouped_split(table, "leaky_site")
    assert (leaky.groupby(wells).nunique() > 1).any()
    with pytest.raises(InputError, match="values of place occur in more than one part"):
        assert_disjoint(table.assign(place=wells), leaky, "place")
    with pytest.raises(InputError, match="differ in half") as caught:
        grouped_split(table.assign(half=table.index % 2), "half", {"train": 1, "test": 1})
    assert wells[0][:2] in str(caught.value)
    for by in ("site", "site_id", "bach"):
        with pytest.raises(InputError, match="Cannot split by"):
            groups(table, by)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"by": "source", "fractions": dict.fromkeys("abcd", 1)}, "4 groups of source or more"),
        ({"by": "well", "fractions": {"train": 1.0}}, "two or more"),
        ({"by": "well", "fractions": {"train": 1.0, "test": 0}}, "above 0"),
        ({"by": "well", "controls": "all"}, "'spread' or 'group'"),
    ],
)
def test_impossible_splits_say_what_is_possible(arguments, words):
    with pytest.raises(InputError, match=words):
        grouped_split(screen(240), **arguments)


def test_impossible_grouped_folds_too():
    with pytest.raises(InputError, match="3 or more"):
        grouped_folds(screen(20), "well", 2, 1)
    with pytest.raises(InputError, match="choose 1 to 5"):
        grouped_folds(screen(20), "well", 5, 6)

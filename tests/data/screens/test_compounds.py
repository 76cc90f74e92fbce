"""Codes that are far apart, partly explained by structure; MoA, target and dose."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict

from hcs_utils.data.screens import molecules
from hcs_utils.data.screens.compounds import codebook, compounds, effect
from hcs_utils.data.screens.drawing import TRAITS
from hcs_utils.errors import InputError


def columns(table, kind):
    return table[[f"{kind}_{t}" for t in TRAITS]].to_numpy()


def nearest(codes):
    gaps = np.abs(codes[:, None] - codes[None]).sum(-1)
    return gaps[~np.eye(len(codes), dtype=bool)].min()


@pytest.mark.parametrize(("n", "levels", "apart"), [(17, 2, 6), (49, 3, 4), (241, 3, 3)])
def test_codes_are_far_apart(n, levels, apart):
    codes = codebook(n, levels)
    assert codes.shape == (n, len(TRAITS)) and nearest(codes) >= apart
    assert set(np.unique(codes)) == set(np.linspace(-1, 1, levels))
    np.testing.assert_array_equal(codebook(n, levels), codes)
    assert not np.array_equal(codebook(n, levels, seed=1), codes)


def test_hundreds_of_compounds_with_codes_of_any_value():
    table = compounds(700, levels=0)
    assert table["compound"].is_unique and table["smiles"].is_unique
    assert set(table["smiles"]) <= set(molecules.library())
    codes = columns(table, "code")
    assert len(np.unique(codes)) == codes.size and -1 < codes.min() < -0.9 < 0.9 < codes.max() < 1


def test_too_many_compounds_or_codes_are_told():
    with pytest.raises(InputError, match="3201 compounds asked; the library has 3200"):
        compounds(3201)
    with pytest.raises(InputError, match="300 compounds asked, but only 256 distinct codes"):
        compounds(300, levels=2)


def design(table):
    """One column for each scaffold and each substituent: what structure can tell."""
    return pd.get_dummies(table[["scaffold", "on_ring", "on_nitrogen"]].astype(str)).to_numpy(float)


def predicted(table, values):
    """R² of held-out compounds, by a linear rule on the parts of their molecules."""
    guess = cross_val_predict(RidgeCV(np.logspace(-1, 2, 4)), design(table), values, cv=5)
    return 1 - ((values - guess) ** 2).sum() / ((values - values.mean(0)) ** 2).sum()


def test_structure_predicts_its_share_and_nothing_of_the_private_part():
    table = compounds(700, levels=0, structure_share=0.5)
    assert predicted(table, columns(table, "structure")) > 0.99
    assert 0.35 < predicted(table, columns(table, "code")) < 0.55
    assert predicted(table, columns(table, "private")) < 0.05
    both = columns(table, "structure"), columns(table, "private")
    across = [abs(np.corrcoef(a, b)[0, 1]) for a, b in zip(*(x.T for x in both), strict=True)]
    assert max(across) < 0.12  # 3 standard errors of 700


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, -0.1, 0.05), (1.0, 0.9, 1.0)])
def test_the_share_of_structure_runs_from_none_to_all(share, low, high):
    table = compounds(500, levels=0, structure_share=share)
    assert low < predicted(table, columns(table, "code")) < high


def test_structure_predicts_traits_of_levels_too():
    table = compounds(481, levels=3)
    score = predicted(table, columns(table, "code"))
    rng = np.random.default_rng(0)
    assert score > 0.25 > 0.05 > predicted(table, rng.permutation(columns(table, "code")))


def test_compounds_of_one_moa_look_alike_and_share_few_targets():
    table = compounds(241, levels=3)
    assert 8 <= table["moa"].nunique() <= 24
    assert table.groupby("target")["moa"].nunique().eq(1).all()
    assert table.groupby("moa")["target"].nunique().max() == 2
    codes, moa = columns(table, "code"), table["moa"].to_numpy()
    gaps = np.abs(codes[:, None] - codes[None]).sum(-1)
    same = moa[:, None] == moa[None]
    other = ~same
    np.fill_diagonal(same, False)
    assert gaps[same].mean() < 0.8 * gaps[other].mean()


def test_scaffolds_lean_towards_some_moas():
    table = compounds(700, levels=0)
    counts = pd.crosstab(table["scaffold"], table["moa"])
    shuffled = np.random.default_rng(0).permutation(table["moa"])
    null = pd.crosstab(table["scaffold"], shuffled)
    assert counts.to_numpy().var() > 1.5 * null.to_numpy().var()


@given(
    dose=st.lists(st.floats(0, 1e4), min_size=2, max_size=2, unique=True).map(sorted),
    ec50=st.floats(0.01, 100),
)
@settings(max_examples=50)
def test_a_higher_dose_never_does_less(dose, ec50):
    low, high = effect(np.array(dose), ec50)
    assert 0 <= low <= high <= 1
    assert effect(ec50, ec50) == pytest.approx(0.5)

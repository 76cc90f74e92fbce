"""Rows to ask about lie far apart; a few answers find what was planted."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from hcs_utils.errors import InputError
from hcs_utils.evaluation import suggestions


def test_features_get_one_scale_and_odd_rows_are_cut_off():
    rng = np.random.default_rng(0)
    values = rng.normal(7, 3, (2000, 4))
    values[:, 1] *= 1e6
    values[:, 2] = 5.0  # says nothing
    values[:1100, 3] = 0.0  # both quartiles may be one
    values[0, 0], values[1, 0] = 1e9, np.nan
    x = suggestions.standardised(values)
    assert x.shape == (2000, 3) and x.dtype == np.float32 and np.isfinite(x).all()
    assert np.abs(np.median(x, 0)).max() < 1e-6 and x[0, 0] == 5 and x[1, 0] == 0
    assert np.abs(x[2:, :2].std(0) - 1).max() < 0.1
    np.testing.assert_allclose(suggestions.standardised(values * 8 - 3)[2:], x[2:], atol=1e-4)


def test_features_that_say_nothing_are_refused():
    for values in (np.ones((5, 2)), np.full((5, 1), np.nan), np.full((9, 1), 0.1) * 3):
        with pytest.raises(InputError, match="same for all rows"):
            suggestions.standardised(values)


def test_principal_components_are_those_of_another_package():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200, 9)) @ rng.normal(size=(9, 9)) + 3).astype(np.float32)
    got, want = suggestions.principal(x, 4), PCA(4, svd_solver="full").fit_transform(x)
    np.testing.assert_allclose(np.abs(got), np.abs(want), atol=1e-3)
    np.testing.assert_allclose(suggestions.principal(x, 20).var(0).sum(), x.var(0).sum(), rtol=1e-4)
    assert suggestions.principal(x[:, :2]).shape == (200, 2)


def brute_force(x, free, done, group, count):
    """The rule, word by word."""
    chosen = []
    for _ in range(count):
        seen = [*done, *chosen]
        left = [row for row in free if row not in chosen]
        fresh = [row for row in left if group[row] not in {group[s] for s in seen}] or left
        if seen:
            near = [min(((x[row] - x[s]) ** 2).sum() for s in seen) for row in fresh]
            chosen.append(fresh[int(np.argmax(near))])
        else:
            chosen.append(fresh[int(np.argmin([(x[row] ** 2).sum() for row in fresh]))])
    return chosen


@pytest.mark.parametrize("done", [[], [3], [3, 8, 20]])
def test_farthest_first_is_the_rule_word_by_word(done):
    rng = np.random.default_rng(len(done))
    x = rng.normal(size=(40, 3)).astype(np.float32).astype(np.float64)
    group = np.arange(40) // 4  # ten groups, so that the last rows are second ones
    free = np.setdiff1d(np.arange(40), done)
    got = suggestions.farthest_first(x, free, np.array(done, int), group, 14)
    assert got == brute_force(x, free, done, group, 14)
    assert len(set(got)) == 14 and not set(got) & set(done)
    assert len(set(group[got[: 10 - len(set(group[done]))]])) == 10 - len(set(group[done]))


def test_farthest_first_finds_every_island_and_no_more_than_there_is():
    rng = np.random.default_rng(0)
    at = np.repeat(np.eye(6) * 20, [200, 5, 5, 5, 5, 5], axis=0)
    x = at + rng.normal(size=at.shape)
    island = at.argmax(1)
    free = np.arange(len(x))
    first = suggestions.farthest_first(x, free, np.empty(0, int), free, 6)
    assert set(island[first]) == set(range(6))  # random rows would take 45 to see one of each
    assert len(suggestions.farthest_first(x[:4], free[:4], free[:0], free[:4], 9)) == 4


@pytest.mark.parametrize("model", suggestions.MODELS)
def test_a_few_answers_find_what_was_planted(model):
    rng = np.random.default_rng(0)
    abnormal = rng.random(500) < 0.3
    x = rng.normal(size=(500, 8)) + 3 * abnormal[:, None] * np.eye(8)[0]
    rows = np.concatenate([np.flatnonzero(abnormal)[:8], np.flatnonzero(~abnormal)[:12]])
    p = suggestions.probability(x, rows, abnormal[rows], model)
    assert p.min() >= 0 and p.max() <= 1
    assert ((p > 0.5) == abnormal).mean() > 0.85
    none = suggestions.probability(x, rows, rng.permutation(abnormal[rows]), model)
    assert ((none > 0.5) == abnormal).mean() < 0.8


def test_another_model_is_refused():
    with pytest.raises(InputError, match="'tree'; choose one of logistic, knn"):
        suggestions.probability(np.eye(2), np.arange(2), np.array([True, False]), "tree")

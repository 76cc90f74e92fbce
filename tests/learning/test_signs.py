"""Vital signs: planted truths, slow loops, and what may not change them."""

import math

import numpy as np
import pytest
from hypothesis import given
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors

from hcs_utils.errors import InputError
from hcs_utils.learning import signs
from tests.evaluation.planted import clusters, quick, rotation, seeds


def ball(seed, n=60, d=8):
    return np.random.default_rng(seed).normal(size=(n, d))


# Rank


@pytest.mark.parametrize("r", [1, 2, 5])
def test_rank_counts_orthogonal_directions_of_one_length(r):
    basis = np.linalg.qr(ball(0, 40, 8) - ball(0, 40, 8).mean(0))[0][:, :r]
    features = 3 + basis @ rotation(1)[:r]
    assert signs.effective_rank(features) == pytest.approx(r, rel=1e-6)
    assert signs.stable_rank(features) == pytest.approx(r, rel=1e-6)


def test_rank_is_that_of_the_definition():
    x = ball(3) * np.arange(1, 9)
    values = np.sqrt(np.linalg.eigvalsh(np.cov(x.T, ddof=0) * len(x)))[::-1]
    np.testing.assert_allclose(signs.spectrum(x), values, rtol=1e-8)
    assert signs.effective_rank(x) == pytest.approx(math.exp(entropy(values)))  # scipy normalises
    assert signs.stable_rank(x) == pytest.approx((values**2).sum() / values.max() ** 2)


def test_constant_features_have_no_rank_whatever_their_rounding():
    noise = 1e-8 * ball(0)
    for features in (np.ones((60, 8)), 1e3 * np.ones((60, 8)) + noise, np.zeros((60, 8))):
        assert signs.effective_rank(features) == signs.stable_rank(features) == 0
        assert not signs.spectrum(features).any()


@quick
@given(seeds)
def test_rank_does_not_know_order_rotation_shift_or_scale(seed):
    x = ball(seed)
    shuffled = np.random.default_rng(seed).permutation(x)
    for other in (shuffled, x @ rotation(seed), x + 2, 7 * x):
        assert signs.effective_rank(other) == pytest.approx(signs.effective_rank(x), rel=1e-5)
        assert signs.stable_rank(other) == pytest.approx(signs.stable_rank(x), rel=1e-5)
    assert 1 <= signs.stable_rank(x) <= signs.effective_rank(x) <= 8 + 1e-9


# Spread


def test_dimensions_of_a_filled_sphere_have_sd_one_and_dead_ones_none():
    x = ball(0, 4000, 8)
    np.testing.assert_allclose(signs.dimension_sd(x), 1, atol=0.05)
    x[:, 3] = 0
    sd = signs.dimension_sd(x)
    assert sd[3] == 0 and (np.delete(sd, 3) > 0.9).all()
    assert signs.dimension_sd(np.ones((9, 4))).max() == 0


@quick
@given(seeds)
def test_mean_cosine_is_that_of_all_pairs(seed):
    x = ball(seed, 20) + 0.5
    pairs = 1 - cdist(x, x, "cosine")
    assert signs.mean_cosine(x) == pytest.approx(pairs[~np.eye(20, dtype=bool)].mean(), abs=1e-12)


# The teacher


def test_entropies_of_the_three_known_cases():
    k = 16
    uniform, spike = np.full((50, k), 1 / k), np.eye(k)[np.zeros(50, int)]
    each_its_own = np.eye(k)[np.arange(48) % k]
    assert signs.entropies(uniform) == pytest.approx((1, 1))
    assert signs.entropies(spike) == (0, 0)
    assert signs.entropies(each_its_own) == pytest.approx((0, 1))


def test_entropies_are_scipys_and_the_mean_says_no_less_than_its_rows():
    p = np.random.default_rng(0).dirichlet(np.full(9, 0.3), 40)
    one, all_ = signs.entropies(p)
    assert one == pytest.approx(entropy(p, axis=1).mean() / math.log(9))
    assert all_ == pytest.approx(entropy(p.mean(0)) / math.log(9))
    assert one < all_


# Neighbours


def test_nearest_are_those_of_scikit_learn():
    x = ball(1, 50, 6)
    theirs = (
        NearestNeighbors(n_neighbors=5, metric="cosine").fit(x).kneighbors(return_distance=False)
    )
    np.testing.assert_array_equal(signs.nearest(x, 5), theirs)


def test_nearest_in_blocks_is_nearest_at_once(monkeypatch):
    x = ball(2, 50, 6)
    whole = signs.nearest(x, 4)
    monkeypatch.setattr(signs, "_BLOCK", 7)
    np.testing.assert_array_equal(signs.nearest(x, 4), whole)


def test_agreement_is_one_with_itself_and_nothing_by_chance():
    x = ball(0, 300)
    assert signs.agreement(x, x) == signs.agreement(x, 3 * x @ rotation(0)) == 1
    assert abs(signs.agreement(x, ball(1, 300))) < 0.02
    near = signs.agreement(x, x + 0.1 * ball(2, 300))
    assert signs.agreement(x, x + ball(2, 300)) < near < 1


def shared_by_hand(x, label, other, k):
    found, possible = [], []
    for i in range(len(x)):
        able = [j for j in range(len(x)) if other[j] != other[i]]
        cosine = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in able]
        near = [able[j] for j in np.argsort(cosine)[::-1][:k]]
        found += [label[j] == label[i] for j in near]
        possible += [label[j] == label[i] for j in able]
    chance = np.mean(possible)
    return (np.mean(found) - chance) / (1 - chance)


@quick
@given(seeds)
def test_shared_is_that_of_a_slow_loop(seed):
    x, label = clusters(seed, 40, classes=3)
    other = np.arange(40) % 4
    if len(set(label)) > 1:
        assert signs.shared(x, label, other, 5) == pytest.approx(shared_by_hand(x, label, other, 5))


def test_shared_finds_what_was_planted_and_is_at_its_null_else():
    rng = np.random.default_rng(0)
    x, batch = clusters(0, 400, classes=4, spread=0.1)
    treatment = rng.integers(0, 5, 400)
    assert signs.shared(x, batch, treatment) == pytest.approx(1, abs=0.01)
    assert abs(signs.shared(x, treatment, batch)) < 0.05
    assert abs(signs.shared(x, rng.permutation(batch), treatment)) < 0.05


def test_shared_is_nan_where_it_cannot_be_asked():
    x = ball(0, 20)
    assert math.isnan(signs.shared(x, np.zeros(20), np.arange(20) % 4, 3))  # one label only
    assert math.isnan(signs.shared(x, np.arange(20) % 4, np.zeros(20), 3))  # nothing else


# Errors


def test_errors_say_what_is_wrong():
    for bad in (np.ones(3), np.ones((1, 4)), np.ones((3, 0))):
        with pytest.raises(InputError, match=r"a table \[n, d\]"):
            signs.effective_rank(bad)
    spoilt = ball(0)
    spoilt[3, 2] = np.nan
    with pytest.raises(InputError, match=r"1 of 60 rows .* the network has diverged"):
        signs.mean_cosine(spoilt)
    with pytest.raises(InputError, match="k = 60 neighbours asked of 60 rows"):
        signs.nearest(ball(0), 60)
    with pytest.raises(InputError, match="got 60 and 30"):
        signs.agreement(ball(0), ball(0, 30))

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from scipy.stats import chisquare
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from hcs_utils.errors import InputError
from hcs_utils.evaluation import mixing
from hcs_utils.evaluation.metrics import kbet, lisi, silhouette
from tests import oracles
from tests.evaluation.planted import quick, rotation, seeds


def mixed(seed=0, n=160, shift=0.8, batches=3):
    rng = np.random.default_rng(seed)
    batch = rng.choice(batches, n, p=np.arange(1, batches + 1) / sum(range(1, batches + 1)))
    return rng.normal(0, 1, (n, 6)) + shift * np.eye(6)[batch], batch


@pytest.mark.parametrize("fraction, k", [(0.005, 15), (0.2, 32)])
def test_kbet_agrees_with_the_loop_with_scikit_learn_and_with_scipy(fraction, k):
    features, batch = mixed()
    score = kbet(features, batch, k_fraction=fraction)
    loop = oracles.kbet_statistics(oracles.kbet_neighbours(features, k), batch, k)
    assert score == np.mean(loop <= 5.991464547)  # the 95 % point of chi-square, 2 dof
    search = NearestNeighbors(n_neighbors=k, metric="cosine").fit(features)
    near = search.kneighbors(return_distance=False)  # leaves each row out of its own
    observed = np.stack([(batch[near] == b).sum(axis=1) for b in range(3)], axis=1)
    share = np.bincount(batch) / len(batch)
    assert score == np.mean(chisquare(observed, k * share[None], axis=1).pvalue >= 0.05)
    assert 0.05 < score < 0.9


def test_released_form_agrees_with_the_loop():
    features, batch = mixed()
    loop = oracles.kbet_statistics(oracles.released_neighbours(features, 32), batch, 32)
    score = kbet(features, batch, k_fraction=0.2, form="released")
    assert score == np.mean(loop <= 5.991464547)
    assert score != kbet(features, batch, k_fraction=0.2)


def test_released_form_drops_itself_when_rows_have_length_one():
    features, batch = mixed(n=400)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    loop = oracles.kbet_statistics(oracles.kbet_neighbours(features, 39), batch, 40)
    assert kbet(features, batch, 0.1, form="released") == np.mean(loop <= 5.991464547)


@pytest.mark.parametrize("form", ["standard", "released"])
def test_separate_batches_are_all_rejected(form):
    features, batch = mixed(shift=50, n=400)
    assert kbet(features, batch, 0.1, form=form) == 0.0


def test_released_form_takes_so_few_neighbours_of_a_small_screen_that_all_pass():
    features, batch = mixed(shift=50, n=400)
    assert mixing._neighbours(400, 3, 0.005, "released") == 2
    assert kbet(features, batch, form="released") == 1.0
    assert kbet(features, batch) == 0.0


@given(seeds)
@settings(max_examples=6, deadline=None)
def test_shuffled_batches_are_accepted_as_often_as_alpha_says(seed):
    features, batch = mixed(seed, n=1200, shift=50)
    shuffled = np.random.default_rng(seed).permutation(batch)
    assert kbet(features, batch, 0.02) == 0.0
    assert 0.90 < kbet(features, shuffled, 0.02) < 0.99
    assert 0.65 < kbet(features, shuffled, 0.02, alpha=0.25) < 0.85


@given(seeds)
@quick
def test_kbet_ignores_order_names_and_rotation(seed):
    features, batch = mixed(seed)
    order, turn = np.random.default_rng(seed).permutation(len(batch)), rotation(seed, 6)
    score = kbet(features, batch)
    assert kbet(features[order], batch[order]) == score
    assert kbet(features, np.array(["w", "u", "v"])[batch]) == score
    assert abs(kbet(features @ turn, batch) - score) <= 2 / len(batch)


def test_kbet_sees_fewer_batches_the_stronger_the_effect():
    scores = [kbet(*mixed(shift=s, n=600), k_fraction=0.1) for s in (0, 0.5, 1, 4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9 and scores[-1] < 0.05


def test_neighbours_are_half_a_percent_and_at_least_five_a_batch():
    assert mixing._neighbours(9_842, 4, 0.005) == 49
    assert mixing._neighbours(39_367, 16, 0.005) == 196
    assert mixing._neighbours(500, 4, 0.005) == 20
    assert mixing._neighbours(100, 2, 0.29) == 29


def test_accepted_sites_are_those_the_loop_accepts():
    features, batch = mixed()
    loop = oracles.kbet_statistics(oracles.kbet_neighbours(features, 32), batch, 32)
    accepted = mixing.kbet_accepted(features, batch, 0.2)
    np.testing.assert_array_equal(accepted, loop <= 5.991464547)
    assert kbet(features, batch, 0.2) == accepted.mean()


@pytest.mark.parametrize("perplexity", [5, 20])
def test_lisi_agrees_with_the_loop_and_with_harmonypy(perplexity):
    features, batch = mixed()
    found = lisi(features, batch, perplexity, metric="euclidean")
    np.testing.assert_allclose(found, oracles.lisi(features, batch, perplexity), rtol=1e-5)
    from harmonypy.lisi import compute_lisi  # slow to import

    table = pd.DataFrame({"batch": batch.astype(str)})
    other = compute_lisi(features, table, ["batch"], perplexity)[:, 0]
    np.testing.assert_allclose(found, other, rtol=1e-4)  # it stops at 1e-5 of the entropy
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(
        lisi(features, batch, perplexity),
        compute_lisi(unit, table, ["batch"], perplexity)[:, 0], rtol=1e-4,
    )  # fmt: skip
    assert found.min() < 1.5 and found.max() > 2.3


def test_lisi_counts_the_batches_that_were_planted_together():
    rng = np.random.default_rng(0)
    batch = np.arange(1200) % 6
    place = 50 * np.eye(3, 6)[batch // 2]  # two batches in each of three places
    found = lisi(place + rng.normal(0, 1, (1200, 6)), batch)
    assert abs(np.median(found) - 2) < 0.1
    apart = 50 * np.eye(6)[batch] + rng.normal(0, 1, (1200, 6))
    np.testing.assert_allclose(lisi(apart, batch), 1)
    noise = rng.normal(0, 1, (1200, 6))
    share = lisi(noise, batch, normalised=True)
    assert 0.65 < share.mean() < 0.75  # of 90 neighbours, weighted; six in equal parts give 1
    np.testing.assert_allclose(share, (lisi(noise, batch) - 1) / 5)


def test_lisi_of_many_copies_weighs_the_copies_alike():
    features, batch = np.repeat(mixed(n=4)[0], 100, axis=0), np.tile([0, 1], 200)
    found = lisi(features, batch, perplexity=5, metric="euclidean")
    assert np.isfinite(found).all() and (found >= 1).all() and (found <= 2).all()


@given(seeds)
@quick
def test_lisi_and_silhouette_ignore_order_names_and_rotation(seed):
    features, batch = mixed(seed)
    order, turn = np.random.default_rng(seed).permutation(len(batch)), rotation(seed, 6)
    for score in (lisi, silhouette):
        found = score(features, batch)
        np.testing.assert_allclose(score(features[order], batch[order]), found[order], rtol=1e-3,
                                   atol=1e-5)  # fmt: skip
        np.testing.assert_array_equal(score(features, np.array(["w", "u", "v"])[batch]).round(6),
                                      found.round(6))  # fmt: skip
        np.testing.assert_allclose(score(features @ turn, batch), found, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_silhouette_agrees_with_scikit_learn(metric):
    features, batch = mixed()
    batch[0] = 7  # alone
    found = silhouette(features, batch, metric)
    np.testing.assert_allclose(found, silhouette_samples(features, batch, metric=metric), atol=1e-6)
    assert found[0] == 0 and found.min() < 0 < found.max()


def test_silhouette_agrees_with_the_loop():
    features, batch = mixed()
    np.testing.assert_allclose(silhouette(features, batch), oracles.silhouette(features, batch),
                               atol=1e-6)  # fmt: skip


def test_silhouette_in_chunks_and_with_rows_of_zeros(monkeypatch):
    features, batch = mixed()
    features[5] = 0
    whole = silhouette(features, batch)
    np.testing.assert_allclose(whole, silhouette_samples(features, batch, metric="cosine"),
                               atol=1e-6)  # fmt: skip
    monkeypatch.setattr("hcs_utils.evaluation.neighbours.CHUNK_BYTES", 4 * 4 * 3 * 7)
    np.testing.assert_allclose(silhouette(features, batch), whole, atol=1e-12)


def test_silhouette_is_one_for_labels_far_apart_and_near_zero_for_shuffled_ones():
    features, batch = mixed(shift=1000, n=400)
    assert silhouette(features, batch).mean() > 0.99
    shuffled = np.random.default_rng(0).permutation(batch)
    assert abs(silhouette(features, shuffled).mean()) < 0.1


def test_errors_of_lisi_and_silhouette_say_what_to_do():
    features, batch = mixed()
    for score in (lisi, silhouette):
        with pytest.raises(InputError, match=r"there is only one; it needs two"):
            score(features, np.zeros(160))
        with pytest.raises(InputError, match=r"label has shape"):
            score(features, batch[:-1])
        with pytest.raises(InputError, match=r'"cosine" or "euclidean", got'):
            score(features, batch, metric="l1")
        with pytest.raises(InputError, match=r"All 160 rows of features are the same"):
            score(np.ones((160, 6)), batch)
    with pytest.raises(InputError, match=r"needs 90 other sites .* are 39; take at most 13"):
        lisi(features[:40], batch[:40])
    with pytest.raises(InputError, match=r"label of its own"):
        silhouette(features, np.arange(160))


def test_kbet_errors_say_what_to_do():
    features, batch = mixed()
    with pytest.raises(InputError, match=r"there is only one"):
        kbet(features, np.zeros(len(batch)))
    with pytest.raises(InputError, match=r"more than 15 sites .* there are 12"):
        kbet(features[:12], np.arange(12) % 3)
    with pytest.raises(InputError, match=r"batch has shape"):
        kbet(features, batch[:-1])
    with pytest.raises(InputError, match='"standard" or "released"'):
        kbet(features, batch, form="paper")
    with pytest.raises(InputError, match=r"more than 4 sites .* there are 3"):
        kbet(features[:3], np.arange(3), k_fraction=1.5, form="released")
    with pytest.raises(InputError, match=r"All 160 rows of features are the same"):
        kbet(np.ones((160, 6)), batch)
    features[3] = np.inf
    with pytest.raises(InputError, match=r"rows of features hold NaN or infinite"):
        kbet(features, batch)

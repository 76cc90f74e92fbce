from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from scipy.stats import ks_2samp
from sklearn.metrics import pairwise_distances

from hcs_utils.errors import InputError
from hcs_utils.evaluation import replicates
from hcs_utils.evaluation.metrics import average_precision, nsc_moa_accuracy, replicate_map
from tests import oracles_replicates as oracles
from tests.evaluation.planted import clusters, quick, rotation, seeds

MAP = ["mean_average_precision", "p_value", "corrected_p_value"]


def screen(seed=0, n=60, spread=1.5):
    features, treatment = clusters(seed, n, classes=6, spread=spread)
    return features, np.array(list("abcdef"))[treatment], np.arange(n) % 3


@pytest.mark.parametrize("with_batch", [False, True])
@pytest.mark.parametrize("with_control", [False, True])
def test_map_and_p_values_are_those_of_copairs(with_batch, with_control, tmp_path):
    from copairs.map import mean_average_precision

    features, treatment, batch = screen()
    batch, control = batch if with_batch else None, treatment == "f" if with_control else None
    ours = replicate_map(features, treatment, batch, control, null_size=500, seed=3)
    scores = average_precision(features, treatment, batch, control).assign(treatment=treatment)
    theirs = mean_average_precision(
        scores, ["treatment"], 500, 0.05, seed=3, progress_bar=False, cache_dir=tmp_path
    ).set_index("treatment")
    pd.testing.assert_frame_equal(ours[MAP], theirs[MAP])
    assert ours.replicates.sum() == (len(features) if control is None else (~control).sum())
    assert ours.p_value.min() < 0.05 and ours.p_value.nunique() > 1


def test_corrected_p_values_are_benjamini_and_hochbergs():
    table = replicate_map(*screen()[:2], null_size=500)
    p = table.p_value.to_numpy()
    ranked = np.sort(p)
    byhand = [min(ranked[j] * len(p) / (j + 1) for j in range(len(p)) if ranked[j] >= x) for x in p]
    np.testing.assert_allclose(table.corrected_p_value, np.minimum(byhand, 1))


@pytest.mark.parametrize("positives, total", [(1, 400), (30, 400), (300, 400), (5, 60_000)])
def test_drawn_ranks_are_those_of_random_orders(positives, total):
    rng = np.random.default_rng(0)
    ranks = replicates._ranks(rng, 4000, positives, total)
    assert ranks.shape == (4000, positives) and ranks.min() >= 0 and ranks.max() < total
    assert (np.diff(ranks, axis=1) > 0).all()
    whole = np.array([rng.permutation(total)[:positives].mean() for _ in range(1000)])
    assert ks_2samp(ranks.mean(axis=1), whole).pvalue > 0.01
    if total < 1000:  # every place as often as every other: chi-square, 399 degrees of freedom
        seen = np.bincount(ranks.ravel(), minlength=total)
        expected = 4000 * positives / total
        share_left = 1 - positives / total
        assert 300 < ((seen - expected) ** 2).sum() / expected / share_left < 500


@pytest.mark.parametrize("positives, total", [(9, 300), (120, 300)])
def test_long_lists_get_the_null_that_copairs_draws(positives, total, monkeypatch):
    from copairs.compute import random_ap

    monkeypatch.setattr(replicates, "COPAIRS_DRAWS", 2**14)  # makes several draws of it
    ours = replicates._random_ap(positives, total, 5000, seed=1)
    theirs = random_ap(5000, positives, total, seed=2)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert ks_2samp(ours, theirs).pvalue > 0.01
    again = replicates._random_ap(positives, total, 5000, seed=1)
    np.testing.assert_array_equal(ours, again)


def test_copairs_finds_the_null_of_long_lists_and_draws_none(monkeypatch):
    from copairs import compute

    features, treatment, batch = screen()
    short = replicate_map(features, treatment, batch, null_size=2000)
    monkeypatch.setattr(replicates, "COPAIRS_DRAWS", 0)
    monkeypatch.setattr(compute, "random_ap", None)
    long = replicate_map(features, treatment, batch, null_size=2000)
    assert (long.mean_average_precision == short.mean_average_precision).all()
    spread = np.sqrt(2 * short.p_value * (1 - short.p_value) / 2000)
    assert (abs(long.p_value - short.p_value) < 5 * spread + 1e-3).all()


def test_p_values_depend_on_the_seed_alone_and_nothing_is_left_at_home(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    features, treatment, _ = screen(spread=5.0)
    first = replicate_map(features, treatment, null_size=300, seed=5)
    replicate_map(features[:40], treatment[:40], null_size=300, seed=5)
    pd.testing.assert_frame_equal(first, replicate_map(features, treatment, null_size=300, seed=5))
    assert (first.p_value != replicate_map(features, treatment, null_size=300).p_value).any()
    assert list(tmp_path.iterdir()) == []


def test_planted_treatments_are_found_and_shuffled_ones_are_not():
    features, treatment, _ = screen(n=240, spread=0.2)
    table = replicate_map(features, treatment)
    assert (table.mean_average_precision > 0.99).all() and (table.corrected_p_value < 1e-3).all()
    mixed = np.random.default_rng(1).normal(size=(240, 8))
    null = replicate_map(mixed, np.arange(240) // 6)  # 40 treatments of 6
    assert (null.corrected_p_value > 0.05).all()
    assert (null.p_value < 0.05).mean() <= 0.1 and null.p_value.max() > 0.3


def test_single_wells_are_kept_without_a_score():
    features, treatment, batch = screen()
    treatment = treatment.astype(object)
    treatment[:2] = ["one", "two"]
    table = replicate_map(features, treatment, null_size=100)
    assert table.loc["one"].isna().tolist() == [True, True, True, False]
    assert table.replicates["one"] == 1 and len(table) == 8
    assert table.drop(index=["one", "two"]).notna().all(axis=None)
    with pytest.raises(InputError, match="No treatment has two replicates, so"):
        replicate_map(features, np.arange(60))
    with pytest.raises(InputError, match="two replicates in different batches"):
        replicate_map(features, batch, batch=batch)
    with pytest.raises(InputError, match="null_size"):
        replicate_map(features, treatment, null_size=0)


@given(seeds)
@quick
def test_map_ignores_order_and_names(seed):
    features, treatment, batch = screen()
    rng = np.random.default_rng(seed)
    order = rng.permutation(60)
    table = replicate_map(features, treatment, batch, null_size=50)
    again = replicate_map(features[order], treatment[order], batch[order], null_size=50)
    pd.testing.assert_frame_equal(table, again)
    names = dict(zip("abcdef", rng.permutation(6).tolist(), strict=True))
    renamed = replicate_map(features, [names[t] for t in treatment], batch, null_size=50)
    np.testing.assert_allclose(renamed.loc[[names[t] for t in table.index]], table)


def compounds(seed=0, n=80):
    """Treatments of 16 compounds, of 4 mechanisms, in 4 batches; some without a mechanism."""
    rng = np.random.default_rng(seed)
    compound = rng.integers(0, 16, n)
    mechanism = np.array(["actin", "tubulin", "DNA", "ER"])[compound % 4]
    features = rng.normal(size=(4, 6))[compound % 4] + 0.8 * rng.normal(size=(16, 6))[compound]
    return features + 0.3 * rng.normal(size=(n, 6)), compound, mechanism, rng.integers(0, 4, n)


@pytest.mark.parametrize("with_batch", [False, True])
def test_nsc_agrees_with_the_loop_and_with_scikit_learn(with_batch):
    features, compound, moa, batch = compounds()
    batch = batch if with_batch else None
    score = nsc_moa_accuracy(features, compound, moa, batch)
    right, possible = oracles.nsc(features, compound, moa, batch)
    assert possible.all() and score == right.mean()
    distance = pairwise_distances(features, metric="cosine")
    distance[compound[:, None] == compound] = np.inf
    if with_batch:
        distance[batch[:, None] == batch] = np.inf
    assert score == (moa[distance.argmin(axis=1)] == moa).mean()
    assert 0.3 < score < 0.95


def test_rows_that_could_not_be_right_are_left_out_or_counted_wrong():
    features, compound, moa, batch = compounds()
    moa[compound == 3], moa[compound == 7] = "alone", "ER alone in its batch"
    batch[np.isin(compound, [7, 11])] = 1
    moa[compound == 11] = "ER alone in its batch"
    for b in (None, batch):
        right, possible = oracles.nsc(features, compound, moa, b)
        assert 0 < (~possible).sum() < 40
        assert nsc_moa_accuracy(features, compound, moa, b) == right[possible].mean()
        assert nsc_moa_accuracy(features, compound, moa, b, unmatched="wrong") == right.mean()


def test_rows_without_a_mechanism_are_neither_asked_nor_found():
    features, compound, moa, batch = compounds()
    known = compound > 3
    for none in (None, np.nan, ""):
        some = np.where(known, moa.astype(object), none)
        score = nsc_moa_accuracy(features, compound, some, batch)
        left = [column[known] for column in (features, compound, moa, batch)]
        assert score == nsc_moa_accuracy(*left)
    assert score != nsc_moa_accuracy(features, compound, moa, batch)


def test_k_neighbours_vote_and_a_tie_goes_to_the_nearer():
    angle = np.radians([0, 4, 10, 17, 25])
    features = np.c_[np.cos(angle), np.sin(angle)]
    compound, moa = np.arange(5), np.array(["x", "y", "x", "x", "y"])
    asked = [nsc_moa_accuracy(features, compound, moa, k=k) for k in (1, 2, 3, 99)]
    assert asked == [1 / 5, 1 / 5, 2 / 5, 1 / 5]  # by hand


def test_nsc_is_1_for_planted_mechanisms_and_chance_when_shuffled():
    compound = np.arange(400) // 5
    moa = compound % 8
    rng = np.random.default_rng(0)
    features = np.eye(8)[moa] + 0.05 * rng.normal(size=(400, 8))
    assert nsc_moa_accuracy(features, compound, moa) == 1
    assert nsc_moa_accuracy(features, compound, moa, batch=np.arange(400) % 5) == 1
    shuffled = [
        nsc_moa_accuracy(features, compound, rng.permutation(moa[::5])[compound]) for _ in range(20)
    ]
    assert 0.06 < np.mean(shuffled) < 0.17  # 9 of 79 other compounds share the mechanism


@given(seeds)
@quick
def test_nsc_ignores_order_names_rotation_and_scale(seed):
    features, compound, moa, batch = compounds()
    rng = np.random.default_rng(seed)
    score, order = nsc_moa_accuracy(features, compound, moa, batch), rng.permutation(80)
    again = nsc_moa_accuracy(features[order], compound[order], moa[order], batch[order])
    assert again == score
    features = features * rng.uniform(0.5, 2, (80, 1)) @ rotation(seed, 6)
    names = rng.permutation(16)
    assert nsc_moa_accuracy(features, names[compound], moa, -batch) == score


def test_faulty_compounds_are_an_error():
    features, compound, moa, batch = compounds()
    with pytest.raises(InputError, match="Of 80 rows with a mechanism none shares it"):
        nsc_moa_accuracy(features, compound, compound)
    with pytest.raises(InputError, match="another compound in another batch"):
        nsc_moa_accuracy(features, compound, moa, batch=np.zeros(80))
    with pytest.raises(InputError, match="Of 0 rows"):
        nsc_moa_accuracy(features, compound, np.full(80, ""))
    with pytest.raises(InputError, match="moa has shape"):
        nsc_moa_accuracy(features, compound, moa[1:])
    with pytest.raises(InputError, match="compound has shape"):
        nsc_moa_accuracy(features, compound[1:], moa)
    with pytest.raises(InputError, match="k must be 1"):
        nsc_moa_accuracy(features, compound, moa, k=0)
    with pytest.raises(InputError, match="unmatched"):
        nsc_moa_accuracy(features, compound, moa, unmatched="no")
    with pytest.raises(InputError, match="All 80 rows of features are the same"):
        nsc_moa_accuracy(np.ones((80, 2)), compound, moa, batch)

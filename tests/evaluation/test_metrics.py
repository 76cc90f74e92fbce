import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from hcs_utils.errors import InputError
from hcs_utils.evaluation import metrics
from hcs_utils.evaluation.metrics import bootstrap_interval, kbet, knn_accuracy, knn_predict
from tests import oracles

seeds = st.integers(0, 2**31)
quick = settings(max_examples=15, deadline=None)


def clusters(seed, n, classes=5, d=8, spread=1.0, centers_seed=99):
    """Rows around one centre a class, with their labels."""
    centers = np.random.default_rng(centers_seed).normal(0, 1, (classes, d))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return centers[labels] + rng.normal(0, spread, (n, d)), labels


def rotation(seed, d=8):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


# k-NN


@pytest.mark.parametrize("k, temperature", [(1, 0.1), (10, 0.1), (20, 0.07), (120, 1.0)])
def test_knn_agrees_with_the_loop_and_with_scikit_learn(k, temperature):
    bank, labels = clusters(0, 120)
    query, _ = clusters(1, 60)
    predicted = knn_predict(bank, labels, query, k, temperature)
    np.testing.assert_array_equal(
        predicted, oracles.knn_predict(bank, labels, query, k, temperature)
    )
    other = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / temperature)
    ).fit(bank, labels)
    np.testing.assert_array_equal(predicted, other.predict(query))
    assert len(set(predicted)) > 2


def test_knn_accuracy_is_the_share_found():
    bank, labels = clusters(0, 120)
    query, truth = clusters(1, 60)
    share = np.mean(oracles.knn_predict(bank, labels, query, 10, 0.1) == truth)
    assert knn_accuracy(bank, labels, query, truth) == pytest.approx(share)
    assert 0.3 < share < 1


def test_temperature_decides_between_one_near_and_two_far():
    bank = [[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]]
    assert knn_predict(bank, ["near", "far", "far"], [[1.0, 0.0]], 3, 0.1).tolist() == ["near"]
    assert knn_predict(bank, ["near", "far", "far"], [[1.0, 0.0]], 3, 10.0).tolist() == ["far"]


def test_very_low_temperature_does_not_overflow():
    bank, labels = clusters(0, 120)
    query, _ = clusters(1, 60)
    np.testing.assert_array_equal(
        knn_predict(bank, labels, query, 10, 1e-6), knn_predict(bank, labels, query, 1, 0.1)
    )


@given(seeds)
@quick
def test_planted_classes_are_all_found(seed):
    bank, labels = clusters(seed, 100, spread=0.01)
    query, truth = clusters(seed + 1, 40, spread=0.01)
    assert knn_accuracy(bank, labels, query, truth, k=3) == 1.0


@given(seeds)
@settings(max_examples=8, deadline=None)
def test_shuffled_labels_fall_to_chance(seed):
    bank, labels = clusters(seed, 400)
    query, truth = clusters(seed + 1, 2000)
    shuffled = np.random.default_rng(seed).permutation(truth)
    predicted = knn_predict(bank, labels, query)
    chance = sum(np.mean(predicted == c) * np.mean(truth == c) for c in range(5))
    sd = np.sqrt(0.25 / 2000)
    assert abs(knn_accuracy(bank, labels, query, shuffled) - chance) < 5 * sd


@given(seeds)
@quick
def test_knn_ignores_order_names_rotation_and_length_of_rows(seed):
    bank, labels = clusters(seed, 80)
    query, truth = clusters(seed + 1, 40)
    rng = np.random.default_rng(seed)
    accuracy = knn_accuracy(bank, labels, query, truth)
    order, turn, names = rng.permutation(80), rotation(seed), np.array(list("edcba"))
    assert knn_accuracy(bank[order], labels[order], query, truth) == accuracy
    assert knn_accuracy(bank, names[labels], query, names[truth]) == accuracy
    assert abs(knn_accuracy(bank @ turn, labels, query @ turn, truth) - accuracy) <= 1 / 40
    longer = rng.uniform(0.1, 10, (80, 1))
    assert abs(knn_accuracy(bank * longer, labels, query, truth) - accuracy) <= 1 / 40


def test_chunks_change_nothing(monkeypatch):
    bank, labels = clusters(0, 120)
    query, _ = clusters(1, 60)
    whole = knn_predict(bank, labels, query), kbet(bank, labels)
    monkeypatch.setattr(metrics, "_CHUNK_BYTES", 4 * 120 * 7)  # seven rows at a time
    np.testing.assert_array_equal(knn_predict(bank, labels, query), whole[0])
    assert kbet(bank, labels) == whole[1]


def test_no_block_exceeds_the_chunk():
    rows = list(metrics._chunks(59_050, 59_050))
    assert max(r.stop - r.start for r in rows) * 59_050 * 4 <= metrics._CHUNK_BYTES
    assert sum(r.stop - r.start for r in rows) == 59_050


def test_knn_errors_say_what_to_do():
    bank, labels = clusters(0, 12)
    with pytest.raises(InputError, match=r"k = 20 neighbours asked of a bank of 12"):
        knn_predict(bank, labels, bank, k=20)
    with pytest.raises(InputError, match=r"bank_labels has shape \(11,\) for 12 rows"):
        knn_predict(bank, labels[:-1], bank, k=2)
    with pytest.raises(InputError, match=r"query_labels has shape"):
        knn_accuracy(bank, labels, bank, labels[:-1], k=2)
    with pytest.raises(InputError, match=r"8 features and the query 7"):
        knn_predict(bank, labels, bank[:, :7], k=2)
    with pytest.raises(InputError, match=r"No label of the query"):
        knn_accuracy(bank, labels, bank, labels + 100, k=2)
    with pytest.raises(InputError, match=r"temperature must be above 0"):
        knn_predict(bank, labels, bank, k=2, temperature=0.0)
    with pytest.raises(InputError, match=r"filled table \[n, d\]"):
        knn_predict(bank[:0], labels[:0], bank, k=1)
    bank[5, 0] = np.nan
    with pytest.raises(InputError, match=r"1 of 12 rows of bank hold NaN .* row 5"):
        knn_predict(bank, labels, bank, k=2)


# k-BET


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
    assert kbet(features, batch, form=form) == 0.0


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
    assert metrics._neighbours(9_842, 4, 0.005) == 49
    assert metrics._neighbours(39_367, 16, 0.005) == 196
    assert metrics._neighbours(500, 4, 0.005) == 20
    assert metrics._neighbours(100, 2, 0.29) == 29


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
    features[3] = np.inf
    with pytest.raises(InputError, match=r"rows of features hold NaN or infinite"):
        kbet(features, batch)


# bootstrap


def test_bootstrap_matches_a_loop_over_units():
    rng = np.random.default_rng(0)
    unit = rng.integers(0, 30, 200)
    correct = rng.random(200) < 0.4
    members = [correct[unit == u] for u in np.unique(unit)]
    means = [
        np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]).mean()
        for _ in range(4000)
    ]
    low, high = bootstrap_interval(correct, unit, n=4000)
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_bootstrap_covers_the_truth_only_when_whole_units_are_drawn():
    rng = np.random.default_rng(1)
    covered = {"unit": 0, "site": 0}
    for _ in range(100):
        unit = np.repeat(np.arange(25), 8)
        correct = (rng.random(25) < 0.5)[unit]  # the eight sites of a well fail together
        for name, grouping in (("unit", unit), ("site", np.arange(200))):
            low, high = bootstrap_interval(correct, grouping, n=400)
            covered[name] += low <= 0.5 <= high
    assert covered["unit"] >= 86
    assert covered["site"] <= 70


def test_bootstrap_repeats_itself_and_brackets_the_mean():
    correct, unit = np.arange(60) % 4 == 0, np.arange(60) // 3
    low, high = bootstrap_interval(correct, unit, seed=3)
    assert (low, high) == bootstrap_interval(correct, unit, seed=3)
    assert low < correct.mean() < high
    assert bootstrap_interval(np.ones(60), unit) == (1.0, 1.0)
    wide = bootstrap_interval(correct, unit, level=0.99)
    assert wide[0] <= low and wide[1] >= high


def test_bootstrap_errors_say_what_to_do():
    with pytest.raises(InputError, match=r"finer unit"):
        bootstrap_interval([1, 0], ["B1", "B1"])
    with pytest.raises(InputError, match=r"drop NaN"):
        bootstrap_interval([1, np.nan], ["B1", "B2"])
    with pytest.raises(InputError, match=r"unit has shape"):
        bootstrap_interval([1, 0], ["B1"])

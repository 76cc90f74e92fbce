import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from sklearn.neighbors import KNeighborsClassifier

from hcs_utils.errors import InputError
from hcs_utils.evaluation import neighbours
from hcs_utils.evaluation.classification import KNN_CARON, KNN_CDCL, KNN_QC
from hcs_utils.evaluation.metrics import (
    kbet,
    knn_accuracy,
    knn_predict,
    knn_scores,
    linear_predict,
    scores,
)  # fmt: skip
from tests import oracles
from tests.evaluation.planted import clusters, quick, rotation, seeds


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
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 4 * 120 * 7)  # seven rows at a time
    np.testing.assert_array_equal(knn_predict(bank, labels, query), whole[0])
    assert kbet(bank, labels) == whole[1]


def test_leaving_each_row_out_of_its_own_vote():
    bank, labels = clusters(0, 120)
    predicted = knn_predict(bank, labels, bank, 5, exclude_self=True)
    rest = [np.arange(120) != i for i in range(120)]
    alone = [knn_predict(bank[r], labels[r], bank[[i]], 5)[0] for i, r in enumerate(rest)]
    np.testing.assert_array_equal(predicted, alone)
    assert knn_accuracy(bank, labels, bank, labels, 1) == 1.0
    assert knn_accuracy(bank, labels, bank, labels, 1, exclude_self=True) < 1.0


def test_settings_of_the_sources():
    bank, labels = clusters(0, 120)
    query, _ = clusters(1, 60)
    for setting, k, temperature in ((KNN_CDCL, 10, 0.1), (KNN_CARON, 20, 0.07)):
        np.testing.assert_array_equal(
            knn_predict(bank, labels, query, **setting),
            oracles.knn_predict(bank, labels, query, k, temperature),
        )
    equal = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(bank, labels)
    np.testing.assert_array_equal(knn_predict(bank, labels, query, **KNN_QC), equal.predict(query))


@pytest.mark.parametrize("k, temperature", [(1, 0.1), (10, 0.1), (20, 0.07)])
def test_shares_of_the_vote_agree_with_the_loop_and_with_scikit_learn(k, temperature):
    bank, labels = clusters(0, 120)
    query, _ = clusters(1, 60)
    classes, vote = knn_scores(bank, labels, query, k, temperature)
    loop = oracles.knn_shares(bank, labels, query, k, temperature)
    expected = [[shares.get(c, 0.0) for c in classes.tolist()] for shares in loop]
    np.testing.assert_allclose(vote, expected, atol=1e-5)
    other = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / temperature)
    ).fit(bank, labels)
    np.testing.assert_allclose(vote, other.predict_proba(query), atol=1e-5)
    best = classes[vote.argmax(axis=1)]
    np.testing.assert_array_equal(best, knn_predict(bank, labels, query, k, temperature))


@given(seeds)
@quick
def test_shares_are_shares_and_follow_the_names(seed):
    bank, labels = clusters(seed, 80)
    query, _ = clusters(seed + 1, 30)
    names = np.array(list("edcba"))
    classes, vote = knn_scores(bank, labels, query)
    turned, renamed = knn_scores(bank, names[labels], query)
    np.testing.assert_allclose(vote.sum(axis=1), 1, atol=1e-5)
    order = [turned.tolist().index(names[c]) for c in classes]
    np.testing.assert_allclose(renamed[:, order], vote, atol=1e-6)


def answers(seed=0, n=150, classes=4):
    """Truth and the votes of ten neighbours, often right, with classes of unlike size."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    right = 0.4 * np.eye(classes)[truth] + 0.6 / classes
    return truth, rng.multinomial(10, right) / 10


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_agree_with_the_loop_and_with_scikit_learn(classes):
    truth, vote = answers(classes=classes)
    predicted = vote.argmax(axis=1)
    found = scores(truth, predicted, vote, np.arange(classes))
    loop = oracles.scores(truth.tolist(), predicted.tolist())
    loop["auc_weighted"] = oracles.auc_weighted(truth, vote.astype(np.float32), range(classes))
    assert found == pytest.approx(loop)
    assert found["accuracy"] == sklearn.metrics.accuracy_score(truth, predicted)
    other = sklearn.metrics.balanced_accuracy_score(truth, predicted)
    assert found["balanced_accuracy"] == pytest.approx(other)
    area = sklearn.metrics.roc_auc_score(
        truth, vote[:, 1] if classes == 2 else vote, multi_class="ovr", average="weighted"
    )
    assert found["auc_weighted"] == pytest.approx(area)
    assert len(set(found.values())) == 5 and all(0.5 < v < 1 for v in found.values())


def test_scores_of_perfect_and_of_constant_answers():
    truth = np.array(["a", "b", "b", "c"])
    vote = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert set(scores(truth, truth, vote, ["a", "b", "c"]).values()) == {1.0}
    same = scores(truth, np.array(["b"] * 4), np.full((4, 3), 1 / 3), ["a", "b", "c"])
    assert same["accuracy"] == 0.5 and same["balanced_accuracy"] == pytest.approx(1 / 3)
    assert same["f1_macro"] == pytest.approx(2 / 9) and same["f1_weighted"] == pytest.approx(1 / 3)
    assert same["auc_weighted"] == 0.5


def test_a_class_absent_from_truth_costs_macro_f1_and_no_recall():
    found = scores(["a", "a", "b"], ["a", "z", "b"])
    assert found["balanced_accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_auc_is_undefined_without_votes_or_with_one_class():
    assert np.isnan(scores(["a", "b"], ["a", "b"])["auc_weighted"])
    one = scores(["a", "a"], ["a", "b"], [[1, 0], [0, 1]], ["a", "b"])
    assert np.isnan(one["auc_weighted"]) and one["accuracy"] == 0.5
    spare = scores(["a", "b"], ["a", "b"], [[0.6, 0.2, 0.2], [0.1, 0.7, 0.2]], ["a", "b", "c"])
    assert spare["auc_weighted"] == 1.0  # a class that truth lacks has no weight


@given(seeds)
@quick
def test_scores_ignore_order_and_names(seed):
    truth, vote = answers(seed)
    names = np.array(list("wvut"))
    found = scores(truth, vote.argmax(axis=1), vote, range(4))
    order = np.random.default_rng(seed).permutation(len(truth))
    assert scores(truth[order], vote[order].argmax(axis=1), vote[order], range(4)) == (
        pytest.approx(found)
    )
    assert scores(names[truth], names[vote.argmax(axis=1)], vote, names) == pytest.approx(found)


@given(seeds)
@quick
def test_shuffled_truth_gives_an_auc_of_a_half(seed):
    truth, vote = answers(seed, n=2000)
    shuffled = np.random.default_rng(seed).permutation(truth)
    found = scores(shuffled, vote.argmax(axis=1), vote, range(4))
    assert abs(found["auc_weighted"] - 0.5) < 0.06
    assert abs(found["balanced_accuracy"] - 0.25) < 0.06


def test_errors_of_scores_say_what_to_do():
    truth, vote = answers()
    said = vote.argmax(axis=1)
    with pytest.raises(InputError, match=r"predicted has shape \(149,\) for 150 rows"):
        scores(truth, said[1:])
    with pytest.raises(InputError, match=r"truth holds 1 labels that are none of the 4 .*: 9; "):
        scores(np.where(np.arange(150) == 3, 9, truth), said, vote, range(4))
    with pytest.raises(InputError, match=r"vote has shape \(150, 4\) for 150 rows and 3 classes"):
        scores(truth, said, vote, range(3))
    with pytest.raises(InputError, match=r"names a class twice"):
        scores(truth, said, vote, [0, 1, 2, 2])
    with pytest.raises(InputError, match=r"belong together"):
        scores(truth, said, vote)
    with pytest.raises(InputError, match=r"one label a row"):
        scores([], [])
    with pytest.raises(InputError, match=r"truth is missing in 1 of 2 rows: 1"):
        scores(["a", None], ["a", "a"])
    wrong = vote.copy()
    wrong[[2, 5]] *= 2
    with pytest.raises(InputError, match=r"2 rows of vote are no shares.* 2, 5; .*softmax"):
        scores(truth, said, wrong, range(4))


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
    with pytest.raises(InputError, match=r"All 12 rows of bank are the same"):
        knn_predict(np.ones((12, 8)), labels, bank, k=2)
    with pytest.raises(InputError, match=r"filled table \[n, d\]"):
        knn_predict(bank[:0], labels[:0], bank, k=1)
    bank[5, 0] = np.nan
    with pytest.raises(InputError, match=r"1 of 12 rows of bank hold NaN .* row 5"):
        knn_predict(bank, labels, bank, k=2)


# linear reading


def test_linear_reading_agrees_with_the_loop_and_reads_what_lies_under_something_louder():
    bank, labels = clusters(0, 120)
    query, truth = clusters(1, 60)
    loud = np.array([1, 1, 1, 1, 1, 1, 1, 200.0])  # scaled away, and no feature is constant
    found = linear_predict(bank * loud, labels, query * loud)
    np.testing.assert_array_equal(found, oracles.linear_predict(bank, labels, query))
    rng, louder = np.random.default_rng(3), 40 * rotation(0)[:3]
    moved, asked = (x + rng.normal(size=(len(x), 3)) @ louder for x in (bank, query))
    assert np.mean(linear_predict(moved, labels, asked) == truth) > 0.5
    assert np.mean(knn_predict(moved, labels, asked) == truth) < 0.5


@given(seed=seeds)
@quick
def test_linear_reading_is_1_on_far_clusters_and_ignores_order_names_and_a_constant(seed):
    bank, labels = clusters(seed, 80, spread=0.01)
    query, truth = clusters(seed + 1, 20, spread=0.01)
    assert (linear_predict(bank, labels, query) == truth).all()
    order = np.random.default_rng(seed).permutation(80)
    named = np.array(list("edcba"))[labels]
    wider, asked = (np.hstack([x, np.ones((len(x), 1))]) for x in (bank, query))
    assert (
        linear_predict(wider[order], named[order], asked) == np.array(list("edcba"))[truth]
    ).all()


def test_linear_reading_says_what_it_cannot_do():
    bank, labels = clusters(0, 20)
    with pytest.raises(InputError, match="has 1 labels in 20 rows"):
        linear_predict(bank, labels * 0, bank)
    with pytest.raises(InputError, match="has 20 labels in 20 rows"):
        linear_predict(bank, np.arange(20), bank)

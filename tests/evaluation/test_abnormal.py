"""Few labels: against scikit-learn and torch, a draw at a time; intervals; the null."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from hcs_utils.errors import InputError
from hcs_utils.evaluation import abnormal, classification


@pytest.fixture(scope="module")
def planted():
    """Features in which the first direction tells, 300 crops of a bank and 120 to judge."""
    rng = np.random.default_rng(0)
    label = rng.random(420) < 0.5
    x = rng.normal(size=(420, 8)) + 1.5 * label[:, None] * (np.arange(8) == 0)
    rows = np.stack([
        np.r_[rng.choice(np.flatnonzero(label[:300]), 20, False),
              rng.choice(np.flatnonzero(~label[:300]), 20, False)]
        for _ in range(5)
    ])  # fmt: skip
    return x[:300], rows, label[rows], x[300:], label[300:]


def test_votes_are_those_of_scikit_learn_draw_by_draw(planted):
    bank, rows, labels, query, _ = planted
    found = abnormal.knn_scores(bank, rows, labels, query)
    for draw in range(len(rows)):
        model = KNeighborsClassifier(5, metric="cosine").fit(bank[rows[draw]], labels[draw])
        np.testing.assert_allclose(found[draw], model.predict_proba(query)[:, 1])


def test_fewer_labels_than_neighbours_are_all_asked(planted):
    bank, rows, labels, query, _ = planted
    few = [0, 1, 20, 21]
    found = abnormal.knn_scores(bank, rows[:, few], labels[:, few], query)
    assert np.allclose(found, 0.5)


def test_the_linear_layers_are_those_of_torch_one_at_a_time(planted):
    """The paper's: two outputs from 0, SGD with momentum, rate × 0.1 at 40, 70 and 120 of 150."""
    bank, rows, labels, query, _ = planted
    found = abnormal.linear_scores(bank, rows, labels, query, epochs=30, rate=0.05, seed=4)
    rng, order = np.random.default_rng(4), []
    for _ in range(30):
        order.append(rng.permuted(np.tile(np.arange(40), (5, 1)), axis=1))
    for draw in range(5):
        layer = torch.nn.Linear(8, 2).double()
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        x = torch.tensor(bank[rows[draw]].astype(np.float32)).double()
        y = torch.tensor(labels[draw]).long()
        sgd = torch.optim.SGD(layer.parameters(), 0.05, 0.9)
        steps = torch.optim.lr_scheduler.MultiStepLR(sgd, [8, 14, 24])
        for epoch in range(30):
            for part in np.array_split(order[epoch][draw], 2):
                sgd.zero_grad()
                torch.nn.functional.cross_entropy(layer(x[part]), y[part]).backward()
                sgd.step()
            steps.step()
        asked = torch.tensor(query.astype(np.float32)).double()
        share = layer(asked).softmax(1)[:, 1].detach().numpy()
        np.testing.assert_allclose(found[draw], share, atol=1e-9)


def test_a_rate_that_diverges_is_told(planted):
    bank, rows, labels, query, _ = planted
    with np.errstate(all="ignore"), pytest.raises(InputError, match="diverged at a rate of 1e"):
        abnormal.linear_scores(1e30 * bank, rows, labels, query, rate=1e300)


def test_planted_truth_is_found_and_shuffled_labels_find_nothing(planted):
    bank, rows, labels, query, truth = planted
    for score in (abnormal.knn_scores, abnormal.linear_scores, abnormal.logistic_scores):
        auc = abnormal.measures(truth, score(bank, rows, labels, query))["auc"].mean()
        many = abnormal.shuffled(np.tile(labels, (8, 1)), 1)
        null = abnormal.measures(truth, score(bank, np.tile(rows, (8, 1)), many, query))["auc"]
        assert auc > 0.7 > 0.6 > null.mean() > 0.4


def test_shuffling_keeps_how_many_there_are_of_each():
    labels = np.arange(10) < np.array([5, 3])[:, None]
    assert (abnormal.shuffled(labels, 3).sum(1) == [5, 3]).all()
    assert (abnormal.shuffled(labels, 3) != labels).any()


def test_measures_are_those_of_the_other_chapters(planted):
    *_, truth = planted
    scores = np.round(np.random.default_rng(1).random((4, len(truth))), 1)
    found = abnormal.measures(truth, scores)
    for draw, score in enumerate(scores):
        vote = np.stack([1 - score, score], 1)
        other = classification.scores(truth, score > 0.5, vote, np.array([False, True]))
        assert found["accuracy"][draw] == pytest.approx(other["accuracy"])
        assert found["f1"][draw] == pytest.approx(other["f1_weighted"])
        assert found["auc"][draw] == pytest.approx(other["auc_weighted"])


def test_intervals_weigh_crops_as_if_they_were_there_as_often(planted):
    """Weights of a bootstrap against scikit-learn's sample weights, ties among the scores."""
    *_, truth = planted
    rng = np.random.default_rng(2)
    scores = np.round(rng.random((3, len(truth))), 1)
    weight = rng.integers(0, 3, (2, len(truth))).astype(float)
    for s in range(2):
        for r in range(3):
            right = {"sample_weight": weight[s]}
            called = scores[r] > 0.5
            auc = roc_auc_score(truth, scores[r], **right)
            f1 = f1_score(truth, called, average="weighted", **right)
            accuracy = np.average(called == truth, weights=weight[s])
            for name, wanted in (("auc", auc), ("f1", f1), ("accuracy", accuracy)):
                given = abnormal._OF[name](truth, scores, weight)[s, r]
                assert given == pytest.approx(wanted), name


def test_an_interval_holds_its_value_and_shrinks_with_more_draws_and_fields():
    rng = np.random.default_rng(5)
    truth = np.arange(400) % 2 == 0
    scores = np.clip(0.5 + 0.2 * (truth - 0.5) + 0.3 * rng.normal(size=(20, 400)), 0, 1)
    many = abnormal.intervals(truth, scores, np.arange(400))
    few = abnormal.intervals(truth[:60], scores[:2, :60], np.arange(60))
    for name, (value, low, high) in many.items():
        assert low < value < high
        assert high - low < few[name][2] - few[name][1]
        assert value == pytest.approx(abnormal.measures(truth, scores)[name].mean())


def test_crops_of_one_field_are_not_taken_for_several_fields():
    rng = np.random.default_rng(6)
    truth = np.repeat(np.arange(40) % 2 == 0, 10)
    scores = np.repeat(np.clip(0.5 + 0.1 * (truth[::10] - 0.5) + rng.normal(size=40), 0, 1), 10)
    apart = abnormal.intervals(truth, scores[None], np.arange(400))["accuracy"]
    whole = abnormal.intervals(truth, scores[None], np.arange(400) // 10)["accuracy"]
    assert whole[2] - whole[1] > 2 * (apart[2] - apart[1])


def test_recall_of_each_fault_and_of_normal_crops():
    fault = np.array(["", "", "blur", "blur", "debris", "debris"])
    scores = np.array([[0.1, 0.9, 0.6, 0.7, 0.2, 0.6], [0.1, 0.2, 0.6, 0.7, 0.2, 0.3]])
    found = abnormal.recalls(scores, fault, np.arange(6))
    assert {name: value[0] for name, value in found.items()} == {
        "normal": 0.75, "blur": 1.0, "debris": 0.25,
    }  # fmt: skip
    wanted = recall_score([1, 1], scores[0, 4:] > 0.5)
    assert np.mean([wanted, 0.0]) == found["debris"][0]
    assert found["blur"][1:] == (1.0, 1.0)


def test_a_mean_over_minibatches_weighs_the_last_crops_more():
    """200 crops: 6 minibatches of 32 and one of 8, so that accuracies are n / 224 (ledger, 41)."""
    rng = np.random.default_rng(0)
    truth, scores = np.arange(200) % 2 == 0, rng.random((50, 200))
    found = 224 * abnormal.by_minibatches(truth, scores)
    np.testing.assert_allclose(found, np.round(found), atol=1e-9)
    plain = abnormal.measures(truth, scores)["accuracy"]
    assert 0 < np.abs(found / 224 - plain).max() < 4 * 8 / 224
    even = abnormal.by_minibatches(truth[:192], scores[:, :192])
    np.testing.assert_allclose(even, abnormal.measures(truth[:192], scores[:, :192])["accuracy"])


@pytest.mark.parametrize("kind", [True, False])
def test_one_class_is_told(kind, planted):
    bank, rows, labels, query, truth = planted
    name = "abnormal" if kind else "normal"
    with pytest.raises(InputError, match=f"All 120 crops to judge are {name}"):
        abnormal.measures(np.full(len(truth), kind), np.zeros((1, len(truth))))
    labels = labels.copy()
    labels[2] = kind
    with pytest.raises(InputError, match=f"labels of 1 of 5 draws are {name}; nothing can be"):
        abnormal.knn_scores(bank, rows, labels, query)


def test_rows_that_are_not_there_and_scores_that_are_none_are_told(planted):
    bank, rows, labels, query, truth = planted
    with pytest.raises(InputError, match="numbers from 0 to 299"):
        abnormal.linear_scores(bank, rows + 300, labels, query)
    with pytest.raises(InputError, match="120 scores are NaN"):
        abnormal.measures(truth, np.full((1, len(truth)), np.nan))

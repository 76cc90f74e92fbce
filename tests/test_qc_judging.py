"""Few labels, drawn anew: what is judged, by which names, and that nothing leaks."""

import dataclasses

import numpy as np
import pytest
import torch

from hcs_utils import qc_judging as judging
from hcs_utils.data import label_draws
from hcs_utils.errors import InputError
from hcs_utils.evaluation import abnormal, probes
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.views import Normaliser
from hcs_utils.qc_settings import QCSettings

SETTINGS = QCSettings(
    budgets="12,6", draws=3, null_draws=1, finetune_steps=2, linear_epochs=10, encoder="tiny"
)
COLOURS = ("red", "green", "blue")


def asked(n=160, seed=0, wrong=60):
    """Crops of noise, the abnormal ones brighter in red; two crops a field."""
    rng = np.random.default_rng(seed)
    abnormal_, field = rng.random(n) < 0.5, np.arange(n) // 2
    abnormal_ = np.repeat(abnormal_[::2], 2)[:n]
    images = rng.integers(0, 120, (n, 3, 24, 24))
    images[abnormal_, 0] += wrong
    fault = np.where(abnormal_, np.where(field % 2 == 0, "noise", "empty"), "")
    rows = np.arange(n)
    groups = {"": rows[80:120], "val": rows[120:140], "shift": rows[140:]}
    normaliser = Normaliser(torch.full((1, 3), 60.0), torch.full((1, 3), 35.0))
    return judging.Question(
        torch.from_numpy(images.astype(np.uint8)), np.zeros(n, int), normaliser, COLOURS,
        abnormal_, field, fault, rows[:80], groups,
    )  # fmt: skip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return encoder("tiny", COLOURS).eval()


@pytest.fixture(scope="module")
def scores(network):
    return judging.judge(network, asked(), SETTINGS)


def test_every_task_budget_and_metric_has_its_name_and_interval(scores):
    for task in judging.TASKS:
        for metric in judging.METRICS:
            for budget in (12, 6):
                value, low, high = scores[f"{task}_{metric}_{budget}"]
                assert 0 <= low <= value <= high <= 1
        for part in ("val", "shift"):
            assert f"{part}_{task}_accuracy_12" in scores
            assert f"{part}_{task}_accuracy_6" not in scores
        assert scores[f"{task}_accuracy_worst_6"] <= scores[f"{task}_accuracy_6"][0]
        assert scores[f"{task}_accuracy_sd_6"] >= 0
        assert f"shift_{task}_accuracy_minibatches_12" in scores
    for task in ("knn", "linear", "finetuned"):
        assert f"{task}_accuracy_null_6" in scores
        for fault in ("normal", "noise", "empty"):
            assert len(scores[f"recall_{fault}_{task}_6"]) == 3
    assert scores["chance"] == 0.5 and scores["judged"] == 40


def test_a_planted_fault_is_found_and_shuffled_labels_find_nothing(scores):
    assert scores["linear_auc_12"][0] > 0.8
    assert scores["linear_accuracy_null_12"][1] < 0.6


def test_numbers_are_those_of_the_scores_of_each_draw():
    question = asked()
    x = question.images.float().mean((2, 3)).numpy()
    found = judging.frozen(x, question, SETTINGS)
    rows = question.drawn(6, 3, SETTINGS.seed)
    test = question.asked[""]
    votes = abnormal.knn_scores(x, rows, question.abnormal[rows], x[test])
    each = abnormal.measures(question.abnormal[test], votes)
    assert found["knn_auc_6"][0] == pytest.approx(each["auc"].mean())
    assert found["knn_accuracy_worst_6"] == each["accuracy"].min()
    wrong = abnormal.recalls(votes, question.fault[test], question.field[test])
    assert found["recall_noise_knn_6"][0] == wrong["noise"][0]


def test_labels_come_from_the_pool_balanced_and_one_a_field():
    question = asked()
    rows = question.drawn(12, 4, 0)
    assert np.isin(rows, question.pool).all()
    assert (question.abnormal[rows].sum(1) == 6).all()
    assert all(len(set(question.field[draw])) == 12 for draw in rows)
    assert (question.drawn(6, 4, 0)[:, :, None] == rows[:, None]).any(2).all()  # nested
    wanted = label_draws.draw(question.abnormal, question.field, question.pool, 12, 3001)
    assert (question.drawn(12, 2, 3)[1] == wanted).all()


def test_what_is_judged_may_not_be_labelled():
    question = asked()
    with pytest.raises(InputError, match="2 crops may be labelled and are judged, too"):
        dataclasses.replace(question, pool=np.arange(82))


def test_fine_tuning_is_the_probe_of_a_draw_and_leaves_the_encoder_alone(network):
    question, before = asked(), [p.clone() for p in network.parameters()]
    rows = question.drawn(12, 2, 0)
    test = question.asked[""]
    found = judging.finetuned_scores(
        network, question, rows, question.abnormal[rows], test, SETTINGS
    )
    probe = probes.finetune(
        network, question.images, np.where(question.abnormal, "yes", "no"), rows[1], test,
        plate=question.plate, normaliser=question.normaliser, channels=COLOURS, size=24,
        config=judging.schedule(12, SETTINGS), seed=1,
    )  # fmt: skip
    np.testing.assert_allclose(found[1], probe.share[:, 1], atol=1e-6)
    assert all((a == b).all() for a, b in zip(before, network.parameters(), strict=True))


def test_sixteen_bits_change_little_and_give_floats(network):
    question = asked()
    rows, test = question.drawn(12, 1, 0), question.asked[""]
    one, other = (
        judging.finetuned_scores(
            network, question, rows, question.abnormal[rows], test,
            dataclasses.replace(SETTINGS, precision=precision),
        )
        for precision in ("32-true", "bf16-mixed")
    )  # fmt: skip
    assert one.dtype == other.dtype == np.float64
    assert 0 < np.abs(one - other).max() < 0.2


def test_the_paper_s_schedule_is_the_paper_s_and_ours_its_shares():
    paper = dataclasses.replace(
        SETTINGS, finetune_steps=0, finetune_optimizer="sgd", finetune_rate=1e-3
    )
    for budget in (350, 10):
        assert judging.schedule(budget, paper) == dataclasses.replace(
            probes.QC_FINETUNE, balanced=False
        )
    short = judging.schedule(350, dataclasses.replace(paper, finetune_steps=45))
    assert (short.epochs, short.milestones) == (5, (3, 4))
    assert judging.schedule(10, dataclasses.replace(paper, finetune_steps=45)).epochs == 45


def test_features_are_scaled_by_the_pool_alone():
    question = asked()
    x = np.random.default_rng(0).normal(3, 2, (160, 4))
    x[:, 3] = 1.0  # says nothing
    x[150, 0], x[151, 1] = 1e6, np.nan
    z = judging.scaled(x, question, SETTINGS)
    assert z.shape == (160, 3) and np.abs(z).max() == 10 and z[151, 1] == 0
    np.testing.assert_allclose(z[:80].mean(0), 0, atol=1e-9)
    plain = dataclasses.replace(SETTINGS, feature_scale="none")
    assert judging.scaled(x, question, plain) is x
    with pytest.raises(InputError, match="the encoder has collapsed"):
        judging.scaled(np.ones((160, 4)), question, SETTINGS)


def test_classical_measures_need_no_encoder():
    scores = judging.judge(None, asked(wrong=100), SETTINGS)
    assert not any("finetuned" in name for name in scores)
    assert scores["linear_auc_12"][0] > 0.9


def test_crops_are_counted_by_what_is_wrong():
    table = judging.counts(asked())
    assert list(table.index) == ["normal", "empty", "noise"]
    assert table["may be labelled"].sum() == 80 and table["test"].sum() == 40

"""Verdicts: each planted collapse gets its own name, health gets none, and losses their values."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from hcs_utils.errors import InputError
from hcs_utils.learning import diagnose
from hcs_utils.learning.diagnose import examine, trivial_loss, verdict
from hcs_utils.learning.methods.barlow import barlow_loss
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig, DomainCenters, cdcl_loss
from hcs_utils.learning.methods.dino import DINOConfig
from tests.learning.test_train import CHANNELS, encoder

N, D, K = 160, 32, 24
RNG = np.random.default_rng(0)
BALL = RNG.normal(size=(N, D))
BATCH, TREATMENT = np.arange(N) % 4, np.arange(N) // 4 % 5
LINE = RNG.normal(size=(N, 1)) * RNG.normal(size=D)
EACH_ITS_OWN = np.eye(K)[np.arange(2 * N) % K] * 0.9 + 0.1 / K


def constant():
    return examine(np.ones((N, D)) + 1e-4 * BALL)


def one_line():
    return examine(LINE + 1e-3 * BALL)


def dead():
    return examine(BALL * (np.arange(D) >= 0.6 * D))


def said(probability):
    return examine(BALL, probability=probability)


def one_prototype():
    return said(np.eye(K)[np.zeros(N, int)])


def few_prototypes_for_all():
    return said(np.tile(np.r_[[0.5, 0.5], np.zeros(K - 2)], (N, 1)))


def uniform():
    return said(RNG.dirichlet(np.full(K, 500.0), N))


def follows_the_crop():
    return examine(BALL, second=RNG.normal(size=(N, D)))


def locked(strength=3.0):
    place = RNG.normal(size=(4, D))[BATCH]
    return examine(BALL + strength * place, treatment=TREATMENT, batch=BATCH)


def stuck():
    return examine(BALL) | {"loss": 2.99, "trivial_loss": 3.0}


def early():
    return constant() | {"step": 20}


def healthy():
    place = 2 * RNG.normal(size=(5, D))[TREATMENT]
    first, second = (BALL + place + 0.2 * RNG.normal(size=(N, D)) for _ in range(2))
    found = examine(first, second, EACH_ITS_OWN, TREATMENT, BATCH)
    return found | {"loss": 2.0, "trivial_loss": 3.0, "step": 100}


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        (early, "too early"),
        (constant, "constant"),
        (one_line, "low rank"),
        (dead, "dead dimensions"),
        (one_prototype, "one prototype"),
        (few_prototypes_for_all, "one prototype"),
        (uniform, "uniform teacher"),
        (stuck, "not learning"),
        (follows_the_crop, "no agreement"),
        (locked, "batch lock"),
        (healthy, "healthy"),
    ],
)
def test_each_planted_collapse_has_its_verdict(planted, name):
    found, advice = verdict(planted())
    assert found == name
    assert len(advice) > 40


def test_every_rule_has_a_case_and_a_name_of_its_own():
    names = [name for name, _, _ in diagnose.RULES]
    assert len(set(names)) == len(names) == 10


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_batches_that_hardly_show_are_no_lock(strength):
    assert verdict(locked(strength))[0] == "healthy"


def test_a_batch_that_shows_no_more_than_the_treatment_is_no_lock():
    signs = healthy() | {"batch_shared": 0.3, "treatment_shared": 0.2}
    assert verdict(signs)[0] == "healthy"
    assert verdict(signs | {"treatment_shared": 0.1})[0] == "batch lock"


def test_a_classifier_of_few_classes_may_use_few_directions():
    two_groups = np.eye(D)[np.arange(N) % 3] * 5 + 1e-3 * BALL
    assert verdict(examine(two_groups))[0] == "low rank"
    assert verdict(examine(two_groups, classes=3))[0] != "low rank"
    assert math.isnan(examine(two_groups, classes=2)["rank_share"])


def test_what_is_not_known_fires_no_rule():
    assert verdict({"effective_rank": 1.0})[0] == "healthy"
    assert verdict({"loss": 1.0})[0] == "healthy"


def test_a_log_is_judged_by_its_last_signs_and_the_mean_of_five_losses():
    signs = one_prototype()
    rows = [{"step": 60, "loss": 1.0, **healthy(), "trivial_loss": 3.0}]
    rows += [{"step": 80 + 20 * k, "loss": 2.7 + 0.2 * k} for k in range(5)]
    assert verdict(rows)[0] == "not learning"  # 3.1
    rows[-1]["loss"] = 1.0  # one lucky minibatch, mean 2.6
    assert verdict(rows)[0] == "healthy"
    assert verdict([*rows, {"step": 180, "loss": 1.0, **signs}])[0] == "one prototype"
    table = pd.DataFrame([*rows, {"step": 180, "loss": 1.0, **signs}])  # NaN where nothing is
    assert verdict(table)[0] == "one prototype"
    with pytest.raises(InputError, match="log is empty"):
        verdict([])


def test_a_log_without_a_doctor_tells_a_cheated_loss():
    row = {"step": 500, "loss": 0.01, "trivial_loss": math.log(64), "teacher_entropy": 0.001}
    assert verdict(row)[0] == "cheated loss"
    assert verdict(row | {"loss": 2.0})[0] == "healthy"


# Trivial losses, each beside the loss itself


def test_trivial_losses_are_those_of_networks_that_say_nothing():
    same = torch.zeros(16, 9)
    smoothed = F.cross_entropy(same, torch.arange(16) % 9, label_smoothing=0.2)
    assert trivial_loss("supervised", 9) == pytest.approx(float(smoothed))
    q = torch.softmax(torch.randn(16, 9), -1)
    assert trivial_loss("dino", 9) == pytest.approx(float(F.cross_entropy(same, q)))
    similarity = torch.ones(12, 12)
    assert trivial_loss("clip", 12) == pytest.approx(
        float(F.cross_entropy(similarity, torch.arange(12)))
    )
    a, b = F.normalize(torch.randn(2, 4000, 64), dim=-1)
    assert trivial_loss("byol", 64) == pytest.approx(float((2 - 2 * (a * b).sum(-1)).mean()), 0.01)
    assert trivial_loss("byol", 64) == 2


@pytest.mark.parametrize("w", [0.3, 0.95])
def test_trivial_barlow(w):
    constant = torch.ones(32, 20)
    for form in ("paper", "released"):
        expected = float(barlow_loss(constant, constant, w, form))
        assert trivial_loss("barlow", 20, off_diagonal=w, form=form) == pytest.approx(expected)
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 200, 32, 20, generator=g)
    measured = np.mean([float(barlow_loss(x, y, w)) for x, y in zip(a, b, strict=True)])
    closed = trivial_loss("barlow_independent", 20, off_diagonal=w, minibatch=32)
    assert measured == pytest.approx(closed, rel=0.005)


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("views", [4, 8])
def test_trivial_cdcl_for_any_number_of_views(form, views):
    config = CDCLConfig(form=form, off_diagonal=0.4, weight_dino=0.3)
    same = torch.zeros(views, 6, 16)
    domain = torch.zeros(2, 6, dtype=torch.long)
    expected = float(cdcl_loss(same, same[:2], domain, DomainCenters(1, 16), config))
    assert trivial_loss("cdcl", 16, **vars(config), views=views) == pytest.approx(expected, 1e-5)


def test_trivial_loss_is_the_one_that_the_method_itself_states():
    method = CDCL(encoder("tiny", CHANNELS), [1, 1], DINOConfig(width=16), CDCLConfig())
    assert trivial_loss("cdcl", 16, **vars(method.cdcl)) == pytest.approx(method.trivial_loss)


def test_an_unknown_loss_is_named():
    with pytest.raises(InputError, match="'swav'; there are supervised, dino"):
        trivial_loss("swav", 3)

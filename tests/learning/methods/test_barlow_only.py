"""DINO-BL and BYOL-BL against loops with explicit K×K matrices."""

import math

import pytest
import torch
from torch import nn

from hcs_utils.learning.methods.barlow_only import (
    BarlowConfig,
    BYOLBarlow,
    DINOBarlow,
    byol_barlow_loss,
    dino_barlow_loss,
)
from hcs_utils.learning.methods.byol import BYOL, BYOLConfig
from hcs_utils.learning.methods.dino import DINO, DINOConfig
from hcs_utils.learning.minibatches import Minibatch
from tests import oracles_learning as oracle

W = 0.6
forms = pytest.mark.parametrize("form", ["paper", "released"])


class Flat(nn.Module):
    num_features, channels = 6, ("a", "b")

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return self.layers(x.mean((2, 3)))


def minibatch(seed, n=9, local=3):
    g = torch.Generator().manual_seed(seed)
    return Minibatch(
        torch.randn(2 * n, 2, 4, 4, generator=g).double(),
        torch.randn(2 * local * n, 2, 3, 3, generator=g).double(),
        torch.arange(n),
        torch.zeros(2, n, dtype=torch.long),
    )


def dino_bl(form):
    torch.manual_seed(0)
    head = DINOConfig(hidden=8, bottleneck=5, width=7, momentum_start=0.9)
    return DINOBarlow(Flat(), head, BarlowConfig(W, form)).double()


def byol_bl(form):
    torch.manual_seed(0)
    return BYOLBarlow(Flat(), BYOLConfig(hidden=12, width=7), BarlowConfig(W, form)).double()


def outputs(views=8, n=9, k=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(views, n, k, generator=g).double()
    return student, torch.randn(2, n, k, generator=g).double(), torch.randn(k, generator=g).double()


def slow_dino_barlow(student, teacher, centre, form):
    alpha, terms = W / ((1 - W) * (student.shape[-1] - 1)), []
    for i, j in oracle.pairs(len(student)):
        t, s = (teacher[i] - centre) / 0.04, student[j] / 0.1
        if form == "paper":
            q, p = (torch.stack([oracle.softmax(row) for row in x]) for x in (t, s))
            terms.append(oracle.barlow_paper(q, p, alpha))
        else:
            terms.append(oracle.barlow_released(t, s, W))
    assert len(terms) == 2 * (len(student) - 1)
    return sum(terms) if form == "paper" else sum(terms) / len(terms)


def slow_byol_barlow(student, teacher, form):
    if form == "paper":
        alpha = W / ((1 - W) * (student.shape[-1] - 1))
        return sum(oracle.barlow_paper(student[i], teacher[1 - i], alpha) for i in (0, 1))
    r = sum(oracle.correlation(student[i], teacher[1 - i]) for i in (0, 1)) / 2
    eye = torch.eye(len(r), dtype=torch.bool)
    on, off = ((r[eye] - 1) ** 2).mean(), (r[~eye] ** 2).mean()
    return ((1 - W) * on + W * off) / ((1 - W) + W / 100)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


@forms
@pytest.mark.parametrize("views", [2, 8])
def test_barlow_for_dino_is_that_of_explicit_matrices(form, views):
    student, teacher, centre = outputs(views)
    student.requires_grad_()
    fast = dino_barlow_loss(student, teacher, centre, 0.1, 0.04, BarlowConfig(W, form))
    slow = slow_dino_barlow(student, teacher, centre, form)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(gradients(fast, student), gradients(slow, student))


@forms
def test_barlow_for_byol_is_that_of_explicit_matrices(form):
    student, teacher, _ = outputs(2)
    student.requires_grad_()
    fast = byol_barlow_loss(student, teacher, BarlowConfig(W, form))
    slow = slow_byol_barlow(student, teacher, form)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=0)  # standardised twice, eps 1e-5
    torch.testing.assert_close(
        gradients(fast, student), gradients(slow, student), rtol=1e-3, atol=1e-7
    )


def test_one_centre_and_temperature_do_not_matter_to_the_released_form():
    student, teacher, centre = outputs()
    config = BarlowConfig(W, "released")
    one = dino_barlow_loss(student, teacher, centre, 0.1, 0.04, config)
    other = dino_barlow_loss(student, teacher, 0 * centre, 0.1, 0.07, config)
    torch.testing.assert_close(one, other)
    paper = BarlowConfig(W, "paper")
    one = dino_barlow_loss(student, teacher, centre, 0.1, 0.04, paper)
    assert dino_barlow_loss(student, teacher, 0 * centre, 0.1, 0.04, paper) != one


@forms
def test_a_step_of_dino_bl_looks_at_all_views_and_moves_the_centre(form):
    m, views = dino_bl(form), minibatch(0)
    teacher, student = m.outputs(views)
    expected = slow_dino_barlow(student, teacher, torch.zeros(7), form)
    loss, extra = m.loss(views, 0.5)
    torch.testing.assert_close(loss, expected)
    assert 0 < extra["teacher_entropy"] < math.log(7)
    moved = 0.1 * teacher.flatten(0, 1).mean(0)
    torch.testing.assert_close(m.criterion.center.flatten(), moved)
    later = slow_dino_barlow(*m.outputs(views)[::-1], moved, form)
    torch.testing.assert_close(m.loss(views, 0.5)[0], later)


@forms
def test_a_step_of_byol_bl_is_that_of_its_outputs(form):
    m, views = byol_bl(form), minibatch(0, local=0)
    teacher, student = m.outputs(views)
    loss, extra = m.loss(views, 0.5)
    expected = slow_byol_barlow(student, teacher, form)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)
    assert 1 < extra["directions"] < 7


@forms
@pytest.mark.parametrize("make", [dino_bl, byol_bl])
def test_gradients_reach_the_student_alone(make, form):
    m = make(form)
    m.loss(minibatch(0), 0.5)[0].backward()
    for part in (m.teacher, m.teacher_head):
        assert all(p.grad is None for p in part.parameters())
    assert all(p.grad.abs().sum() > 0 for p in m.student.parameters())


@forms
def test_trivial_loss_is_that_of_constant_outputs(form):
    nothing, m = torch.zeros(8, 3, 7), dino_bl(form)
    value = dino_barlow_loss(
        nothing + 1, nothing[:2] + 2, nothing[0, 0], 0.1, 0.04, BarlowConfig(W, form)
    )
    assert m.trivial_loss == pytest.approx(value.item())
    assert m.trivial_loss == pytest.approx(14 * 7 if form == "paper" else 0.4 / 0.406)
    assert byol_bl(form).trivial_loss == pytest.approx(2 * 7 if form == "paper" else 0.4 / 0.406)


@pytest.mark.parametrize("make", [dino_bl, byol_bl])
def test_views_are_of_one_image_and_features_those_of_the_method(make):
    m = make("released")
    assert m.partner == "self"
    assert m.encoder is (m.teacher if isinstance(m, DINO) else m.student)
    assert isinstance(m, DINO | BYOL)


def test_under_bf16_the_matrices_are_made_in_single():
    m, views = byol_bl("released").float(), minibatch(0, local=0)
    views.global_views = views.global_views.float()
    with torch.autocast("cpu", torch.bfloat16):
        teacher, student = m.outputs(views)
        loss = m.loss(views, 0.5)[0]
    assert torch.equal(student, student.bfloat16().float()) and loss.dtype == torch.float32
    assert loss == byol_barlow_loss(student, teacher, m.barlow)

"""DINO against an independent loop over several steps; what moves, what stands still."""

import dataclasses
import math

import pytest
import torch
from lightly.loss import DINOLoss
from torch import nn

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.dino import DINO, DINOConfig, DINOCrossBatch
from hcs_utils.learning.methods.pairs import (
    cross_entropies,
    entropy,
    pair_mean,
    teacher_temperature,
)
from hcs_utils.learning.minibatches import Minibatch
from tests import oracles_learning as oracle

HEAD = DINOConfig(hidden=8, bottleneck=5, width=9, momentum_start=0.9, momentum_end=0.99)


class Flat(nn.Module):
    """A backbone for views of any size: two layers on the channel means."""

    num_features, channels = 6, ("a", "b")

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return self.layers(x.mean((2, 3)))


def minibatch(seed, n=4, local=3):
    g = torch.Generator().manual_seed(seed)
    return Minibatch(
        torch.randn(2 * n, 2, 4, 4, generator=g).double(),
        torch.randn(2 * local * n, 2, 3, 3, generator=g).double(),
        torch.arange(n),
        torch.zeros(2, n, dtype=torch.long),
    )


def method(kind=DINO, config=HEAD):
    torch.manual_seed(0)
    return kind(Flat(), config).double()


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("which", ["all", "cross"])
def test_training_follows_an_independent_loop(local, which):
    """Five steps: loss, student, teacher and centre stay with a loop that knows no lightly loss."""
    ours = method(DINOCrossBatch, dataclasses.replace(HEAD, view_pairs=which))
    twin = method()
    student = nn.Sequential(twin.student, twin.student_head)
    teacher = nn.Sequential(twin.teacher, twin.teacher_head)
    centre = torch.zeros(9, dtype=torch.double)
    optimizers = [
        torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.5)
        for m in (ours, student)
    ]
    for step in range(5):
        views = minibatch(step, local=local)
        loss, _ = ours.loss(views, 0.5)
        with torch.no_grad():
            t = teacher(views.global_views).view(2, 4, 9)
        s = student(views.global_views)
        if local:
            s = torch.cat([s, student(views.local_views)])
        slow = oracle.dino(t, s.view(-1, 4, 9), centre, 0.04, 0.1, which)
        torch.testing.assert_close(loss, slow, rtol=1e-4, atol=0)  # 0.04 in float32
        for value, optimizer in zip((loss, slow), optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        ours.after_step(0.5)
        momentum = 0.99 - (0.99 - 0.9) * (math.cos(math.pi * 0.5) + 1) / 2
        with torch.no_grad():
            for p, q in zip(teacher.parameters(), student.parameters(), strict=True):
                p.copy_(momentum * p + (1 - momentum) * q)
        centre = 0.9 * centre + 0.1 * t.flatten(0, 1).mean(0)
        torch.testing.assert_close(ours.criterion.center.flatten(), centre, rtol=1e-4, atol=1e-7)
    followed = (
        nn.Sequential(ours.student, ours.student_head),
        nn.Sequential(ours.teacher, ours.teacher_head),
    )
    for a, b in zip(followed, (student, teacher), strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    start = method()
    assert not torch.allclose(
        start.teacher.layers[0].weight, ours.teacher.layers[0].weight, atol=1e-4
    )


@pytest.mark.parametrize("views", [2, 8])
def test_terms_of_all_pairs_are_lightlys_loss(views):
    """In value and gradient; the eight pairs of two images use the same terms."""
    g = torch.Generator().manual_seed(0)
    teacher = torch.randn(2, 4, 9, generator=g).double()
    student = torch.randn(views, 4, 9, generator=g).double()
    lightlys = DINOLoss(9, student_temp=0.1).double()
    lightlys.center += torch.randn(9, generator=g)
    q, found = torch.softmax((teacher - lightlys.center) / torch.tensor(0.05), -1), []
    for loss in (
        lambda s: lightlys(list(teacher), list(s), teacher_temp=0.05),
        lambda s: pair_mean(cross_entropies(q, torch.log_softmax(s / 0.1, -1))),
    ):
        leaf = student.clone().requires_grad_()
        value = loss(leaf)
        value.backward()
        found.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_teacher_begins_as_the_student_and_gets_no_gradient():
    m = method()
    for a, b in ((m.student, m.teacher), (m.student_head, m.teacher_head)):
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name
    m.loss(minibatch(0), 0.5)[0].backward()
    for part in (m.teacher, m.teacher_head):
        assert all(p.grad is None and not p.requires_grad for p in part.parameters())
    moving = [p for p in m.student.parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moving)
    assert m.encoder is m.teacher and m.encoder.channels == ("a", "b")


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.9), (1.0, 0.99)])
def test_teacher_moves_by_the_momentum_of_the_moment(progress, momentum):
    m = method()
    before = [p.clone() for p in m.teacher.parameters()]
    with torch.no_grad():
        for p in m.student.parameters():
            p.add_(1.0)
    m.after_step(progress)
    for old, new in zip(before, m.teacher.parameters(), strict=True):
        torch.testing.assert_close(new - old, torch.full_like(old, 1 - momentum), rtol=1e-4, atol=0)


def test_last_layer_stands_still_at_first_only():
    m = method(config=DINOConfig(hidden=8, bottleneck=5, width=9, frozen_share=0.1))
    last = [p for p in m.student_head.last_layer.parameters() if p.requires_grad]
    for progress, frozen in ((0.0, True), (0.0999, True), (0.1, False), (1.0, False)):
        m.zero_grad()
        m.loss(minibatch(0), progress)[0].backward()
        m.before_step(progress)
        assert last and all((p.grad is None) == frozen for p in last)
        assert all(p.grad is not None for p in m.student.parameters())


def test_trivial_loss_is_that_of_uniform_outputs():
    m = method()
    nothing = torch.zeros(8, 4, 9, dtype=torch.double)
    value = m.criterion(list(nothing[:2]), list(nothing), teacher_temp=0.04)
    assert m.trivial_loss == pytest.approx(math.log(9))
    assert value.item() == pytest.approx(m.trivial_loss, rel=1e-6)


def test_entropy_is_ln_k_when_uniform_and_0_when_one_output_wins():
    assert entropy(torch.zeros(3, 9)).item() == pytest.approx(math.log(9), rel=1e-6)
    assert entropy(1e4 * torch.eye(9)).item() == pytest.approx(0, abs=1e-6)
    logits = torch.tensor([[0.0, math.log(3)]])  # shares 1/4 and 3/4
    assert entropy(logits).item() == pytest.approx(
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), rel=1e-6
    )


def test_cross_batch_asks_the_same_of_pairs():
    assert (DINO.partner, DINOCrossBatch.partner) == ("self", "other_batch")
    losses = [method(kind).loss(minibatch(1), 0.5)[0] for kind in (DINO, DINOCrossBatch)]
    assert losses[0] == losses[1]


def test_the_teachers_temperature_rises_over_ten_of_two_hundred_epochs_and_stays():
    rising = dataclasses.replace(HEAD, teacher_temperature_end=0.07)
    steps = 4000
    for step in [*range(0, 300, 10), 1000, 3999, 4000]:
        expected = oracle.temperature(step, steps)
        assert teacher_temperature(rising, step / steps) == pytest.approx(expected, rel=1e-9)
        assert teacher_temperature(HEAD, step / steps) == 0.04  # constant unless an end is given
    m, views = method(config=rising), minibatch(0)
    with torch.no_grad():
        teacher, student = m.outputs(views)
        for progress, at in ((0.0, 0.04), (0.025, 0.055), (1.0, 0.07)):
            slow = oracle.dino(teacher, student, m.criterion.center.flatten(), at, 0.1)
            torch.testing.assert_close(m.loss(views, progress)[0], slow, rtol=1e-5, atol=0)


def test_pairs_of_two_images_are_refused_where_there_is_one():
    with pytest.raises(InputError, match="views are of one image"):
        method(DINO, dataclasses.replace(HEAD, view_pairs="cross"))

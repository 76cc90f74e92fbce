"""BYOL against the step that lightly's own parts make, and against a loop from the equation."""

import copy
import math

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import update_momentum
from torch import nn

from hcs_utils.learning.methods.byol import BYOL, BYOLConfig, BYOLCrossBatch, byol_loss, directions
from hcs_utils.learning.minibatches import Minibatch

CONFIG = BYOLConfig(hidden=12, width=7, momentum_start=0.9)


class Flat(nn.Module):
    """A backbone for views of any size: two layers on the channel means."""

    num_features, channels = 6, ("a", "b")

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return self.layers(x.mean((2, 3)))


def minibatch(seed, n=8):
    g = torch.Generator().manual_seed(seed)
    views = torch.randn(2 * n, 2, 4, 4, generator=g).double()
    return Minibatch(views, views[:0], torch.arange(n), torch.zeros(2, n, dtype=torch.long))


def method(kind=BYOL, config=CONFIG):
    torch.manual_seed(0)
    return kind(Flat(), config).double()


class Lightly(nn.Module):
    """The example of lightly's documentation, its projector ended by a batch norm."""

    def __init__(self, ours: BYOL):
        super().__init__()
        self.backbone = copy.deepcopy(ours.student)
        self.projector = BYOLProjectionHead(6, 12, 7).double()
        self.projector.layers[3] = nn.Linear(12, 7, bias=False)
        self.projector.layers.append(nn.BatchNorm1d(7))
        self.projector.double().load_state_dict(ours.student_head.state_dict())
        self.predictor = BYOLPredictionHead(7, 12, 7).double()
        self.predictor.load_state_dict(ours.predictor.state_dict())
        self.slow_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, x0, x1):
        p0, p1 = (self.predictor(self.projector(self.backbone(x))) for x in (x0, x1))
        z0, z1 = (self.slow_projector(self.slow_backbone(x)) for x in (x0, x1))
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

    def follow(self, momentum):
        update_momentum(self.backbone, self.slow_backbone, momentum)
        update_momentum(self.projector, self.slow_projector, momentum)


def test_training_follows_lightlys_own_parts():
    """Five steps; lightly's loss is −cos, the mean of both ways, so ours is 4 + 4 of it."""
    ours = method()
    theirs = Lightly(ours)
    optimizers = [
        torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=lr)
        for m, lr in ((ours, 0.05), (theirs, 0.2))
    ]
    for step in range(5):
        views = minibatch(step)
        loss, _ = ours.loss(views, step / 5)
        other = theirs.loss(*views.global_views.chunk(2))
        torch.testing.assert_close(loss, 4 + 4 * other)
        for value, optimizer in zip((loss, other), optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
        pairs = zip(ours.student.parameters(), theirs.backbone.parameters(), strict=True)
        for p, q in pairs:
            assert p.grad.abs().sum() > 0
            torch.testing.assert_close(p.grad, 4 * q.grad)
        for optimizer in optimizers:
            optimizer.step()
        ours.after_step(step / 5)
        theirs.follow(1 - (1 - 0.9) * (math.cos(math.pi * step / 5) + 1) / 2)
    for a, b in (
        (ours.student, theirs.backbone), (ours.teacher, theirs.slow_backbone),
        (ours.student_head, theirs.projector), (ours.teacher_head, theirs.slow_projector),
        (ours.predictor, theirs.predictor),
    ):  # fmt: skip
        for name, value in a.state_dict().items():
            torch.testing.assert_close(value, b.state_dict()[name], msg=name)
    assert not torch.equal(ours.teacher.layers[0].weight, method().teacher.layers[0].weight)


def test_loss_is_the_sum_of_both_ways_the_mean_of_images():
    g = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 2, 5, 4, generator=g).double()
    total = 0.0
    for b in range(5):
        for i in (0, 1):
            s, t = student[i, b].tolist(), teacher[1 - i, b].tolist()
            dot = sum(x * y for x, y in zip(s, t, strict=True))
            total += 2 - 2 * dot / (math.hypot(*s) * math.hypot(*t))
    assert byol_loss(student, teacher).item() == pytest.approx(total / 5)


def test_loss_is_0_for_agreement_and_the_trivial_one_for_independent_directions():
    same = torch.ones(2, 3, 4)
    assert byol_loss(same, 5 * same).item() == pytest.approx(0, abs=1e-6)
    eye = torch.eye(4)
    independent = byol_loss(eye.expand(2, 4, 4), eye.roll(1, 0).expand(2, 4, 4)).item()
    assert independent == method().trivial_loss == 4


def test_teacher_begins_as_the_student_and_gets_no_gradient():
    m = method()
    for a, b in ((m.student, m.teacher), (m.student_head, m.teacher_head)):
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name
    m.loss(minibatch(0), 0.5)[0].backward()
    for part in (m.teacher, m.teacher_head):
        assert all(p.grad is None and not p.requires_grad for p in part.parameters())
    for part in (m.student, m.student_head, m.predictor):
        assert all(p.grad is not None for p in part.parameters())
    assert m.encoder is m.student and m.encoder.channels == ("a", "b")


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_teacher_moves_by_the_momentum_of_the_moment(progress, momentum):
    m = method()
    before = [p.clone() for part in (m.teacher, m.teacher_head) for p in part.parameters()]
    with torch.no_grad():
        for part in (m.student, m.student_head):
            for p in part.parameters():
                p.add_(1.0)
    m.after_step(progress)
    after = [p for part in (m.teacher, m.teacher_head) for p in part.parameters()]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new - old, torch.full_like(old, 1 - momentum))


def test_heads_see_one_view_at_a_time():
    """Batch statistics of a head are those of one view: the other may be moved without effect."""
    m, views = method(), minibatch(0)
    first = m.outputs(views)[1][0]
    views.global_views[8:] += 3
    torch.testing.assert_close(m.outputs(views)[1][0], first)


def test_directions_are_counted():
    """Against the eigenvalues; 1 on a line, all of them for noise in every direction."""
    noise = torch.randn(2, 2000, 16, generator=torch.Generator().manual_seed(0)).double()
    assert directions(noise).item() == pytest.approx(16, rel=0.02)
    line = noise[..., :1] * torch.randn(16, generator=torch.Generator().manual_seed(1))
    assert directions(line + 3).item() == pytest.approx(1)
    uneven = noise * torch.arange(16)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(uneven.flatten(0, 1).T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    torch.testing.assert_close(directions(uneven), expected)


def test_half_precision_is_summed_in_single():
    m, views = method().float(), minibatch(0)
    views.global_views = views.global_views.float()
    with torch.autocast("cpu", torch.bfloat16):
        teacher, student = m.outputs(views)
        loss = m.loss(views, 0.5)[0]
    assert m.predictor.layers[0].weight.dtype == student.dtype == loss.dtype == torch.float32
    assert torch.equal(student, student.bfloat16().float())  # made in half
    assert loss == byol_loss(student, teacher)


def test_cross_batch_asks_the_same_of_pairs():
    assert (BYOL.partner, BYOLCrossBatch.partner) == ("self", "other_batch")
    losses = [method(kind).loss(minibatch(1), 0.5)[0] for kind in (BYOL, BYOLCrossBatch)]
    assert losses[0] == losses[1]

"""SwAV against lightly's documented step, queue and all, and against a loop from the equations."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from lightly.models.modules.memory_bank import MemoryBankModule
from torch import nn

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.swav import SwAV, SwAVConfig, swav_loss
from tests import oracles_selfsupervised as oracles

SMALL = dict(hidden=12, width=7, prototypes=9)


def method(**changes):
    torch.manual_seed(0)
    return SwAV(oracles.Flat(), SwAVConfig(**(SMALL | changes))).double()


class Lightly(nn.Module):
    """The example of lightly's documentation; prototypes as solo-learn's: no bias, normed weights.

    There, `normalize` sets their lengths to 1 before each step; here a parametrisation does.
    """

    def __init__(self, ours: SwAV, queue: int = 0, queue_from: int = 0):
        super().__init__()
        self.backbone = copy.deepcopy(ours.backbone)
        self.projection_head = SwaVProjectionHead(6, 12, 7).double()
        self.projection_head.load_state_dict(ours.projector.state_dict())
        self.prototypes = SwaVPrototypes(7, n_prototypes=9).double()
        self.prototypes.heads[0] = copy.deepcopy(ours.prototypes)
        self.criterion = SwaVLoss()
        self.queues = [MemoryBankModule(size=(queue, 7)).double() for _ in range(2) if queue]
        self.queue_from = queue_from

    def forward(self, step, x0, x1):
        high = [self.projection_head(self.backbone(x).flatten(start_dim=1)) for x in (x0, x1)]
        high = [F.normalize(x, dim=1, p=2) for x in high]
        queue = [
            bank(x, update=True)[1].permute(1, 0)
            for bank, x in zip(self.queues, high[: len(self.queues)], strict=True)
        ]
        queue = [self.prototypes(x) for x in queue] if queue and step >= self.queue_from else None
        return self.criterion([self.prototypes(x) for x in high], [], queue)


def parts(ours, theirs):
    return [
        (ours.backbone, theirs.backbone), (ours.projector, theirs.projection_head),
        (ours.prototypes, theirs.prototypes),
    ]  # fmt: skip


def test_training_follows_lightlys_own_parts():
    """Without a queue, nothing frozen: losses, gradients and weights of five steps."""
    ours = method(queue=0, frozen_share=0)
    theirs = Lightly(ours)
    oracles.follows(ours, parts(ours, theirs), theirs)


def test_the_queue_is_lightlys_from_the_step_on_at_which_it_starts():
    """Sixteen outputs, two minibatches of eight; of ten steps it is used from the fourth."""
    ours = method(queue=16, queue_starts=0.4, frozen_share=0)
    theirs = Lightly(ours, queue=16, queue_from=4)
    without = Lightly(ours)
    oracles.follows(ours, parts(ours, theirs), theirs, steps=8, total=10)
    views = oracles.minibatch(20).global_views.chunk(2)
    for a, b in zip(parts(ours, theirs), parts(ours, without), strict=True):
        b[1].load_state_dict(a[0].state_dict()) if a[0] is not ours.prototypes else None
    without.prototypes.heads[0].load_state_dict(ours.prototypes.state_dict())
    loss = ours.loss(oracles.minibatch(20), 0.9)[0]
    assert abs(loss - without(9, *views)) > 1e-4
    torch.testing.assert_close(loss, theirs(9, *views).squeeze())


def test_gradients_of_prototypes_are_lightlys_along_the_sphere():
    """Of its plain layer at the same unit weights, less the part along each prototype."""
    ours = method(queue=0)
    theirs = Lightly(ours)
    plain = nn.Linear(7, 9, bias=False).double()
    plain.weight.data.copy_(ours.prototypes.weight)
    theirs.prototypes.heads[0] = plain
    views = oracles.minibatch(0)
    ours.loss(views, 0.0)[0].backward()
    theirs(0, *views.global_views.chunk(2)).backward()
    w, g = plain.weight.detach(), plain.weight.grad
    v = ours.prototypes.parametrizations.weight.original1
    tangent = (g - (g * w).sum(1, keepdim=True) * w) / v.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(v.grad, tangent)


@pytest.mark.parametrize("queue", [0, 6])
def test_loss_is_that_of_the_loop(queue):
    g = torch.Generator().manual_seed(1)
    scores = 2 * torch.rand(2, 5, 4, generator=g).double() - 1
    kept = 2 * torch.rand(2, queue, 4, generator=g).double() - 1 if queue else None
    config = SwAVConfig(temperature=0.2, epsilon=0.1, iterations=4)
    expected = oracles.swav(*scores, 0.2, 0.1, 4, kept)
    assert swav_loss(scores, config, kept).item() == pytest.approx(expected)


def test_prototypes_have_unit_length_and_stand_still_at_first():
    """Frozen to the bit for the share of training, and moved after it; lengths stay 1."""
    m, trace = method(queue=0, frozen_share=0.4), []
    optimizer = torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.5)
    for step in range(5):
        trace.append(m.prototypes.weight.detach().clone())
        torch.testing.assert_close(trace[-1].norm(dim=1), torch.ones(9).double())
        optimizer.zero_grad()
        m.loss(oracles.minibatch(step), step / 5)[0].backward()
        m.before_step(step / 5)
        optimizer.step()
        m.after_step(step / 5)
    assert torch.equal(trace[0], trace[1]) and torch.equal(trace[0], trace[2])
    assert not torch.equal(trace[2], trace[3])


def test_the_queue_fills_from_the_first_step_newest_first():
    m, seen = method(queue=20), []
    for step in range(4):
        m.loss(oracles.minibatch(step), 0.0)
        seen.insert(0, m.latest)
        m.after_step(0.0)
    torch.testing.assert_close(m.queue, torch.cat(seen, 1)[:, :20])
    assert m.queued == 32
    short = method(queue=5)
    short.loss(oracles.minibatch(0), 0.0)
    short.after_step(0.0)
    torch.testing.assert_close(short.queue, short.latest[:, :5])


def test_a_queue_that_is_not_full_is_not_used():
    """Zeros would be codes of nothing."""
    empty, none = method(queue=20, queue_starts=0), method(queue=0)
    empty.after_step(0.0)  # before any loss: nothing to keep
    assert empty.queued == 0
    a, b = (m.loss(oracles.minibatch(0), 0.9)[0] for m in (empty, none))
    assert torch.equal(a, b)


def test_the_librarys_start_of_the_queue_never_comes():
    """Ledger 39: epoch 15 of five. The loss of a full queue is that of none."""
    m = method(queue=8, queue_starts=1.0)
    m.loss(oracles.minibatch(0), 0.0)
    m.after_step(0.0)
    none = method(queue=0)
    assert m.loss(oracles.minibatch(1), 0.99)[0] == none.loss(oracles.minibatch(1), 0.99)[0]


def test_trivial_loss_is_that_of_prototypes_equally_likely():
    scores = torch.zeros(2, 8, 9)
    assert swav_loss(scores, SwAVConfig()).item() == pytest.approx(method().trivial_loss)
    assert method().trivial_loss == pytest.approx(math.log(9))


@pytest.mark.parametrize("epsilon", [0.0125, 0.05])
def test_extreme_scores_stay_finite(epsilon):
    scores = torch.eye(4)[None].repeat(2, 1, 1) * 2 - 1
    scores.requires_grad_()
    loss = swav_loss(scores, SwAVConfig(epsilon=epsilon, temperature=0.01))
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()
    with pytest.raises(InputError, match=r"0\.0125 or more"):
        method(epsilon=0.01)


def test_half_precision_is_summed_in_single():
    m, views = method().float(), oracles.minibatch(0)
    views.global_views = views.global_views.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss, said = m.loss(views, 0.5)
    assert loss.dtype == torch.float32 and 1 <= said["prototypes_used"] <= 9
    assert m.encoder is m.backbone and m.partner == "self"
    c = SwAVConfig()
    assert (c.prototypes, c.queue, c.temperature, c.epsilon, c.iterations) == (
        500,
        2560,
        0.1,
        0.05,
        3,
    )

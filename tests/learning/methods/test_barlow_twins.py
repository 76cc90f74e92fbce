"""Barlow Twins against lightly's documented step, and against a loop from the equations."""

import copy

import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules import BarlowTwinsProjectionHead
from torch import nn

from hcs_utils.learning.methods.barlow import barlow_loss
from hcs_utils.learning.methods.barlow_twins import (
    BarlowTwins,
    BarlowTwinsConfig,
    barlow_twins_loss,
)
from tests import oracles_selfsupervised as oracles

CONFIG = BarlowTwinsConfig(hidden=12, width=7, scale=0.1)


def method():
    torch.manual_seed(0)
    return BarlowTwins(oracles.Flat(), CONFIG).double()


def test_training_follows_lightlys_own_parts():
    """Five steps of the example of its documentation, its loss times solo-learn's scale."""
    ours = method()
    backbone = copy.deepcopy(ours.backbone)
    head = BarlowTwinsProjectionHead(6, 12, 7).double()
    head.load_state_dict(ours.projector.state_dict())
    criterion = BarlowTwinsLoss(lambda_param=0.0051)

    def theirs(step, x0, x1):
        return 0.1 * criterion(head(backbone(x0)), head(backbone(x1)))

    oracles.follows(ours, [(ours.backbone, backbone), (ours.projector, head)], theirs)


def test_loss_is_that_of_the_loop():
    z = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1)).double()
    found = barlow_twins_loss(z, 0.3, 0.024).item()
    assert found == pytest.approx(oracles.barlow_twins(*z, 0.3, 0.024))


def test_loss_is_the_barlow_loss_of_cdcl_at_the_same_weight():
    """There λ is written w / ((1 − w)(K − 1)), and R is never formed."""
    z = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(2)).double()
    w = 0.6
    same = barlow_loss(*z, off_diagonal=w)
    torch.testing.assert_close(barlow_twins_loss(z, w / ((1 - w) * 3), 1.0), same)


def test_projector_is_solo_learns():
    kinds = [type(layer) for layer in method().projector.layers]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*block, *block, nn.Linear]
    c = BarlowTwinsConfig()
    assert (c.hidden, c.width, c.off_diagonal, c.scale) == (2048, 2048, 0.0051, 0.024)


def test_trivial_loss_is_that_of_equal_outputs_and_none_is_lost_there():
    """A column of one value has no sd: the loss and its gradient stay numbers."""
    z = torch.ones(2, 8, 7, requires_grad=True)
    loss = barlow_twins_loss(z, CONFIG.off_diagonal, CONFIG.scale)
    loss.backward()
    assert loss.item() == pytest.approx(method().trivial_loss) and z.grad.isfinite().all()


def test_half_precision_is_summed_in_single():
    m, views = method().float(), oracles.minibatch(0)
    views.global_views = views.global_views.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss, said = m.loss(views, 0.5)
    assert loss.dtype == torch.float32 and 1 <= said["directions"] <= 7
    assert m.encoder is m.backbone and m.partner == "self"

"""SimCLR against lightly's documented step, and against a loop from the equation."""

import copy
import math

import pytest
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import nn

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.simclr import SimCLR, SimCLRConfig, simclr_loss
from tests import oracles_selfsupervised as oracles

CONFIG = SimCLRConfig(hidden=12, width=7, temperature=0.2)


def method(config=CONFIG):
    torch.manual_seed(0)
    return SimCLR(oracles.Flat(), config).double()


def test_training_follows_lightlys_own_parts():
    """Five steps of the example of its documentation: loss, gradients and weights."""
    ours = method()
    backbone = copy.deepcopy(ours.backbone)
    head = SimCLRProjectionHead(6, 12, 7, batch_norm=False).double()
    head.load_state_dict(ours.projector.state_dict())
    criterion = NTXentLoss(temperature=0.2)

    def theirs(step, x0, x1):
        return criterion(head(backbone(x0).flatten(1)), head(backbone(x1).flatten(1)))

    oracles.follows(ours, [(ours.backbone, backbone), (ours.projector, head)], theirs)


@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_loss_is_that_of_the_loop(tau):
    z = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1)).double()
    assert simclr_loss(z, tau).item() == pytest.approx(oracles.simclr(*z, tau))


def test_projector_is_solo_learns():
    """Linear, ReLU, linear, each with its bias, and 2,048 wide by default."""
    kinds = [type(layer) for layer in SimCLR(oracles.Flat()).projector.layers]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(layer.bias is not None for layer in method().projector.layers[::2])
    assert (SimCLRConfig().hidden, SimCLRConfig().width, SimCLRConfig().temperature) == (
        2048, 2048, 0.07,
    )  # fmt: skip


def test_trivial_loss_is_that_of_equal_outputs():
    m = method()
    assert math.isnan(m.trivial_loss)
    m.loss(oracles.minibatch(0), 0.0)
    assert m.trivial_loss == pytest.approx(simclr_loss(torch.ones(2, 8, 7), 0.07).item())


@pytest.mark.parametrize("tau", [1e-3, 0.07])
def test_small_temperatures_and_equal_crops_stay_finite(tau):
    """Two crops that are the same picture, and outputs of zero: loss and gradients are numbers."""
    z = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(2))
    z[:, 1] = z[:, 0]
    z[:, 2] = 0
    z.requires_grad_()
    loss = simclr_loss(z, tau)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()


def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"0\.001 or more"):
        method(SimCLRConfig(temperature=0.0))


def test_half_precision_is_summed_in_single():
    m, views = method().float(), oracles.minibatch(0)
    views.global_views = views.global_views.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss, said = m.loss(views, 0.5)
    assert loss.dtype == torch.float32 and 1 <= said["directions"] <= 7
    assert m.encoder is m.backbone and m.partner == "self"

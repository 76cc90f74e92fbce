"""VICReg against lightly's documented step, and against a loop from the equations."""

import copy

import pytest
import torch
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import nn

from hcs_utils.learning.methods.vicreg import VICReg, VICRegConfig, vicreg_loss
from tests import oracles_selfsupervised as oracles

CONFIG = VICRegConfig(hidden=12, width=7)


def method(config=CONFIG):
    torch.manual_seed(0)
    return VICReg(oracles.Flat(), config).double()


@pytest.mark.parametrize("variance", [25.0, 12.5])
def test_training_follows_lightlys_own_parts(variance):
    """Five steps of the example of its documentation; 12.5 a view is what lightly calls 25."""
    ours = method(VICRegConfig(hidden=12, width=7, variance=variance))
    backbone = copy.deepcopy(ours.backbone)
    head = VICRegProjectionHead(input_dim=6, hidden_dim=12, output_dim=7, num_layers=3).double()
    head.load_state_dict(ours.projector.state_dict())
    criterion = VICRegLoss(mu_param=2 * variance)

    def theirs(step, x0, x1):
        return criterion(head(backbone(x0)), head(backbone(x1)))

    oracles.follows(ours, [(ours.backbone, backbone), (ours.projector, head)], theirs)


def test_loss_is_that_of_the_loop():
    z = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1)).double()
    z[:, :, 1] *= 3  # varies enough, where the others do not
    found = vicreg_loss(z, VICRegConfig(invariance=20.0, variance=30.0, covariance=2.0)).item()
    assert found == pytest.approx(oracles.vicreg(*z, 20.0, 30.0, 2.0))


def test_projector_is_solo_learns():
    kinds = [type(layer) for layer in method().projector.layers]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*block, *block, nn.Linear]
    c = VICRegConfig()
    assert (c.hidden, c.width, c.invariance, c.variance, c.covariance) == (2048, 2048, 25, 25, 1)


def test_trivial_loss_is_that_of_equal_outputs_and_none_is_lost_there():
    z = torch.ones(2, 8, 7, requires_grad=True)
    loss = vicreg_loss(z)
    loss.backward()
    assert loss.item() == pytest.approx(method().trivial_loss) and z.grad.isfinite().all()


def test_half_precision_is_summed_in_single():
    m, views = method().float(), oracles.minibatch(0)
    views.global_views = views.global_views.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss, said = m.loss(views, 0.5)
    assert loss.dtype == torch.float32 and 1 <= said["directions"] <= 7
    assert m.encoder is m.backbone and m.partner == "self"

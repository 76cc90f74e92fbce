"""VICReg: views agree, outputs vary, and none repeats another (Bardes et al., 2022)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import Tensor, nn

from hcs_utils.learning.methods.byol import directions
from hcs_utils.learning.methods.two_views import projections
from hcs_utils.learning.minibatches import Minibatch

_EPSILON = 1e-4


@dataclass(frozen=True)
class VICRegConfig:
    """Settings of the quality-control paper and solo-learn's defaults."""

    hidden: int = 2048  # width of the projector between its layers
    width: int = 2048  # K, its outputs
    invariance: float = 25.0  # lambda
    variance: float = 25.0  # mu, of each view
    covariance: float = 1.0  # nu, of each view


def vicreg_loss(z: Float[Tensor, "2 n k"], config: VICRegConfig | None = None) -> Float[Tensor, ""]:
    r""":math:`\lambda\,\mathrm{mse}(z_0, z_1) + \sum_v [\mu \frac1K \sum_k \max(0, 1 - s_{vk})
    + \nu \frac1K \sum_{k \neq l} \mathrm{Cov}(z_v)_{kl}^2]`.

    The s are :math:`\sqrt{\mathrm{var} + 10^{-4}}` of each view's outputs over the minibatch.

    VICReg, equation 6, as solo-learn has it. lightly's VICRegLoss, and the authors' code, take
    half of the variance terms: it is given twice their weight. The paper's mean squared
    difference is summed over outputs; theirs and this is the mean over outputs, too.
    """
    c = config or VICRegConfig()
    return VICRegLoss(c.invariance, 2 * c.variance, c.covariance, eps=_EPSILON)(*z)


class VICReg(nn.Module):
    """An encoder, a projector of three layers with batch norm after two, and lightly's loss."""

    partner = "self"

    def __init__(self, backbone: nn.Module, config: VICRegConfig | None = None):
        super().__init__()
        c = self.config = config or VICRegConfig()
        self.backbone = backbone
        self.projector = VICRegProjectionHead(backbone.num_features, c.hidden, c.width)

    @property
    def encoder(self) -> nn.Module:
        return self.backbone

    @property
    def trivial_loss(self) -> float:
        """The loss where all outputs are equal, so that nothing varies."""
        return 2 * self.config.variance * (1 - math.sqrt(_EPSILON))

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        z = projections(self.backbone, self.projector, minibatch)
        with torch.autocast(z.device.type, enabled=False):
            return vicreg_loss(z, self.config), {"directions": directions(z)}

    def before_step(self, progress: float) -> None:
        """Nothing is frozen here."""

    def after_step(self, progress: float) -> None:
        """Nothing follows an optimiser step here."""

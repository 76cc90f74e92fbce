"""Barlow Twins: outputs agree between views, and no two of them repeat (Zbontar et al., 2021)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules import BarlowTwinsProjectionHead
from torch import Tensor, nn

from hcs_utils.learning.methods.byol import directions
from hcs_utils.learning.methods.two_views import projections
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class BarlowTwinsConfig:
    """Settings of the quality-control paper and solo-learn's defaults; recipes, in brackets."""

    hidden: int = 2048  # width of the projector between its layers
    width: int = 2048  # K, its outputs
    off_diagonal: float = 0.0051  # lambda
    scale: float = 0.024  # sigma, of the whole loss [0.1]


def barlow_twins_loss(
    z: Float[Tensor, "2 n k"], off_diagonal: float | int = 0.0051, scale: float | int = 0.024
) -> Float[Tensor, ""]:
    r""":math:`\sigma\,[\sum_i (C_{ii} - 1)^2 + \lambda \sum_{i \neq j} C_{ij}^2]`.

    C is the correlation [k k] of the outputs for one view with those for the other, over the
    minibatch: lightly's BarlowTwinsLoss (equation 1), times solo-learn's sigma.
    """
    return scale * BarlowTwinsLoss(off_diagonal)(*z)


class BarlowTwins(nn.Module):
    """An encoder, a projector of three layers with batch norm after two, and lightly's loss."""

    partner = "self"

    def __init__(self, backbone: nn.Module, config: BarlowTwinsConfig | None = None):
        super().__init__()
        c = self.config = config or BarlowTwinsConfig()
        self.backbone = backbone
        self.projector = BarlowTwinsProjectionHead(backbone.num_features, c.hidden, c.width)

    @property
    def encoder(self) -> nn.Module:
        return self.backbone

    @property
    def trivial_loss(self) -> float:
        """The loss where all outputs are equal, so that nothing correlates: sigma K."""
        return self.config.scale * self.config.width

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        z = projections(self.backbone, self.projector, minibatch)
        with torch.autocast(z.device.type, enabled=False):
            loss = barlow_twins_loss(z, self.config.off_diagonal, self.config.scale)
            return loss, {"directions": directions(z)}

    def before_step(self, progress: float) -> None:
        """Nothing is frozen here."""

    def after_step(self, progress: float) -> None:
        """Nothing follows an optimiser step here."""

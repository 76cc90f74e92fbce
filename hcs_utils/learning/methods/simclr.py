"""SimCLR: two views of a crop are told from the views of all others (Chen et al., 2020)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.byol import directions
from hcs_utils.learning.methods.two_views import projections
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class SimCLRConfig:
    """Settings of the quality-control paper; of solo-learn's recipes, in brackets."""

    hidden: int = 2048  # width of the projector between its layers
    width: int = 2048  # its outputs [128]
    temperature: float = 0.07  # tau [0.2]


def simclr_loss(z: Float[Tensor, "2 n k"], temperature: float | int = 0.07) -> Float[Tensor, ""]:
    r""":math:`-\frac1{2N}\sum_i \log \frac{e^{\cos(z_i, z_{p(i)})/\tau}}
    {\sum_{j \neq i} e^{\cos(z_i, z_j)/\tau}}` over all 2N views i, p(i) the other view of its crop.

    lightly's NTXentLoss (SimCLR, equation 1).
    """
    return NTXentLoss(temperature)(*z)


class SimCLR(nn.Module):
    """An encoder, a projector (linear, ReLU, linear: solo-learn's) and lightly's loss."""

    partner = "self"

    def __init__(self, backbone: nn.Module, config: SimCLRConfig | None = None):
        super().__init__()
        c = self.config = config or SimCLRConfig()
        if c.temperature < 1e-3:
            raise InputError(f"temperature is {c.temperature}: choose 0.001 or more, such as 0.07.")
        self.backbone = backbone
        self.projector = SimCLRProjectionHead(
            backbone.num_features, c.hidden, c.width, batch_norm=False
        )
        self.views = 0  # 2 N of the last minibatch

    @property
    def encoder(self) -> nn.Module:
        return self.backbone

    @property
    def trivial_loss(self) -> float:
        """The loss where all outputs are equal, ln(2N − 1); NaN before the first minibatch."""
        return math.log(self.views - 1) if self.views > 2 else math.nan

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        z = projections(self.backbone, self.projector, minibatch)
        self.views = 2 * z.shape[1]
        with torch.autocast(z.device.type, enabled=False):
            loss = simclr_loss(z, self.config.temperature)
            return loss, {"directions": directions(z)}

    def before_step(self, progress: float) -> None:
        """Nothing is frozen here."""

    def after_step(self, progress: float) -> None:
        """Nothing follows an optimiser step here."""

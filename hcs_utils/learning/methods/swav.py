"""SwAV: one view's code, over prototypes, is predicted from the other (Caron et al., 2020)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead
from torch import Tensor, nn

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.two_views import projections, prototypes_used
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class SwAVConfig:
    """Settings of the quality-control paper and solo-learn's defaults; others in brackets."""

    hidden: int = 2048  # width of the projector between its layers
    width: int = 128  # its outputs, of unit length
    prototypes: int = 500  # K
    temperature: float = 0.1  # tau, of the predictions
    epsilon: float = 0.05  # of the codes
    iterations: int = 3  # of Sinkhorn and Knopp
    queue: int = 2560  # outputs of each view that are kept for the codes; 0: none
    queue_starts: float | int = 0.2  # share of training [library: epoch 15 of 5, so never: 1]
    frozen_share: float | int = 0.2  # of training, in which prototypes stand still: 1 of 5 epochs


def swav_loss(
    scores: Float[Tensor, "2 n k"], config: SwAVConfig, queue: Float[Tensor, "2 q k"] | None = None
) -> Float[Tensor, ""]:
    r""":math:`-\frac1{2N}\sum_n \sum_v q_{vn} \cdot \log \mathrm{softmax}(s_{1-v,n} / \tau)`.

    The codes q come of exp(s/ε) of minibatch and queue by turns of Sinkhorn and Knopp: equally
    many for each prototype, and each summing to 1. lightly's SwaVLoss (equations 2–5).
    """
    criterion = SwaVLoss(config.temperature, config.iterations, config.epsilon)
    return criterion(list(scores), [], None if queue is None else list(queue)).squeeze()


class SwAV(nn.Module):
    """Encoder, projector, prototypes of unit length, and a queue of former outputs.

    The queue fills from the first step on and is used from ``queue_starts``, once it is full.
    """

    partner = "self"

    def __init__(self, backbone: nn.Module, config: SwAVConfig | None = None):
        super().__init__()
        c = self.config = config or SwAVConfig()
        if c.epsilon < 0.0125:  # exp(1 / epsilon) is infinite in float32 below 0.0113
            raise InputError(f"epsilon is {c.epsilon}: choose 0.0125 or more, such as 0.05.")
        self.backbone = backbone
        self.projector = SwaVProjectionHead(backbone.num_features, c.hidden, c.width)
        last = nn.Linear(c.width, c.prototypes, bias=False)
        self.prototypes = nn.utils.parametrizations.weight_norm(last)
        lengths = self.prototypes.parametrizations.weight.original0
        nn.init.ones_(lengths).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(2, c.queue, c.width))
        self.register_buffer("queued", torch.zeros((), dtype=torch.long))
        self.latest: Tensor | None = None

    @property
    def encoder(self) -> nn.Module:
        return self.backbone

    @property
    def trivial_loss(self) -> float:
        """The loss where every prototype is as likely as any other: ln K."""
        return math.log(self.config.prototypes)

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        c = self.config
        z = F.normalize(projections(self.backbone, self.projector, minibatch), dim=2)
        with torch.autocast(z.device.type, enabled=False):
            scores, queue = self.prototypes(z), None
            if c.queue and progress >= c.queue_starts and self.queued >= c.queue:
                with torch.no_grad():
                    queue = self.prototypes(self.queue)
            loss = swav_loss(scores, c, queue)
        self.latest = z.detach()
        return loss, {"prototypes_used": prototypes_used(scores)}

    def before_step(self, progress: float) -> None:
        """Prototypes stand still at first, as in SwAV's own code."""
        if progress < self.config.frozen_share:
            for parameter in self.prototypes.parameters():
                parameter.grad = None

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The outputs of this step enter the queue, and the oldest leave it."""
        if self.config.queue and self.latest is not None:
            new = self.latest[:, : self.config.queue]
            self.queue.copy_(torch.cat([new, self.queue], 1)[:, : self.config.queue])
            self.queued += new.shape[1]

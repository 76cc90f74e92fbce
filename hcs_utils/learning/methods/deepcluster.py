"""DeepClusterV2: crops learn the cluster that k-means gave them (Caron et al., 2018 and 2020)."""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightly.models.modules import SwaVProjectionHead
from torch import Tensor, nn

from hcs_utils.errors import InputError
from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.methods.bank import ClusterBank
from hcs_utils.learning.methods.centers import all_rows
from hcs_utils.learning.methods.two_views import projections, prototypes_used
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class DeepClusterConfig:
    """Settings of the quality-control paper and solo-learn's defaults."""

    hidden: int = 2048  # width of the projector between its layers
    width: int = 128  # its outputs, of unit length
    prototypes: int = 500  # K, clusters
    temperature: float = 0.1  # tau
    iterations: int = 10  # of k-means, once an epoch
    first_epoch: str = "encoder"  # or "released": no targets in it, so nothing is learned


def deepcluster_loss(
    scores: Float[Tensor, "2 n k"], target: Int[Tensor, " n"], temperature: float | int = 0.1
) -> Float[Tensor, ""]:
    r""":math:`-\frac1{2N}\sum_n \sum_v \log \mathrm{softmax}(s_{vn} / \tau)_{t_n}`.

    Crops whose target is −1 count for nothing; where all do, the loss and its gradient are 0.
    """
    count = (target >= 0).sum().clamp(min=1) * len(scores)
    flat = scores.flatten(0, 1) / temperature
    total = F.cross_entropy(flat, target.repeat(len(scores)), ignore_index=-1, reduction="sum")
    return total / count


class DeepClusterV2(nn.Module):
    """Encoder, projector, and a bank of each crop's last output, whose centroids are prototypes.

    At the start of every epoch spherical k-means puts the bank's ``count`` crops into K clusters;
    no gradient moves the prototypes, and the clusters are the targets of both views. The bank
    holds the first view's outputs. One head of prototypes, where solo-learn has three by default.
    """

    partner = "self"

    def __init__(self, backbone: nn.Module, config: DeepClusterConfig | None = None, *, count: int):
        super().__init__()
        c = self.config = config or DeepClusterConfig()
        if c.first_epoch not in ("encoder", "released"):
            raise InputError(f"first_epoch is {c.first_epoch!r}: it is 'encoder' or 'released'.")
        self.backbone = backbone
        self.projector = SwaVProjectionHead(backbone.num_features, c.hidden, c.width)
        self.bank, self.count = ClusterBank(count, c.width, c.prototypes), count
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.latest: tuple[Tensor, Tensor] | None = None
        self._ddp_params_and_buffers_to_ignore = [f"bank.{x}" for x in ClusterBank.SENT_BY_NONE]

    @property
    def encoder(self) -> nn.Module:
        return self.backbone

    @property
    def trivial_loss(self) -> float:
        """The loss where every cluster is as likely as any other: ln K."""
        return math.log(self.config.prototypes)

    @torch.no_grad()
    def begin(self, minibatches: CropMinibatches, device) -> None:
        """Fill the bank by the untrained encoder, so that the first epoch has targets.

        Crops are as they are stored; batch norms see them by minibatches and learn nothing of it.
        """
        if len(minibatches.rows) != self.count:
            there = len(minibatches.rows)
            raise InputError(f"The bank is made for {self.count} crops, and there are {there}.")
        if self.config.first_epoch == "released":
            return
        net = copy.deepcopy(nn.Sequential(self.backbone, self.projector)).train()
        for places in torch.arange(self.count).tensor_split(-(-self.count // minibatches.size)):
            z = net(minibatches.plain(places.numpy(), device))
            self.bank.put(places.to(device), F.normalize(z.float(), dim=1))

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        if minibatch.rows is None:
            raise InputError("DeepClusterV2 must know which crops it sees: use CropMinibatches.")
        z = F.normalize(projections(self.backbone, self.projector, minibatch), dim=2)
        rows, c, step = all_rows(minibatch.rows), self.config, int(self.step)
        if self.training and step % (self.count // len(rows)) == 0:  # an epoch begins
            done = self.bank.cluster(c.iterations, seed=step)
            if not done and c.first_epoch == "encoder":
                raise InputError("The bank is empty: call begin(minibatches, device) first.")
        with torch.autocast(z.device.type, enabled=False):
            scores = z @ self.bank.prototypes.T
            loss = deepcluster_loss(scores, self.bank.target[rows].long(), c.temperature)
        self.latest = rows, z[0].detach()
        return loss, {"prototypes_used": prototypes_used(scores)}

    def before_step(self, progress: float) -> None:
        """Prototypes have no gradient."""

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The outputs of this step's crops enter the bank."""
        if self.latest is not None:
            self.bank.put(*self.latest)
            self.step += 1

"""Weak supervision: every treatment is a class (CDCL paper, section 3.1)."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class SupervisedConfig:
    label_smoothing: float = 0.0


class Supervised(nn.Module):
    r"""An encoder and a linear layer; :math:`-\log \mathrm{softmax}(W h(x) + b)_y`."""

    partner = "self"

    def __init__(self, backbone: nn.Module, classes: int, config: SupervisedConfig | None = None):
        super().__init__()
        self.config = config or SupervisedConfig()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, classes)

    @property
    def encoder(self) -> nn.Module:
        return self.backbone

    @property
    def trivial_loss(self) -> float:
        """The loss of a network that gives every class the same share: ln C."""
        return math.log(self.head.out_features)

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of one global crop of each image."""
        n = len(minibatch.label)
        logits = self.head(self.backbone(minibatch.global_views[:n]))
        loss = F.cross_entropy(logits, minibatch.label, label_smoothing=self.config.label_smoothing)
        return loss, {"accuracy": (logits.argmax(1) == minibatch.label).float().mean()}

    def before_step(self, progress: float) -> None:
        """Nothing is frozen here."""

    def after_step(self, progress: float) -> None:
        """Nothing follows an optimiser step here."""

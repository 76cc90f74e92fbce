"""BYOL, of one image (SSL-BYOL) or of pairs across batches (SSL-BYOL-CB)."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead
from lightly.models.modules.heads import ProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class BYOLConfig:
    """Released CDCL settings in brackets where a small encoder needs others."""

    hidden: int = 1024  # width of projector and predictor between their layers [4096]
    width: int = 256  # K, outputs of both
    momentum_start: float = 0.97  # of the teacher's moving average, for 500 steps [0.99, 85,400]
    momentum_end: float = 1.0


def byol_loss(
    student: Float[Tensor, "2 b k"], teacher: Float[Tensor, "2 b k"]
) -> Float[Tensor, ""]:
    r""":math:`\frac1B \sum_b \sum_i (2 - 2 \cos(s_{ib}, t_{1-i,b}))` over both ways i = 0, 1.

    As CDCL's released code. The paper's equation 1, −cos of one way, has the same minimum.
    """
    alike = NegativeCosineSimilarity()
    pairs = zip(student, teacher.flip(0), strict=True)
    return sum(2 + 2 * alike(s, t) for s, t in pairs)


class BYOL(nn.Module):
    """Student (encoder, projector, predictor) and teacher (encoder, projector) of two views.

    The student's answer to one view is pulled to the teacher's of the other. Nothing pushes
    apart: a constant answer has loss 0, from which predictor, slow teacher and batch norm keep
    it. Features are the student's. The projector ends in a batch norm, as in CDCL's released
    code; the heads see one view at a time, as there, the encoder both at once.
    """

    partner = "self"

    def __init__(self, backbone: nn.Module, config: BYOLConfig | None = None):
        super().__init__()
        c = self.config = config or BYOLConfig()
        self.student, self.teacher = backbone, copy.deepcopy(backbone)
        self.student_head = projector(backbone.num_features, c)
        self.teacher_head = copy.deepcopy(self.student_head)
        self.predictor = BYOLPredictionHead(c.width, c.hidden, c.width)
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)

    @property
    def encoder(self) -> nn.Module:
        return self.student

    @property
    def trivial_loss(self) -> float:
        """The loss of independent directions, 2 for each way; that of constant outputs is 0."""
        return 4.0

    def outputs(self, minibatch: Minibatch) -> tuple[Tensor, Tensor]:
        """Outputs [2 n K] of the teacher's projector and the student's predictor, ≥ float32."""
        with torch.no_grad():
            features = self.teacher(minibatch.global_views).chunk(2)
            teacher = torch.stack([self.teacher_head(x) for x in features])
        features = self.student(minibatch.global_views).chunk(2)
        student = torch.stack([self.predictor(self.student_head(x)) for x in features])
        kind = torch.promote_types(student.dtype, torch.float32)
        return teacher.to(kind), student.to(kind)

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        teacher, student = self.outputs(minibatch)
        with torch.autocast(teacher.device.type, enabled=False):
            return byol_loss(student, teacher), {"directions": directions(teacher)}

    def before_step(self, progress: float) -> None:
        """Nothing is frozen here."""

    def after_step(self, progress: float) -> None:
        """The teacher follows the student ever more slowly, along a cosine, and at last stops."""
        c = self.config
        momentum = cosine_schedule(round(progress * 10**6), 10**6, c.momentum_start, c.momentum_end)
        update_momentum(self.student, self.teacher, momentum)
        update_momentum(self.student_head, self.teacher_head, momentum)


class BYOLCrossBatch(BYOL):
    """The same loss, its two images a pair of one treatment from two batches (section 3.3)."""

    partner = "other_batch"


def projector(features: int, config: BYOLConfig) -> ProjectionHead:
    """Linear, batch norm, ReLU, linear, batch norm; lightly's has no batch norm at its end."""
    hidden, width = config.hidden, config.width
    return ProjectionHead([
        (features, hidden, nn.BatchNorm1d(hidden), nn.ReLU()),
        (hidden, width, nn.BatchNorm1d(width), None),
    ])  # fmt: skip


def directions(outputs: Float[Tensor, "v n k"]) -> Float[Tensor, ""]:
    r""":math:`(\sum\lambda)^2 / \sum\lambda^2` of the eigenvalues λ of the covariance.

    How many directions outputs fill: from 1, a line, to min(K, v n − 1). The batch norm at the
    projector's end hides a collapse from their sd, not from this.
    """
    x = outputs.detach().flatten(0, 1)
    x = x - x.mean(0)
    gram = x @ x.mT
    return gram.trace().square() / gram.square().sum()

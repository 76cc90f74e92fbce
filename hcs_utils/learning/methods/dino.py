"""DINO, of one image (SSL-DINO) or of pairs across batches (SSL-DINO-CB)."""

import copy
import math
import warnings
from dataclasses import dataclass

import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.pairs import (
    cross_entropies,
    entropy,
    pair_mean,
    teacher_temperature,
)
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class DINOConfig:
    """Released CDCL settings in brackets where a small encoder needs others."""

    hidden: int = 256  # width of the head's layers [1024]
    bottleneck: int = 128  # [512]
    width: int = 256  # K, outputs of the head [4096]
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_temperature_end: float | None = None  # None: as at the start [0.07]
    temperature_share: float = 0.05  # of training in which it rises [10 of 200 epochs]
    view_pairs: str = "all"  # 14, or the 8 of two images: "cross", for cross-batch pairs
    momentum_start: float = 0.97  # of the teacher's moving average, for 500 steps [0.995, 85,400]
    momentum_end: float = 0.9996
    center_momentum: float = 0.9
    frozen_share: float = 0.02  # of training in which the last layer stands still [epoch 1]


class DINO(nn.Module):
    """Student and teacher, and lightly's loss between their views (CDCL paper, equation 2).

    The loss is the mean over the 14 ordered pairs of a teacher view (two global crops) with
    another student view (all eight), in float32 at least. Features are the teacher's.
    """

    partner = "self"

    def __init__(self, backbone: nn.Module, config: DINOConfig | None = None):
        super().__init__()
        c = self.config = config or DINOConfig()
        if c.view_pairs == "cross" and self.partner == "self":
            raise InputError("view_pairs is 'cross', but this method's views are of one image.")
        self.student, self.teacher = backbone, copy.deepcopy(backbone)
        shape = (backbone.num_features, c.hidden, c.bottleneck, c.width)
        with warnings.catch_warnings():  # lightly's head uses torch's older weight_norm
            warnings.filterwarnings("ignore", ".*weight_norm. is deprecated", FutureWarning)
            self.student_head, self.teacher_head = (DINOProjectionHead(*shape) for _ in range(2))
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(
            c.width, student_temp=c.student_temperature, center_momentum=c.center_momentum
        )

    @property
    def encoder(self) -> nn.Module:
        return self.teacher

    @property
    def trivial_loss(self) -> float:
        """The loss of a collapsed network whose outputs are uniform: ln K."""
        return math.log(self.config.width)

    def outputs(self, minibatch: Minibatch) -> tuple[Tensor, Tensor]:
        """Head outputs of the teacher [2 n K] and of the student [v n K], float32 at least."""
        n, k = len(minibatch.label), self.config.width
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher(minibatch.global_views))
        student = self.student_head(self.student(minibatch.global_views))
        if len(minibatch.local_views):
            local = self.student_head(self.student(minibatch.local_views))
            student = torch.cat([student, local])
        kind = torch.promote_types(student.dtype, torch.float32)
        return teacher.view(2, n, k).to(kind), student.view(-1, n, k).to(kind)

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        teacher, student = self.outputs(minibatch)
        temperature = teacher_temperature(self.config, progress)
        with torch.autocast(teacher.device.type, enabled=False):
            if self.config.view_pairs == "all":
                loss = self.criterion(list(teacher), list(student), teacher_temp=temperature)
            else:  # which lightly has not
                q = torch.softmax((teacher - self.criterion.center) / temperature, -1)
                log_p = torch.log_softmax(student / self.config.student_temperature, -1)
                loss = pair_mean(cross_entropies(q, log_p), self.config.view_pairs)
                self.criterion.update_center(teacher)
        return loss, {"teacher_entropy": entropy(teacher / temperature)}

    def before_step(self, progress: float) -> None:
        """The head's last layer stands still at first, as in DINO's own code."""
        if progress < self.config.frozen_share:
            for parameter in self.student_head.last_layer.parameters():
                parameter.grad = None

    def after_step(self, progress: float) -> None:
        """The teacher follows the student; its momentum rises along a cosine."""
        c = self.config
        momentum = cosine_schedule(round(progress * 10**6), 10**6, c.momentum_start, c.momentum_end)
        update_momentum(self.student, self.teacher, momentum)
        update_momentum(self.student_head, self.teacher_head, momentum)


class DINOCrossBatch(DINO):
    """The same loss, its two images a pair of one treatment from two batches (section 3.3)."""

    partner = "other_batch"

"""The Barlow loss in the place of DINO's and of BYOL's own (CDCL paper, appendix D, table 3)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hcs_utils.learning.methods.barlow import barlow_loss, barlow_pairs
from hcs_utils.learning.methods.byol import BYOL, BYOLConfig, directions
from hcs_utils.learning.methods.dino import DINO, DINOConfig
from hcs_utils.learning.methods.pairs import entropy, pair_mask, pair_mean, teacher_temperature
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class BarlowConfig:
    off_diagonal: float = 0.95  # w, share of the off-diagonal mean in the Barlow loss
    form: str = "released"  # or "paper": see the two losses


def dino_barlow_loss(
    student: Float[Tensor, "v b k"], teacher: Float[Tensor, "2 b k"], centre: Float[Tensor, " k"],
    student_temperature: float, teacher_temperature: float, config: BarlowConfig,
) -> Float[Tensor, ""]:  # fmt: skip
    """L_Barlow over the ordered pairs of a teacher view with another student view.

    ``paper``: the sum of equation 3 of the probabilities P_T and P_S (section 3.3). ``released``:
    the mean, of the centred logits over their temperatures (disagreement 12). There all rows
    share one centre and one temperature, which standardising takes away again: neither matters.
    """
    a, b = (teacher - centre) / teacher_temperature, student / student_temperature
    if config.form == "paper":
        a, b = torch.softmax(a, -1), torch.softmax(b, -1)
    terms = barlow_pairs(a, b, config.off_diagonal, config.form)
    return (terms * pair_mask(terms)).sum() if config.form == "paper" else pair_mean(terms)


def byol_barlow_loss(
    student: Float[Tensor, "2 b k"], teacher: Float[Tensor, "2 b k"], config: BarlowConfig
) -> Float[Tensor, ""]:
    """L_Barlow of the predictor's answer to one view with the teacher's to the other.

    ``paper``: the sum of equation 3 over both ways. ``released``: of one matrix for both,
    R = (R₀₁ + R₁₀) / 2, each view standardised on its own, with means instead of sums. The
    released w = 0.95 is that of K = 4,096, though BYOL has 256 outputs.
    """
    other = teacher.flip(0)
    if config.form == "paper":
        both = zip(student, other, strict=True)
        return sum(barlow_loss(s, t, config.off_diagonal, "paper") for s, t in both)
    s, t = (
        torch.cat([F.batch_norm(x, None, None, training=True) for x in views])
        for views in (student, other)
    )
    return barlow_loss(s, t, config.off_diagonal, "released")


class DINOBarlow(DINO):
    """SSL-DINO-BL: student, teacher, views and single centre of DINO."""

    def __init__(self, backbone: nn.Module, config: DINOConfig, barlow: BarlowConfig):
        super().__init__(backbone, config)
        self.barlow = barlow

    @property
    def trivial_loss(self) -> float:
        """The loss of a collapsed network: all outputs equal, three local crops of each image."""
        nothing = torch.zeros(8, 2, self.config.width)
        return float(dino_barlow_loss(nothing, nothing[:2], nothing[0, 0], 1.0, 1.0, self.barlow))

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        teacher, student = self.outputs(minibatch)
        centre, c = self.criterion.center.flatten(), self.config
        hot, cold = c.student_temperature, teacher_temperature(c, progress)
        with torch.autocast(teacher.device.type, enabled=False):
            loss = dino_barlow_loss(student, teacher, centre, hot, cold, self.barlow)
            self.criterion.update_center(teacher)
        return loss, {"teacher_entropy": entropy(teacher / cold)}


class BYOLBarlow(BYOL):
    """SSL-BYOL-BL: student, teacher and views of BYOL."""

    def __init__(self, backbone: nn.Module, config: BYOLConfig, barlow: BarlowConfig):
        super().__init__(backbone, config)
        self.barlow = barlow

    @property
    def trivial_loss(self) -> float:
        """The loss of a collapsed network: all outputs equal, nothing correlates."""
        nothing = torch.zeros(2, 2, self.config.width)
        return float(byol_barlow_loss(nothing, nothing, self.barlow))

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        teacher, student = self.outputs(minibatch)
        with torch.autocast(teacher.device.type, enabled=False):
            loss = byol_barlow_loss(student, teacher, self.barlow)
            return loss, {"directions": directions(teacher)}

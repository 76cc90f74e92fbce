"""CDCL: cross-batch DINO with a centre for each batch and a Barlow loss (CDCL paper, 3.3)."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hcs_utils.learning.methods.barlow import barlow_pairs
from hcs_utils.learning.methods.centers import DomainCenters
from hcs_utils.learning.methods.dino import DINOConfig, DINOCrossBatch
from hcs_utils.learning.methods.pairs import (
    cross_entropies,
    entropy,
    pair_mask,
    teacher_temperature,
)
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class CDCLConfig:
    weight_dino: float = 0.25  # λ of section 3.3
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    center_momentum: float = 0.9
    off_diagonal: float = 0.95  # w, share of the off-diagonal mean in the Barlow loss
    form: str = "paper"  # of the losses
    centers: str | None = None  # update rule: paper, released, one (centre for all); None: as form
    view_pairs: str = "all"  # 14, or the 8 of two images: "cross"
    teacher_temperature_end: float | None = None  # None: as at the start [0.07]
    temperature_share: float = 0.05  # of training, in which it rises


def off_diagonal_for(width: int, per_entry: float = 0.95 / (0.05 * 4095)) -> float:
    r"""w that keeps the released balance of one off-diagonal entry to one diagonal entry.

    The released w = 0.95 belongs to K = 4,096: :math:`w / ((1-w)(K-1)) = 0.00464`. A narrower
    head has fewer off-diagonal entries, and the same w would drown the diagonal.
    """
    ratio = per_entry * (width - 1)
    return ratio / (1 + ratio)


def cdcl_loss(
    student: Float[Tensor, "v b k"], teacher: Float[Tensor, "2 b k"], domain: Int[Tensor, "2 b"],
    centers: DomainCenters, config: CDCLConfig,
) -> Float[Tensor, ""]:  # fmt: skip
    """λ · L_DINO + (1 − λ) · L_Barlow over the ordered pairs of different views.

    ``paper``: sums over the pairs, L_Barlow of the probabilities P_T and P_S. ``released``:
    means over the pairs, L_DINO divided by ln K, L_Barlow of the centred logits. ``view_pairs``
    says which pairs: all 14, or the 8 of two images.
    """
    released, w = config.form == "released", config.weight_dino
    logits_t = centers(teacher.flatten(0, 1), domain.flatten()).view_as(teacher)
    logits_t, logits_s = logits_t / config.teacher_temperature, student / config.student_temperature
    log_p = torch.log_softmax(logits_s, -1)
    q = torch.softmax(logits_t, -1)
    a, b = (logits_t, logits_s) if released else (q, log_p.exp())
    dino = cross_entropies(q, log_p) / (math.log(student.shape[-1]) if released else 1)
    barlow = barlow_pairs(a, b, config.off_diagonal, config.form)
    mask = pair_mask(dino, config.view_pairs)
    loss = ((w * dino + (1 - w) * barlow) * mask).sum()
    return loss / mask.sum() if released else loss


class CDCL(DINOCrossBatch):
    """Cross-batch pairs, batch-wise centres, Barlow loss."""

    def __init__(self, backbone: nn.Module, frequencies, head: DINOConfig, config: CDCLConfig):
        super().__init__(backbone, head)
        self.cdcl = config
        self.rule = config.centers or config.form
        if self.rule == "one":
            frequencies = [sum(frequencies)]
        self.centers = DomainCenters(
            len(frequencies), head.width, config.center_momentum, frequencies
        )

    @property
    def trivial_loss(self) -> float:
        """The loss of a collapsed network: all outputs equal, three local crops of each image."""
        nothing = torch.zeros(8, 2, self.config.width)
        domain = torch.zeros(2, 2, dtype=torch.long)
        centers = DomainCenters(1, self.config.width)
        return float(cdcl_loss(nothing, nothing[:2], domain, centers, self.cdcl))

    def loss(self, minibatch: Minibatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        teacher, student = self.outputs(minibatch)
        one = self.rule == "one"
        domain = torch.zeros_like(minibatch.domain) if one else minibatch.domain
        now = replace(self.cdcl, teacher_temperature=teacher_temperature(self.cdcl, progress))
        with torch.autocast(teacher.device.type, enabled=False):
            loss = cdcl_loss(student, teacher, domain, self.centers, now)
        rule = "paper" if one else self.rule
        self.centers.update(teacher.flatten(0, 1), domain.flatten(), rule)
        return loss, {"teacher_entropy": entropy(teacher / now.teacher_temperature)}

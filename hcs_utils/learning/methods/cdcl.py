"""CDCL: cross-batch DINO with a centre for each batch and a Barlow loss (CDCL paper, 3.3)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hcs_utils.learning.methods.barlow import barlow_loss
from hcs_utils.learning.methods.dino import DINOConfig, DINOCrossBatch, entropy
from hcs_utils.learning.minibatches import Minibatch


@dataclass(frozen=True)
class CDCLConfig:
    weight_dino: float = 0.25  # λ of section 3.3
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    center_momentum: float = 0.9
    off_diagonal: float = 0.95  # w, share of the off-diagonal mean in the Barlow loss
    form: str = "paper"


def off_diagonal_for(width: int, per_entry: float = 0.95 / (0.05 * 4095)) -> float:
    r"""w that keeps the released balance of one off-diagonal entry to one diagonal entry.

    The released w = 0.95 belongs to K = 4,096: :math:`w / ((1-w)(K-1)) = 0.00464`. A narrower
    head has fewer off-diagonal entries, and the same w would drown the diagonal.
    """
    ratio = per_entry * (width - 1)
    return ratio / (1 + ratio)


class DomainCenters(nn.Module):
    """A moving mean of the teacher's outputs for each domain d (a batch or a plate)."""

    def __init__(self, num_domains: int, dim: int, momentum: float = 0.9, frequencies=None):
        super().__init__()
        share = torch.ones(num_domains) if frequencies is None else torch.as_tensor(frequencies)
        self.momentum = momentum
        self.register_buffer("centers", torch.zeros(num_domains, dim))
        self.register_buffer("share", share.float() / share.sum())

    def forward(
        self, teacher: Float[Tensor, "b k"], domain: Int[Tensor, " b"]
    ) -> Float[Tensor, "b k"]:
        """teacher − c[domain]."""
        return teacher - self.centers[domain]

    @torch.no_grad()
    def update(
        self, teacher: Float[Tensor, "b k"], domain: Int[Tensor, " b"], form: str = "paper"
    ) -> None:
        r"""c_d ← (1 − g_d) c_d + g_d · mean_d(teacher); a domain that is absent keeps its centre.

        ``paper``: g_d = 1 − momentum. ``released``: g_d = (1 − momentum) · w_d, w_d the domain's
        share of this minibatch over its share of the training images. For a rare domain g_d can
        exceed 1, where the centre overshoots, and 2, where it diverges.
        """
        count = torch.bincount(domain, minlength=len(self.centers)).to(self.centers.dtype)
        total = torch.zeros_like(self.centers).index_add_(0, domain, teacher.to(self.centers.dtype))
        gain = (1 - self.momentum) * (count > 0)
        if form == "released":
            gain = (1 - self.momentum) * (count / count.sum()) / self.share
        mean = total / count.clamp(min=1)[:, None]
        self.centers += gain[:, None] * (mean - self.centers)


def cdcl_loss(
    student: Float[Tensor, "v b k"], teacher: Float[Tensor, "2 b k"], domain: Int[Tensor, "2 b"],
    centers: DomainCenters, config: CDCLConfig,
) -> Float[Tensor, ""]:  # fmt: skip
    """λ · L_DINO + (1 − λ) · L_Barlow over the ordered pairs of different views.

    ``paper``: sums over the pairs, L_Barlow of the probabilities P_T and P_S. ``released``:
    means over the pairs, L_DINO divided by ln K, L_Barlow of the centred logits.
    """
    k, released = student.shape[-1], config.form == "released"
    logits_t = torch.stack([centers(t, d) for t, d in zip(teacher, domain, strict=True)])
    logits_t, logits_s = logits_t / config.teacher_temperature, student / config.student_temperature
    log_p = torch.log_softmax(logits_s, -1)
    q = torch.softmax(logits_t, -1)
    a, b = (logits_t, logits_s) if released else (q, log_p.exp())
    pairs = [(i, j) for i in range(2) for j in range(len(student)) if i != j]
    dino = sum(-(q[i] * log_p[j]).sum(-1).mean() for i, j in pairs)
    barlow = sum(barlow_loss(a[i], b[j], config.off_diagonal, config.form) for i, j in pairs)
    if released:
        dino, barlow = dino / len(pairs) / math.log(k), barlow / len(pairs)
    return config.weight_dino * dino + (1 - config.weight_dino) * barlow


class CDCL(DINOCrossBatch):
    """Cross-batch pairs, batch-wise centres, Barlow loss."""

    def __init__(self, backbone: nn.Module, frequencies, head: DINOConfig, config: CDCLConfig):
        super().__init__(backbone, head)
        self.cdcl = config
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
        loss = cdcl_loss(student, teacher, minibatch.domain, self.centers, self.cdcl)
        self.centers.update(teacher.flatten(0, 1), minibatch.domain.flatten(), self.cdcl.form)
        return loss, {"teacher_entropy": entropy(teacher / self.cdcl.teacher_temperature)}

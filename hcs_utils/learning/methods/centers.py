"""A centre of the teacher's outputs for each domain (CDCL paper, section 3.3)."""

import torch
from jaxtyping import Float, Int
from lightly.utils.dist import gather, world_size
from torch import Tensor, nn


def all_rows(rows: Tensor, dim: int = 0) -> Tensor:
    """The rows of all processes one after the other, equally many of each; alone, ``rows``.

    Gradients flow back summed over the processes. A loss of joined rows, which is the same in
    each process, so has the gradient of one process with the joined minibatch once those of the
    weights are averaged over the processes, as DDP does.
    """
    return rows if world_size() == 1 else torch.cat(gather(rows.contiguous()), dim)


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
        exceed 1, where the centre overshoots, and 2, where it diverges. The rows of all processes
        are one minibatch.
        """
        teacher, domain = all_rows(teacher), all_rows(domain)
        count = torch.bincount(domain, minlength=len(self.centers)).to(self.centers.dtype)
        total = torch.zeros_like(self.centers).index_add_(0, domain, teacher.to(self.centers.dtype))
        gain = (1 - self.momentum) * (count > 0)
        if form == "released":
            gain = (1 - self.momentum) * (count / count.sum()) / self.share
        mean = total / count.clamp(min=1)[:, None]
        self.centers += gain[:, None] * (mean - self.centers)

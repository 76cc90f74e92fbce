"""What CLIP's, EMM's and IMM's losses share: own scores, and those of all others, in chunks."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 1 << 20  # scores held at a time: 4 MiB, which stay in a core's cache


def log_ratio(
    anchors: Float[Tensor, "n k d"], others: Float[Tensor, "n m d"],
    temperature: float | int | Tensor, blocked: Bool[Tensor, "k m"] | None = None,
    own_below: bool = False, chunk: int = CHUNK,
) -> Float[Tensor, ""]:  # fmt: skip
    r"""The form that all losses here are sums of, with :math:`s_{ia,jb}` the cosine of anchor a of
    compound i and view b of compound j, over pairs (a, b) that are not blocked:

    ```{math}
    -\frac1N \sum_i \log \frac{\sum_{ab} e^{s_{ia,ib} / \tau}}
    {\sum_{j \ne i} \sum_{ab} e^{s_{ia,jb} / \tau}}
    ```

    With ``own_below`` j = i is below the line, too. In float32 at least, by log-sum-exp, so that a
    small τ neither overflows nor empties a sum. Of the (N k)(N m) scores ``chunk`` are held at a
    time, and their gradient is made with them: memory grows as N, not as N².
    """
    kind = torch.promote_types(anchors.dtype, torch.float32)
    alone = others is anchors
    anchors = F.normalize(anchors.to(kind), dim=-1)
    others = anchors if alone else F.normalize(others.to(kind), dim=-1)
    own = torch.einsum("nkd,nmd->nkm", anchors, others) / temperature
    own = own if blocked is None else own.masked_fill(blocked, -torch.inf)
    n, m, _ = others.shape
    rows = max(1, chunk // (anchors.shape[1] * m * n))
    tau = torch.as_tensor(temperature, dtype=kind, device=anchors.device)
    graded = torch.is_grad_enabled() and any(x.requires_grad for x in (anchors, others, tau))
    below = LogSum.apply(anchors, None if alone else others, tau, blocked, own_below, rows, graded)
    return below - own.logsumexp((1, 2)).mean()


class LogSum(torch.autograd.Function):
    """Mean over i of log Σ; as it is one number, its gradient is known but for a factor.

    Without ``others`` the anchors are these, too, and their two gradients are one.
    """

    @staticmethod
    def forward(ctx, anchors, others, tau, blocked, own_below, rows, graded):
        table = (anchors if others is None else others).flatten(0, 1)
        n, k, _ = anchors.shape
        m, found, of_tau = len(table) // n, [], torch.zeros_like(tau)
        if graded:
            of_table = torch.zeros_like(table)
            of_anchors = of_table.view_as(anchors) if others is None else torch.zeros_like(anchors)
        for first in range(0, n, rows):
            part = anchors[first : first + rows]
            flat = (part.flatten(0, 1) / tau) @ table.mT
            scores = flat.view(len(part), k, n, m)
            if not own_below:
                scores.diagonal(first, 0, 2).fill_(-torch.inf)
            if blocked is not None:
                scores.masked_fill_(blocked[:, None], -torch.inf)
            rest = flat.view(len(part), -1)
            top = rest.amax(1, keepdim=True)
            total = rest.sub_(top).exp_().sum(1, keepdim=True)
            found.append(total.log() + top)
            if graded:
                each = total[..., None] * n * tau
                pull = (flat @ table).view_as(part) / each
                of_tau -= (pull * part).sum() / tau
                of_anchors[first : first + rows] += pull
                of_table.addmm_(flat.mT, (part / each).flatten(0, 1))
        if graded:
            kept = (of_anchors,) if others is None else (of_anchors, of_table.view_as(others))
            ctx.save_for_backward(of_tau, *kept)
        return torch.cat(found).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        of_tau, of_anchors, *rest = ctx.saved_tensors
        of_others = gradient * rest[0] if rest else None
        return gradient * of_anchors, of_others, gradient * of_tau, None, None, None, None

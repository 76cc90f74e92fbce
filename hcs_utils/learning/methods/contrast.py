"""What CLIP's, EMM's and IMM's losses share: cosines over τ, own against all others, in chunks."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from hcs_utils.errors import InputError

CHUNK = 1 << 20  # scores held at a time: 4 MiB, which stay in a core's cache


def contrast(
    anchors: Float[Tensor, "n k d"], others: Float[Tensor, "n m d"],
    temperature: float | int | Tensor, chunk: int = CHUNK,
) -> tuple[Float[Tensor, "n k m"], Float[Tensor, "n k m"]]:  # fmt: skip
    r"""Own scores and what stands against them, of which every loss here is a short sum.

    With the cosine :math:`s_{ia,jb}` of anchor a of compound i and view b of compound j,

    ```{math}
    \text{own}_{iab} = s_{ia,ib} / \tau, \qquad
    \text{rest}_{iab} = \log \sum_{j \ne i} e^{s_{ia,jb} / \tau}
    ```

    in float32 at least, by log-sum-exp, so that a small τ neither overflows nor empties a sum. Of
    the (N k)(N m) scores ``chunk`` are held at a time, and made again for the gradient: memory
    grows as N, not as N².
    """
    kind = torch.promote_types(anchors.dtype, torch.float32)
    anchors, others = (F.normalize(x.to(kind), dim=-1) for x in (anchors, others))
    anchors = anchors / temperature
    own = torch.einsum("nkd,nmd->nkm", anchors, others)
    table = others.transpose(0, 1).flatten(0, 1)  # [m n d]: sums run along the last axis
    return own, Rest.apply(anchors, table, max(1, chunk // (anchors.shape[1] * len(table))))


class Rest(torch.autograd.Function):
    """log Σ over the other compounds [n k m]; only inputs and sums are kept for the gradient."""

    @staticmethod
    def forward(ctx, anchors: Tensor, table: Tensor, rows: int) -> Tensor:
        found = torch.cat([s.logsumexp(-1) for _, s in _scores(anchors, table, rows)])
        ctx.save_for_backward(anchors, table, found)
        ctx.rows = rows
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        anchors, table, found = ctx.saved_tensors
        of_anchors, of_table = torch.empty_like(anchors), torch.zeros_like(table)
        for part, scores in _scores(anchors, table, ctx.rows):
            pull = scores.sub_(found[part][..., None]).exp_().mul_(gradient[part][..., None])
            pull = pull.view(-1, len(table))
            of_anchors[part] = (pull @ table).view_as(anchors[part])
            of_table.addmm_(pull.mT, anchors[part].flatten(0, 1))
        return of_anchors, of_table, None


def _scores(anchors: Tensor, table: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Scores [r k m n] of some compounds' anchors with all rows of the table, −∞ where j = i."""
    n, k, _ = anchors.shape
    for first in range(0, n, rows):
        part = slice(first, min(first + rows, n))
        scores = (anchors[part].flatten(0, 1) @ table.mT).view(-1, k, len(table) // n, n)
        scores.diagonal(first, 0, 3).fill_(-torch.inf)
        yield part, scores


def check(temperature: float | int | Tensor, *sides: Tensor) -> None:
    """Refuse what has no loss: one compound, sides of different compounds, τ ≤ 0, no numbers.

    Numbers are looked at on CPUs only: an accelerator would have to be waited for. There the loss
    is NaN, and `train.fit` stops.
    """
    here = isinstance(temperature, float | int) or temperature.device.type == "cpu"
    if here and not temperature > 0:
        raise InputError(f"temperature is {float(temperature)}: it must be above 0, such as 0.1.")
    if len({len(x) for x in sides}) > 1:
        raise InputError(f"{len(sides[0])} molecules, and images of {len(sides[1])} compounds.")
    if len(sides[0]) < 2:
        raise InputError(
            f"A minibatch of {len(sides[0])} compound(s) has no others to tell it from. Give two "
            "compounds or more."
        )
    for name, x in zip(("molecules", "images"), sides, strict=True):
        if x.device.type == "cpu" and not x.isfinite().all():
            row = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
            raise InputError(
                f"The projections of {name} hold numbers that are not finite, first in compound "
                f"{row} of the minibatch. Lower learning_rate; look for empty images."
            )


def check_settings(c) -> None:
    """Refuse temperatures that are none, and words that name no form."""
    low, high = c.temperature_min, c.temperature_max
    if not 0 < c.temperature < math.inf or not 0 < low <= high < math.inf:
        raise InputError(
            f"temperature is {c.temperature}, its bounds {low} and {high}: all must be above 0, "
            "and temperature_min not above temperature_max."
        )
    if c.learn_temperature and not low <= c.temperature <= high:
        raise InputError(f"temperature {c.temperature} lies outside its bounds {low} to {high}.")
    if c.form not in ("paper", "released"):
        raise InputError(f"form is {c.form!r}; there are 'paper' and 'released'.")


@torch.no_grad()
def found_first(mol: Float[Tensor, "n d"], img: Float[Tensor, "n d"]) -> dict[str, Tensor]:
    """Share of molecules whose own image is the nearest of N (m2i), and of images (i2m)."""
    scores = F.normalize(mol, dim=-1) @ F.normalize(img, dim=-1).mT
    right = torch.arange(len(scores), device=scores.device)
    ways = {"m2i_first": 1, "i2m_first": 0}
    return {way: (scores.argmax(d) == right).to(scores).mean() for way, d in ways.items()}

"""The Barlow loss of two outputs: what one column says, no other column repeats."""

import torch
from jaxtyping import Float
from torch import Tensor


def barlow_loss(
    a: Float[Tensor, "b k"],
    b: Float[Tensor, "b k"],
    off_diagonal: float = 0.95,
    form: str = "paper",
) -> Float[Tensor, ""]:
    r"""Cross-correlation R of two outputs pulled to the identity (CDCL paper, equation 3).

    ``paper``: :math:`\sum_i (1-R_{ii})^2 + \alpha \sum_i \sum_{j\neq i} R_{ij}^2` with
    :math:`\alpha = w / ((1-w)(K-1))`. ``released``: means instead of sums, weighted 1−w and w
    and divided by (1−w) + w/100. Columns are standardised inside over the minibatch. R is never
    formed: :math:`\|R\|_F^2 = \sum (AA^\top \circ BB^\top)/B^2`, with B×B Gram matrices only.
    """
    n, k = a.shape
    a, b = _standardise(a), _standardise(b)
    diagonal = (a * b).mean(0)
    everything = ((a @ a.T) * (b @ b.T)).sum() / n**2
    off = everything - diagonal.square().sum()
    miss, w = (1 - diagonal).square(), off_diagonal
    if form == "paper":
        return miss.sum() + w / ((1 - w) * (k - 1)) * off
    return ((1 - w) * miss.mean() + w * off / (k * (k - 1))) / ((1 - w) + w / 100)


def _standardise(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)

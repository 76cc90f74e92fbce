"""The Barlow loss of two outputs: what one column says, no other column repeats."""

import torch
from jaxtyping import Float
from torch import Tensor

from hcs_utils.learning.methods.centers import all_rows


def barlow_loss(
    a: Float[Tensor, "b k"],
    b: Float[Tensor, "b k"],
    off_diagonal: float = 0.95,
    form: str = "paper",
) -> Float[Tensor, ""]:
    r"""Cross-correlation R of two outputs pulled to the identity (CDCL paper, equation 3).

    ``paper``: :math:`\sum_i (1-R_{ii})^2 + \alpha \sum_i \sum_{j\neq i} R_{ij}^2` with
    :math:`\alpha = w / ((1-w)(K-1))`. ``released``: means instead of sums, weighted 1−w and w
    and divided by (1−w) + w/100. Columns are standardised inside over the minibatch, that of all
    processes where there are several. R is never formed: :math:`\|R\|_F^2 = \sum (AA^\top \circ
    BB^\top)/B^2`, with B×B Gram matrices only.
    """
    return barlow_pairs(a[None], b[None], off_diagonal, form)[0, 0]


def barlow_pairs(
    a: Float[Tensor, "t b k"],
    b: Float[Tensor, "v b k"],
    off_diagonal: float = 0.95,
    form: str = "paper",
) -> Float[Tensor, "t v"]:
    """:func:`barlow_loss` of each of t views with each of v: one Gram matrix a view, not a pair.

    In float32 at least, whatever the precision of the network.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = _standardise(a), _standardise(b)
        n, k = a.shape[1:]
        diagonal = torch.stack([(view * b).mean(1) for view in a])  # t v k
        everything = torch.einsum("tij,vij->tv", a @ a.mT, b @ b.mT) / n**2
        off = everything - diagonal.square().sum(-1)
        miss, w = (1 - diagonal).square(), off_diagonal
        if form == "paper":
            return miss.sum(-1) + w / ((1 - w) * (k - 1)) * off
        return ((1 - w) * miss.mean(-1) + w * off / (k * (k - 1))) / ((1 - w) + w / 100)


def _standardise(x: Tensor) -> Tensor:
    """Each column of each view over the rows of all processes."""
    x = all_rows(x.to(torch.promote_types(x.dtype, torch.float32)), 1)
    variance, mean = torch.var_mean(x, 1, unbiased=False, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-5)

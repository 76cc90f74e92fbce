"""What the cross-modal losses have in common: checked inputs, and the log of a ratio of sums."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hcs_utils.errors import InputError

CHUNK = 2**22  # similarities held at once; more are worked out anew for the gradient


def log_ratios(
    anchor: Float[Tensor, "n a d"],
    other: Float[Tensor, "n b d"],
    temperature: Tensor | float | int,
    allowed: Bool[Tensor, "a b"] | None = None,
    most: int = CHUNK,
) -> Float[Tensor, " n"]:
    r""":math:`\log\sum_{ab} e^{s_{ii}^{ab}/\tau} - \log\sum_{j \ne i}\sum_{ab} e^{s_{ij}^{ab}/\tau}`.

    s is the product of rows a of anchor i and b of other j, the sums over `allowed` pairs (a, b).
    Anchors are taken in chunks of at most `most` products, which the backward pass works out
    again: memory is linear in n.
    """
    n, a, _ = anchor.shape
    step = max(1, most // (a * n * other.shape[1]))
    starts = range(0, n, step)
    if len(starts) == 1:
        return _part(anchor, other, temperature, allowed, 0)
    parts = [
        checkpoint(_part, anchor[k : k + step], other, temperature, allowed, k, use_reentrant=False)
        for k in starts
    ]
    return torch.cat(parts)


def _part(anchor, other, temperature, allowed, first):
    c, a, d = anchor.shape
    n, b, _ = other.shape
    s = (anchor.reshape(-1, d) @ other.reshape(-1, d).T / temperature).view(c, a, n, b)
    if allowed is not None and not allowed.all():
        s = s.masked_fill(~allowed[None, :, None, :], -torch.inf)
    s = s.logsumexp((1, 3)) if a > 1 else s.squeeze(1).logsumexp(2)  # c n
    own = torch.arange(first, first + c, device=s.device)[:, None]
    positive = s.gather(1, own)[:, 0]
    return positive - s.scatter(1, own, -torch.inf).logsumexp(1)


def unit_views(
    mol: Float[Tensor, "n d"], img: Float[Tensor, "n m d"], temperature
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n m d"]]:
    """Both as unit rows in float32 or more; what cannot be compared raises `InputError`."""
    if len(mol) != len(img):
        raise InputError(f"{len(mol)} molecules and images of {len(img)}: row i must be a pair.")
    if len(mol) < 2:
        raise InputError("A minibatch needs two compounds or more: one has no negatives.")
    if mol.shape[-1] != img.shape[-1]:
        raise InputError(
            f"Molecules have {mol.shape[-1]} dimensions and images {img.shape[-1]}; project both "
            "into one space."
        )
    if not torch.is_tensor(temperature) and not temperature > 0:
        raise InputError(f"The temperature must be above 0, got {temperature}.")
    kind = torch.promote_types(torch.promote_types(mol.dtype, img.dtype), torch.float32)
    return F.normalize(mol.to(kind), dim=-1), F.normalize(img.to(kind), dim=-1)

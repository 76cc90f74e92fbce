"""Spherical k-means: groups of directions, in memory bounded by a chunk, on a CPU or a GPU."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hcs_utils.errors import InputError


@torch.no_grad()
def spherical_kmeans(
    x: Float[Tensor, "n d"],
    k: int,
    iterations: int = 10,
    seed: int = 0,
    chunk: int = 0,
    starts: Float[Tensor, "{k} d"] | None = None,
) -> tuple[Float[Tensor, "{k} d"], Int[Tensor, " n"]]:
    """Centroids of unit length, float32, and for each row the one of the largest cosine to it.

    An iteration assigns each row to the centroid nearest in angle and makes each centroid the
    direction of the sum of its rows (Dhillon and Modha, 2001); one more assignment ends it, so
    ``iterations=0`` only assigns. A centroid without rows begins anew at one of the rows that fit
    theirs worst. ``starts`` are k rows drawn at random by ``seed`` where none are given.

    Rows may be in half precision and of any length but 0, which has no direction: there a row goes
    to the first centroid and counts for none. Memory beside ``x``: ``chunk`` of its rows in
    float32 (0: 512 on a CPU, for its cache, 65,536 on a GPU), their cosines [chunk k], and two
    numbers a row. No loop runs over centroids.
    """
    n = len(x)
    chunk = chunk or (512 if x.device.type == "cpu" else 1 << 16)
    parts = [slice(start, start + chunk) for start in range(0, n, chunk)]
    if not 1 <= k <= n:
        raise InputError(f"{n} rows cannot be put into {k} clusters: ask for 1 to {n}.")
    if starts is None:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        starts = x[order[:k].to(x.device)]
    centroids = F.normalize(starts.float(), dim=1)
    nearest = torch.empty(n, dtype=torch.long, device=x.device)
    cosine = torch.empty(n, device=x.device)
    for _ in range(iterations):
        total = torch.zeros_like(centroids)
        for part in parts:
            unit = _assign(x, part, centroids, nearest, cosine)
            total.index_add_(0, nearest[part], unit)
        centroids = _reseeded(x, F.normalize(total, dim=1), nearest, cosine)
    for part in parts:
        _assign(x, part, centroids, nearest, cosine)
    return centroids, nearest


def _assign(x, part, centroids, nearest, cosine):
    """Fill in the nearest centroid and its cosine for some rows; give these at unit length."""
    unit = F.normalize(x[part].float(), dim=1)
    with torch.autocast(x.device.type, enabled=False):
        cosine[part], nearest[part] = (unit @ centroids.T).max(1)
    return unit


def _reseeded(x, centroids, nearest, cosine):
    """Centroids that have no row, or whose rows cancel, at the rows of the smallest cosines."""
    empty = torch.bincount(nearest, minlength=len(centroids)) == 0
    empty |= ~centroids.any(1)
    count = int(empty.sum())
    if count:
        worst = cosine.topk(count, largest=False).indices
        centroids[empty] = F.normalize(x[worst].float(), dim=1)
    return centroids

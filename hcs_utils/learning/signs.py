"""The vital signs of an embedding: how many directions it uses, and what its neighbours share."""

import math

import numpy as np
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError

_BLOCK = 2048  # rows of similarities at a time


def spectrum(features: ArrayLike) -> np.ndarray:
    """Singular values of features [n d] about their mean, largest first; rounding error is 0.

    RankMe takes features as they are. There a shared offset, which any encoder that ends in a ReLU
    has, is the largest value and hides the rest; it says nothing of one field, so it goes first.
    """
    x = _checked(features)
    noise = np.finfo(np.float32).eps * max(x.shape) * np.linalg.norm(x, axis=1).max()
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    return np.where(values > noise, values, 0.0)


def effective_rank(features: ArrayLike) -> float:
    r"""Directions in use, :math:`e^H` of :math:`p_k = \sigma_k / \sum_j \sigma_j`; 0 if constant.

    From 1, all on a line, to min(n − 1, d). Source: Roy and Vetterli 2007; RankMe, Garrido et al.
    2023, equation 1.
    """
    values = spectrum(features)
    return math.exp(_entropy(values / values.sum())) if values.any() else 0.0


def stable_rank(features: ArrayLike) -> float:
    r"""Directions that carry variance, :math:`\sum_k \sigma_k^2 / \sigma_1^2`; 0 if constant."""
    values = spectrum(features)
    return float((values**2).sum() / values[0] ** 2) if values.any() else 0.0


def dimension_sd(features: ArrayLike) -> np.ndarray:
    r"""Standard deviation [d] of each dimension of :math:`\sqrt d \, z / \lVert z \rVert`.

    1 in every dimension for directions that fill the sphere, 0 for equal ones. Source: SimSiam,
    Chen and He 2021, section 4.1. VICReg's variance term is the mean of max(0, 1 − sd).
    """
    z = _unit(_checked(features))
    return z.std(0) * math.sqrt(z.shape[1])


def mean_cosine(features: ArrayLike) -> float:
    r"""Mean cosine of two different rows, :math:`(\lVert\sum_i u_i\rVert^2 - n) / (n (n-1))`."""
    z = _unit(_checked(features))
    lengths = (z**2).sum()  # n, but for rows of zeros
    return float(((z.sum(0) ** 2).sum() - lengths) / (len(z) * (len(z) - 1)))


def entropies(probability: ArrayLike) -> tuple[float, float]:
    """Mean entropy of the rows of [n K], and entropy of their mean, both in units of ln K.

    (1, 1): each row says nothing. (0, 0): all say the same one thing. (low, high): each its own.
    The second is at most ln n / ln K above the first.
    """
    p = np.asarray(probability, dtype=float)
    unit = math.log(p.shape[1])
    return float(np.mean([_entropy(row) for row in p])) / unit, _entropy(p.mean(0)) / unit


def nearest(features: ArrayLike, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Positions [n k] of the k most similar other rows by cosine; ``allowed`` [n n] bars pairs."""
    z = _unit(_checked(features))
    if not 1 <= k < len(z):
        raise InputError(f"k = {k} neighbours asked of {len(z)} rows; choose 1 to {len(z) - 1}.")
    found = np.empty((len(z), k), dtype=np.intp)
    for start in range(0, len(z), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(z)))
        cosine = z[rows] @ z.T
        cosine[np.arange(len(rows)), rows] = -np.inf
        if allowed is not None:
            cosine[~allowed[rows]] = -np.inf
        found[rows] = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return found


def agreement(first: ArrayLike, second: ArrayLike, k: int = 10) -> float:
    """How far two embeddings of the same n fields agree on neighbours: 0 by chance, 1 wholly.

    From the share of the k nearest rows that both have, as (share − chance) / (1 − chance), where
    chance is k / (n − 1). ``first`` and ``second``: two views, or two checkpoints.
    """
    a, b = nearest(first, k), nearest(second, k)
    if a.shape != b.shape:
        raise InputError(f"two embeddings of the same fields are needed, got {len(a)} and {len(b)}")
    chance = k / (len(a) - 1)
    share = float(np.mean([np.isin(x, y).mean() for x, y in zip(a, b, strict=True)]))
    return (share - chance) / (1 - chance) if chance < 1 else math.nan


def shared(features: ArrayLike, label: ArrayLike, other: ArrayLike, k: int = 10) -> float:
    """Share of neighbours of another ``other`` with the same ``label``: 0 by chance, 1 if all.

    The k nearest of those rows that differ in ``other``; (share − chance) / (1 − chance), where
    chance is the share among all such pairs. With treatment as label and batch as other: is a
    treatment found across batches? The other way round: are neighbours of the same batch though
    they share no treatment? NaN where no such pair exists, or where all of them share it.
    """
    label, other = np.asarray(label), np.asarray(other)
    allowed = other[:, None] != other
    same = label[:, None] == label
    able = np.flatnonzero(allowed.sum(1) >= k)
    chance = same[able][allowed[able]].mean() if len(able) else math.nan
    if not 0 < chance < 1:
        return math.nan
    found = nearest(features, k, allowed)[able]
    return float((same[able[:, None], found].mean() - chance) / (1 - chance))


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(max(0.0, -(p * np.log(p)).sum()))


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def _checked(features: ArrayLike) -> np.ndarray:
    x = np.asarray(features, dtype=float)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise InputError(f"features must be a table [n, d] of two rows or more, got {x.shape}.")
    if bad := int((~np.isfinite(x)).any(1).sum()):
        raise InputError(
            f"{bad} of {len(x)} rows of the features hold NaN or infinite values: the network has "
            "diverged. Start again with a smaller learning_rate, or with precision='32-true'."
        )
    return x

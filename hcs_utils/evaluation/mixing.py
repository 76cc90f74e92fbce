"""How well batches mix in an embedding, and how far apart treatments lie."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from hcs_utils.errors import InputError
from hcs_utils.evaluation.neighbours import (
    checked_features,
    checked_labels,
    chunks,
    count,
    for_cosines,
    largest,
    nearest,
    over_blocks,
    unit,
)  # fmt: skip


def kbet(
    features: ArrayLike,
    batch: ArrayLike,
    k_fraction: float | int = 0.005,
    alpha: float | int = 0.05,
    form: str = "standard",
) -> float:
    """Share of sites in whose neighbourhood the batches mix as they do overall, in [0, 1].

    The mean of `kbet_accepted`, which see. Well mixed: about 1 - alpha. Noise mixes perfectly:
    read it beside a score of the treatments.
    """
    return float(kbet_accepted(features, batch, k_fraction, alpha, form).mean())


def kbet_accepted(
    features: ArrayLike,
    batch: ArrayLike,
    k_fraction: float | int = 0.005,
    alpha: float | int = 0.05,
    form: str = "standard",
) -> np.ndarray:
    r"""Whether the batches mix around each site as they do overall: `n` truth values.

    For each site, with o_b of its k nearest neighbours from batch b of overall share p_b,

    .. math:: \chi^2 = \sum_b (o_b - k p_b)^2 / (k p_b)

    and the site is accepted when the p-value, for batches - 1 degrees of freedom, is at least
    alpha. k is ``floor(k_fraction * n)``.

    "standard": cosine neighbours, the site itself left out, and no fewer than five a batch, below
    which the test says nothing. "released": the authors' code, the largest dot products of the
    features as given (scale them to length 1 for cosine), the first dropped whether it is the site
    itself or not, k - 1 counted against k expected, however few. Their test scores also took the
    treatment's number for the batch: give that as `batch` to repeat them.
    Source: Büttner et al. 2019; CDCL, section 4 (0.5 % of the data).
    """
    features = checked_features(features, "features", varied=True)
    batch = checked_labels(batch, features, "batch")
    if form not in ("standard", "released"):
        raise InputError(f'form must be "standard" or "released", got {form!r}.')
    names, code = np.unique(batch, return_inverse=True)
    k = _neighbours(len(batch), len(names), k_fraction, form)
    query = bank = features
    if form == "standard":
        query, bank, _ = for_cosines(features, features)
    expected = k * np.bincount(code) / len(code)
    highest = chi2.isf(alpha, len(names) - 1)

    def accepted(rows: slice, similarity: np.ndarray) -> np.ndarray:
        if form == "standard":
            similarity[np.arange(len(similarity)), np.arange(rows.start, rows.stop)] = -np.inf
            near = largest(similarity, k)
        else:
            near = largest(similarity, k)[:, 1:]
        statistic = ((count(code[near], len(names)) - expected) ** 2 / expected).sum(axis=1)
        return statistic <= highest

    return np.concatenate(over_blocks(accepted, query, bank))


def lisi(
    features: ArrayLike,
    label: ArrayLike,
    perplexity: float | int = 30,
    metric: str = "cosine",
    normalised: bool = False,
) -> np.ndarray:
    r"""Effective number of labels around each site, in [1, labels]: `n` numbers.

    .. math:: 1 / \sum_c \Big(\sum_{j \in \mathrm{NN}(i),\, y_j = c} p_{ij}\Big)^2,
              \qquad p_{ij} \propto e^{-\beta_i d_{ij}}

    over the ``3 * perplexity`` nearest other sites, with beta such that the entropy of p is
    ln perplexity. `label` batches: high is mixed; treatments: 1 is pure. `normalised`:
    (LISI - 1) / (labels - 1), in [0, 1]. With so few neighbours even a perfect mix of equal
    labels stays below 1, at about 0.7 for 6 and 0.5 for 24: compare with shuffled labels.

    d is the distance of rows scaled to length 1 ("cosine") or as given ("euclidean", harmonypy's;
    its tree would take hours for 59,050 sites of 384 features).
    Source: Korsunsky et al. 2019, equations 20 to 22 of the Methods.
    """
    points = _points(features, metric).astype(np.float32)
    names, code = _labels(label, points, "LISI")
    k = int(3 * perplexity)
    if not (perplexity > 1 and k < len(points)):
        raise InputError(
            f"perplexity = {perplexity} needs {k} other sites around each, and there are "
            f"{len(points) - 1}; take at most {(len(points) - 1) // 3}, and more than 1."
        )
    points -= points.mean(axis=0)
    # the nearest have the largest x·y - |y|²/2
    half = -(points**2).sum(axis=1, keepdims=True) / 2
    one = np.ones((len(points), 1), dtype=np.float32)
    near = nearest(
        np.hstack([points, one]), np.hstack([points, half]), k, exclude_self=True, similarity="dot"
    )[1]
    found = np.empty(len(points))
    for rows in chunks(len(points), k * points.shape[1]):
        away = np.linalg.norm(points[near[rows]] - points[rows, None], axis=2).astype(np.float64)
        found[rows] = 1 / (
            count(code[near[rows]], len(names), _weights(away, float(perplexity))) ** 2
        ).sum(axis=1)
    return (found - 1) / (len(names) - 1) if normalised else found


def silhouette(features: ArrayLike, label: ArrayLike, metric: str = "cosine") -> np.ndarray:
    r"""How much nearer each site is to its own label than to the next one, in [-1, 1].

    .. math:: s_i = (b_i - a_i) / \max(a_i, b_i)

    a is the mean distance to the other sites of the label, b the least mean distance to those of
    another; 0 for a label with one site. Near 0 labels overlap. "cosine" distances are linear in
    the rows, so that means over labels follow from the mean row of each: 16 n d + 8 n labels bytes
    at most. "euclidean" compares all pairs by scikit-learn, some at a time (1 GiB), in n² d time.
    Source: Rousseeuw 1987.
    """
    points = _points(features, metric)
    names, code = _labels(label, points, "The silhouette")
    size = np.bincount(code)
    if len(names) == len(points):
        raise InputError("Each site has a label of its own; a silhouette needs labels that repeat.")
    if metric == "euclidean":
        from sklearn.metrics import silhouette_samples

        return silhouette_samples(points, code)
    total = np.zeros((len(names), points.shape[1]))
    np.add.at(total, code, points)
    itself = (points**2).sum(axis=1)  # 1, or 0 for a row of zeros
    found = np.zeros(len(points))
    for rows in chunks(len(points), 4 * len(names)):
        at = np.arange(rows.stop - rows.start), code[rows]
        similar = points[rows] @ total.T
        own, others = similar[at] - itself[rows], size[code[rows]] - 1
        within = 1 - own / np.maximum(others, 1)
        apart = 1 - similar / size
        apart[at] = np.inf
        between = apart.min(axis=1)
        largest_of_both = np.maximum(within, between)
        usable = (others > 0) & (largest_of_both > 1e-12)  # else one site, or all in one place
        np.divide(between - within, largest_of_both, out=found[rows], where=usable)
    return found


def _neighbours(n: int, batches: int, k_fraction: float | int, form: str = "standard") -> int:
    if batches < 2:
        raise InputError("k-BET compares batches and there is only one; it needs two or more.")
    least = 5 * batches if form == "standard" else 2
    k = max(least, int(k_fraction * n + 1e-9))  # 1e-9: 0.29 * 100 is 28.999...
    if k >= n:
        why = f", at least five neighbours for each of {batches} batches" * (form == "standard")
        raise InputError(
            f"k-BET needs more than {k} sites (k_fraction = {k_fraction}{why}) and there are {n}; "
            "give more sites."
        )
    return k


def _points(features: ArrayLike, metric: str) -> np.ndarray:
    if metric not in ("cosine", "euclidean"):
        raise InputError(f'metric must be "cosine" or "euclidean", got {metric!r}.')
    points = checked_features(features, "features", varied=True).astype(np.float64)
    return unit(points) if metric == "cosine" else points


def _labels(label: ArrayLike, points: np.ndarray, who: str) -> tuple[np.ndarray, np.ndarray]:
    names, code = np.unique(checked_labels(label, points, "label"), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{who} compares labels and there is only one; it needs two or more.")
    return names, code


def _weights(away: np.ndarray, perplexity: float) -> np.ndarray:
    """Rows of exp(-beta * distance), summing to 1, with beta found for the entropy by halving."""
    away = away - away.min(axis=1, keepdims=True)
    mean = away.mean(axis=1, keepdims=True)
    away /= np.where(mean > 0, mean, 1)
    low, high = np.full((2, len(away), 1), [[[-20.0]], [[60.0]]])  # of ln beta
    for _ in range(50):
        middle = (low + high) / 2
        weight = np.exp(-np.exp(middle) * away)
        total = weight.sum(axis=1, keepdims=True)
        spread = np.exp(middle) * (weight * away).sum(axis=1, keepdims=True) / total
        wide = np.log(total) + spread > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return weight / total

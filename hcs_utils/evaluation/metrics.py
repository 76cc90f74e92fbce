"""Numbers that judge an embedding: labels found across batches, and how well batches mix.

All take NumPy arrays, one row a site, and never hold an array of sites x sites.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from hcs_utils.errors import InputError

_CHUNK_BYTES = 64 * 2**20  # of one block of similarities


def knn_predict(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    query: ArrayLike,
    k: int = 10,
    temperature: float = 0.1,
) -> np.ndarray:
    r"""Label of each query by the weighted vote of its k most similar rows of the bank.

    .. math:: \hat y(q) = \arg\max_c \sum_{i \in \mathrm{NN}_k(q),\, y_i = c} e^{\cos(q, i) / \tau}

    A tie goes to the label that sorts first. Bank `[n, d]`, query `[m, d]`; returns `m` labels.
    Source: CDCL, section 4 after Caron et al. 2021 (who take k = 20 and temperature 0.07).
    """
    bank, query = _features(bank, "bank"), _features(query, "query")
    bank_labels = _labels(bank_labels, bank, "bank_labels")
    if query.shape[1:] != bank.shape[1:]:
        raise InputError(
            f"The bank has {bank.shape[1]} features and the query {query.shape[1]}; "
            "embed both with the same model."
        )
    if not 1 <= k <= len(bank):
        raise InputError(f"k = {k} neighbours asked of a bank of {len(bank)} rows; choose 1 to n.")
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, got {temperature}.")
    bank, query = _unit(bank), _unit(query)
    classes, code = np.unique(bank_labels, return_inverse=True)
    predicted = np.empty(len(query), dtype=np.intp)
    for rows in _chunks(len(query), len(bank)):
        cosine = query[rows] @ bank.T
        nearest = _largest(cosine, k)
        predicted[rows] = _vote(
            np.take_along_axis(cosine, nearest, axis=1), code[nearest], len(classes), temperature
        )
    return classes[predicted]


def knn_accuracy(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    query: ArrayLike,
    query_labels: ArrayLike,
    k: int = 10,
    temperature: float = 0.1,
) -> float:
    """Share of queries whose label `knn_predict` finds in the bank, in [0, 1].

    The bank is the training fold and the query the test fold, from other batches; a site present
    in both finds itself. Raises `InputError` when no label of the query occurs in the bank.
    """
    query_labels = _labels(query_labels, np.asarray(query), "query_labels")
    if not np.isin(query_labels, np.asarray(bank_labels)).any():
        raise InputError(
            "No label of the query occurs in the bank, so nothing could be found; "
            "check that both hold the same column and the same treatments."
        )
    return float(np.mean(knn_predict(bank, bank_labels, query, k, temperature) == query_labels))


def kbet(
    features: ArrayLike,
    batch: ArrayLike,
    k_fraction: float = 0.005,
    alpha: float = 0.05,
    form: str = "standard",
) -> float:
    r"""Share of sites in whose neighbourhood the batches mix as they do overall, in [0, 1].

    For each site, with o_b of its k nearest neighbours from batch b of overall share p_b,

    .. math:: \chi^2 = \sum_b (o_b - k p_b)^2 / (k p_b)

    and the site is accepted when the p-value, for batches - 1 degrees of freedom, is at least
    alpha. Well mixed: about 1 - alpha. Neighbours number ``floor(k_fraction * n)``, and no fewer
    than five a batch, below which the test says nothing.

    "standard": cosine neighbours, the site itself left out. "released": the authors' code, the
    largest dot products of the features as given (scale them to length 1 for cosine), the first
    dropped whether it is the site itself or not, k - 1 counted against k expected.
    Source: Büttner et al. 2019; CDCL, section 4 (0.5 % of the data).
    """
    features = _features(features, "features")
    batch = _labels(batch, features, "batch")
    names, code = np.unique(batch, return_inverse=True)
    k = _neighbours(len(batch), len(names), k_fraction)
    if form not in ("standard", "released"):
        raise InputError(f'form must be "standard" or "released", got {form!r}.')
    points = _unit(features) if form == "standard" else features
    expected = k * np.bincount(code) / len(code)
    accepted = 0
    for rows in _chunks(len(points), len(points)):
        similarity = points[rows] @ points.T
        if form == "standard":
            similarity[np.arange(len(similarity)), np.arange(rows.start, rows.stop)] = -np.inf
        nearest = _largest(similarity, k)
        if form == "released":
            first = np.take_along_axis(similarity, nearest, axis=1).argmax(axis=1)
            rest = np.arange(k) != first[:, None]
            nearest = nearest[rest].reshape(len(nearest), k - 1)
        observed = _count(code[nearest], len(names))
        statistic = ((observed - expected) ** 2 / expected).sum(axis=1)
        accepted += int((chi2.sf(statistic, len(names) - 1) >= alpha).sum())
    return accepted / len(points)


def bootstrap_interval(
    correct: ArrayLike, unit: ArrayLike, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval (low, high) of the mean of `correct` when whole units are drawn anew.

    Sites of one well, and wells of one batch, fail together: resample the unit that was really
    repeated. `unit` names that of each value. Percentile bootstrap with `n` draws.
    """
    correct = np.asarray(correct, dtype=np.float64)
    unit = _labels(unit, correct, "unit")
    if correct.ndim != 1 or np.isnan(correct).any():
        raise InputError("bootstrap_interval needs one number a row, without NaN; drop NaN first.")
    names, code = np.unique(unit, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"All {len(correct)} values belong to one unit, whose repeat is unknown; "
            "give a finer unit, such as the well."
        )
    total, size = np.bincount(code, weights=correct), np.bincount(code)
    share = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), share, size=n)  # times each unit
    means = (drawn @ total) / (drawn @ size)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _neighbours(n: int, batches: int, k_fraction: float) -> int:
    if batches < 2:
        raise InputError("k-BET compares batches and there is only one; it needs two or more.")
    k = max(5 * batches, int(k_fraction * n + 1e-9))  # 1e-9: 0.29 * 100 is 28.999...
    if k >= n:
        raise InputError(
            f"k-BET needs more than {k} sites (k_fraction = {k_fraction}, at least five neighbours "
            f"for each of {batches} batches) and there are {n}; give more sites."
        )
    return k


def _vote(cosine: np.ndarray, code: np.ndarray, classes: int, temperature: float) -> np.ndarray:
    weight = np.exp((cosine - cosine.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
    return _count(code, classes, weight).argmax(axis=1)


def _count(code: np.ndarray, classes: int, weight: np.ndarray | None = None) -> np.ndarray:
    """How often, or with what weight, each class occurs in each row: `[rows, classes]`."""
    cell = code + np.arange(len(code))[:, None] * classes
    weights = None if weight is None else weight.ravel()
    return np.bincount(cell.ravel(), weights, len(code) * classes).reshape(len(code), classes)


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest values of each row, in no order."""
    return np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k :]


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // (4 * columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _unit(features: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)  # a zero row is similar to nothing


def _features(features: ArrayLike, name: str) -> np.ndarray:
    features = np.asarray(features, dtype=np.float32)
    if features.ndim != 2 or not features.size:
        raise InputError(f"{name} must be a filled table [n, d], got shape {features.shape}.")
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{(~finite).sum()} of {len(features)} rows of {name} hold NaN or infinite values, the "
            f"first is row {int(np.argmin(finite))}; leave such rows out, or train again."
        )
    return features


def _labels(labels: ArrayLike, features: np.ndarray, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise InputError(
            f"{name} has shape {labels.shape} for {len(features)} rows; join both on site_id first."
        )
    return labels

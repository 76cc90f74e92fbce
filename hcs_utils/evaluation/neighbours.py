"""What every metric of neighbours shares: checked tables, unit rows, blocks that fit in memory.

A table of n x n similarities is never held: `over_blocks` makes it a few rows at a time, on
threads, and hands each block to a function that keeps what it needs.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_info, threadpool_limits

from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import listed, missing

CHUNK_BYTES = 64 * 2**20  # of one block of similarities; each thread holds one, and about as
MOST_THREADS = 8  # much again for what is made of it

Result = TypeVar("Result")


def nearest(
    query: ArrayLike,
    bank: ArrayLike,
    k: int,
    exclude_self: bool = False,
    similarity: str = "cosine",
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of the bank for each query: similarities and their rows, `[m, k]`.

    Exact to float32, most similar first, ties in the order of the bank. Query `[m, d]`, bank
    `[n, d]`; similarity "cosine" or "dot". `exclude_self`: query and bank are the same rows, and
    none finds itself. Raises `InputError` for NaN, k out of range, and a bank of equal rows.
    """
    query, bank = checked_pair(query, bank)
    if exclude_self and len(query) != len(bank):
        raise InputError(
            f"exclude_self needs the same rows twice; the query has {len(query)} and the bank "
            f"{len(bank)}."
        )
    if not 1 <= k <= len(bank) - exclude_self:
        raise InputError(
            f"k = {k} neighbours asked of a bank of {len(bank)} rows"
            f"{', of which each finds the others' * exclude_self}; choose 1 to "
            f"{len(bank) - exclude_self}."
        )
    if similarity not in ("cosine", "dot"):
        raise InputError(f'similarity must be "cosine" or "dot", got {similarity!r}.')
    above = np.float32(0)
    if similarity == "cosine":
        query, bank, above = for_cosines(query, bank)

    def most_similar(rows: slice, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if exclude_self:
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -np.inf
        column = largest(block, k)
        return np.take_along_axis(block, column, axis=1), column

    found = over_blocks(most_similar, query, bank)
    return np.concatenate([s for s, _ in found]) + above, np.concatenate([c for _, c in found])


def over_blocks(
    function: Callable[[slice, np.ndarray], Result], query: np.ndarray, bank: np.ndarray
) -> list[Result]:
    """What the function makes of each block of ``query @ bank.T``, in the order of rows.

    It is called with the slice of query rows and their similarities `[rows, n]`, which it may
    write into and must not keep, from as many threads at once as BLAS may use (at most eight).
    Scale both tables with `unit` first for cosines. Memory: a block (64 MiB) and what the
    function makes of it, for each thread.
    """

    def of(rows: slice) -> Result:
        return function(rows, query[rows] @ bank.T)

    threads = _threads()  # asked before BLAS is held to one
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(of, chunks(len(query), len(bank))))


@cache
def _threads() -> int:
    allowed = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return min(max(allowed, default=1), MOST_THREADS)


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest values of each row, largest first, ties by column: `[rows, k]`.

    The k-th largest of maxima over groups of columns is no larger than the k-th largest value, so
    what lies below it need not be sorted: fifteen times as fast as argpartition on wide rows.
    """
    flat = np.flatnonzero(values >= _bound(values, k)[:, None])
    row, column = np.divmod(flat, values.shape[1])
    per_row = np.bincount(row, minlength=len(values))
    place = np.arange(len(flat)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
    candidates = np.full((len(values), per_row.max()), np.inf, dtype=values.dtype)
    candidates[row, place] = -values[row, column]
    columns = np.zeros(candidates.shape, dtype=np.intp)
    columns[row, place] = column
    return np.take_along_axis(columns, candidates.argsort(axis=1, kind="stable")[:, :k], axis=1)


def _bound(values: np.ndarray, k: int) -> np.ndarray:
    """A number for each row that at least k of its values reach, and few more than k."""
    rows, width = values.shape
    groups = max(4 * k, 256)
    if width >= 4 * groups:
        size = width // groups
        values = values[:, : size * groups].reshape(rows, size, groups).max(axis=1)
    return np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k]


def count(code: np.ndarray, classes: int, weight: np.ndarray | None = None) -> np.ndarray:
    """How often, or with what weight, each class occurs in each row: `[rows, classes]`."""
    cell = code + np.arange(len(code))[:, None] * classes
    weights = None if weight is None else weight.ravel()
    return np.bincount(cell.ravel(), weights, len(code) * classes).reshape(len(code), classes)


def chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows, such that float32 `[slice, columns]` fits in `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // (4 * columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, so that dot products are cosines; a row of zeros stays so."""
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)  # a zero row is similar to nothing


def for_cosines(query: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.float32]:
    r"""Tables a, b and a number, such that ``a @ b.T`` plus the number is the cosine of all rows.

    Rows that all point one way, as those of an untrained encoder, have cosines which float32
    rounds to a handful of values, and neighbours would follow the order of rows. From a mean
    cosine of 0.9 the mean m of the bank's unit rows is therefore taken off first:
    :math:`\cos(x, y) = 1 + (x-m)(y-m) - |x-m|^2/2 - |y-m|^2/2`.
    """
    same, query = query is bank, unit(query.astype(np.float64))
    bank = query if same else unit(bank.astype(np.float64))
    mean = bank.mean(axis=0)
    if mean @ mean < 0.9:
        a = query.astype(np.float32)
        return a, a if same else bank.astype(np.float32), np.float32(0)
    query, bank = query - mean, bank - mean
    half = [-(x**2).sum(axis=1, keepdims=True) / 2 for x in (query, bank)]
    one = [np.ones((len(x), 1)) for x in (query, bank)]
    a, b = np.hstack([query, half[0], one[0]]), np.hstack([bank, one[1], half[1]])
    return a.astype(np.float32), b.astype(np.float32), np.float32(1)


def checked_features(features: ArrayLike, name: str, varied: bool = False) -> np.ndarray:
    """The features as float32 `[n, d]`, all finite; with `varied`, not the same row throughout."""
    features = np.asarray(features, dtype=np.float32)
    if features.ndim != 2 or not features.size:
        raise InputError(f"{name} must be a filled table [n, d], got shape {features.shape}.")
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{(~finite).sum()} of {len(features)} rows of {name} hold NaN or infinite values, the "
            f"first is row {int(np.argmin(finite))}; leave such rows out, or train again."
        )
    if varied and len(features) > 1 and (features == features[0]).all():
        raise InputError(
            f"All {len(features)} rows of {name} are the same, so none is nearer than another; "
            "the encoder has collapsed, or one row was repeated. Embed again."
        )
    return features


def checked_pair(query: ArrayLike, bank: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Query and bank as float32 tables with the same features."""
    query, bank = checked_features(query, "query"), checked_features(bank, "bank", varied=True)
    if query.shape[1:] != bank.shape[1:]:
        raise InputError(
            f"The bank has {bank.shape[1]} features and the query {query.shape[1]}; "
            "embed both with the same model."
        )
    return query, bank


def checked_labels(labels: ArrayLike, features: np.ndarray, name: str) -> np.ndarray:
    """The labels as an array with one entry a row of the features."""
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise InputError(
            f"{name} has shape {labels.shape} for {len(features)} rows; join both on site_id first."
        )
    empty = [str(row) for row in np.flatnonzero(missing(labels))]
    if empty:
        raise InputError(
            f"{name} is missing in {len(empty)} of {len(labels)} rows: {listed(empty)}; "
            "leave them out, or name what they are."
        )
    return labels

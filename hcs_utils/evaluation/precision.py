"""Average precision: are the replicates of a row nearer to it than everything else?

No list of pairs is made: rows of similarities come a block at a time, and of each only the number
of negatives nearer than each replicate is kept.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import digamma

from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import controls, listed
from hcs_utils.evaluation.neighbours import (
    checked_features,
    checked_labels,
    for_cosines,
    over_blocks,
)

BINS = 4096  # of the histogram of one row's distances
PIECE = 2**19  # distances handled at once, such that they stay in the processor's cache
MOST_ROWS = 64  # handled at once, such that float32 numbers their bins exactly
APART = 4.0  # more than two cosine distances can differ by
FAR = 3.0  # beyond every cosine distance


def average_precision(
    features: ArrayLike,
    treatment: ArrayLike,
    batch: ArrayLike | None = None,
    is_control: ArrayLike | None = None,
) -> pd.DataFrame:
    r"""How far up a row's replicates stand among its neighbours by cosine; one row a row.

    With positives sorted by similarity and :math:`a_j` negatives nearer than the j-th of them,

    .. math:: \mathrm{AP} = \frac{1}{n_+} \sum_{j=1}^{n_+} \frac{j}{j + a_j}

    Positives are the other rows of the treatment, with `batch` only those from other batches.
    Negatives are the rows of every other treatment, in any batch; with `is_control` the controls
    alone, which asks for phenotypic activity and judges no control. At a tie the positive counts
    as nearer, as in copairs: on an embedding that has collapsed to few points scores rise, so
    look at its rank too. Columns, as copairs': `average_precision` in (0, 1], NaN for
    a row without positives; `normalized_average_precision`, 0 at chance and 1 at best;
    `n_pos_pairs`; `n_total_pairs`. Similarities are float32: two that differ by less than about
    1e-7 may stand in either order (within 3e-5 of AP, at 30,000 rows).
    Source: Kalinin et al. 2025 (copairs).
    """
    features = checked_features(features, "features", varied=True)
    code, _ = coded(treatment, features, "treatment")
    place = None if batch is None else coded(batch, features, "batch")[0]
    control = None if is_control is None else checked_controls(is_control, code)
    judged = np.arange(len(features)) if control is None else np.flatnonzero(~control)
    judged = judged[np.argsort(code[judged], kind="stable")]  # a treatment is a run of rows
    if control is None and code[judged[0]] == code[judged[-1]]:
        raise InputError("All rows are of one treatment, so nothing can be told from it.")
    rows, mated, above = for_cosines(features, features)
    negatives = mated[judged] if control is None else mated[control]
    rows, mated, one = rows[judged], mated[judged], np.float32(1 - above)
    groups = _Groups(code[judged], None if place is None else place[judged])

    def of_block(part: slice, block: np.ndarray) -> np.ndarray:
        found = np.empty((len(block), 3))
        for piece, mates in groups.pieces(part, len(negatives)):
            distance = block[piece.start - part.start : piece.stop - part.start]
            np.subtract(one, distance, out=distance)
            if control is None:
                near = distance[:, mates].copy()
                distance[:, mates] = FAR
                others = len(negatives) - near.shape[1]
            else:
                near = one - rows[piece] @ mated[mates].T
                others = len(negatives)
            near[~groups.positive(piece, mates)] = np.inf
            found[piece.start - part.start : piece.stop - part.start] = _precision(
                near, distance, others
            )
        return found

    found = np.full((len(features), 3), (np.nan, 0, 0))
    found[judged] = np.concatenate(over_blocks(of_block, rows, negatives))
    positives, total = found[:, 1].astype(np.intp), found[:, 2].astype(np.intp)
    return pd.DataFrame(
        {
            "average_precision": found[:, 0],
            "normalized_average_precision": _normalised(found[:, 0], positives, total),
            "n_pos_pairs": positives,
            "n_total_pairs": total,
        }
    )


def coded(labels: ArrayLike, features: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A number for each label, from 0 in order of appearance, and the labels by number."""
    code, names = pd.factorize(checked_labels(labels, features, name))
    return code, np.asarray(names)


def checked_controls(is_control: ArrayLike, code: np.ndarray) -> np.ndarray:
    """The flags of controls; some rows are, some are not, and no treatment is half of each."""
    control = controls(is_control, len(code))
    if control.all() or not control.any():
        raise InputError(
            f"{'Every row is' if control.all() else 'No row is'} a control, of {len(control)}; "
            "mark the negative controls, and them alone."
        )
    both = np.flatnonzero(~control & np.isin(code, code[control]))
    if len(both):
        raise InputError(
            f"{len(both)} rows share their treatment with a control and are none: rows "
            f"{numbers(both)}; mark all of a treatment, or rename them."
        )
    return control


def numbers(rows: np.ndarray) -> str:
    """Rows for a message: the first twenty, and how many more."""
    return listed(rows.astype(str).tolist())


class _Groups:
    """Rows sorted by treatment: which of them belong together."""

    def __init__(self, code: np.ndarray, batch: np.ndarray | None):
        self.batch = batch
        first = np.flatnonzero(np.r_[True, code[1:] != code[:-1]])
        self.bounds = np.r_[first, len(code)]

    def pieces(self, part: slice, width: int) -> Iterator[tuple[slice, slice]]:
        """Rows of one treatment within the part, few enough to stay in cache; and all its rows."""
        step = min(max(1, PIECE // width), MOST_ROWS)
        group = int(np.searchsorted(self.bounds, part.start, side="right")) - 1
        start = part.start
        while start < part.stop:
            mates = slice(int(self.bounds[group]), int(self.bounds[group + 1]))
            stop = min(start + step, mates.stop, part.stop)
            yield slice(start, stop), mates
            start, group = stop, group + (stop == mates.stop)

    def positive(self, piece: slice, mates: slice) -> np.ndarray:
        """Which mates are positives of each row of the piece."""
        if self.batch is not None:
            return self.batch[piece, None] != self.batch[None, mates]
        return np.arange(piece.start, piece.stop)[:, None] != np.arange(mates.start, mates.stop)


def _precision(near: np.ndarray, distance: np.ndarray, others: int) -> np.ndarray:
    """AP, positives and pairs of each row: distances to positives (else inf), and to negatives."""
    near.sort(axis=1)
    positives = np.isfinite(near).sum(axis=1)
    found = np.stack([np.full(len(near), np.nan), positives, positives + others], axis=1)
    some = positives > 0
    if some.all():
        some = slice(None)  # spares a copy
    place = np.arange(1, near.shape[1] + 1)
    share = place / (place + nearer(near[some], distance[some]))
    share[np.isinf(near[some])] = 0
    found[some, 0] = share.sum(axis=1) / positives[some]
    return found


def nearer(near: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """How many of a row's distances `[r, n]` lie below each of its near ones `[r, m]`, exactly.

    `near` ascends along each row, padded with inf, for which the count means nothing. Distances
    are counted in bins, and only those that share a bin with a near one are compared: a fifth of
    the time that sorting takes. At most `MOST_ROWS` rows.
    """
    rows, width = distance.shape
    known = np.isfinite(near)
    low, high = near[:, :1], np.where(known, near, -np.inf).max(axis=1, keepdims=True)
    scale = np.float32(BINS - 3) / np.maximum(high - low, np.float32(1e-3))
    start = np.arange(rows, dtype=np.float32)[:, None] * BINS

    def bins(values: np.ndarray) -> np.ndarray:  # never decreases with the value
        values = values - low
        values *= scale
        np.clip(values, -1, BINS - 2, out=values)
        values += start + 1
        return values.astype(np.intp)

    cell, near_cell = bins(distance).ravel(), bins(near)
    shared = np.zeros(rows * BINS, dtype=bool)
    shared[near_cell[known]] = True
    alone = np.bincount(cell, minlength=rows * BINS)
    alone[shared] = 0
    below = alone.reshape(rows, BINS).cumsum(axis=1).ravel()[near_cell]

    close = np.flatnonzero(shared[cell])
    close_row, close_distance = close // width, distance.ravel()[close].astype(np.float64)
    shift = APART * np.arange(rows)
    among = np.searchsorted(
        (near.astype(np.float64) + shift[:, None])[known],
        close_distance + shift[close_row],
        side="right",
    )
    passed = np.bincount(among, minlength=int(known.sum()) + 1).cumsum()[:-1]
    passed -= np.searchsorted(close_row, np.nonzero(known)[0])  # those of rows before
    below[known] += passed
    return below


def _normalised(ap: np.ndarray, positives: np.ndarray, total: np.ndarray) -> np.ndarray:
    """(AP - expected) / (1 - expected), where the expectation is that of a random order."""
    m, n = positives, np.maximum(total, 2)
    harmonic = digamma(n + 1.0) + np.euler_gamma
    expected = ((m - 1) / (n - 1) * (n - harmonic) + harmonic) / n
    return np.clip((ap - expected) / np.maximum(1 - expected, 1e-10), -1, 1)

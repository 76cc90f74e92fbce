"""How far a score may lie from the truth, given what was really repeated."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import listed
from hcs_utils.evaluation.neighbours import checked_labels


def bootstrap_interval(
    correct: ArrayLike, unit: ArrayLike, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval (low, high) of the mean of `correct` when whole units are drawn anew.

    Sites of one well, and wells of one batch, fail together: resample the unit that was really
    repeated. `unit` names that of each value. Percentile bootstrap with `n` draws.
    """
    correct = np.asarray(correct, dtype=np.float64)
    unit = checked_labels(unit, correct, "unit")
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


def wilson_interval(
    right: ArrayLike | float | int, n: ArrayLike | float | int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Interval (low, high) of a share of which `right` of `n` independent cases are known.

    Wilson's score interval: within [0, 1], and of some width where all or none are right. Cases
    that fail together, such as crops of one field, make it too narrow; see `bootstrap_interval`.
    """
    right, n = np.asarray(right, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not ((right >= 0) & (right <= n) & (n > 0)).all():
        raise InputError("wilson_interval needs 0 ≤ right ≤ n and n above 0.")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, width = right / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / width
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / width
    return tuple(np.asarray(np.clip(x, 0, 1)) for x in (centre - reach, centre + reach))


def paired_interval(
    a: ArrayLike, b: ArrayLike, unit: ArrayLike, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval (low, high) of mean(a) - mean(b) for two methods judged on the same rows.

    Both are drawn together, so that what makes a well hard for both cancels; two separate
    intervals that overlap do not say that the methods are equal. Else as `bootstrap_interval`.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(
            f"a has shape {a.shape} and b {b.shape}; a paired difference needs the same rows in "
            "the same order, so join both on site_id."
        )
    return bootstrap_interval(a - b, unit, n, seed, level)


def permutation_null(
    score: Callable[[np.ndarray], float],
    labels: ArrayLike,
    n: int = 100,
    seed: int = 0,
    unit: ArrayLike | None = None,
    within: ArrayLike | None = None,
) -> np.ndarray:
    """Scores `[n]` of the labels shuffled, which is what the score gives when they say nothing.

    `unit` names the well, or whatever carries one label as a whole: labels are shuffled among
    units, and sites of one well go on sharing theirs. `within` names the batch, or whatever the
    labels stay inside. Raises `InputError` for a unit with two labels or in two groups.
    """
    labels = np.asarray(labels)
    labels = checked_labels(labels, labels, "labels")
    unit = np.arange(len(labels)) if unit is None else checked_labels(unit, labels, "unit")
    names, first, code = np.unique(unit, return_index=True, return_inverse=True)
    group = np.zeros(len(labels)) if within is None else checked_labels(within, labels, "within")
    for name, values in (("label", labels), ("group of within", group)):
        torn = names[np.unique(code[values != values[first][code]])]
        if len(torn):
            raise InputError(
                f"{len(torn)} units have more than one {name}: {listed([str(u) for u in torn])}; "
                "give a finer unit, such as the well with its plate."
            )
    order = np.argsort(group[first], kind="stable")  # units, group by group
    inside = np.unique(group[first], return_inverse=True)[1][order]
    rng, own = np.random.default_rng(seed), labels[first]
    found = np.empty(n)
    for draw in range(n):
        shuffled = own.copy()
        shuffled[order] = own[order[np.lexsort((rng.random(len(own)), inside))]]
        found[draw] = score(shuffled[code])
    return found


def p_value(value: float | int, null: ArrayLike) -> float:
    """Share of draws of a null that reach the value, the value itself among them: in (0, 1]."""
    null = np.asarray(null, dtype=np.float64)
    if not null.size or np.isnan(null).any():
        raise InputError("p_value needs a null of one draw or more, without NaN.")
    return float((1 + (null >= value).sum()) / (1 + null.size))

"""Grit: how far replicates agree beyond the controls."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.neighbours import checked_features
from hcs_utils.evaluation.precision import checked_controls, coded, numbers

NOTHING = 1e-10  # a standard deviation of correlations below this is rounding


def grit(
    features: ArrayLike,
    treatment: ArrayLike,
    is_control: ArrayLike,
    form: str = "mean",
    profile: ArrayLike | None = None,
) -> np.ndarray:
    r"""How far a row correlates with its replicates beyond the controls, in the controls' sd.

    With Pearson correlations c of profile p with every control, r with its replicates,

    .. math:: \mathrm{grit}_p = \frac{\mathrm{mean}(r) - \mathrm{mean}(c)}{\mathrm{sd}_0(c)}

    (ddof 0; form "median" takes the median of r). Returns one value a row, about 0 where
    replicates are as alike as controls; NaN for controls and for a treatment with one replicate.
    The same treatment's rows are its replicates in any batch.

    `profile` names each row's profile id, as cytominer-eval's `profile_col`: rows of one id are
    no replicates of each other, their correlations are pooled, and they share one score. Without
    it each row is a profile of its own.

    With rows centred and of length 1, mean(c) and mean(r) are dot products with sums of rows and
    sd(c) comes from the controls' covariance: time and memory grow with n, in float64.
    Source: CDCL, table 5; cytominer-eval 0.1, `operations/util.py: calculate_grit`.
    """
    given, features = features, checked_features(features, "features", varied=True)
    code, _ = coded(treatment, features, "treatment")
    control = checked_controls(is_control, code)
    if form not in ("mean", "median"):
        raise InputError(f'form must be "mean" or "median", got {form!r}.')
    own = np.arange(len(code)) if profile is None else coded(profile, features, "profile")[0]
    _check_profiles(own, code)
    mates = np.bincount(code)[code] - np.bincount(own)[own]
    if not (mates[~control] > 0).any():
        raise InputError(
            "No treatment has two replicates, so grit compares nothing; give every well's profile "
            "(and, with `profile`, treatments of two profiles or more)."
        )
    rows = _standardised(np.array(given, dtype=np.float64))
    middle, spread = _against_controls(rows, control, own)
    scored = ~control & (mates > 0)
    _check_spread(spread, scored)
    if form == "mean":
        score = _mean_of_mates(rows, code, own, np.maximum(mates, 1))
    else:
        score = _median_of_mates(rows, code, own, scored)
    out = np.full(len(code), np.nan)
    out[scored] = (score[scored] - middle[scored]) / spread[scored]
    return out


def grit_by_treatment(score: ArrayLike, treatment: ArrayLike, how: str = "mean") -> pd.DataFrame:
    """Grit of each treatment, the "mean" or "median" of its rows: columns `grit`, `replicates`.

    `replicates` counts every row of the treatment; `grit` is NaN where none has a score (controls,
    one replicate). CDCL does not publish how its table 5 aggregates: `table.grit.mean()` weighs
    treatments alike, `np.nanmean(score)` rows.
    """
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 1:
        raise InputError(f"score must be one number a row, got shape {score.shape}.")
    if how not in ("mean", "median"):
        raise InputError(f'how must be "mean" or "median", got {how!r}.')
    code, names = coded(treatment, score, "treatment")
    groups = pd.Series(score).groupby(names[code])
    table = pd.DataFrame({"grit": groups.agg(how), "replicates": groups.size()})
    return table.rename_axis("treatment")


def _check_profiles(own: np.ndarray, code: np.ndarray) -> None:
    pairs = np.unique(np.stack([own, code], axis=1), axis=0)
    shared = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    if len(shared):
        rows = np.flatnonzero(np.isin(own, shared))
        raise InputError(
            f"{len(shared)} profile ids belong to more than one treatment, at rows "
            f"{numbers(rows)}; give each treatment profile ids of its own."
        )


def _standardised(rows: np.ndarray) -> np.ndarray:
    """The rows, in place, centred and of length 1: dot products are Pearson correlations."""
    largest_value = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    rows -= rows.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    constant = np.flatnonzero(length <= 1e-12 * largest_value * np.sqrt(rows.shape[1]))
    if len(constant):
        raise InputError(
            f"{len(constant)} of {len(rows)} rows hold the same number in every feature, so no "
            f"correlation is defined: rows {numbers(constant)}; leave them out."
        )
    rows /= length[:, None]
    return rows


def _against_controls(
    rows: np.ndarray, control: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each profile's correlations with the controls, pooled over its rows."""
    controls = rows[control]
    if len(controls) < 2:
        raise InputError("Grit needs two controls or more, and there is one; mark every control.")
    mean = controls.mean(axis=0)
    root = np.linalg.qr(controls - mean, mode="r") / np.sqrt(len(controls))
    if np.abs(root).max() < NOTHING:
        raise InputError(
            f"All {len(controls)} controls are alike, so their correlations have no spread to "
            "measure by; check that they were not averaged or filled in."
        )
    middle = rows @ mean
    spread = rows @ root.T
    variance = np.einsum("nd,nd->n", spread, spread)
    if own.max() + 1 < len(own):  # profiles of several rows
        size = np.bincount(own)
        pooled = np.bincount(own, middle) / size
        variance = np.bincount(own, variance + (middle - pooled[own]) ** 2) / size
        middle, variance = pooled[own], variance[own]
    return middle, np.sqrt(variance)


def _check_spread(spread: np.ndarray, scored: np.ndarray) -> None:
    flat = np.flatnonzero(scored & (spread < NOTHING))
    if len(flat):
        raise InputError(
            f"{len(flat)} rows correlate with every control alike, so grit would divide by 0: rows "
            f"{numbers(flat)}; give more controls or more features."
        )


def _mean_of_mates(
    rows: np.ndarray, code: np.ndarray, own: np.ndarray, mates: np.ndarray
) -> np.ndarray:
    """Mean correlation with the other profiles of the group, averaged over the profile's rows."""
    mean = np.einsum("nd,nd->n", rows, _sums(rows, code)[code])
    if own.max() + 1 == len(own):
        return (mean - 1) / mates  # without itself, with which it correlates by 1
    mean -= np.einsum("nd,nd->n", rows, _sums(rows, own)[own])
    return (np.bincount(own, mean / mates) / np.bincount(own))[own]


def _sums(rows: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Sum of the rows of each code, codes numbered from 0 without a gap."""
    order = np.argsort(code, kind="stable")
    first = np.searchsorted(code[order], np.arange(code.max() + 1))
    return np.add.reduceat(rows[order], first, axis=0)


def _median_of_mates(
    rows: np.ndarray, code: np.ndarray, own: np.ndarray, scored: np.ndarray
) -> np.ndarray:
    """Median correlation with the other profiles of the group, one profile after another."""
    order = np.lexsort([own, code])
    rows, code, own = rows[order], code[order], own[order]
    median = np.full(len(rows), np.nan)
    starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
    first = np.searchsorted(code, code[starts])
    last = np.searchsorted(code, code[starts], side="right")
    stops = np.r_[starts[1:], len(own)]
    wanted = scored[order][starts]
    for a, b, start, stop in zip(
        first[wanted], last[wanted], starts[wanted], stops[wanted], strict=True
    ):
        r = rows[start:stop] @ rows[a:b].T
        median[start:stop] = np.median(np.delete(r, slice(start - a, stop - a), axis=1))
    out = np.empty_like(median)
    out[order] = median
    return out

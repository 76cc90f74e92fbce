"""Fewer rows from many: sites to wells, wells to treatments."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation import checks

ROWS = "rows"  # the column that counts what a row was made of


def aggregate(
    table: pd.DataFrame,
    features: ArrayLike,
    by: str | Sequence[str] = ("plate", "well"),
    how: str = "median",
    keep: Sequence[str] | None = None,
    weight: str | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """One row a group: the median or mean of its features, and what its rows have in common.

    Rows of `features` `[n, d]` are those of `table`, in the same order. The groups are the
    distinct values of the columns `by`, in sorted order. Of the other columns those are kept that
    are constant within every group (missing counts as a value), or those named in `keep`, which
    must be. The column `rows` counts the rows of a group; where the table has it already it is
    summed, so after two steps it still counts sites. `weight`, for means only, is a column of
    counts, such as `rows` or cells. Returns the table and float64 `[groups, d]`.

    Raises `InputError` for a column that is not there, is missing a value in `by`, or varies.
    """
    by = [by] if isinstance(by, str) else list(by)
    features, _ = checks.features_and_batch(features)
    if len(table) != len(features):
        raise InputError(
            f"The table has {len(table)} rows and features {len(features)}; join on site_id first."
        )
    if how not in ("median", "mean"):
        raise InputError(f'how must be "median" or "mean", got {how!r}.')
    weights = _weights(table, weight, how)
    group, names = _groups(table, by, [*(keep or []), *([weight] if weight else [])])
    constant = _constant(table, group, [c for c in table.columns if c not in (*by, ROWS)])
    if varying := [name for name in keep or [] if name in constant and not constant[name]]:
        raise InputError(
            f"These columns vary within a group of {', '.join(by)} and cannot be kept: "
            f"{checks.listed(varying)}. Group by them too, or leave them out of keep."
        )
    wanted = [name for name in constant if (constant[name] if keep is None else name in keep)]
    order = np.argsort(group, kind="stable")
    first = order[np.searchsorted(group[order], np.arange(names))]
    out = table[[*by, *wanted]].iloc[first].reset_index(drop=True)
    counted = np.asarray(table[ROWS]) if ROWS in table else np.ones(len(table), dtype=np.int64)
    out[ROWS] = np.bincount(group, counted).astype(np.int64)
    return out, _combined(features, group, how, weights)


def _combined(features: np.ndarray, group: np.ndarray, how: str, weights: np.ndarray) -> np.ndarray:
    parts = pd.DataFrame(features if how == "median" else features * weights[:, None])
    grouped = parts.groupby(group, sort=True)
    if how == "median":
        return grouped.median().to_numpy(np.float64)
    return grouped.sum().to_numpy(np.float64) / np.bincount(group, weights)[:, None]


def _groups(table: pd.DataFrame, by: list[str], also: list[str]) -> tuple[np.ndarray, int]:
    """The number of each row's group, by sorted values, and how many groups there are."""
    if not by:
        raise InputError("by must name at least one column, such as plate and well.")
    if absent := [name for name in dict.fromkeys([*by, *also]) if name not in table.columns]:
        raise InputError(
            f"The table has no column {checks.listed(absent)}; it has "
            f"{checks.listed([str(c) for c in table.columns])}."
        )
    empty = table[by].isna()
    if empty.to_numpy().any():
        bad = [f"{name} in {int(empty[name].sum())} rows" for name in by if empty[name].any()]
        raise InputError(
            f"Values to group by are missing: {', '.join(bad)}, the first in row "
            f"{int(empty.any(axis=1).to_numpy().argmax())}; fill them in, or leave the rows out."
        )
    grouped = table.groupby(by, sort=True)
    return grouped.ngroup().to_numpy(), grouped.ngroups


def _constant(table: pd.DataFrame, group: np.ndarray, names: list[str]) -> dict[str, bool]:
    found = {}
    for name in names:
        values = table[name].astype(str) if table[name].dtype == object else table[name]
        code = pd.factorize(values, use_na_sentinel=False)[0]
        found[name] = len(np.unique(group * (code.max() + 1) + code)) == len(np.unique(group))
    return found


def _weights(table: pd.DataFrame, weight: str | None, how: str) -> np.ndarray:
    if weight is None or weight not in table:
        return np.ones(len(table))
    if how != "mean":
        raise InputError(f'A weight is for how="mean", got how={how!r}; leave weight out.')
    values = table[weight].to_numpy(np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        raise InputError(
            f"The weight {weight!r} must be above 0 in every row; it is not in "
            f"{checks.listed([f'row {r}' for r in bad])}."
        )
    return values

"""Which batches, plates or sites train, validate and test, and the proof that they do not mix."""

from collections.abc import Iterable, Mapping

import pandas as pd

from hcs_utils.data.manifest import nearest
from hcs_utils.errors import InputError

Parts = Mapping[str, list[str]]


def batch_folds(batches: Iterable[str], fold: int, folds: int = 6) -> dict[str, list[str]]:
    """Whole batches to train, val and test, by the rule of CDCL's RxRx1 folds.

    The names are sorted; with n = batches // folds, fold f (from 1) trains on all but 2n batches,
    counted from place (f - 1) n and round the end; the next n validate, the next n test.

    Source: CDCL's released code (24 batches, 6 folds: 16, 4 and 4).
    """
    names = sorted(set(batches))
    if len(names) < 3:
        raise InputError(
            f"Whole batches for train, val and test need 3 batches or more; there are {len(names)}"
            f" ({', '.join(names)}). Use leave_one_out over plates, or add batches."
        )
    if not 3 <= folds <= len(names):
        raise InputError(
            f"{folds} folds of {len(names)} batches are not possible; choose 3 to {len(names)}."
        )
    _check_fold(fold, folds)
    step = len(names) // folds
    turned = [names[((fold - 1) * step + k) % len(names)] for k in range(len(names))]
    cut = len(names) - 2 * step
    return {"train": turned[:cut], "val": turned[cut : cut + step], "test": turned[cut + step :]}


def leave_one_out(groups: Iterable[str], fold: int) -> dict[str, list[str]]:
    """Test on the one group number `fold` (from 1, names sorted), train on all others; no val."""
    names = sorted(set(groups))
    if len(names) < 2:
        raise InputError(f"Leaving one out needs 2 groups or more; there is {', '.join(names)}.")
    _check_fold(fold, len(names))
    return {"train": names[: fold - 1] + names[fold:], "val": [], "test": [names[fold - 1]]}


def _check_fold(fold: int, folds: int) -> None:
    if not 1 <= fold <= folds:
        raise InputError(f"fold is {fold}; choose 1 to {folds}.")


def split_sites(manifest: pd.DataFrame, parts: Parts, by: str = "batch") -> pd.Series:
    """For each site_id, the part whose list names its `by` value, or "" when none does."""
    part_of: dict[str, str] = {}
    known = sorted(set(manifest[by]))
    for part, names in parts.items():
        for name in names:
            if name not in known:
                raise InputError(f"No {by} is called {name!r}{nearest(str(name), known)}.")
            if name in part_of:
                raise InputError(f"{by} {name!r} is in both {part_of[name]} and {part}.")
            part_of[name] = part
    split = manifest[by].map(part_of).fillna("").astype("str")
    return pd.Series(split.to_numpy(), index=manifest["site_id"].to_numpy(), name="split")


def assert_disjoint(manifest: pd.DataFrame, split: pd.Series, by: str) -> None:
    """Raise `InputError` naming the `by` values that occur in more than one part of a split.

    `split`: site_id to part, as from `split_sites`; sites without a part ("") are left out.
    """
    part = manifest["site_id"].map(split)
    used = part.notna() & (part != "")
    parts = part[used].groupby(manifest.loc[used, by]).unique()
    mixed = parts[parts.map(len) > 1]
    if len(mixed):
        listed = "\n".join(f"    {name}: {', '.join(sorted(p))}" for name, p in mixed[:20].items())
        raise InputError(f"{len(mixed)} values of {by} occur in more than one part:\n{listed}")

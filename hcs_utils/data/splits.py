"""Which batches, plates, compounds or wells train, validate and test, and that they do not mix."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from hcs_utils.data import columns, molecule_groups
from hcs_utils.data.manifest import nearest
from hcs_utils.errors import InputError

Parts = Mapping[str, list[str]]
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
GROUPS = ("batch", "plate", "source", "well", "treatment", "compound", "scaffold", "leaky_site")
_OF_MOLECULES = ("compound", "scaffold")


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


def grouped_split(
    manifest: pd.DataFrame,
    by: str,
    fractions: Mapping[str, float | int] = SHARES,
    seed: int = 0,
    controls: str = "spread",
) -> pd.Series:
    """Part of every site_id, no group of `by` in two parts: see `groups` for what a group is.

    `fractions` of the sites, met as nearly as whole groups allow: within (parts - 1) times the
    share of the largest group; every part has a group. The split depends on the names of the
    groups, their sizes and `seed`, not on the order of rows.

    A split by "well" is the random one: fields of a well never part. `controls`, for compound and
    scaffold: "spread" gives each part its share of the wells of negative controls, which are no
    compound to be held out; "group" treats them as any other.
    """
    total = sum(fractions.values())
    if len(fractions) < 2 or not all(0 < share < np.inf for share in fractions.values()):
        raise InputError(f"fractions are {dict(fractions)}; give two or more, each above 0.")
    if controls not in ("spread", "group"):
        raise InputError(f"controls is {controls!r}; choose 'spread' or 'group'.")
    shares = np.array(list(fractions.values()), float) / total
    group = groups(manifest, by)
    apart = np.zeros(len(manifest), bool)
    if by in _OF_MOLECULES and controls == "spread":
        apart = (manifest["role"] == "negcon").to_numpy()
    part = np.zeros(len(manifest), np.int64)
    part[~apart] = _dealt(group[~apart], shares, seed, by)
    if apart.any():
        part[apart] = _dealt(groups(manifest[apart], "well"), shares, seed, "", least=0)
    if by != "leaky_site":
        _check_wells(manifest, part, by)
    names = np.array(list(fractions), dtype=object)
    return pd.Series(names[part], manifest["site_id"].to_numpy(), name="split", dtype="str")


def grouped_folds(
    manifest: pd.DataFrame,
    by: str,
    folds: int,
    fold: int,
    seed: int = 0,
    controls: str = "spread",
) -> pd.Series:
    """Part of every site_id in one of several folds, whole groups of `by` each: `grouped_split`.

    Equal shares are dealt once; fold f (from 1) tests on share f, validates on the next one, round
    the end, and trains on all others. So each group is tested in one fold.
    """
    if folds < 3:
        raise InputError(f"folds is {folds}; train, val and test need 3 or more.")
    _check_fold(fold, folds)
    share = grouped_split(manifest, by, {str(k): 1 for k in range(folds)}, seed, controls)
    part = {str(k): "train" for k in range(folds)}
    part |= {str(fold % folds): "val", str(fold - 1): "test"}
    return share.map(part)


def groups(manifest: pd.DataFrame, by: str) -> pd.Series:
    """The group of every row that no split may divide.

    "batch", "plate", "source", "treatment" or another column: its value. "well": plate and well.
    "compound", "scaffold": see `molecule_groups`. "leaky_site": each site by itself, so that the
    fields of one well are on both sides; only to show what that does to a score.
    """
    if by == "well":
        return manifest["plate"] + " " + manifest["well"]
    if by == "leaky_site":
        return manifest["site_id"]
    if by in _OF_MOLECULES:
        return molecule_groups.groups(manifest, scaffold=by == "scaffold")
    if by not in manifest or by in ("site", "site_id"):
        near = nearest(by, GROUPS)
        raise InputError(f"Cannot split by {by!r}{near}; by: {', '.join(GROUPS)}, or a column.")
    return manifest[by]


def _check_wells(manifest: pd.DataFrame, part: np.ndarray, by: str) -> None:
    well = groups(manifest, "well")
    mixed = well[~columns.has_one(well, pd.Series(part))].unique()
    if len(mixed):
        raise InputError(
            f"Fields of {len(mixed)} wells differ in {by}, so that splitting by it would part "
            f"them: {', '.join(mixed[:20])}. Give every field of a well one {by}."
        )


def _dealt(group: pd.Series, shares: np.ndarray, seed: int, by: str, least: int = 1) -> np.ndarray:
    """For each row the part of its group: in seeded order, each to the part it fills least."""
    code, names = pd.factorize(group, sort=True)
    if len(names) < least * len(shares):
        raise InputError(
            f"{len(shares)} parts need {len(shares)} groups of {by} or more; there are "
            f"{len(names)}: {', '.join(map(str, names[:20]))}."
        )
    size = np.bincount(code, minlength=len(names)).tolist()
    held, weight, part = [0] * len(shares), (1 / shares).tolist(), [0] * len(names)
    parts = range(len(shares))
    for left, k in zip(
        range(len(names), 0, -1),
        np.random.default_rng(seed).permutation(len(names)).tolist(),
        strict=True,
    ):
        free = parts
        if least and left <= len(shares):  # the last groups go to parts that have none
            free = [p for p in parts if not held[p]] if left <= held.count(0) else parts
        chosen = min(free, key=lambda p, s=size[k]: (held[p] + s) * weight[p])
        held[chosen] += size[k]
        part[k] = chosen
    return np.array(part, np.int64)[code] if len(names) else np.empty(0, np.int64)


def assert_disjoint(manifest: pd.DataFrame, split: pd.Series, by: str) -> None:
    """Raise `InputError` naming the `by` values that occur in more than one part of a split.

    `split`: site_id to part, as from `split_sites`; sites without a part ("") are left out.
    """
    part = manifest["site_id"].map(split)
    used = (part.notna() & (part != "")).to_numpy()
    group, part = manifest.loc[used, by], part[used]
    alone = columns.has_one(group, part) if len(group) else np.ones(0, bool)
    mixed = part[~alone].groupby(group[~alone]).unique()
    if len(mixed):
        listed = "\n".join(f"    {name}: {', '.join(sorted(p))}" for name, p in mixed[:20].items())
        raise InputError(f"{len(mixed)} values of {by} occur in more than one part:\n{listed}")

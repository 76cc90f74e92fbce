"""The manifest: one row a site, what was done to it, and where its images lie."""

import hashlib
import json
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from hcs_utils import files
from hcs_utils.data import columns
from hcs_utils.data.columns import text as text
from hcs_utils.errors import InputError

COLUMNS = (
    "site_id",
    "source",
    "batch",
    "plate",
    "well",
    "site",
    "treatment",
    "compound",
    "smiles",
    "dose_um",
    "role",
    "moa",
    "target",
)
ROLES = ("trt", "negcon", "poscon")
PATH = "path_"  # prefix of the columns that hold a channel's file
PLANE = r"#\d+$"  # a path may end in #k: plane k of a multi-plane file

_NUMBERS = ("site", "dose_um")
_MAY_BE_EMPTY = ("smiles", "moa", "target", "compound")
_WELL = r"^([A-Z]|A[A-F])(0[1-9]|[1-3]\d|4[0-8])$"
_SHOWN = 20  # bad rows printed for each rule


def channels(manifest: pd.DataFrame) -> tuple[str, ...]:
    """Names of the channels, in the order of the `path_<channel>` columns."""
    return tuple(str(c)[len(PATH) :] for c in manifest.columns if str(c).startswith(PATH))


def normalise_wells(wells: pd.Series) -> pd.Series:
    """Wells as A01 … AF48 (`a1`, `A001` → `A01`); what is no well is returned as it was."""

    def written(names: pd.Series) -> pd.Series:
        parts = names.str.extract(r"^\s*([A-Za-z]{1,2})\s*0*(\d{1,2})\s*$")
        return (parts[0].str.upper() + parts[1].str.zfill(2)).fillna(names)

    return columns.by_value(wells, written)


def validate(manifest: pd.DataFrame, root: str | Path | None = None) -> pd.DataFrame:
    """Check a manifest whole and return it with its columns in order and in their types.

    Text columns become strings (missing: ""), `site` int64, `dose_um` float64 in µM (NaN: no
    dose). Columns beyond the contract are kept, last. With `root`, every file must exist inside
    that folder, links followed.

    Raises one `InputError` that lists the bad rows of every rule and how to mend them.
    """
    frame = _normalised(manifest)
    try:
        _schema(frame, root).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise InputError(_report(error.failure_cases, manifest)) from None
    return frame.astype({"site": "int64"})


def _normalised(manifest: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in manifest.columns]
    if missing:
        present = [str(name) for name in manifest.columns]
        listed = "\n".join(f"- {name}{nearest(name, present)}" for name in missing)
        raise InputError(f"The manifest lacks these columns; add or rename them:\n{listed}")
    twice = manifest.columns[manifest.columns.duplicated()].unique()
    if len(twice):
        raise InputError(f"The manifest has columns twice: {', '.join(twice)}. Keep one of each.")
    if not channels(manifest):
        raise InputError(
            "The manifest has no image columns. Add one path_<channel> column for each channel, "
            "for example path_dna."
        )
    if manifest.empty:
        raise InputError("The manifest has no rows: there is no site to read.")
    paths = [PATH + name for name in channels(manifest)]
    extra = [name for name in manifest.columns if name not in (*COLUMNS, *paths)]
    frame = manifest[[*COLUMNS, *paths, *extra]].reset_index(drop=True)
    for name in (*COLUMNS, *paths):
        frame[name] = (columns.number if name in _NUMBERS else columns.text)(frame[name])
    frame["well"] = normalise_wells(frame["well"])
    frame["role"] = columns.by_value(frame["role"], lambda roles: roles.str.lower())
    return frame


def nearest(name: str, names: Sequence[str]) -> str:
    """`" (nearest: …)"` with the names most like `name`, or nothing."""
    folded = {other.casefold(): other for other in names}
    near = [folded[key] for key in get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    return f" (nearest: {', '.join(near)})" if near else ""


def _schema(frame: pd.DataFrame, root: str | Path | None) -> pa.DataFrameSchema:
    def check(test, mend: str) -> pa.Check:
        return pa.Check(test, error=mend, ignore_na=False)

    filled = check(lambda s: s != "", "Is empty. Give each row a value.")
    rules = {name: [filled] for name in COLUMNS if name not in (*_MAY_BE_EMPTY, *_NUMBERS)}
    rules["site_id"] += [
        check(
            lambda s: ~pd.Series(columns.repeated(s), s.index),
            "Occurs more than once. Name each site once.",
        )
    ]
    rules["well"] = [
        check(
            lambda s: columns.by_value(s, lambda wells: wells.str.fullmatch(_WELL)),
            "Is no well. Write row and column, from A01 to AF48, as in B07.",
        )
    ]
    rules["role"] = [check(lambda s: s.isin(ROLES), f"Is none of {', '.join(ROLES)}.")]
    rules["site"] = [
        check(lambda s: (s >= 0) & (s % 1 == 0), "Is no whole number. Number the fields of a well.")
    ]
    rules["dose_um"] = [
        check(
            lambda s: s.between(0, np.inf, "left") | s.isna(),
            "Is no dose. Give µM as a number from 0 up, or leave it empty for no dose.",
        ),
        check(
            lambda s: s.notna() | ~_has_doses(frame),
            "Is missing, while other rows of the same compound have a dose. Fill it in.",
        ),
    ]
    rules["plate"] += [
        check(
            lambda s: pd.Series(columns.has_one(s, frame["batch"]), s.index),
            "Is in more than one batch. Make plate names unique, as in batch1_plate1.",
        )
    ]
    paths = [PATH + name for name in channels(frame)]
    for name in paths:
        rules[name] = [
            check(lambda s: s != "", "Has no file. Give a file, or take the row out."),
            check(
                lambda s: ~_leaves(s),
                "Leaves the screen's folder. Write it relative to the root, with / between "
                "folders and without '..'.",
            ),
        ]
        if root is not None:
            rules[name] += [
                check(
                    lambda s: _inside(s, root),
                    f"Is not found inside {root}. Mend the path or the root, copy linked files "
                    "in, or take the row out.",
                )
            ]
    rules[paths[0]] += [
        check(
            lambda s: ~pd.Series(columns.same_rows(frame[paths]), s.index),
            "Is the image of several rows. Keep one row for each image.",
        )
    ]
    return pa.DataFrameSchema(
        {name: pa.Column(checks=checks, nullable=True) for name, checks in rules.items()}
    )


def _has_doses(frame: pd.DataFrame) -> pd.Series:
    treated = (frame["role"] == "trt") & (frame["compound"] != "")
    dosed = frame["compound"][treated & frame["dose_um"].notna()]
    return treated & frame["compound"].isin(dosed.unique())


def _leaves(paths: pd.Series) -> pd.Series:
    rule = r"^[/~]|^[A-Za-z]:|\\|(?:^|/)\.\.(?:/|$)"
    marks = ("\n/", "\n~", ":", "\\", "..")
    return pd.Series(columns.matches(paths, rule, marks), paths.index)


def _inside(paths: pd.Series, root: str | Path) -> pd.Series:
    """Whether each file exists within `root`; each folder is listed once, each link followed."""
    base = os.path.realpath(root)
    found, folders = [], {}
    for block in columns.blocks(paths):
        skip = _leaves(block) | (block == "")  # bad and empty paths: another rule
        for path, skipped in zip(block.str.replace(PLANE, "", regex=True), skip, strict=True):
            folder, name = os.path.split(path)
            if not skipped and folder not in folders:
                folders[folder] = _files_in(os.path.join(base, folder), base)
            found.append(skipped or folders[folder].get(name, False))
        if sum(map(len, folders.values())) > 1 << 20:  # of a large screen, read plate by plate
            folders.clear()
    return pd.Series(found, paths.index, dtype=bool)


def _files_in(folder: str, base: str) -> dict[str, bool]:
    if not within(os.path.realpath(folder), base) or not os.path.isdir(folder):
        return {}
    with os.scandir(folder) as entries:
        return {
            e.name: e.is_file() and (not e.is_symlink() or within(os.path.realpath(e.path), base))
            for e in entries
        }


def within(path: str, base: str) -> bool:
    """Whether a resolved path is the resolved folder `base` or lies in it."""
    return path == base or path.startswith(base.rstrip(os.sep) + os.sep)


def _report(failures: pd.DataFrame, manifest: pd.DataFrame) -> str:
    rows = failures["index"].nunique()
    lines = [f"The manifest has {rows} bad rows of {len(manifest)} (counted from 1):"]
    for (name, mend), bad in failures.groupby(["column", "check"], sort=False):
        lines.append(f"- {name}: {mend}")
        at = np.sort(bad["index"].to_numpy(int))
        for row in at[:_SHOWN]:
            site = manifest["site_id"].iloc[row]
            lines.append(f"    row {row + 1} ({site}): {manifest[name].iloc[row]!r}")
        if len(at) > _SHOWN:
            lines.append(f"    … and {len(at) - _SHOWN} more")
    return "\n".join(lines)


def digest(manifest: pd.DataFrame) -> str:
    """SHA-256 of the contract's columns in canonical order, rows sorted by `site_id`."""
    names = [*COLUMNS, *(PATH + name for name in channels(manifest))]
    order = manifest["site_id"].reset_index(drop=True).sort_values().index.to_numpy()
    parts = [order[start : start + columns.BLOCK] for start in range(0, len(order), columns.BLOCK)]
    state = hashlib.sha256(b"[")  # of json.dumps([[name, [value, …]], …]), piece by piece
    for k, name in enumerate(names):
        kind = "float64" if name in _NUMBERS else "str"
        state.update(f"{', ' if k else ''}[{json.dumps(name)}, [".encode())
        for n, part in enumerate(parts):
            values = manifest[name].iloc[part].astype(kind).tolist()
            state.update((", " if n else "").encode() + columns.json_items(values))
        state.update(b"]]")
    state.update(b"]")
    return state.hexdigest()


def write(manifest: pd.DataFrame, path: str | Path) -> None:
    """Validate and write as Parquet, whole or not at all; `manifest.attrs` is kept."""
    frame = validate(manifest)
    with files.replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read(path: str | Path) -> pd.DataFrame:
    """Read and validate a manifest that `write` wrote."""
    if not Path(path).is_file():
        raise InputError(f"There is no manifest at {path}. Build one from a screen first.")
    try:
        frame = columns.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no readable Parquet file ({error}). Build it again."
        ) from error
    return validate(frame)


def require_controls(manifest: pd.DataFrame, by: str, instead: str) -> None:
    """Raise `InputError` naming the groups with fewer than two fields of negative controls.

    `instead` is the setting that needs none, such as "znorm='all'".
    """
    count = (manifest["role"] == "negcon").groupby(manifest[by]).sum()
    bare = [str(name) for name in count.index[count < 2]]
    if bare:
        raise InputError(
            f"Too few negative controls (role negcon) in {len(bare)} of {len(count)} groups of "
            f"{by}: {', '.join(bare[:20])}. Name your controls, or give {instead}."
        )

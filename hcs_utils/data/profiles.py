"""Profiles in the form of the field: Metadata_* columns beside features, CSV or Parquet."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from hcs_utils import files
from hcs_utils.data import columns
from hcs_utils.data.manifest import normalise_wells
from hcs_utils.errors import InputError

PREFIX = "Metadata_"
SUFFIXES = (".csv", ".csv.gz", ".parquet")
_NAMES = {name.capitalize(): name for name in ("source", "batch", "plate", "well", "site")}
_NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
_SHOWN = 20


def read(
    paths: str | Path | Sequence[str | Path], features: str = "same", missing: str = "raise"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The metadata and the features of some files of profiles, one below the other.

    Features are the columns without `Metadata_`; the prefix is taken off the others, and Source,
    Batch, Plate, Well and Site become the manifest's own names. Metadata of a CSV is text as it is
    written ("" where missing); Parquet keeps its types. Features are float64, or float32 where all
    files hold float32.

    Files must have the same features, unless `features` is "intersection" (those of all files) or
    "union" (those of any; NaN in the files without). A feature with NaN or infinite values raises
    `InputError`, unless `missing="drop"` leaves it out. Errors list every bad column of all files.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if features not in ("same", "intersection", "union"):
        raise InputError(f'features must be "same", "intersection" or "union", got {features!r}.')
    if missing not in ("raise", "drop"):
        raise InputError(f'missing must be "raise" or "drop", got {missing!r}.')
    if not paths:
        raise InputError("There is no file to read; give the path of at least one.")
    frames = [_read_one(Path(path)) for path in paths]
    _refuse(_bad_columns(paths, frames, missing == "raise"), "columns that are no profiles")
    parts = [frame[[c for c in frame if not c.startswith(PREFIX)]] for frame in frames]
    names = _feature_names(paths, parts, features)
    joined = pd.concat([part.reindex(columns=names) for part in parts], ignore_index=True)
    if missing == "drop":
        bad = [~np.isfinite(part).all() for part in parts]
        dropped = set().union(*(set(b.index[b]) for b in bad))
        joined = joined[[name for name in names if name not in dropped]]
    kind = "float32" if all((part.dtypes == "float32").all() for part in parts) else "float64"
    if joined.shape[1] == 0:
        raise InputError(f"No feature is left of {len(names)}; mend the files' NaN columns first.")
    table = [_own_names(path, f[[c for c in f if c.startswith(PREFIX)]]) for path, f in
             zip(paths, frames, strict=True)]  # fmt: skip
    return pd.concat(table, ignore_index=True), joined.astype(kind)


def write(path: str | Path, table: pd.DataFrame, features: pd.DataFrame) -> None:
    """Write profiles as `read` reads them, whole or not at all; the name's end tells the format.

    `.csv`, `.csv.gz` or `.parquet`. Columns of the table get the prefix `Metadata_` (the
    manifest's plate becomes Metadata_Plate); features keep their names and their float32 or
    float64, also in CSV, where every digit that matters is written. Rows are in the same order.
    """
    path = Path(path)
    end = _suffix(path)
    names = [str(name) for name in [*table.columns, *features.columns]]
    bad = [f"{name}: occurs more than once" for name, n in Counter(names).items() if n > 1]
    bad += [
        f"{name}: a feature cannot begin with {PREFIX}"
        for name in map(str, features.columns)
        if name.startswith(PREFIX)
    ]
    bad += _not_numbers(features)
    if len(table) != len(features):
        bad.append(f"{len(table)} rows of metadata but {len(features)} of features")
    outside = {name: PREFIX + own for own, name in _NAMES.items()}
    meta = table.reset_index(drop=True).rename(columns=lambda c: outside.get(c, _prefixed(str(c))))
    twice = [name for name, n in Counter(meta.columns).items() if n > 1]
    bad += [f"{name}: two columns of the table would be called so" for name in twice]
    _refuse(bad, f"reasons not to write {path.name}")
    frame = pd.concat([meta, features.reset_index(drop=True)], axis=1)
    with files.replacing(path) as temporary:
        if end == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            packed = {"method": "gzip", "mtime": 0} if end == ".csv.gz" else None
            frame.to_csv(temporary, index=False, compression=packed)


def cpjump1(folder: str | Path) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """The compound plates of CPJUMP1 in a folder: table, float64 `[n, d]` and names of features.

    Columns of the table: source batch plate well compound treatment role smiles target target_list
    moa cell_line time_h anomaly control_kind sample. `role` is negcon (DMSO), poscon or trt;
    `control_kind` tells the sorts of poscon. `target` is the gene a compound was chosen for,
    `target_list` and `moa` its annotations, joined by "|" ("" where there is none). `sample` is
    the vendor's lot: of one compound there may be two.

    Source: Chandrasekaran et al. 2024 (cpg0000, source 4); profiles normalised to the controls.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*_normalized_feature_select_negcon_batch.csv.gz"))
    plates, compounds = (
        folder / "experiment-metadata.tsv",
        folder / "JUMP-Target-1_compound_metadata_additional_annotations.tsv",
    )
    absent = [path.name for path in (plates, compounds) if not path.is_file()]
    if absent or not paths:
        raise InputError(
            f"{folder} is no folder of CPJUMP1 profiles: it lacks "
            f"{', '.join(absent + ['*_negcon_batch.csv.gz'] * (not paths))}."
        )
    meta, features = read(paths)
    about = pd.read_csv(plates, sep="\t", dtype=str, keep_default_na=False)
    about = about[about["Batch"] == "2020_11_04_CPJUMP1"].set_index("Assay_Plate_Barcode")
    if unknown := sorted(set(meta["plate"]) - set(about.index)):
        raise InputError(
            f"experiment-metadata.tsv does not know the plates {', '.join(unknown[:_SHOWN])}."
        )
    about = about.loc[meta["plate"]]
    notes = pd.read_csv(compounds, sep="\t", dtype=str, keep_default_na=False)
    notes = notes.set_index("broad_sample").reindex(meta["broad_sample"]).fillna("")
    negative = (meta["control_type"] == "negcon").to_numpy()
    role = np.where(negative, "negcon", np.where(meta["pert_type"] == "control", "poscon", "trt"))
    table = pd.DataFrame(
        {
            "source": "source_4",
            "batch": about["Batch"].to_numpy(),
            "plate": meta["plate"],
            "well": normalise_wells(meta["well"]),
            "compound": meta["pert_iname"],
            "treatment": meta["pert_iname"],
            "role": role,
            "smiles": meta["smiles"],
            "target": meta["gene"],
            "target_list": np.where(negative, "", notes["target_list"]),
            "moa": np.where(negative, "", notes["moa_list"]),
            "cell_line": about["Cell_type"].to_numpy(),
            "time_h": about["Time"].astype(int).to_numpy(),
            "anomaly": about["Anomaly"].to_numpy(),
            "control_kind": meta["control_type"],
            "sample": meta["broad_sample"],
        }
    )
    return table, features.to_numpy(np.float64), tuple(features.columns)


def _suffix(path: Path) -> str:
    for end in SUFFIXES:
        if path.name.lower().endswith(end):
            return end
    raise InputError(f"{path.name} is none of {', '.join(SUFFIXES)}; name the format in the end.")


def _prefixed(name: str) -> str:
    return name if name.startswith(PREFIX) else PREFIX + name


def _read_one(path: Path) -> pd.DataFrame:
    end = _suffix(path)
    if not path.is_file():
        raise InputError(f"There are no profiles at {path}.")
    try:
        names = _header(path, end)
        twice = [name for name, n in Counter(names).items() if n > 1]
        _refuse([f"{path.name}: {name} occurs more than once" for name in twice], "columns twice")
        if end == ".parquet":
            frame = pd.read_parquet(path)
            words = [c for c in frame if str(c).startswith(PREFIX) and _is_text(frame[c])]
            frame = frame.assign(**{name: columns.text(frame[name]) for name in words})
        else:
            frame = _read_csv(path, names)
    except (OSError, EOFError, ValueError, zlib.error, csv.Error, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch or write it again.") from error
    if not len(frame):
        raise InputError(f"{path} has no rows.")
    return frame


def _header(path: Path, end: str) -> list[str]:
    if end == ".parquet":
        return list(pyarrow.parquet.read_schema(path).names)
    opener = gzip.open if end == ".csv.gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def _read_csv(path: Path, names: list[str]) -> pd.DataFrame:
    meta = {name: "str" for name in names if name.startswith(PREFIX)}
    empty = {name: _NO_NUMBER for name in names if name not in meta}  # a gene may be named NAN
    frame = pd.read_csv(path, dtype=meta, low_memory=False, encoding="utf-8-sig",
                        keep_default_na=False, na_values=empty)  # fmt: skip
    return frame.assign(**{name: columns.text(frame[name]) for name in meta})


def _is_text(column: pd.Series) -> bool:
    return not (
        pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column)
    )


def _bad_columns(paths: Sequence, frames: Sequence[pd.DataFrame], nan: bool) -> list[str]:
    bad = []
    for path, frame in zip(paths, frames, strict=True):
        part = frame[[c for c in frame if not str(c).startswith(PREFIX)]]
        name = Path(path).name
        if part.shape[1] == frame.shape[1]:
            bad.append(f"{name}: no column begins with {PREFIX}")
        if not part.shape[1]:
            bad.append(f"{name}: no column but {PREFIX}*, so no features")
        words = _not_numbers(part)
        bad += [f"{name}: {line}" for line in words]
        if nan and not words and part.shape[1]:
            count = (~np.isfinite(part)).sum()
            bad += [
                f"{name}: {column} has {n} of {len(part)} values NaN or infinite (missing="
                '"drop" leaves it out)'
                for column, n in count[count > 0].items()
            ]
    return bad


def _not_numbers(features: pd.DataFrame) -> list[str]:
    found = []
    for name, kind in features.dtypes.items():
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind):
            column = features[name]
            words = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
            example = f", such as {words.iloc[0]!r}" if len(words) else ""
            found.append(f"{name}: is not numeric{example}")
    return found


def _feature_names(paths: Sequence, parts: Sequence[pd.DataFrame], how: str) -> list[str]:
    first = list(parts[0].columns)
    everywhere = set(first).intersection(*(part.columns for part in parts))
    union = list(dict.fromkeys(name for part in parts for name in part.columns))
    if how == "union":
        return union
    if how == "same":
        bad = [
            f"{Path(path).name}: lacks {_some([n for n in union if n not in part.columns])}"
            for path, part in zip(paths, parts, strict=True)
            if len(part.columns) < len(union)
        ]
        if bad:
            bad.append('give features="intersection" or "union" to read them nevertheless')
        _refuse(bad, "files whose features differ")
    if not everywhere:
        raise InputError("No feature is in all files, so there is no intersection to read.")
    return [name for name in first if name in everywhere]


def _own_names(path: str | Path, meta: pd.DataFrame) -> pd.DataFrame:
    inner = {c: _NAMES.get(c[len(PREFIX) :], c[len(PREFIX) :]) for c in meta.columns}
    twice = [name for name, n in Counter(inner.values()).items() if n > 1]
    _refuse([f"{Path(path).name}: two columns mean {name}" for name in twice], "columns twice")
    return meta.rename(columns=inner)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refuse(bad: list[str], what: str) -> None:
    if bad:
        more = [f"… and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        lines = "\n".join(f"- {line}" for line in [*bad[:_SHOWN], *more])
        raise InputError(f"There are {what}:\n{lines}")

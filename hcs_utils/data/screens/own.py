"""Your own screen: a folder of images and a table with your own column names."""

import gzip
import os
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

import pandas as pd
import yaml

from hcs_utils.data.manifest import COLUMNS, PATH, ROLES, nearest, normalise_wells, text, validate
from hcs_utils.errors import InputError

_DEFAULTS = {"source": "own", "role": "trt", "smiles": "", "moa": "", "target": "", "dose_um": None}
_NEEDED = ("batch", "plate", "well")
_KEYS = ("name", "root", "table", "sep", "columns", "channels", "controls", "filter")
_KEYS += ("pixel_size_um",)


def manifest(
    root: str | Path,
    table: str | Path | pd.DataFrame,
    columns: Mapping[str, object],
    channels: Mapping[str, object],
    sep: str | None = None,
    *,
    controls: Mapping[str, object] | None = None,
    filter: Mapping[str, object] | None = None,
    check_files: bool = True,
) -> pd.DataFrame:
    """The validated manifest of a folder of images and a table (CSV, TSV, Parquet, DataFrame).

    `columns`: manifest column → your column, a constant `"=value"`, or a pattern such as
    `"{plate}_{well}"` with your columns in braces; `{row}` is the row's number in the table, from
    0, and `{row:05d}` pads it. `batch`, `plate`, `well` and `treatment` or `compound` are needed.
    `channels`: channel name → your column of files or a pattern, relative to `root`; it may end
    in `#k` for plane k. `controls`: `{"negcon": [...], "poscon": [...]}`, names of compounds.
    `filter`: your column → the value or values to keep.

    Not given: `treatment` is compound@dose, `site` counts within the well, `site_id` is
    plate_well_site, `source` "own", `role` "trt"; annotations are empty. `check_files=False` is for
    images that are yet to be fetched.

    Raises one `InputError` naming every missing column with the nearest names, or every bad row.
    """
    rows = _read(table, sep)
    rows = rows.assign(row=rows["row"] if "row" in rows else range(len(rows)))
    _check_names(columns, COLUMNS, "manifest column")
    asked = {**columns, **{PATH + name: source for name, source in channels.items()}}
    _check_columns(rows, [*asked.values(), *(filter or {})])
    if not channels:
        raise InputError("No channels are given. Name each one and its files, as in dna: FileDNA.")
    rows = _filtered(rows, filter or {})
    frame = pd.DataFrame({name: _fill(rows, source) for name, source in asked.items()})
    frame = _with_controls(_completed(frame), controls or {})
    return validate(frame, root=root if check_files else None)


def from_yaml(path: str | Path, check_files: bool = True) -> pd.DataFrame:
    """The manifest that a `screen.yaml` describes; its `attrs` hold screen, root, pixel_size_um.

    Keys: `root`, `table` (both relative to the file; the table is looked for beside it, then in
    the root), `columns`, `channels`; and, as needed, `name`, `sep`, `controls`, `filter`,
    `pixel_size_um`: as in `manifest`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no screen file {path}.")
    try:
        screen = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no readable YAML: {error}") from error
    if not isinstance(screen, dict):
        raise InputError(f"{path} must hold keys and values: {', '.join(_KEYS)}.")
    _check_names(screen, _KEYS, f"key of {path}:")
    lacking = [key for key in ("root", "table", "columns", "channels") if not screen.get(key)]
    if lacking:
        raise InputError(f"{path} lacks {', '.join(lacking)}.")
    for key in ("columns", "channels", "controls", "filter"):
        if not isinstance(screen.get(key) or {}, dict):
            raise InputError(f"{path}: {key} must be a list of 'name: value' lines.")
    root = Path(os.path.normpath(path.parent / str(screen["root"])))
    tables = [path.parent / str(screen["table"]), root / str(screen["table"])]
    options = {key: screen.get(key) for key in ("sep", "controls", "filter")}
    found = next((table for table in tables if table.is_file()), tables[0])
    frame = manifest(
        root, found, screen["columns"], screen["channels"], check_files=check_files, **options
    )
    frame.attrs = {
        "screen": str(screen.get("name") or path.parent.resolve().name),
        "root": str(root),
        "pixel_size_um": _pixel_size(path, screen.get("pixel_size_um")),
    }
    return frame


def _pixel_size(path: Path, value: object) -> float | None:
    try:
        size = None if value is None else float(value)
    except (TypeError, ValueError):
        size = -1.0
    if size is not None and not 0 < size < float("inf"):
        raise InputError(f"{path}: pixel_size_um is {value!r}; give micrometres, such as 0.65.")
    return size


def _read(table: str | Path | pd.DataFrame, sep: str | None) -> pd.DataFrame:
    """The user's table as text, so that plate 0012 and compound NA stay what they are."""
    if isinstance(table, pd.DataFrame):
        return table.reset_index(drop=True)
    try:
        if str(table).endswith(".parquet"):
            return pd.read_parquet(table)
        with (gzip.open if str(table).endswith(".gz") else open)(
            table, "rt", encoding="utf-8"
        ) as f:
            sep = sep or max(",;\t|", key=f.readline().count)
        return pd.read_csv(table, sep=sep, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no table {table}.") from None
    except (OSError, ValueError) as error:  # pandas' parsers raise kinds of ValueError
        raise InputError(f"The table {table} cannot be read: {error}. Is sep right?") from error


def _check_names(given: Mapping[str, object], known: tuple | list, what: str) -> None:
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        listed = ", ".join(f"{name!r}{nearest(name, known)}" for name in unknown)
        raise InputError(f"Unknown {what} {listed}. Known: {', '.join(known)}.")


def _names(source: object) -> list[str]:
    """The user's columns that a source needs."""
    source = str(source)
    if source.startswith("="):
        return []
    if "{" not in source:
        return [source]
    try:
        return [name for _, name, _, _ in Formatter().parse(source) if name is not None]
    except ValueError as error:
        raise InputError(f"The pattern {source!r} is not right: {error}.") from error


def _check_columns(rows: pd.DataFrame, sources: list[object]) -> None:
    present = [str(name) for name in rows.columns]
    missing = {name: None for source in sources for name in _names(source) if name not in present}
    if missing:
        listed = "\n".join(f"- {name}{nearest(name, present)}" for name in missing)
        raise InputError(
            f"The table lacks these columns:\n{listed}\nIt has: {', '.join(present)}. "
            "Write a constant as '=value', a pattern with your columns in braces."
        )


def _filtered(rows: pd.DataFrame, wanted: Mapping[str, object]) -> pd.DataFrame:
    keep = pd.Series(True, index=rows.index)
    for column, values in wanted.items():
        values = [str(v) for v in (values if isinstance(values, list | tuple) else [values])]
        column_text = text(rows[column])
        unknown = sorted(set(values) - set(column_text))
        if unknown:
            near = nearest(unknown[0], sorted(set(column_text)))
            raise InputError(f"filter: {column} never is {', '.join(unknown)}{near}.")
        keep &= column_text.isin(values)
    if not keep.any():
        raise InputError("No row of the table is left after the filter.")
    return rows[keep]


def _fill(rows: pd.DataFrame, source: object) -> pd.Series:
    """The values of one manifest column or channel: a column, a constant or a pattern."""
    source = str(source)
    if source.startswith("="):
        return pd.Series(source[1:], index=rows.index)
    if "{" not in source:
        return text(rows[source])
    filled = pd.Series("", index=rows.index)
    for literal, name, form, _ in Formatter().parse(source):
        filled = filled + literal
        if name is not None:
            filled = filled + _formatted(text(rows[name]), name, form)
    return filled


def _formatted(values: pd.Series, name: str, form: str | None) -> pd.Series:
    if not form:
        return values
    try:
        number = int if form.endswith("d") else str
        return values.map(lambda value: format(number(value), form))
    except ValueError as error:
        raise InputError(f"The pattern {{{name}:{form}}} does not fit: {error}.") from error


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in what the user did not give, where it follows from what was given."""
    lacking = [name for name in _NEEDED if name not in frame]
    if "treatment" not in frame and "compound" not in frame:
        lacking.append("treatment (or compound)")
    if lacking:
        raise InputError(f"columns must say where these come from: {', '.join(lacking)}.")
    frame["well"] = normalise_wells(frame["well"])
    for name, value in _DEFAULTS.items():
        if name not in frame:
            frame[name] = value
    if "compound" not in frame:
        frame["compound"] = frame["treatment"]
    if "treatment" not in frame:
        number = pd.to_numeric(frame["dose_um"], errors="coerce").map("{:g}".format)
        dose = number.where(number != "nan", text(frame["dose_um"]))  # 1.0 and 1 are one dose
        frame["treatment"] = frame["compound"] + ("@" + dose).where(dose != "", "")
    if "site" not in frame:
        frame["site"] = frame.groupby(["plate", "well"]).cumcount() + 1
    if "site_id" not in frame:
        name = frame["plate"] + "_" + frame["well"] + "_" + text(frame["site"])
        again = name.groupby(name).cumcount()
        frame["site_id"] = name + ("-" + (again + 1).astype(str)).where(again > 0, "")
    return frame


def _with_controls(frame: pd.DataFrame, controls: Mapping[str, object]) -> pd.DataFrame:
    _check_names(controls, ROLES, "role in controls:")
    for role, names in controls.items():
        names = [str(name) for name in (names if isinstance(names, list | tuple) else [names])]
        unknown = [name for name in names if name not in set(frame["compound"])]
        if unknown:
            near = nearest(unknown[0], sorted(set(frame["compound"])))
            raise InputError(f"controls: no compound is called {', '.join(unknown)}{near}.")
        frame.loc[frame["compound"].isin(names), "role"] = role
    return frame

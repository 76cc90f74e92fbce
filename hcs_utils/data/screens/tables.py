"""Tables of public screens: found below the root, read as text, joined with nothing lost."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from hcs_utils.data.manifest import COLUMNS, PATH, channels, nearest, text, validate
from hcs_utils.errors import InputError

_SHOWN = 20  # names or rows listed in one message

Tables = Mapping[str, str | Path] | None


def find(
    screen: str,
    root: str | Path,
    name: str,
    places: Sequence[str],
    origin: str,
    given: Tables = None,
    needed: bool = True,
) -> Path | None:
    """Where a table is: the path `given` under its name, else the first of `places` below `root`.

    Each place is also tried with and without `.gz`. None where it is absent and not `needed`.

    Raises `InputError` saying where the table was looked for and where it comes from.
    """
    if given and name in given:
        asked = Path(given[name])
        if not asked.is_file():
            raise InputError(f"{screen}: there is no table {asked} (given as {name!r}).")
        return asked
    places = [p for place in places for p in (place, place.removesuffix(".gz"), f"{place}.gz")]
    for place in dict.fromkeys(places):
        if (Path(root) / place).is_file():
            return Path(root) / place
    if not needed:
        return None
    looked = ", ".join(p for p in dict.fromkeys(places) if not p.endswith(".gz"))
    raise InputError(
        f"{screen}: the table {name!r} is not below {root}; looked for {looked}. It comes from "
        f"{origin}. `hcs fetch {screen}` brings it; or name its path: tables={{{name!r}: path}}."
    )


def read(path: Path, columns: Sequence[str] = (), sep: str | None = None) -> pd.DataFrame:
    """A table as text, missing as ""; `columns` must be there. Raises `InputError` naming it."""
    try:
        if path.name.endswith(".parquet"):
            table = pd.read_parquet(path).apply(text)
        else:
            tabs = path.name.removesuffix(".gz").endswith((".tsv", ".txt"))
            sep = sep or ("\t" if tabs else ",")
            table = pd.read_csv(
                path, sep=sep, dtype=str, keep_default_na=False, encoding="utf-8-sig"
            )
    except (OSError, ValueError, EOFError) as error:  # pandas' parsers raise kinds of ValueError
        raise InputError(f"The table {path} cannot be read: {error}. Fetch it again.") from error
    need(table, columns, path)
    return table


def read_ragged(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """A CSV some of whose lines have too few or too many fields, and what those lines are."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(file)
            header = [name.strip().strip('"') for name in next(lines, [])]
            rows = [(lines.line_num, fields) for fields in lines if fields]
    except (OSError, csv.Error) as error:
        raise InputError(f"The table {path} cannot be read: {error}. Fetch it again.") from error
    wrong = [
        f"{path.name}, line {number}: {len(fields)} fields where the header has {len(header)}"
        for number, fields in rows
        if len(fields) != len(header)
    ]
    whole = [fields for _, fields in rows if len(fields) == len(header)]
    return pd.DataFrame(whole, columns=header, dtype="str"), wrong


def need(table: pd.DataFrame, columns: Sequence[str], path: str | Path) -> None:
    """Raise `InputError` naming the columns that a table lacks, with the nearest names."""
    present = [str(name) for name in table.columns]
    missing = [name for name in columns if name not in present]
    if missing:
        listed = "\n".join(f"- {name}{nearest(name, present)}" for name in missing)
        raise InputError(
            f"{path} lacks these columns:\n{listed}\nIt has: {', '.join(present)}. It may be "
            "another release, or another table of that name."
        )


def refuse(rows: Sequence[str], what: str, mend: str) -> None:
    """Raise `InputError` listing `rows`, if there are any."""
    if len(rows):
        shown = "\n".join(f"    {row}" for row in rows[:_SHOWN])
        more = f"\n    … and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        raise InputError(f"{len(rows)} {what}:\n{shown}{more}\n{mend}")


def once(table: pd.DataFrame, keys: Sequence[str], what: str, mend: str) -> None:
    """Raise `InputError` listing the values of `keys` that stand on more than one row."""
    again = table[table.duplicated(list(keys))]
    rows = again[keys[0]].str.cat([again[key] for key in keys[1:]], sep=" ")
    refuse(rows.unique().tolist(), what, mend)


def placed(
    root: str | Path, frame: pd.DataFrame, layouts: Sequence[Callable[[pd.DataFrame], dict]]
) -> pd.DataFrame:
    """`frame` with the paths of the first layout that has a file below `root`, else the first.

    A layout gives, for rows of the table, channel → column of paths.
    """
    some = frame.iloc[:: max(1, len(frame) // 50)]
    for layout in layouts:
        paths = [path for column in layout(some).values() for path in column]
        if any((Path(root) / path).is_file() for path in paths):
            break
    else:
        layout = layouts[0]
    return frame.assign(**{PATH + name: column for name, column in layout(frame).items()})


def finished(
    frame: pd.DataFrame,
    screen: str,
    root: str | Path,
    pixel_size_um: float | None,
    check: bool,
    left_out: Sequence[str] = (),
) -> pd.DataFrame:
    """The validated manifest with its `attrs`; with `check` every file must be there."""
    empty = dict.fromkeys(("smiles", "moa", "target"), "") | {"dose_um": float("nan")}
    frame = frame.assign(**{name: value for name, value in empty.items() if name not in frame})
    extra = [c for c in frame.columns if c not in COLUMNS and not str(c).startswith(PATH)]
    paths = [PATH + name for name in channels(frame)]
    frame = validate(frame[[*COLUMNS, *paths, *extra]], root=root if check else None)
    frame.attrs = {
        "screen": screen,
        "root": str(root),
        "pixel_size_um": pixel_size_um,
        "left_out": list(left_out),
    }
    return frame


def dosed(compound: pd.Series, dose_um: pd.Series) -> pd.Series:
    """Treatments as compound@dose, the dose in four significant digits; the compound if none."""
    dose = dose_um.map("{:.4g}".format).where(dose_um.notna(), "")
    return compound.where(dose == "", compound + "@" + dose)

"""Columns of millions of rows: looked at by value or by block, so that none is held twice."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet

BLOCK = 1 << 17  # rows looked at together


def text(column: pd.Series) -> pd.Series:
    """A column as stripped strings: whole numbers without a decimal point, missing as ""."""
    if _is_text(column):
        return column
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("string").astype("str").fillna("").str.strip()


def _is_text(column: pd.Series) -> bool:
    """Whether `text` has nothing to change: strings of Arrow, none missing, none to strip."""
    if column.dtype != "str" or getattr(column.dtype, "storage", "") != "pyarrow":
        return False
    if column.hasnans:
        return False
    arrays = (pyarrow.array(block.array) for block in blocks(column))
    return all(pyarrow.compute.utf8_trim_whitespace(array).equals(array) for array in arrays)


def number(column: pd.Series) -> pd.Series:
    """A column as float64; missing is NaN, what is no number is -1."""
    if column.dtype == np.float64:
        return column
    found = pd.to_numeric(column, errors="coerce").astype("float64")
    return found.mask(found.isna() & (text(column) != ""), -1.0)


def blocks(column: pd.Series) -> Iterator[pd.Series]:
    """The column in pieces of at most `BLOCK` rows."""
    return (column.iloc[start : start + BLOCK] for start in range(0, len(column), BLOCK))


def by_value(column: pd.Series, function: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """`function(column)`, worked out once for each value; the column itself where it is equal."""
    codes, values = pd.factorize(column, use_na_sentinel=False)
    values = pd.Series(values)
    result = function(values)
    if result.equals(values):
        return column
    return result.take(codes).set_axis(column.index).rename(column.name)


def repeated(column: pd.Series) -> np.ndarray:
    """Rows whose value occurs more than once, by hashes first, so that few need comparing."""
    parts = (block.to_numpy(object) for block in blocks(column))
    hashes = [pd.util.hash_array(part, categorize=False) for part in parts]
    hashes = np.concatenate([np.empty(0, np.uint64), *hashes])
    ordered = np.sort(hashes)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    rows = np.flatnonzero(np.isin(hashes, twice)) if len(twice) else np.empty(0, int)
    found = np.zeros(len(column), bool)
    found[rows] = column.iloc[rows].duplicated(keep=False)
    return found


def same_rows(frame: pd.DataFrame) -> np.ndarray:
    """Rows that occur more than once, their first value not being ""."""
    first = frame[frame.columns[0]]
    rows = np.flatnonzero(repeated(first) & (first != "").to_numpy())
    found = np.zeros(len(frame), bool)
    if len(rows):
        found[rows] = frame.iloc[rows].duplicated(keep=False)
    return found


def has_one(groups: pd.Series, values: pd.Series) -> np.ndarray:
    """For each row, whether its group holds one of the `values` alone."""
    group, value = (pd.factorize(part, use_na_sentinel=False)[0] for part in (groups, values))
    pairs = np.unique(group * (value.max() + 1) + value)
    return np.bincount(pairs // (value.max() + 1))[group] == 1


def matches(column: pd.Series, pattern: str, marks: tuple[str, ...]) -> np.ndarray:
    """Rows in which a regular expression is found; `marks`: one of these is in each such row.

    A mark is plain text and quickly searched for in a block of rows at once; a line break at its
    start stands for the beginning of the value.
    """
    found = []
    for block in blocks(column):
        joined = "\n" + "\n".join(block.tolist())
        if any(mark in joined for mark in marks):
            found.append(block.str.contains(pattern, regex=True).to_numpy(bool))
        else:
            found.append(np.zeros(len(block), bool))
    return np.concatenate([np.empty(0, bool), *found])


def json_items(values: list) -> bytes:
    """`json.dumps(values)` without its brackets; quickly where no character needs escaping."""
    if values and isinstance(values[0], str):
        joined = '", "'.join(values)
        plain = joined.isascii() and joined.isprintable() and "\\" not in joined
        if plain and joined.count('"') == 2 * (len(values) - 1):
            return f'"{joined}"'.encode()
    return json.dumps(values)[1:-1].encode()


def read_parquet(path: str | Path) -> pd.DataFrame:
    """A Parquet table with its `attrs`, read column by column: at no time are two copies held."""
    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        names = file.schema_arrow.names
        index = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        names = [name for name in names if name not in index]
        if not names or len(set(names)) < len(names):
            return pd.read_parquet(path)
        frames = [file.read(columns=[name], use_threads=False).to_pandas() for name in names]
    frames = [frame.reset_index(drop=True) for frame in frames]
    table = pd.DataFrame({name: frame[name] for name, frame in zip(names, frames, strict=True)})
    table.attrs = frames[0].attrs
    return table

"""What was found of each field's quality, beside the screen, and a screen without what is flagged.

`<root>/quality.parquet`: `site_id`, `qc_flag` (leave the field out), `qc_score` (probability that
it is abnormal, 0 to 1; NaN: not known).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from hcs_utils import files
from hcs_utils.data import columns
from hcs_utils.data.manifest import digest
from hcs_utils.data.store import Store
from hcs_utils.errors import InputError

FILE = "quality.parquet"
COLUMNS = ("site_id", "qc_flag", "qc_score")
_SHOWN = 5


def write(root: str | Path, table: pd.DataFrame) -> Path:
    """Keep `qc_flag` and `qc_score` of some fields of a screen, whole or not at all.

    A field that was judged before is judged anew; the others keep what they have.

    Raises `InputError` for columns that lack, a field twice, a flag that is neither True nor
    False, a score outside of 0 … 1.
    """
    root, table = Path(root), _checked(table, "The table")
    if not root.is_dir():
        raise InputError(f"There is no folder {root} of a screen to keep its quality in.")
    with files.locked(root):
        known = read(root)
        known = known[~known["site_id"].isin(table["site_id"])]
        joined = pd.concat([part for part in (known, table) if len(part)] or [table])
        with files.replacing(root / FILE) as temporary:
            joined.sort_values("site_id").to_parquet(temporary, index=False)
    return root / FILE


def read(root: str | Path) -> pd.DataFrame:
    """What `write` kept, a row a field that was judged; no rows where none was."""
    path = Path(root) / FILE
    if not path.is_file():
        empty = {"site_id": "str", "qc_flag": "bool", "qc_score": "float64"}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in empty.items()})
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no readable Parquet file ({error}). Delete it and judge the screen again."
        ) from error
    return _checked(table, str(path))


def clear(root: str | Path) -> int:
    """Forget all that was judged; how many fields that was."""
    count = len(read(root))
    with files.storage_errors(Path(root) / FILE):
        files.remove(Path(root) / FILE)
    return count


def refuse_unknown(table: pd.DataFrame, manifest: pd.DataFrame) -> None:
    """Raise `InputError` naming the fields of a table to `write` that a manifest has not."""
    names = columns.text(_checked(table, "The table")["site_id"])
    unknown = names[~names.isin(manifest["site_id"])].tolist()
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(names)} fields are not in the screen: "
            f"{', '.join(unknown[:_SHOWN])}. Give the site_id of fields, as in "
            f"{manifest['site_id'].iloc[0]}."
        )


def with_quality(manifest: pd.DataFrame, root: str | Path) -> pd.DataFrame:
    """The manifest with `qc_flag` and `qc_score`: False and NaN where a field was not judged.

    `attrs["qc_unknown"]` names the fields that were judged and are not in the manifest, which may
    be a part of the screen; `told` says so.
    """
    judged = read(root)
    unknown = judged.loc[~judged["site_id"].isin(manifest["site_id"]), "site_id"].tolist()
    at = judged.set_index("site_id").reindex(manifest["site_id"])
    flag = at["qc_flag"].eq(True).to_numpy()
    found = manifest.assign(qc_flag=flag, qc_score=at["qc_score"].to_numpy(float))
    found.attrs = manifest.attrs | {"qc_unknown": unknown}
    return found


def by_plate(table: pd.DataFrame) -> pd.DataFrame:
    """Of each plate: fields, how many were `judged` and `flagged`, and the mean `qc_score`.

    `table`: a manifest as `with_quality` gives it. A flag without a score counts as judged.
    """
    judged = table["qc_score"].notna() | table["qc_flag"]
    by = table.assign(judged=judged).groupby("plate")
    found = by.agg(
        fields=("site_id", "size"), judged=("judged", "sum"), flagged=("qc_flag", "sum"),
        mean_score=("qc_score", "mean"),
    )  # fmt: skip
    return found.reset_index()


class Kept(Store):
    """A store without some of its fields; read, counted and named as if they were not there."""

    def __init__(self, whole: Store, manifest: pd.DataFrame):
        attributes = {
            "site_ids": manifest["site_id"].tolist(), "channels": whole.channels,
            "pixel_size_um": whole.pixel_size_um, "manifest_sha256": digest(manifest),
            "parameters": whole.parameters, "failed": whole.failed,
        }  # fmt: skip
        shape = (len(manifest), *whole.shape[1:])
        super().__init__(whole.path, attributes, shape, whole._shard_sites)
        self.whole, self.rows_of_whole = whole, whole.rows(self.site_ids)

    def read(self, rows) -> np.ndarray:
        """Images [n c y x], uint8, of some rows of what is kept."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise InputError(f"{len(self)} fields of {self.path} are kept, asked for {rows}.")
        return self.whole.read(self.rows_of_whole[rows])

    def encoded(self) -> Iterator[memoryview]:
        """The chunk of each field that is kept, in order, as it lies in the store."""
        kept = np.zeros(len(self.whole), bool)
        kept[self.rows_of_whole] = True
        return (chunk for chunk, keep in zip(self.whole.encoded(), kept, strict=True) if keep)


def without_flagged(table: pd.DataFrame, store: Store) -> tuple[pd.DataFrame, Store]:
    """A manifest and its store without the fields that have `qc_flag`; both as given if none has.

    The store on the disk stays as it is; what is given back has only the kept fields, in their
    order, and the digest of their manifest, so that a record tells it from the whole screen's.
    """
    flagged = table["qc_flag"].to_numpy(bool)
    if not flagged.any():
        return table, store
    if flagged.all():
        raise InputError(
            f"Every one of the {len(table)} fields is flagged, so nothing is left to work with. "
            "Flag fewer (a higher qc_score to drop at), or forget it with `hcs quality clear`."
        )
    kept = table[~flagged].reset_index(drop=True)
    return kept, Kept(store, kept)


def told(table: pd.DataFrame, flagged: str) -> str:
    """One line: how many fields are flagged and what becomes of them; "" where none is."""
    count, unknown = int(table["qc_flag"].sum()), table.attrs.get("qc_unknown", [])
    what = "left out" if flagged == "drop" else "kept all the same"
    line = f"Quality control: {count} of {len(table)} fields are flagged and {what}." * bool(count)
    if unknown:
        more = " …" if len(unknown) > _SHOWN else ""
        line += f" {len(unknown)} fields judged are not here: {', '.join(unknown[:_SHOWN])}{more}."
    return line.strip()


def _checked(table: pd.DataFrame, what: str) -> pd.DataFrame:
    lacking = [name for name in COLUMNS if name not in table]
    if lacking:
        raise InputError(
            f"{what} lacks {', '.join(lacking)}; it must have {', '.join(COLUMNS)}, a row a field."
        )
    site, score = columns.text(table["site_id"]), columns.number(table["qc_score"])
    twice = site[columns.repeated(site)].unique()
    if len(twice):
        raise InputError(f"{what} has {len(twice)} fields twice: {', '.join(twice[:_SHOWN])}.")
    flag = table["qc_flag"]
    if flag.dtype != bool:
        word = columns.text(flag).str.lower()
        words = {"true": True, "1": True, "false": False, "0": False}
        if not word.isin(list(words)).all():
            bad = word[~word.isin(list(words))].iloc[0]
            raise InputError(f"{what}: a qc_flag is {bad!r}; write True or False.")
        flag = word.map(words).astype(bool)
    wrong = score.notna() & ~score.between(0, 1)
    if wrong.any() or (site == "").any():
        bad = (
            f"the qc_score of {site[wrong].iloc[0]} is no number from 0 to 1" if wrong.any() else ""
        )
        raise InputError(f"{what}: {bad or 'a row has no site_id'}.")
    found = {"site_id": site.to_numpy(), "qc_flag": flag.to_numpy(), "qc_score": score.to_numpy()}
    return pd.DataFrame(found)

"""The `load_data` tables of the Cell Painting Gallery: one a plate, one row a field."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from hcs_utils.data.manifest import PATH, normalise_wells
from hcs_utils.data.screens import tables

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
ILLUM = "illum_"  # prefix of columns that hold a channel's illumination function
_PLACE = "{source}/workspace/load_data_csv/{batch}/{plate}/{name}"
_NAMES = ("load_data_with_illum.parquet", "load_data_with_illum.csv", "load_data.parquet")
_NAMES += ("load_data.csv", "load_data_with_illum.csv.gz", "load_data.csv.gz")
# s3://bucket/project/…, https://bucket.s3…/project/…, /mount/bucket/project/… → …
_BEFORE = r"^(?:[a-z0-9]+://|/).*?cpg\d{4}-[^/]+/+"


def path_of(root: str | Path, source: str, batch: str, plate: str) -> Path | None:
    """A plate's load_data table below `root`, the one with illumination first; None if absent."""
    for name in _NAMES:
        path = Path(root) / _PLACE.format(source=source, batch=batch, plate=plate, name=name)
        if path.is_file():
            return path
    return None


def sites(path: Path, channels: Iterable[str] = CHANNELS) -> pd.DataFrame:
    """One row a field: well, site, `path_<channel>` and, where given, `illum_<channel>`.

    Paths are relative to the project's folder in the gallery, such as `cpg0016-jump`.
    """
    channels = list(channels)
    rows = tables.read(path, ["Metadata_Well", "Metadata_Site"])
    tables.need(rows, [f"{a}Name_Orig{c}" for c in channels for a in ("File", "Path")], path)
    found = {
        "well": normalise_wells(rows["Metadata_Well"]),
        "site": rows["Metadata_Site"],
    }
    kinds = [("Orig", PATH)]
    if all(f"FileName_Illum{c}" in rows and f"PathName_Illum{c}" in rows for c in channels):
        kinds.append(("Illum", ILLUM))
    for kind, prefix in kinds:
        for channel in channels:
            folder = rows[f"PathName_{kind}{channel}"].str.replace(_BEFORE, "", regex=True)
            file = rows[f"FileName_{kind}{channel}"]
            found[prefix + channel] = (folder.str.rstrip("/") + "/" + file).where(file != "", "")
    return pd.DataFrame(found)

"""BBBC022: U2OS cells, some 1,600 bioactive compounds, 20 plates, five channels.

Below the root: `BBBC022_v1_image.csv` and the images as the archives unpack, a folder a plate and
channel (`BBBC022_v1_images_20585w1/IXMtest_A01_s1_w1….tif`), also in `images/`. A plate has 384
wells of nine fields, 520 × 696 pixels, 64 of the wells untreated ("mock").

Traps. Some lines of the table have too few or too many fields, so that columns shift: these, and
those whose well, site and channel are not those of their file names, are left out and listed. The
unit of `CPD_MMOL_CONC` is not documented where we looked: it is kept as it is (`mmol_conc`) and
doses stay empty. Single cells are cut by `hcs_utils.data.cells`.

Source: Gustafsdottir et al. 2013; Ljosa et al. 2012. Columns as three public readers name them
(no copy of the table was at hand): w1 Hoechst, w2 ER, w3 Syto, w4 Ph_golgi, w5 Mito.
"""

from pathlib import Path

import pandas as pd

from hcs_utils.data.manifest import text
from hcs_utils.data.screens import tables
from hcs_utils.errors import InputError

CHANNELS = {  # name → name in the table, number in folders and file names
    "Hoechst": ("OrigHoechst", 1),
    "ER": ("OrigER", 2),
    "Syto": ("OrigSyto", 3),
    "PhGolgi": ("OrigPh_golgi", 4),
    "Mito": ("OrigMito", 5),
}
PIXEL_SIZE_UM = 0.656  # 20×, binning 2 × 2
_PART = 0.01  # of the lines that may be left out

_ORIGIN = "bbbc.broadinstitute.org/BBBC022"
_PLATE, _WELL = "Image_Metadata_PlateID", "Image_Metadata_CPD_WELL_POSITION"
_ROLE, _SITE = "Image_Metadata_ASSAY_WELL_ROLE", "Image_Metadata_Site"
_NAMES = {  # ours → the table's, where it has it
    "name": "Image_Metadata_SOURCE_COMPOUND_NAME",
    "broad_id": "Image_Metadata_BROAD_ID",
    "smiles": "Image_Metadata_CPD_SMILES",
    "mmol_conc": "Image_Metadata_CPD_MMOL_CONC",
    "platemap": "Image_Metadata_CPD_PLATE_MAP_NAME",
}


def manifest(
    root: str | Path, *, tables_at: tables.Tables = None, check: bool = True
) -> pd.DataFrame:
    """The manifest; batch: the plate. Compounds by Broad id, else by name; mock wells are "DMSO".

    Kept: `name`, `mmol_conc`, `platemap`. Lines of the table that cannot be read are listed in
    `attrs["left_out"]`; more than one in a hundred are refused. `tables_at`: `{"image": path}`.
    """
    places = [f"{folder}BBBC022_v1_image.csv" for folder in ("", "metadata/")]
    path = tables.find("bbbc022", root, "image", places, _ORIGIN, tables_at)
    rows, wrong = tables.read_ragged(path)
    files = [f"Image_FileName_{column}" for column, _ in CHANNELS.values()]
    tables.need(rows, [_PLATE, _WELL, _ROLE, _SITE, *files], path)
    at = rows[_WELL] + "_s" + rows[_SITE] + "_w"
    fits = pd.Series(True, rows.index)
    for column, w in CHANNELS.values():  # IXMtest_A01_s1_w1….tif
        names = rows[f"Image_FileName_{column}"]
        fits &= names.str.extract(r"_([A-P]\d\d_s\d+_w\d)", expand=False) == at + str(w)
    wrong += [
        f"{path.name}: well, site or channel is not that of the file {row!r}"
        for row in rows[files[0]][~fits]
    ]
    if len(wrong) > _PART * (len(rows) + len(wrong)):
        tables.refuse(wrong, "lines of the table cannot be read", "Fetch it again.")
    rows = rows[fits]
    found = {ours: rows[name] for ours, name in _NAMES.items() if name in rows}
    if not {"name", "broad_id"} & set(found):
        raise InputError(f"{path} names no compounds: {_NAMES['name']} or {_NAMES['broad_id']}.")
    blank = pd.Series("", rows.index)
    compound = found.get("broad_id", blank).str.strip()
    compound = compound.where(compound != "", found.get("name", blank).str.strip())
    mock = rows[_ROLE].str.strip().str.lower() == "mock"
    unnamed = rows[(compound == "") & ~mock]
    tables.refuse(
        (unnamed[_PLATE] + " " + unnamed[_WELL]).drop_duplicates().tolist(),
        "wells are not mock and name no compound",
        "Take them out of the table, or name what is in them.",
    )
    compound = compound.mask(mock, "DMSO")
    frame = pd.DataFrame(
        {
            "source": "BBBC022",
            "batch": rows[_PLATE],
            "plate": rows[_PLATE],
            "well": rows[_WELL],
            "site": rows[_SITE],
            "treatment": compound,
            "compound": compound,
            "role": pd.Series("trt", rows.index).mask(mock, "negcon"),
            **{ours: column for ours, column in found.items() if ours != "broad_id"},
        }
    )
    frame["site_id"] = frame["plate"] + "_" + frame["well"] + "_" + text(frame["site"])

    def below(first):
        return lambda part: {
            name: first.format(w=w, plate="")
            + rows[_PLATE].loc[part.index]
            + ("/" if first == "" else f"w{w}/")
            + rows[f"Image_FileName_{column}"].loc[part.index]
            for name, (column, w) in CHANNELS.items()
        }

    layouts = [below(first) for first in ("images/BBBC022_v1_images_", "BBBC022_v1_images_", "")]
    frame = tables.placed(root, frame, layouts)
    return tables.finished(frame, "bbbc022", root, PIXEL_SIZE_UM, check, wrong)

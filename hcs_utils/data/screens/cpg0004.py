"""CPG0004, LINCS Cell Painting: A549 cells, compounds of the Drug Repurposing Hub in six doses.

Tables below the root, from broadinstitute/lincs-cell-painting (folder `metadata`):
`barcode_platemap.csv`, `platemap/*.txt` and `repurposing_info.tsv`. Images: `load_data` tables of
the gallery; or a folder a plate, as `SQ00015168/r10c07f05p01-ch3sk1fk1fl1.png`.

Traps of the real tables. 28 layouts, five plates each, are 140 barcodes; the papers count 136
plates: plates without images are left out. Each layout was made once on 2016-03-22 and four times
on one other day: replicate groups 2 to 5 of a layout share their day, so that only the fold that
tests on group 1 (the second) holds out a day. A treatment has one well position.
`mmoles_per_liter` is µM (the highest dose is 10 µM); rounded doses join 9,410 pairs of compound
and dose, with DMSO 9,411, where the paper says 9,412. The hub's table names 1,254 of 1,570
compounds by their present id and 98 more by a deprecated one; 984 of its SMILES carry hints for
drawing after " |", without which RDKit reads every one.

Source: Way et al. 2022; order of the channels: CDCL's `combined_paths` and its ch3 = RNA
(cfredinh/CDCL@54bb98b, build_data/CPG0004-build-combined.ipynb; read, not run).
"""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from hcs_utils.data.manifest import PATH, text
from hcs_utils.data.screens import load_data, tables
from hcs_utils.errors import InputError

CHANNELS = {"DNA": 1, "ER": 2, "RNA": 3, "AGP": 4, "Mito": 5}  # name → ch number in file names
FIELDS = 9  # of a well
BATCH = "2016_04_01_a549_48hr_batch1"
FOLDS = {  # replicate groups to train, val and test
    1: ((1, 2, 3), (4,), (5,)),
    2: ((2, 3, 4), (5,), (1,)),
    3: ((3, 4, 5), (1,), (2,)),
    4: ((4, 5, 1), (2,), (3,)),
    5: ((5, 1, 2), (3,), (4,)),
}

_FILE = re.compile(r"r(\d\d)c(\d\d)f(\d\d)p01-ch(\d)sk1fk1fl1\.(?:png|tiff?)")
_ORIGIN = "github.com/broadinstitute/lincs-cell-painting, folder metadata"
_PLACES = ("", "metadata/", "metadata/platemaps/", "platemaps/", "metadata/moa/", "moa/")


def manifest(
    root: str | Path,
    *,
    domain: str = "plate",
    tables_at: tables.Tables = None,
    check: bool = True,
) -> pd.DataFrame:
    """The manifest of all plates that have images; a field without one of its channels is left out.

    `domain`: what the manifest's batch is, "plate" as in CDCL (136 domains) or "date" (five).
    Kept: `platemap`, `replicate` (see `replicates`), `date` and `pert_iname`. What was left out is
    listed in `attrs["left_out"]`. `tables_at`: `{"barcode_platemap": path, "repurposing_info":
    path}`; `platemap/` lies beside the first. `check` False: nine fields a well in CDCL's layout
    where no images are.
    """
    if domain not in ("plate", "date"):
        raise InputError(f"domain is {domain!r}; choose 'plate' or 'date'.")
    wells = _wells(root, tables_at)
    fields, left_out = _fields(Path(root), wells, check)
    frame = fields.merge(wells, on=["plate", "well"], how="left", validate="many_to_one")
    lost = frame[frame["role"].isna()]
    tables.refuse(
        (lost["plate"] + " " + lost["well"]).drop_duplicates().tolist(),
        "wells have images and no row in their platemap",
        "Mend the platemap, or move those images away.",
    )
    frame["batch"] = frame["plate"] if domain == "plate" else frame["date"]
    frame["site_id"] = frame["plate"] + "_" + frame["well"] + "_" + text(frame["site"])
    frame["replicate"] = frame["plate"].map(replicates(frame))
    return tables.finished(frame, "cpg0004", root, None, check, left_out)


def _wells(root: str | Path, given: tables.Tables) -> pd.DataFrame:
    """One row a plate and well: what was done to it."""
    places = [f"{p}{BATCH}/barcode_platemap.csv" for p in _PLACES]
    places += [f"{p}barcode_platemap.csv" for p in _PLACES]
    path = tables.find("cpg0004", root, "barcode_platemap", places, _ORIGIN, given)
    plates = tables.read(path, ["Assay_Plate_Barcode", "Plate_Map_Name", "Batch_Date"])
    columns = ["plate_map_name", "well_position", "broad_sample", "mmoles_per_liter"]
    absent = [
        f"{name}.txt, for {rows['Assay_Plate_Barcode'].iloc[0]} and its replicates"
        for name, rows in plates.groupby("Plate_Map_Name")
        if not (path.parent / "platemap" / f"{name}.txt").is_file()
    ]
    tables.refuse(absent, f"platemaps are not in {path.parent / 'platemap'}", f"See {_ORIGIN}.")
    maps = [path.parent / "platemap" / f"{name}.txt" for name in plates["Plate_Map_Name"].unique()]
    layout = pd.concat([tables.read(one, columns) for one in maps], ignore_index=True)
    twice = "wells stand on several rows of the platemaps"
    tables.once(layout, ["plate_map_name", "well_position"], twice, f"See {_ORIGIN}.")
    sample, dose = layout["broad_sample"], pd.to_numeric(layout["mmoles_per_liter"])
    compound = sample.str[:13].where(sample != "", "DMSO")
    same = ["plate_map_name", "broad_sample", "mmoles_per_liter"]  # a treatment has one well
    wells = layout.groupby(same)["well_position"].transform("size")
    role = np.where(sample == "", "negcon", np.where(wells > 1, "poscon", "trt"))
    info = _annotation(root, given)
    layout = pd.DataFrame(
        {
            "platemap": layout["plate_map_name"],
            "well": layout["well_position"],
            "compound": compound,
            "dose_um": dose,
            "treatment": tables.dosed(compound, dose),
            "role": role,
            **{name: compound.map(info[name]).fillna("") for name in info},
        }
    )
    plates = pd.DataFrame(
        {
            "source": "broad",
            "plate": plates["Assay_Plate_Barcode"],
            "platemap": plates["Plate_Map_Name"],
            "date": plates["Batch_Date"],
        }
    )
    return plates.merge(layout, on="platemap")


def _annotation(root: str | Path, given: tables.Tables) -> pd.DataFrame:
    """Name, MoA, target and SMILES of each compound: first by its id, then by a deprecated one."""
    places = [f"{p}repurposing_info.tsv" for p in _PLACES]
    path = tables.find("cpg0004", root, "repurposing_info", places, _ORIGIN, given)
    kept = ["pert_iname", "moa", "target", "smiles"]
    info = tables.read(path, ["broad_id", "deprecated_broad_id", *kept])
    info["smiles"] = info["smiles"].str.split(" |", regex=False).str[0]  # drawing hints follow
    old = info.assign(broad_id=info["deprecated_broad_id"].str.split("|")).explode("broad_id")
    both = pd.concat([info, old])
    both = both.assign(compound=both["broad_id"].str[:13])[lambda x: x["compound"].str.len() == 13]
    return both.drop_duplicates("compound").set_index("compound")[kept]


def _fields(root: Path, wells: pd.DataFrame, check: bool) -> tuple[pd.DataFrame, list[str]]:
    """Plate, well, site and files of every field, and what has been left out."""
    found, absent = [], []
    for plate in wells["plate"].unique():
        path = load_data.path_of(root, "broad", BATCH, plate)
        if path is not None:
            rows = load_data.sites(path)
        else:
            rows = _listed(root, plate)
        if rows is None or rows.empty:
            absent.append(plate)
        else:
            found.append(rows.assign(plate=plate))
    if not found and check:
        raise InputError(
            f"cpg0004: none of {len(absent)} plates has a load_data table or a folder of images "
            f"below {root}, as in {absent[0]}/r01c01f01p01-ch1sk1fk1fl1.png. `hcs fetch cpg0004` "
            "brings them."
        )
    if not found:
        return _nominal(wells), []
    fields = pd.concat(found, ignore_index=True)
    paths = [PATH + name for name in CHANNELS]
    part = fields[paths].isna() | (fields[paths] == "")
    lacking = part.dot(pd.Index([f"{name} " for name in CHANNELS])).str.strip()
    out = [f"plate {plate}: no images" for plate in absent]
    out += [
        f"{row.plate} {row.well} field {row.site}: lacks {row.lacks}"
        for row in fields.assign(lacks=lacking)[lacking != ""].itertuples()
    ]
    return fields[lacking == ""].reset_index(drop=True), out


def _listed(root: Path, plate: str) -> pd.DataFrame | None:
    """The fields of a plate's folder of images; None where it has none."""
    folders = sorted([p for p in root.glob(f"{plate}*") if p.is_dir()])
    folders += sorted(root.glob(f"broad/images/*/images/{plate}*"))
    for folder in (f / inner for f in folders for inner in ("", "Images")):
        names = os.listdir(folder) if folder.is_dir() else []
        parts = [(*match.groups(), name) for name in names if (match := _FILE.fullmatch(name))]
        if parts:
            table = pd.DataFrame(parts, columns=["row", "column", "site", "ch", "file"])
            table["well"] = table["row"].map(lambda r: chr(64 + int(r))) + table["column"]
            table["file"] = f"{folder.relative_to(root).as_posix()}/" + table["file"]
            name_of = {str(number): PATH + name for name, number in CHANNELS.items()}
            table = table[table["ch"].isin(list(name_of))]
            wide = table.pivot_table("file", ["well", "site"], "ch", aggfunc="min")
            wide = wide.reindex(columns=list(name_of)).rename(columns=name_of)
            wide = wide.rename_axis(columns=None).reset_index()
            return wide.assign(site=wide["site"].astype("int64"))
    return None


def _nominal(wells: pd.DataFrame) -> pd.DataFrame:
    rows = wells[["plate", "well"]].merge(pd.DataFrame({"site": range(1, FIELDS + 1)}), "cross")
    stem = rows["plate"] + "/r" + rows["well"].map(lambda w: f"{ord(w[0]) - 64:02d}c{w[1:]}f")
    stem += rows["site"].map("{:02d}".format) + "p01-ch"
    files = {PATH + name: stem + f"{ch}sk1fk1fl1.png" for name, ch in CHANNELS.items()}
    return rows.assign(**files)


def replicates(manifest: pd.DataFrame, form: str = "paper") -> pd.Series:
    """Plate → number of its replicate group, 1 … 5.

    "paper": a plate's place, by date and barcode, among the plates of its layout. "released": the
    median over the plate's wells of the treatment's replicate, counted through all its wells in
    that order; a plate whose median is not whole is in no fold. (The authors' counts come from a
    table that is not published, so this is theirs in rule, not in every number.)

    Source: cfredinh/CDCL@54bb98b, build_data/CPG0004-build-combined.ipynb,
    `top_moa_plate_replicate`; read, not run.
    """
    if form not in ("paper", "released"):
        raise InputError(f"form is {form!r}; choose 'paper' or 'released'.")
    if form == "paper":
        plates = manifest[["date", "plate", "platemap"]].drop_duplicates("plate")
        plates = plates.sort_values(["date", "plate"])
        return (plates.groupby("platemap").cumcount() + 1).set_axis(plates["plate"])
    wells = manifest[["date", "plate", "well", "treatment"]].drop_duplicates(["plate", "well"])
    wells = wells.sort_values(["date", "plate", "well"])
    return (wells.groupby("treatment").cumcount() + 1).groupby(wells["plate"]).median()


def fold(manifest: pd.DataFrame, number: int, form: str = "paper") -> dict[str, list[str]]:
    """Plates to train, val and test in one of five folds: three replicate groups, one, one."""
    if number not in FOLDS:
        raise InputError(f"fold is {number}; choose 1 to {len(FOLDS)}.")
    group = replicates(manifest, form)
    parts = zip(("train", "val", "test"), FOLDS[number], strict=True)
    return {part: sorted(group.index[group.isin(groups)]) for part, groups in parts}


def subset(
    manifest: pd.DataFrame, table: str | Path | None = None, moas: int = 50, seed: int = 0
) -> pd.DataFrame:
    """The compounds with a frequent mechanism of action, and some DMSO: CDCL's 570 treatments.

    `table`: the authors' `top50_moa_with_dmso.csv` (not published), which lists the fields by
    `combined_paths`. Without it a rule stands in, for the paper gives none: each compound's
    highest dose, of the `moas` mechanisms that most compounds have (ties by name), and 2,000
    fields of DMSO drawn with `seed` (the authors draw theirs without one). On the real tables
    that is 505 treatments of 50 mechanisms, not 570: say so beside any number.
    """
    if table is not None:
        rows = tables.read(Path(table), ["combined_paths"])
        first = rows["combined_paths"].str.split(",").str[0]
        stem = manifest[PATH + "DNA"].str.extract(r"((?:SQ\d+)[^/]*/.*)\.\w+$")[0]
        keep = stem.isin(first.str.replace(r"\.\w+$", "", regex=True))
        if not keep.any():
            raise InputError(f"{table} names no image of this manifest, by plate and file name.")
        return manifest[keep]
    treated = manifest[(manifest["role"] == "trt") & (manifest["moa"] != "")]
    count = treated.drop_duplicates("compound").groupby("moa").size()
    frequent = count.sort_index().sort_values(ascending=False, kind="stable").index[:moas]
    treated = treated[treated["moa"].isin(frequent)]
    highest = treated.groupby("compound")["dose_um"].transform("max")
    chosen = treated.index[treated["dose_um"] == highest]
    dmso = manifest.index[manifest["role"] == "negcon"].to_numpy()
    drawn = np.random.default_rng(seed).permutation(dmso)[:2000]
    return manifest.loc[np.sort(np.concatenate([chosen, drawn]))]

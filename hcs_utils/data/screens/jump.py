"""JUMP-CP (cpg0016): 116,753 compounds and many genes in U2OS cells, at 13 sources.

The root mirrors the gallery's folder `cpg0016-jump`: tables of jump-cellpainting/datasets in
`metadata/` (plate, well, compound, orf, crispr, perturbation_control), a `load_data` table a plate
at `source_4/workspace/load_data_csv/{batch}/{plate}/`, images at the paths that these name.

Traps. `Metadata_Batch` and `Metadata_Plate` repeat at no source, but only source and plate
together are promised to be unique. No table holds doses. Wells of JCP2022_999999 are empty.

Source: Chandrasekaran et al. 2023; the datasets' README.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from hcs_utils.data.manifest import normalise_wells, text
from hcs_utils.data.screens import load_data, tables
from hcs_utils.errors import InputError

CHANNELS = load_data.CHANNELS
DMSO = "JCP2022_033924"
EMPTY = "JCP2022_999999"
PLATE_TYPES = ("COMPOUND", "ORF", "CRISPR", "TARGET1", "TARGET2")  # those the paper's authors keep

_ORIGIN = "github.com/jump-cellpainting/datasets, folder metadata"
_TARGETS = "github.com/jump-cellpainting/JUMP-Target"
_PLACES = ("metadata/{}", "{}", "metadata/external_metadata/{}")
_PLATE = [f"Metadata_{name}" for name in ("Source", "Batch", "Plate", "PlateType")]
_WELL = [f"Metadata_{name}" for name in ("Source", "Plate", "Well", "JCP2022")]


def manifest(
    root: str | Path,
    *,
    plate_types: Sequence[str] = PLATE_TYPES,
    sources: Iterable[str] | None = None,
    without: Iterable[str] = ("source_7",),
    plates: Iterable[str] | None = None,
    empty: bool = False,
    tables_at: tables.Tables = None,
    check: bool = True,
) -> pd.DataFrame:
    """The manifest of the plates whose `load_data` table is below the root.

    `treatment` and `compound` are the JCP2022 id; `target` is the gene of ORF and CRISPR, else the
    compound's in JUMP-Target-2 where that table is. `sources`, `plates`: of these only;
    `without`: source 7 as in the cross-modal paper. `empty`: keep wells that hold nothing.

    Kept: `plate_type`, `inchikey`, `inchi`, `symbol` and, where given, `illum_<channel>`. Plates
    without a table are listed in `attrs["left_out"]`.
    """
    chosen = _plates(root, plate_types, sources, without, plates, tables_at)
    fields, absent = [], []
    for row in chosen.itertuples(index=False):
        path = load_data.path_of(root, row.source, row.batch, row.plate)
        if path is None:
            absent.append(f"{row.source} {row.batch} {row.plate}: no load_data table")
        else:
            fields.append(load_data.sites(path).assign(**row._asdict()))
    if not fields:
        raise InputError(
            f"jump: none of {len(absent)} plates has its load_data table below {root}, as in "
            f"{chosen['source'].iloc[0]}/workspace/load_data_csv/{chosen['batch'].iloc[0]}/"
            f"{chosen['plate'].iloc[0]}/load_data_with_illum.parquet. `hcs fetch jump` brings them."
        )
    frame = pd.concat(fields, ignore_index=True)
    frame = _treated(frame, root, empty, tables_at)
    stem = frame["source"] + "__" + frame["plate"] + "__" + frame["well"]
    frame["site_id"] = stem + "__" + text(frame["site"])
    return tables.finished(frame, "jump", root, None, check, absent)


def _table(root, name: str, columns: Sequence[str], given: tables.Tables, needed: bool = True):
    places = [place.format(f"{name}.csv.gz") for place in _PLACES]
    path = tables.find("jump", root, name, places, _ORIGIN, given, needed)
    return None if path is None else tables.read(path, columns)


def _plates(root, types, sources, without, plates, given) -> pd.DataFrame:
    table = _table(root, "plate", _PLATE, given)
    table = table[_PLATE].set_axis(["source", "batch", "plate", "plate_type"], axis=1)
    for what, asked in (("plate_type", types), ("source", sources), ("plate", plates)):
        if asked is not None:
            known = {*table[what], *(PLATE_TYPES if what == "plate_type" else ())}
            unknown = [f"{what} {name}" for name in asked if name not in known]
            tables.refuse(unknown, "names are not in the table of plates", "See plate.csv.gz.")
            table = table[table[what].isin(list(asked))]
    table = table[~table["source"].isin(list(without))]
    if table.empty:
        raise InputError("jump: no plate is left; ask for other sources, plates or plate types.")
    return table.drop_duplicates()


def _treated(frame: pd.DataFrame, root, empty: bool, given: tables.Tables) -> pd.DataFrame:
    """Each field with what its well was treated with."""
    wells = _table(root, "well", _WELL, given)[_WELL]
    wells = wells.set_axis(["source", "plate", "well", "compound"], axis=1)
    wells["well"] = normalise_wells(wells["well"])
    wells = wells[wells["plate"].isin(set(frame["plate"]))].drop_duplicates()
    twice = "wells have several treatments in well.csv"
    tables.once(wells, ["source", "plate", "well"], twice, f"See {_ORIGIN}.")
    frame = frame.merge(wells, "left", ["source", "plate", "well"], validate="many_to_one")
    lost = frame[frame["compound"].isna()]
    tables.refuse(
        (lost["source"] + " " + lost["plate"] + " " + lost["well"]).drop_duplicates().tolist(),
        "wells have fields in load_data and no row in well.csv",
        "Fetch well.csv.gz and the load_data tables of one release.",
    )
    if not empty:
        frame = frame[frame["compound"] != EMPTY].reset_index(drop=True)
    about = _perturbations(root, frame["compound"].unique(), given)
    named = about.reindex(frame["compound"]).set_axis(frame.index)
    tables.refuse(
        sorted(frame["compound"][named["role"].isna()].unique()),
        "treatments are in none of compound, orf, crispr and perturbation_control",
        "Fetch the tables of one release.",
    )
    return frame.assign(treatment=frame["compound"], **{name: named[name] for name in named})


def _perturbations(root, wanted, given: tables.Tables) -> pd.DataFrame:
    """Role, SMILES, InChI, InChIKey, symbol and target of each JCP2022 id."""
    key, found = "Metadata_JCP2022", []
    controls = _table(root, "perturbation_control", [key, "Metadata_pert_type"], given)
    role = controls.set_index(key)["Metadata_pert_type"].replace("empty", "trt")
    renamed = {f"Metadata_{n}": n.lower() for n in ("SMILES", "InChI", "InChIKey", "Symbol")}
    for name in ("compound", "orf", "crispr"):
        table = _table(root, name, [key], given, needed=name == "compound")
        if table is not None:
            table = table[table[key].isin(set(wanted))].rename(columns=renamed)
            found.append(table[[key, *(c for c in renamed.values() if c in table)]])
    about = pd.concat(found, ignore_index=True).drop_duplicates(key).set_index(key)
    about = about.reindex(about.index.union(role.index)).fillna("")
    about = about.reindex(columns=list(renamed.values()), fill_value="")
    if (about["smiles"] == "").all() and (about["inchi"] != "").any():
        about["smiles"] = about["inchi"].map(_smiles)
    about["role"] = role.reindex(about.index).fillna("trt")
    about["target"] = about["symbol"].where(about["symbol"] != "", _targets(root, about, given))
    return about


def _smiles(inchi: str) -> str:
    """For releases whose compound table has no SMILES; "" where RDKit cannot read the InChI."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromInchi(inchi) if inchi else None
    return "" if molecule is None else Chem.MolToSmiles(molecule)


def _targets(root, about: pd.DataFrame, given: tables.Tables) -> pd.Series:
    places = [place.format("JUMP-Target-2_compound_metadata.tsv") for place in _PLACES]
    path = tables.find("jump", root, "target2", places, _TARGETS, given, needed=False)
    if path is None:
        return pd.Series("", about.index)
    table = tables.read(path, ["InChIKey", "target_list"]).replace("NA", "")
    of = _annotated(table, "InChIKey")["target_list"]
    return about["inchikey"].map(of).fillna("")


def _annotated(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """One row a `key`: some stand on several rows; what targets these name is joined with |."""
    joined = table.groupby(key)["target_list"].agg(
        lambda lists: "|".join(dict.fromkeys(t for one in lists for t in one.split("|") if t))
    )
    return table.drop_duplicates(key).set_index(key).assign(target_list=joined)


def target_plate(root: str | Path, number: int, tables_at: tables.Tables = None) -> pd.DataFrame:
    """The 384 wells of a JUMP-Target-1 or -2 plate, the first of which the CPJUMP1 pilot used.

    Columns well, broad_sample, compound (its name), smiles, inchikey, target, role and
    control_type; 64 wells without a sample are DMSO.
    """
    if number not in (1, 2):
        raise InputError(f"number is {number}; there are JUMP-Target-1 and -2.")
    read = []
    for kind, columns in (
        ("platemap", ["well_position", "broad_sample"]),
        ("metadata", ["broad_sample", "pert_iname", "target_list", "control_type", "smiles"]),
    ):
        file = f"JUMP-Target-{number}_compound_{kind}.tsv"
        places = [place.format(file) for place in _PLACES]
        path = tables.find("jump", root, f"target{number}_{kind}", places, _TARGETS, tables_at)
        read.append(tables.read(path, columns).replace("NA", ""))
    layout, about = read[0], _annotated(read[1], "broad_sample")
    lost = sorted(set(layout["broad_sample"]) - set(about.index))
    tables.refuse(lost, "samples of the platemap have no metadata", f"See {_TARGETS}.")
    about = about.reindex(layout["broad_sample"]).set_axis(layout.index)
    control = about["control_type"].str[:6]  # negcon, poscon_cp, poscon_diverse, …
    return pd.DataFrame(
        {
            "well": normalise_wells(layout["well_position"]),
            "broad_sample": layout["broad_sample"],
            "compound": about["pert_iname"],
            "smiles": about["smiles"],
            "inchikey": about["InChIKey"],
            "target": about["target_list"],
            "role": control.where(control != "", "trt"),
            "control_type": about["control_type"],
        }
    )


def top_targets(manifest: pd.DataFrame, form: str = "paper") -> pd.DataFrame:
    """Rows of TARGET2 plates whose target is among the most frequent: 9, or 10 as released.

    Source: gwatkinson/jump_models@b9a3653, eval/batch_effect/datamodule.py, `setup` (hard-coded
    top 10 whenever `subset_targets` is set); read, not run.
    """
    if form not in ("paper", "released"):
        raise InputError(f"form is {form!r}; choose 'paper' or 'released'.")
    rows = manifest[(manifest["plate_type"] == "TARGET2") & (manifest["target"] != "")]
    count = rows.groupby("target").size().sort_index()
    most = count.sort_values(ascending=False, kind="stable").index[: 9 if form == "paper" else 10]
    return rows[rows["target"].isin(most)]

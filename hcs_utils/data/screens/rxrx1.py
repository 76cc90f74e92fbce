"""RxRx1: siRNA knock-downs in four cell types, 24 batches of HUVEC.

Below the root, as in the release: `metadata.csv` and `images/HUVEC-01/Plate1/B02_s1_w1.png`, `w1`
to `w6`. The tables of the 2019 competition (`metadata_train.csv`, `metadata_test.csv`) are read
where there is no `metadata.csv`: they hold no controls, and no siRNA for their test batches.

Source: the release's README; Taylor et al. 2019, Sypetkowski et al. 2023.
"""

from pathlib import Path

import pandas as pd

from hcs_utils.data import splits
from hcs_utils.data.screens import tables
from hcs_utils.errors import InputError

CHANNELS = {  # stain of w1 … w6
    "Hoechst": 1,  # nuclei
    "ConA": 2,  # endoplasmic reticulum
    "phalloidin": 3,  # actin
    "Syto14": 4,  # nucleoli and cytoplasmic RNA
    "MitoTracker": 5,  # mitochondria
    "WGA": 6,  # Golgi and plasma membrane
}
CELL_TYPES = ("HUVEC", "RPE", "HEPG2", "U2OS")
FIRST_CONTROL = 1108  # sirna_id: 0 … 1107 treatments, then 30 positive controls, then
UNTREATED = 1138
FOLDS = 6

_ROLES = {"treatment": "trt", "negative_control": "negcon", "positive_control": "poscon"}
_RELEASE = (
    *("site_id", "cell_type", "dataset", "experiment", "plate", "well", "site"),
    *("well_type", "sirna", "sirna_id"),
)
_COMPETITION = ("id_code", "experiment", "plate", "well")
_ORIGIN = "rxrx.ai/rxrx1 (rxrx1-metadata.zip)"


def manifest(
    root: str | Path,
    *,
    cell_type: str | None = "HUVEC",
    unlabelled: bool = False,
    tables_at: tables.Tables = None,
    check: bool = True,
) -> pd.DataFrame:
    """The manifest of one cell type, or of all (None); batch: the experiment.

    `treatment` and `compound` are the siRNA; `sirna_id` and `dataset` (the release's train, test)
    are kept. `unlabelled`: keep the competition's test wells, whose treatment is then "unknown".
    `tables_at`: `{"metadata": path}`. `check`: every image must be there.
    """
    if cell_type is not None and cell_type not in CELL_TYPES:
        raise InputError(f"cell_type is {cell_type!r}; choose of {', '.join(CELL_TYPES)} or None.")
    path = tables.find(
        "rxrx1", root, "metadata", ["metadata.csv"], _ORIGIN, tables_at,
        needed=not (Path(root) / "metadata_train.csv").is_file(),
    )  # fmt: skip
    rows = _competition(Path(root), unlabelled) if path is None else tables.read(path)
    if path is not None and "id_code" in rows:
        rows = _as_release(rows, path, unlabelled)
    tables.need(rows, _RELEASE, path or root)
    if cell_type is not None:
        rows = rows[rows["cell_type"] == cell_type]
    if rows.empty:
        raise InputError(f"{path or root} has no site of {cell_type or 'any cell type'}.")
    _check_labels(rows)
    frame = pd.DataFrame(
        {
            "site_id": rows["site_id"],
            "source": "recursion",
            "batch": rows["experiment"],
            "plate": rows["experiment"] + "_" + rows["plate"],
            "well": rows["well"],
            "site": rows["site"],
            "treatment": rows["sirna"],
            "compound": rows["sirna"].where(rows["sirna"] != "unknown", ""),
            "role": rows["well_type"].map(_ROLES).fillna(rows["well_type"]),
            "sirna_id": pd.to_numeric(rows["sirna_id"]).astype("int64"),
            "dataset": rows["dataset"],
        }
    )
    folder = rows["experiment"] + "/Plate" + rows["plate"] + "/" + rows["well"]
    stem = folder + "_s" + rows["site"] + "_w"

    def below(prefix):
        return lambda part: {
            name: prefix.loc[part.index] + stem.loc[part.index] + f"{w}.png"
            for name, w in CHANNELS.items()
        }

    constant = pd.Series("images/", rows.index)
    frame = tables.placed(root, frame, [below(constant), below(rows["dataset"] + "/")])
    return tables.finished(frame, "rxrx1", root, None, check)


def _competition(root: Path, unlabelled: bool) -> pd.DataFrame:
    paths = [root / f"metadata_{part}.csv" for part in ("train", "test")]
    there = [path for path in paths if path.is_file()]
    parts = [_as_release(tables.read(path), path, unlabelled) for path in there]
    return pd.concat(parts, ignore_index=True)


def _as_release(wells: pd.DataFrame, path: Path, unlabelled: bool) -> pd.DataFrame:
    """A table of the competition, one row a well, in the release's columns, two sites a well."""
    tables.need(wells, _COMPETITION, path)
    sirna = wells["sirna"] if "sirna" in wells else pd.Series("", wells.index)
    dataset = "train" if "sirna" in wells else "test"
    wells = wells.assign(sirna=sirna.where(sirna != "", "unknown"), dataset=dataset)
    if not unlabelled:
        wells = wells[wells["sirna"] != "unknown"]
    rows = wells.loc[wells.index.repeat(2)].reset_index(drop=True)
    rows["site"] = (rows.index % 2 + 1).astype("str")
    rows["site_id"] = rows["id_code"] + "_" + rows["site"]
    rows["cell_type"] = rows["experiment"].str.rsplit("-", n=1).str[0]
    rows["sirna_id"] = rows["sirna"].where(rows["sirna"] != "unknown", "-1")
    return rows.assign(well_type="treatment")


def _check_labels(rows: pd.DataFrame) -> None:
    """`sirna_id` says the same as `well_type`, and each siRNA has one."""
    number = pd.to_numeric(rows["sirna_id"], errors="coerce")
    says = pd.Series("treatment", rows.index).where(number < FIRST_CONTROL, "positive_control")
    says = says.where(number != UNTREATED, "negative_control")
    ids = number.groupby(rows["sirna"]).transform("nunique")
    bad = rows[number.isna() | (says != rows["well_type"]) | (ids != 1)]
    tables.refuse(
        (bad["site_id"] + ": sirna_id " + bad["sirna_id"] + ", " + bad["well_type"]).tolist(),
        "sites whose sirna_id and well_type disagree, or whose siRNA has several ids",
        f"Ids from {FIRST_CONTROL} are controls, {UNTREATED} is the untreated one.",
    )


def fold(manifest: pd.DataFrame, number: int) -> dict[str, list[str]]:
    """Batches to train, val and test in one of the six folds: see `splits.batch_folds`."""
    return splits.batch_folds(manifest["batch"], number, FOLDS)


def subset(training: pd.DataFrame, setting: str, form: str = "paper") -> pd.DataFrame:
    """The rows of a *training* part that a setting of CDCL's Table 2b keeps.

    "I": controls only; "II": treatments only; "III": half the treatments (every second id, the
    odd ones) and the controls. With `form="released"`, III is the README's strategy: all
    treatments and controls, without each treatment's first image on a plate.

    The released names are settings too: only_controls, only_treatments,
    only_treatments_half_as_many (the first image of each treatment and plate),
    only_treatments_half_as_many_with_controls, only_half_as_many_treatments_with_controls, and
    drop_treatment_duplicates, which keeps controls alone, one image of each and plate. The bank
    of k-NN, val and test keep all images in the released code.

    Source: cfredinh/CDCL@54bb98b, defaults/datasets.py, RxRx1_HUVEC.get_dataframe; read, not run.
    """
    if form not in ("paper", "released"):
        raise InputError(f"form is {form!r}; choose 'paper' or 'released'.")
    names = {"I": "only_controls", "II": "only_treatments"}
    names["III"] = (
        "only_half_as_many_treatments_with_controls"
        if form == "paper"
        else "only_treatments_half_as_many_with_controls"
    )
    number = training["sirna_id"]
    treated = number < FIRST_CONTROL
    order = training.sort_values(["plate", "well", "site"]).index
    again = training.loc[order].duplicated(["sirna_id", "plate"]).loc[training.index]
    keep = {
        "all": treated | ~treated,
        "only_controls": ~treated,
        "only_treatments": treated,
        "only_treatments_half_as_many": treated & ~again,
        "only_treatments_half_as_many_with_controls": ~treated | again,
        "only_half_as_many_treatments_with_controls": ~treated | (number % 2 == 1),
        "drop_treatment_duplicates": ~treated & ~again,
    }
    name = names.get(setting, setting)
    if name not in keep:
        raise InputError(f"setting is {setting!r}; choose of {', '.join([*names, *keep])}.")
    return training[keep[name]]

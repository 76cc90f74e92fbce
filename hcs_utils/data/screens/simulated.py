"""The simulated screen: a default whose truth is known, written as a real screen arrives."""

import json
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd

from hcs_utils.data import manifest as manifests
from hcs_utils.data.screens import compounds, tiff
from hcs_utils.data.screens.drawing import CHANNELS
from hcs_utils.data.screens.plating import (  # noqa: F401 - sizes and fields belong here too
    SIZES,
    SimulatedConfig,
    compounds_of,
    draw_plate,
    plate_fields,
)
from hcs_utils.errors import InputError
from hcs_utils.files import data_root, locked, read_json, replacing, storage_errors

PIXEL_SIZE_UM = 2.0
_TABLES = (
    "compounds.csv", "load_data.csv", "platemap.csv", "truth/compounds.parquet", "truth.parquet",
)  # fmt: skip


def home(size: str) -> Path:
    """Where the screen of that size is kept: `simulated/<size>` of the data, beside older drawings.

    A folder that an older version filled with other pictures is left as it is; the next one has
    the drawing's number in its name.
    """
    folder, config = data_root() / "simulated" / size, SIZES[size]
    found = read_json(folder / "simulated.json") or {}
    old = found.get("drawing", config.drawing) != config.drawing
    return folder.with_name(f"{size}-{config.drawing}") if old else folder


def draw(
    root: Path | str, config: SimulatedConfig, workers: int = 2, progress: bool = False
) -> Path:
    """Write the screen under ``root`` as 16-bit TIFFs, a load-data CSV, platemap and compounds.

    One plate at a time, each from its own seed: the same configuration gives the same bytes,
    and a killed run goes on where it stopped. ``truth.parquet`` holds what only a simulation
    knows: the traits of every well, nuisance and fault of every field; the folder ``truth`` has
    the masks of faults and the compounds' codes.
    """
    root = Path(root)
    with locked(root), storage_errors(root):
        _refuse_other_screen(root / "simulated.json", config)
        count = config.batches * config.plates
        left = [plate for plate in range(count) if not _plate_file(root, plate).exists()]
        if left or not all((root / name).exists() for name in _TABLES):
            _draw_plates(root, config, left, workers, progress)
            _join_tables(root, config)
    return root


def _draw_plates(root: Path, config: SimulatedConfig, plates: list, workers: int, progress: bool):
    with ProcessPoolExecutor(workers, initializer=_end_with_parent) as pool:
        jobs = [pool.submit(_draw_plate, root, config, plate) for plate in plates]
        for done, job in enumerate(jobs):
            try:
                name = job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            if progress:
                print(f"\rplates drawn: {done + 1}/{len(plates)} ({name})", end="", flush=True)
    if progress and plates:
        print()


def _end_with_parent() -> None:
    """End this process when the one that started it is killed, lest it draws on unseen."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def manifest(root: Path | str) -> pd.DataFrame:
    """The validated manifest of a screen that :func:`draw` wrote, read from its three tables."""
    root = Path(root)
    tables = [root / name for name in ("load_data.csv", "platemap.csv", "compounds.csv")]
    missing = [path.name for path in tables if not path.exists()]
    if missing:
        raise InputError(
            f"{root} is not a finished simulated screen: {', '.join(missing)} missing. "
            "Run `hcs simulate quick` (it goes on where it stopped)."
        )
    load, platemap, known = (pd.read_csv(path, keep_default_na=False) for path in tables)
    load.columns = [
        name.removeprefix("Metadata_").lower() if "Metadata_" in name else name for name in load
    ]
    table = load.merge(platemap, on=["plate", "well"], validate="many_to_one")
    table = table.merge(known, on="compound", validate="many_to_one")
    table["dose_um"] = pd.to_numeric(table["dose_um"], errors="coerce")
    dose = table["dose_um"].map(lambda value: f"@{value:g}um" if value > 0 else "")
    table["treatment"] = table["compound"] + dose
    table["site_id"] = table["plate"] + "_" + table["well"] + "_s" + table["site"].astype(str)
    for channel in CHANNELS:
        table[f"path_{channel}"] = (
            table[f"PathName_Orig{channel}"] + "/" + table[f"FileName_Orig{channel}"]
        )
    paths = [f"path_{channel}" for channel in CHANNELS]
    return manifests.validate(table[[*manifests.COLUMNS, *paths]])


def truth(root: Path | str) -> pd.DataFrame:
    """Traits, nuisance, living cells and faults by ``site_id``: the oracle of every test."""
    return pd.read_parquet(Path(root) / "truth.parquet")


def compound_truth(root: Path | str) -> pd.DataFrame:
    """What :func:`compounds.compounds` made: codes, their share from structure, and potency."""
    return pd.read_parquet(Path(root) / "truth" / "compounds.parquet")


def _refuse_other_screen(path: Path, config: SimulatedConfig) -> None:
    if path.exists():
        found = json.loads(path.read_text())
        asked = json.loads(json.dumps(asdict(config)))
        if found != asked:
            differ = sorted(k for k in asked | found if found.get(k) != asked.get(k))
            raise InputError(
                f"{path.parent} holds another simulated screen; they differ in "
                f"{', '.join(differ)}. Choose another folder, or remove that one first."
            )
        return
    with replacing(path) as part:
        part.write_text(json.dumps(asdict(config), indent=1))


def _plate_file(root: Path, index: int) -> Path:
    return root / "plates" / f"{index:04d}.parquet"


def _draw_plate(root: Path, config: SimulatedConfig, plate: int) -> str:
    fields, images, masks = draw_plate(config, plate)
    name = fields["plate"].iloc[0]
    folder = root / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    for row, site in zip(fields.itertuples(), images, strict=True):
        for channel, plane in zip(CHANNELS, site, strict=True):
            tiff.write(folder / f"{row.well}_s{row.site}_{channel}.tiff", plane, PIXEL_SIZE_UM)
    for row, mask in masks.items():
        path = root / fields["mask"][row]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(imagecodecs.png_encode(np.uint8(255) * mask))
    target = _plate_file(root, plate)
    target.parent.mkdir(exist_ok=True)
    with replacing(target) as part:
        fields.to_parquet(part)
    return name


def _join_tables(root: Path, config: SimulatedConfig) -> None:
    """The screen's tables from the finished plates."""
    count = config.batches * config.plates
    fields = pd.concat(
        [pd.read_parquet(_plate_file(root, k)) for k in range(count)], ignore_index=True
    )
    load = pd.DataFrame(
        {f"Metadata_{k.title()}": fields[k] for k in ("source", "batch", "plate", "well", "site")}
    )
    stem = fields["well"] + "_s" + fields["site"].astype(str)
    for channel in CHANNELS:
        load[f"PathName_Orig{channel}"] = "images/" + fields["plate"]
        load[f"FileName_Orig{channel}"] = stem + f"_{channel}.tiff"
    platemap = fields[["plate", "well", "compound", "dose_um"]].drop_duplicates()
    known = compounds_of(config)
    listed = known[["compound", "smiles", "moa", "target"]].assign(role="trt")
    listed.loc[listed.index[-1], "role"] = "poscon"
    listed.loc[-1] = [compounds.CONTROL, compounds.CONTROL_SMILES, "", "", "negcon"]
    (root / "truth").mkdir(exist_ok=True)
    tables = (listed.sort_index(), load, platemap, known, fields)
    for name, table in zip(_TABLES, tables, strict=True):
        with replacing(root / name) as part:
            if name.endswith(".csv"):
                table.to_csv(part, index=False)
            else:
                table.to_parquet(part)

"""The simulated screen: a default whose truth is known, written as a real screen arrives."""

import json
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from hcs_utils.data import manifest as manifests
from hcs_utils.data.screens.compounds import codebook, compound_table
from hcs_utils.data.screens.drawing import CHANNELS, TRAITS, Nuisance, draw_fields
from hcs_utils.errors import InputError
from hcs_utils.files import locked, replacing, storage_errors

PIXEL_SIZE_UM = 2.0
_TABLES = ("compounds.csv", "load_data.csv", "platemap.csv", "truth.parquet")


@dataclass(frozen=True)
class SimulatedConfig:
    """How large the screen is and how strongly its batches and fields differ."""

    treatments: int = 16  # besides the negative control
    levels: int = 2  # values a trait can take: 2 = −1, 1; 3 = −1, 0, 1
    sources: int = 2
    batches: int = 12
    plates: int = 2  # a batch
    wells: int = 2  # a treatment and plate
    control_wells: int = 8  # negative-control wells a plate
    sites: int = 5  # fields a well
    size: int = 48  # px, square fields
    phenotype_strength: float = 1.0
    batch_strength: float = 1.0  # the dial: 0 switches batch effects off
    field_strength: float = 1.0  # nuisance from field to field within a well
    seed: int = 0
    drawing: int = 1  # raised when the same numbers come to draw other pictures


SIZES = {
    "smoke": SimulatedConfig(treatments=4, batches=6, plates=1, wells=2, control_wells=4, sites=2),
    "quick": SimulatedConfig(),
    "standard": SimulatedConfig(treatments=48, levels=3, size=64, sites=4),
    "full": SimulatedConfig(
        treatments=240, levels=3, sources=4, batches=24, plates=4, wells=1, control_wells=30,
        sites=2, size=64,
    ),
}  # fmt: skip


def draw(
    root: Path | str, config: SimulatedConfig, workers: int = 2, progress: bool = False
) -> Path:
    """Write the screen under ``root`` as 16-bit TIFFs, a load-data CSV, platemap and compounds.

    One plate at a time, each from its own seed: the same configuration gives the same bytes,
    and a killed run goes on where it stopped. ``truth.parquet`` holds what only a simulation
    knows: the traits of every well and the nuisance of every field.
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
    load, platemap, compounds = (pd.read_csv(path, keep_default_na=False) for path in tables)
    load.columns = [
        name.removeprefix("Metadata_").lower() if "Metadata_" in name else name for name in load
    ]
    table = load.merge(platemap, on=["plate", "well"], validate="many_to_one")
    table = table.merge(compounds, on="compound", validate="many_to_one")
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
    """Traits, nuisance and cell counts by ``site_id``: the oracle of every test."""
    return pd.read_parquet(Path(root) / "truth.parquet")


def _refuse_other_screen(path: Path, config: SimulatedConfig) -> None:
    if path.exists():
        found = json.loads(path.read_text())
        if found != asdict(config):
            differ = sorted(k for k, v in asdict(config).items() if found.get(k) != v)
            raise InputError(
                f"{path.parent} holds another simulated screen; they differ in "
                f"{', '.join(differ)}. Choose another folder, or remove that one first."
            )
        return
    with replacing(path) as part:
        part.write_text(json.dumps(asdict(config), indent=1))


def _plate_name(config: SimulatedConfig, index: int) -> tuple[str, str, str]:
    batch = index // config.plates
    source = batch % config.sources
    return f"S{source + 1}", f"B{batch + 1:02d}", f"B{batch + 1:02d}P{index % config.plates + 1}"


def _plate_file(root: Path, index: int) -> Path:
    return root / "plates" / f"{index:04d}.parquet"


def _layout(config: SimulatedConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Wells of one plate in random order; treatment −1 is the negative control."""
    treatment = np.repeat(np.arange(config.treatments), config.wells)
    treatment = np.concatenate([treatment, np.full(config.control_wells, -1)])
    rows, columns = next(
        ((r, c) for r, c in ((8, 12), (16, 24), (32, 48)) if r * c >= len(treatment)), (0, 0)
    )
    if not rows:
        raise InputError(f"{len(treatment)} wells do not fit on a 1536-well plate")
    place = np.sort(rng.permutation(rows * columns)[: len(treatment)])
    row, column = np.divmod(place, columns)
    letters = [chr(65 + r) if r < 26 else "A" + chr(65 + r - 26) for r in row]
    edge = np.minimum.reduce([row, column, rows - 1 - row, columns - 1 - column])
    return pd.DataFrame(
        {
            "well": [f"{letter}{c + 1:02d}" for letter, c in zip(letters, column, strict=True)],
            "treatment": rng.permutation(treatment),
            "edge": np.exp(-edge / 1.5),  # 1 on the rim, falling inwards
            "across": 2 * column / (columns - 1) - 1,
        }
    )


def _nuisance(config, batch: int, plate: int, wells: pd.DataFrame, rng) -> Nuisance:
    """Batch, plate, well-position and field effects, one row a field."""
    n, c, s, f = len(wells), len(CHANNELS), config.batch_strength, config.field_strength
    of = np.random.default_rng([config.seed, 2, batch])  # shared by the plates of a batch
    own = np.random.default_rng([config.seed, 3, plate])
    gain = np.exp(s * (0.35 * of.standard_normal(c) + 0.08 * own.standard_normal(c)))
    talk = np.eye(c) + s * 0.22 * of.random((c, c)) * (1 - np.eye(c))
    light = s * 0.16 * of.standard_normal(5)
    density = np.exp(s * 0.22 * of.standard_normal()) * (1 - 0.25 * s * wells["edge"].to_numpy())
    drift = 1 + 0.12 * s * own.standard_normal() * wells["across"].to_numpy()
    area = (config.size / 48) ** 2
    defocus = 0.35 + s * 0.45 * of.random() + f * 0.6 * rng.random(n) ** 2
    return Nuisance(
        density=9.0 * area * density * np.exp(f * 0.35 * rng.standard_normal(n)),
        cell_size=np.exp(f * 0.14 * rng.standard_normal(n) + s * 0.05 * of.standard_normal()),
        gain=40_000 * gain * drift[:, None] * np.exp(f * 0.28 * rng.standard_normal((n, c))),
        background=60
        * np.exp(s * 0.5 * of.standard_normal(c) + f * 0.4 * rng.standard_normal((n, c))),
        defocus_px=defocus,
        light=light + f * 0.2 * rng.standard_normal((n, 5)),
        crosstalk=np.broadcast_to(talk, (n, c, c)),
    )


def plate_fields(config: SimulatedConfig, plate: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The truth of one plate, one row a field, and its images [n c y x] uint16."""
    rng = np.random.default_rng([config.seed, 4, plate])
    source, batch, name = _plate_name(config, plate)
    wells = _layout(config, rng)
    codes = np.vstack(
        [codebook(config.treatments, config.levels, config.seed), np.zeros(len(TRAITS))]
    )
    traits = config.phenotype_strength * codes[wells["treatment"]]
    traits = traits + 0.1 * rng.standard_normal(traits.shape)  # well-to-well biology
    fields = wells.loc[wells.index.repeat(config.sites)].reset_index(drop=True)
    nuisance = _nuisance(config, plate // config.plates, plate, fields, rng)
    images, cells = draw_fields(np.repeat(traits, config.sites, 0), nuisance, config.size, rng)
    fields["site"] = np.tile(np.arange(1, config.sites + 1), len(wells))
    fields = fields.assign(source=source, batch=batch, plate=name, cells=cells)
    fields["compound"] = ["DMSO" if k < 0 else f"SIM-{k:04d}" for k in fields["treatment"]]
    fields["site_id"] = name + "_" + fields["well"] + "_s" + fields["site"].astype(str)
    fields[[f"trait_{t}" for t in TRAITS]] = np.repeat(traits, config.sites, 0)
    for key in ("density", "cell_size", "defocus_px"):
        fields[key] = getattr(nuisance, key)
    return fields.drop(columns=["treatment", "edge", "across"]), images


def _draw_plate(root: Path, config: SimulatedConfig, plate: int) -> str:
    fields, images = plate_fields(config, plate)
    name = fields["plate"].iloc[0]
    folder = root / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    for row, site in zip(fields.itertuples(), images, strict=True):
        for channel, plane in zip(CHANNELS, site, strict=True):
            tifffile.imwrite(folder / f"{row.well}_s{row.site}_{channel}.tiff", plane)
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
    platemap = fields[["plate", "well", "compound"]].drop_duplicates()
    compounds = compound_table(config.treatments, config.levels, config.seed)
    for name, table in zip(_TABLES, (compounds, load, platemap, fields), strict=True):
        with replacing(root / name) as part:
            if name.endswith(".csv"):
                table.to_csv(part, index=False)
            else:
                table.to_parquet(part)

"""Crops to judge the quality of a screen by: composites on one scale a plate, faults and all."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
from pyarrow import parquet

from hcs_utils import files
from hcs_utils.data import cells, store
from hcs_utils.data.cells import CropReport
from hcs_utils.data.images import map_threads, percentiles, read_site, rescale, to_uint8
from hcs_utils.data.manifest import channels, digest, nearest, validate
from hcs_utils.data.nuclei import find_nuclei, sizes
from hcs_utils.data.sampling import lots
from hcs_utils.data.screens import faults, simulated
from hcs_utils.errors import InputError

COLOURS = ("red", "green", "blue")  # channels of the store, whatever was stained
LEVELS = (1.0, 99.5)  # percentiles of a field; the plate's are the medians over its fields
HEADROOM = 1.5  # white lies this much higher: a field brighter than most is no saturated one
_SAMPLE = 48  # fields of a plate that set its grey levels
_REPORT = "report.json"  # inside the store
_ROWS = 1 << 16  # of a table, read at a time


def cut(
    table: pd.DataFrame,
    root: str | Path,
    store_path: str | Path,
    *,
    composite: Sequence[str] = ("AGP", "Mito", "DNA"),
    size: int = 48,
    nucleus_channel: str = "DNA",
    max_per_field: int = 4,
    border: str = "drop",
    without_nuclei: str = "grid",
    scale: str = "plate",
    seed: int = 0,
    diameter_px: float | int = 0,
    pixel_size_um: float | int | None = None,
    progress: bool = True,
) -> CropReport:
    """Cut every field of a manifest into crops of three stains, shown as red, green and blue.

    As `cells.crop_screen`, from the files under ``root``, with two rules of its own. A field that
    gives no crop around a nucleus, for there is none or all are at the border, gives squares on a
    grid (``without_nuclei="grid"``, column `found`), for an empty field has to be found too; or
    none ("leave_out"). Grey levels are those of the plate (``scale="plate"``): the medians, over
    a sample of its fields, of their 1st and 99.5th percentiles, white ``HEADROOM`` higher; each
    plane by its own percentiles ("plane") makes empty, dim and bright fields alike.

    A store that is there and was cut from the same table in the same way is left as it is.
    Side, channels and number of crops are those of ``size`` [px], ``composite`` and
    ``max_per_field`` (0: all). Of the paper: 128 px around each nucleus; which channels, on what
    scale and what happens at the border is not given (section 3.1).
    """
    store_path, frame = Path(store_path), validate(table)
    _check(frame, tuple(composite), nucleus_channel, without_nuclei, scale)
    pixel_size_um = pixel_size_um or _pixel_size(table, Path(root), diameter_px)
    sizes(diameter_px, pixel_size_um)
    parameters = {
        "composite": list(composite), "size": size, "channel": nucleus_channel, "border": border,
        "max_per_field": max_per_field, "without_nuclei": without_nuclei, "scale": scale,
        "seed": seed, "diameter_px": diameter_px, "fields_sha256": digest(frame),
    }  # fmt: skip
    if (done := store.read_attributes(store_path)) and done["parameters"] == parameters:
        found = files.read_json(store_path / _REPORT)
        return CropReport(**found | {"failed": [tuple(pair) for pair in found["failed"]]})
    store.refuse_foreign(store_path)
    levels = _levels(frame, Path(root), composite, seed) if scale == "plate" else {}
    job = _Job(Path(root), frame, COLOURS, pixel_size_um, parameters, levels)
    with files.replacing(store_path) as part:
        report = cells.write(part, job, CropReport(), progress)
        (part / _REPORT).write_text(json.dumps(asdict(report)))
    cells.list_failed(store_path, report)
    return report


@dataclass(frozen=True)
class _Job(cells.Job):
    """How the crops of a field are cut for quality control."""

    def cut(self, row: int) -> tuple[np.ndarray, pd.DataFrame, CropReport]:
        """The crops of one field, uint8, their rows, and what was counted on the way."""
        site, asked = self.frame.iloc[row], self.parameters
        try:
            names = list(dict.fromkeys([*asked["composite"], asked["channel"]]))
            image = read_site(self.source, site, names)
            nuclei = find_nuclei(
                image[names.index(asked["channel"])], str(site["site_id"]),
                diameter_px=asked["diameter_px"], pixel_size_um=self.pixel_size_um,
            )  # fmt: skip
            image = self.scaled(image[: len(COLOURS)], str(site["plate"]))
            crops, kept = cells.crop(image, nuclei, asked["size"], asked["border"])
        except InputError as error:
            failed = [(str(site["site_id"]), str(error))]
            return np.empty(0), pd.DataFrame(), CropReport(failed=failed)
        beyond = len(nuclei) - len(kept) + int(kept["beyond"].sum())
        found = "nucleus"
        if kept.empty and asked["without_nuclei"] == "grid":
            found = "grid"
            tiles = _grid(image.shape[1:], asked["size"], str(site["site_id"]))
            crops, kept = cells.crop(image, tiles, asked["size"], "drop")
        chosen = cells.choose(kept, asked["max_per_field"], asked["seed"])
        report = CropReport(
            1, int(nuclei.empty), len(nuclei), len(chosen), beyond, len(kept) - len(chosen),
            len(chosen) * (found == "grid"),
        )  # fmt: skip
        kept = kept.iloc[chosen].assign(found=found, crop_px=asked["size"], row=row)
        return crops[chosen], kept, report

    def scaled(self, image: np.ndarray, plate: str) -> np.ndarray:
        """Composite [3 y x] in 8 bit."""
        if self.parameters["scale"] == "plane":
            return to_uint8(image, *LEVELS)
        low, high = (np.array(level)[:, None, None] for level in self.levels[plate])
        return rescale(image, low, high)


def _grid(shape: Sequence[int], size: int, site_id: str) -> pd.DataFrame:
    """Squares side by side in the middle of a field, in the form of a table of nuclei."""
    starts = [(n - n // size * size) // 2 + size * np.arange(n // size) for n in shape]
    y, x = (grid.ravel() + size // 2 for grid in np.meshgrid(*starts, indexing="ij"))
    of = {"y": y.astype(float), "x": x.astype(float), "area_px": 0, "touches_border": False}
    return pd.DataFrame({"site_id": site_id, "nucleus": np.arange(len(y)), **of})


def _levels(frame: pd.DataFrame, root: Path, composite: Sequence[str], seed: int) -> dict:
    """Black and white [2 c] of each plate, from percentiles of single fields.

    A median over fields holds when a third of them is empty or saturated; percentiles of the
    pooled pixels would be those of the brightest faults.
    """
    lot = pd.Series(lots(seed, frame["site_id"]))

    def one(row: int) -> np.ndarray | None:
        try:
            return np.array(percentiles(read_site(root, frame.iloc[row], composite), *LEVELS))
        except InputError:
            return None  # is told when it is cut

    levels = {}
    for plate, of in lot.groupby(frame["plate"].to_numpy()):
        rows = of.sort_values().index[:_SAMPLE].tolist()
        found = [level for level in map_threads(one, rows, 8) if level is not None]
        low, high = np.median(found, axis=0) if found else np.zeros((2, len(COLOURS)))
        levels[str(plate)] = [low.tolist(), (low + HEADROOM * (high - low)).tolist()]
    return levels


def _check(frame, composite, nucleus_channel, without_nuclei, scale) -> None:
    names = channels(frame)
    if len(composite) != len(COLOURS):
        raise InputError(f"composite names {len(composite)} channels; give three: {COLOURS}.")
    for name in (*composite, nucleus_channel):
        if name not in names:
            raise InputError(
                f"There is no channel {name!r}{nearest(name, names)}; the screen has "
                f"{', '.join(names)}."
            )
    for name, value, known in (
        ("without_nuclei", without_nuclei, ("grid", "leave_out")),
        ("scale", scale, ("plate", "plane")),
    ):
        if value not in known:
            raise InputError(f"{name} is {value!r}; choose {' or '.join(map(repr, known))}.")


def _pixel_size(table: pd.DataFrame, root: Path, diameter_px: float | int) -> float | None:
    """Of the files, where it is known: of a simulated screen, or from a screen's description."""
    if (root / "simulated.json").exists() and not diameter_px:
        return simulated.PIXEL_SIZE_UM
    return table.attrs.get("pixel_size_um")


def read(store_path: str | Path) -> pd.DataFrame:
    """The crops of a store that `cut` wrote, a row each, as `cells.read_crops`.

    `site_id` ends in `__n` and the number of a nucleus, or `__g` and that of a square of the grid;
    `found` says which, `parent` is the field's, `top`, `left`, `crop_px` where it lies there.
    """
    return cells.read_crops(store_path)


def truth(crops: pd.DataFrame, root: str | Path, least: float | int = 0.02) -> pd.DataFrame:
    """What is known of crops of a simulated screen: `abnormal fault severity covered`, a row each.

    A crop is abnormal when its field has a fault of the whole field, or when a local one covers
    ``least`` of the crop or more; `covered` is that share, 1 for faults of the whole field. `fault`
    is "" and `severity` 0 where the crop is normal, though its field may have a fault elsewhere.
    Rows have the index of ``crops``, the table that :func:`read` gives. Masks count all five
    channels: debris in a stain that the composite leaves out is abnormal, and cannot be seen.
    """
    root = Path(root)
    if not (root / "truth.parquet").exists():
        raise InputError(
            f"{root} has no truth.parquet: only simulated screens know their faults. Label crops "
            "of yours (chapter 14), or give a table of labels."
        )
    fields = simulated.truth(root).set_index("site_id")
    unknown = crops.loc[~crops["parent"].isin(fields.index), "parent"].unique()
    if len(unknown):
        raise InputError(
            f"{len(unknown)} fields of the crops are not in {root}: {', '.join(unknown[:20])}. "
            "Cut the crops from that screen."
        )
    of = fields.loc[crops["parent"], ["fault", "severity", "mask"]].set_index(crops.index)
    covered = of["fault"].ne("").to_numpy(float, copy=True)
    local = np.flatnonzero(of["fault"].isin(faults.LOCAL))
    place = crops[["top", "left", "crop_px"]].to_numpy()
    for path, rows in pd.Series(local).groupby(of["mask"].to_numpy()[local]):
        mask = imagecodecs.png_decode((root / str(path)).read_bytes()) > 0
        for row in rows:
            top, left, side = place[row].tolist()
            part = mask[max(top, 0) : top + side, max(left, 0) : left + side]
            covered[row] = part.sum() / side**2
    is_local = of["fault"].isin(faults.LOCAL).to_numpy()
    abnormal = np.where(is_local, covered >= least, covered > 0)
    return pd.DataFrame(
        {
            "abnormal": abnormal,
            "fault": of["fault"].where(abnormal, ""),
            "severity": of["severity"].where(abnormal, 0.0),
            "covered": covered,
        },
        index=crops.index,
    )


def plan(
    table: pd.DataFrame | str | Path,
    crops_per_row: float | int = 1,
    *,
    crop_px: int = 128,
    most: int = 1 << 14,
) -> pd.DataFrame:
    """Jobs that cut or judge a screen's crops plate by plate, in memory that crops do not fill.

    ``table``: fields with the crops to expect of each, or crops (one a row), in memory or as a
    Parquet file, of which only `plate` is read, some rows at a time. Rows of a plate stand
    together, as in any manifest; where they do not, each run of them is planned by itself.

    Returns a row a job: `plate`, `start` and `rows` (of the table, see :func:`rows_of`), `crops`
    expected, at most ``most`` and nearly equal within a plate, and `mib` that these take as pixels.
    """
    if crops_per_row <= 0 or most < 1 or crop_px < 1:
        raise InputError(
            f"crops_per_row is {crops_per_row}, most {most}, crop_px {crop_px}; each is above 0."
        )
    runs: list[list] = []  # plate, start, rows
    start = 0
    for plates in _plates(table):
        cuts = np.flatnonzero(plates[1:] != plates[:-1]) + 1
        for at, to in zip([0, *cuts], [*cuts, len(plates)], strict=True):
            if runs and runs[-1][0] == plates[at]:
                runs[-1][2] += int(to - at)
            else:
                runs.append([str(plates[at]), start + int(at), int(to - at)])
        start += len(plates)
    jobs = []
    for plate, first, rows in runs:
        count = min(rows, max(1, math.ceil(rows * crops_per_row / most)))
        edges = np.linspace(0, rows, count + 1).astype(int)
        jobs += [(plate, first + int(a), int(b - a)) for a, b in pairwise(edges)]
    found = pd.DataFrame(jobs, columns=["plate", "start", "rows"])
    crops = np.rint(found["rows"] * crops_per_row).astype(int)
    return found.assign(crops=crops, mib=crops * (len(COLOURS) * crop_px**2 / 2**20))


def _plates(table: pd.DataFrame | str | Path) -> Iterator[np.ndarray]:
    """The column `plate`, some rows at a time."""
    if isinstance(table, pd.DataFrame):
        if len(table):
            yield table["plate"].to_numpy(object)
        return
    for batch in parquet.ParquetFile(table).iter_batches(_ROWS, columns=["plate"]):
        yield batch.column(0).to_pandas().to_numpy(object)


def rows_of(
    path: str | Path, start: int, rows: int, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Some rows of a Parquet table, by the parts of the file that hold them and no others."""
    file = parquet.ParquetFile(path)
    sizes_of = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
    edges = np.concatenate([[0], np.cumsum(sizes_of)])
    if start < 0 or rows < 1 or start + rows > edges[-1]:
        raise InputError(f"{path} has rows 0 to {edges[-1] - 1}; asked for {rows} from {start}.")
    first = int(np.searchsorted(edges, start, "right")) - 1
    last = int(np.searchsorted(edges, start + rows, "left"))
    part = file.read_row_groups(range(first, last), columns=None if columns is None else [*columns])
    return part.slice(start - int(edges[first]), rows).to_pandas()

"""Single cells: square crops around nuclei, with a stated rule for those at the border."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from hcs_utils import files
from hcs_utils.data import store
from hcs_utils.data.images import map_threads, read_site, to_uint8
from hcs_utils.data.manifest import PATH, channels, digest, nearest, read, validate
from hcs_utils.data.nuclei import find_nuclei, sizes
from hcs_utils.data.sampling import lots
from hcs_utils.errors import InputError

BORDERS = ("drop", "shift", "zeros", "reflect")
TABLE = "crops.parquet"  # inside the store, so that both are there or neither
_AHEAD = 4  # fields cut while others are written


def crop(
    image: np.ndarray, nuclei: pd.DataFrame, size: int = 128, border: str = "drop"
) -> tuple[np.ndarray, pd.DataFrame]:
    """Crops [n c size size] of an image [c y x] around nuclei, and their rows of the table.

    The rows gain the crop's corner `top`, `left` (pixels of the image; the nucleus is at row and
    column `size // 2`) and `beyond`: whether that crop would leave the image. The border rule says
    what becomes of those: "drop" leaves them out; "shift" moves them inside, the nucleus off the
    middle; "zeros" and "reflect" fill what lies outside.
    """
    if border not in BORDERS:
        raise InputError(f"border is {border!r}; choose one of {', '.join(map(repr, BORDERS))}.")
    if size < 1 or (size > min(image.shape[1:]) and border in ("drop", "shift")):
        raise InputError(
            f"A crop of {size}×{size} does not fit into an image of {image.shape[1]}×"
            f"{image.shape[2]}. Choose a smaller size, or border 'zeros' or 'reflect'."
        )
    room = np.array(image.shape[1:]) - size
    corner = np.floor(nuclei[["y", "x"]].to_numpy(float) + 0.5).astype(np.int64) - size // 2
    beyond = ((corner < 0) | (corner > room)).any(1)
    margin = 0
    if border == "drop":
        nuclei, corner, beyond = nuclei[~beyond], corner[~beyond], beyond[~beyond]
    elif border == "shift":
        corner = np.clip(corner, 0, room)
    elif beyond.any():
        margin = size
        mode = "constant" if border == "zeros" else "reflect"
        image = np.pad(image, ((0, 0), (size, size), (size, size)), mode=mode)
    out = np.empty((len(corner), len(image), size, size), image.dtype)
    for k, (top, left) in enumerate((corner + margin).tolist()):
        out[k] = image[:, top : top + size, left : left + size]
    return out, nuclei.assign(top=corner[:, 0], left=corner[:, 1], beyond=beyond)


@dataclass
class CropReport:
    """What `crop_screen` did: counts, and the sites that failed, each with the reason."""

    fields: int = 0
    empty: int = 0  # fields without a nucleus
    nuclei: int = 0
    crops: int = 0
    beyond: int = 0  # would leave the image: dropped, or among the crops, moved or filled
    not_chosen: int = 0  # of those that fit the border rule, over `max_per_field`
    grid: int = 0  # of the crops, those of fields that gave none around a nucleus: see `qc_crops`
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """All that is needed to cut a field; nothing in it changes during the pass."""

    source: Path | store.Store
    frame: pd.DataFrame
    channels: tuple[str, ...]
    pixel_size_um: float | int | None
    parameters: dict
    levels: dict = field(default_factory=dict)  # grey levels by plate; none: of each plane

    def image(self, row: int) -> np.ndarray:
        site = self.frame.iloc[row]
        if isinstance(self.source, store.Store):
            return self.source.read(self.source.rows([site["site_id"]]))[0]
        return read_site(self.source, site, self.channels)

    def cut(self, row: int) -> tuple[np.ndarray, pd.DataFrame, CropReport]:
        """The crops of one field, uint8, their rows, and what was counted on the way."""
        site, asked = str(self.frame["site_id"].iloc[row]), self.parameters
        try:
            image = self.image(row)
            plane = image[self.channels.index(asked["channel"])]
            nuclei = find_nuclei(
                plane, site, diameter_px=asked["diameter_px"], pixel_size_um=self.pixel_size_um
            )
            image = to_uint8(image) if image.dtype != np.uint8 else image
            crops, kept = crop(image, nuclei, asked["size"], asked["border"])
        except InputError as error:
            return np.empty(0), pd.DataFrame(), CropReport(failed=[(site, str(error))])
        dropped, fitting = len(nuclei) - len(kept), len(kept)
        beyond = dropped + int(kept["beyond"].sum())
        chosen = choose(kept, asked["max_per_field"], asked["seed"])
        crops, kept = crops[chosen], kept.iloc[chosen]
        report = CropReport(
            1, int(nuclei.empty), len(nuclei), len(kept), beyond, fitting - len(kept)
        )
        return crops, kept.assign(row=row), report


def choose(crops: pd.DataFrame, most: int, seed: int) -> np.ndarray:
    """Rows of at most ``most`` crops of one field, by lot; 0: all of them."""
    if not 0 < most < len(crops):
        return np.arange(len(crops))
    return np.sort(np.argsort(lots(seed, crops["site_id"], crops["nucleus"]))[:most])


def crop_screen(
    manifest: pd.DataFrame,
    source: str | Path | store.Store,
    store_path: str | Path,
    *,
    size: int = 128,
    channel: str = "DNA",
    border: str = "drop",
    max_per_field: int = 0,
    seed: int = 0,
    diameter_px: float | int = 0,
    pixel_size_um: float | int | None = None,
    progress: bool = True,
) -> CropReport:
    """Cut a crop around every nucleus of every field into a store, whole or not at all.

    `source` is a store of the fields, or the folder of their files: 16-bit fields are scaled to
    8 bit by the 1st and 99th percentiles of each of their planes. `border`: see `crop`. At most
    `max_per_field` nuclei stay of a field, drawn by lot from the seed and its `site_id`; 0: all.
    `diameter_px` and `pixel_size_um` (of `source`; a store knows its own): see `find_nuclei`.

    The table of crops lies in the store: see `read_crops`. A field that cannot be read or cut is
    left out and listed, in the report and in `<store_path>.failed.csv`.

    Raises `InputError` when there is no crop to write.
    """
    store_path, frame = Path(store_path), validate(manifest)
    absent: list[tuple[str, str]] = []
    if isinstance(source, store.Store):
        names, pixel_size_um = source.channels, pixel_size_um or source.pixel_size_um
        gone = ~frame["site_id"].isin(source.site_ids)
        absent = [(site, f"is not in {source.path}") for site in frame["site_id"][gone]]
        frame = frame[~gone].reset_index(drop=True)
    else:
        names, source = channels(frame), Path(source)
    if channel not in names:
        raise InputError(f"There is no channel {channel!r}{nearest(channel, names)}.")
    sizes(diameter_px, pixel_size_um)
    parameters = {
        "size": size, "channel": channel, "border": border, "max_per_field": max_per_field,
        "seed": seed, "diameter_px": diameter_px,
    }  # fmt: skip
    store.refuse_foreign(store_path)
    job = Job(source, frame, names, pixel_size_um, parameters)
    with files.replacing(store_path) as part:
        report = write(part, job, CropReport(failed=absent), progress)
    list_failed(store_path, report)
    return report


def list_failed(store_path: Path, report: CropReport) -> None:
    """Write `<store_path>.failed.csv`, or remove it when nothing failed."""
    listing = store_path.with_name(store_path.name + ".failed.csv")
    if report.failed:
        with files.replacing(listing) as temporary:
            table = pd.DataFrame(report.failed, columns=["site_id", "reason"])
            table.to_csv(temporary, index=False)
    else:
        files.remove(listing)


def write(part: Path, job: Job, report: CropReport, progress: bool) -> CropReport:
    """Cut field after field into a store at `part`; hold no more than a shard and a few fields."""
    size = job.parameters["size"]
    shard = store.create(part, 1, (len(job.channels), size, size)).shards[0]
    waiting = np.empty((0, len(job.channels), size, size), np.uint8)
    tables, written = [], 0

    cut = map_threads(job.cut, range(len(job.frame)), _AHEAD)
    disable = None if progress else True  # None: shown on a terminal only
    for crops, kept, counted in tqdm(
        cut, "Cutting", total=len(job.frame), unit="field", leave=False, disable=disable
    ):
        for name in ("fields", "empty", "nuclei", "crops", "beyond", "not_chosen", "grid"):
            setattr(report, name, getattr(report, name) + getattr(counted, name))
        report.failed += counted.failed
        if counted.crops:
            tables.append(kept)
            waiting = np.concatenate([waiting, crops])
            while len(waiting) >= shard:
                written, waiting = _flush(part, written, waiting, shard)
    if not tables:
        listed = "".join(f"\n    {site}: {why}" for site, why in report.failed[:20])
        raise InputError(
            f"No crop can be cut from {len(job.frame) + len(report.failed)} fields: "
            f"{report.nuclei} nuclei found, {report.beyond} of them at the border.{listed}"
        )
    _flush(part, written, waiting, shard)
    table = _table(job, pd.concat(tables, ignore_index=True))
    table.to_parquet(part / TABLE, index=False)
    store.finish(
        part, table["site_id"].tolist(), job.channels, pixel_size_um=job.pixel_size_um,
        manifest_sha256=digest(table), parameters=job.parameters, levels=job.levels,
        failed=report.failed,
    )  # fmt: skip
    return report


def _flush(part: Path, written: int, waiting: np.ndarray, shard: int) -> tuple[int, np.ndarray]:
    """Write the next shard; how many crops are written, and those that still wait."""
    block, waiting = waiting[:shard], waiting[shard:]
    if len(block):
        store.write_shard(store.open_started(part, written + len(block)), written, block)
    return written + len(block), waiting


def _table(job: Job, crops: pd.DataFrame) -> pd.DataFrame:
    """The manifest of the crops: the row of its field, its own `site_id`, and where it lies."""
    field_rows = job.frame.iloc[crops["row"]].reset_index(drop=True)
    number = crops["nucleus"].astype(str).str.zfill(4)
    kind = crops["found"].str[0] if "found" in crops else "n"  # of nucleus or grid
    own = {"site_id": crops["site_id"] + "__" + kind + number, "parent": crops["site_id"]}
    places = {PATH + name: [f"images#{k}" for k in range(len(crops))] for name in job.channels}
    others = [name for name in field_rows if str(name).startswith(PATH) and name not in places]
    rest = crops.drop(columns=["site_id", "row"])
    return validate(
        pd.concat([field_rows.drop(columns=others).assign(**own, **places), rest], axis=1)
    )


def read_crops(path: str | Path) -> pd.DataFrame:
    """The table of a store that `crop_screen` wrote: a manifest with a row a crop.

    Beside the columns of its field: `parent` (the field's `site_id`), `nucleus`, `y`, `x` (centroid
    in the field, px), `area_px`, `touches_border`, `top`, `left`, `beyond` (see `crop`). A crop's
    path is `images#k`: row k of the store.
    """
    return read(Path(path) / TABLE)

"""From a manifest and image files to a store: one pass, resumable, byte for byte the same."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from hcs_utils import files
from hcs_utils.data import store
from hcs_utils.data.images import map_threads
from hcs_utils.data.manifest import PATH, channels, digest, validate
from hcs_utils.data.sites import Sites, attempt, moments
from hcs_utils.errors import InputError

_AHEAD_BYTES = 64 << 20  # images decoded while others are written


@dataclass(frozen=True)
class Report:
    """What one call of `preprocess` did, in sites; `failed` pairs a site with the reason."""

    done: int
    skipped: int  # already there, from an earlier call
    failed: list[tuple[str, str]]


def preprocess(
    manifest: pd.DataFrame,
    root: str | Path,
    store_path: str | Path,
    *,
    size: int | None = None,
    scale: str = "screen",
    low: float | int = 1,
    high: float | int = 99,
    pixel_size_um: float | int | None = None,
    progress: bool = True,
) -> Report:
    """Read every site once, cut, resize, scale to uint8 and write the store.

    `size` (pixels): the central square, each pixel the mean of its area; None keeps the images.
    `scale`: the `low` and `high` percentiles, which become 0 and 255, are those of each channel
    over a sample of the "screen" (batch effects stay visible), of the "plate", or of the "image".
    `pixel_size_um` is that of the files; the store records its own, after resizing.

    Work goes on in `<store_path>.part`, so the same command finishes what was interrupted. A site
    that cannot be read is left out and listed, in the report and in `<store_path>.failed.csv`.
    A finished store of the same manifest and parameters is left as it is, unless a failed site
    can be read by now.

    Raises `InputError` when nothing can be read, or the store cannot be written.
    """
    parameters = _parameters(size, scale, low, high, pixel_size_um)
    frame = validate(manifest).sort_values(["plate", "well", "site", "site_id"])
    store_path = Path(store_path)
    if not Path(root).is_dir():
        raise InputError(f"There is no folder {root} to read images from. Mend the screen's root.")
    store.refuse_foreign(store_path)
    job = sites_of(
        frame, root, size=parameters["size"] or 0, low=parameters["low"], high=parameters["high"]
    )
    groups = frame["plate"].tolist() if scale == "plate" else ["all"] * len(frame)
    asked = {"manifest_sha256": digest(frame), "parameters": parameters}
    part = store_path.with_name(store_path.name + ".part")
    with files.storage_errors(store_path), files.locked(part):
        try:
            if (report := _finished(store_path, job, asked)) is None:
                plan = _plan(part, job, groups, asked)
                report = _fill(part, job, groups, plan, progress)
                _finish(part, store_path, job, plan, report)
            files.remove(part)
        finally:
            if not (part / "plan.json").exists():  # nothing there to go on from
                files.remove(part)
    return report


def sites_of(frame: pd.DataFrame, root: str | Path, **how) -> Sites:
    """The sites of a manifest, row by row; `how` as in `Sites`."""
    names = channels(frame)
    paths = list(zip(*(frame[PATH + name].tolist() for name in names), strict=True))
    return Sites(Path(root), frame["site_id"].tolist(), paths, names, **how)


def ahead(shape: Sequence[int]) -> int:
    """How many images of this shape are decoded while others are written."""
    return max(8, min(256, _AHEAD_BYTES // int(np.prod(shape))))


def _parameters(size: int | None, scale: str, low, high, pixel_size_um) -> dict:
    if scale not in ("screen", "plate", "image"):
        raise InputError(f"scale is {scale!r}; choose 'screen', 'plate' or 'image'.")
    if not 0 <= low < high <= 100:
        raise InputError(f"Percentiles must satisfy 0 ≤ low < high ≤ 100, not {low} and {high}.")
    if size is not None and (size != int(size) or size < 1):
        raise InputError(f"size is {size!r}; give a whole number of pixels, or None to keep them.")
    size = None if size is None else int(size)
    pixel = None if pixel_size_um is None else float(pixel_size_um)
    levels = {"scale": scale, "low": float(low), "high": float(high)}
    return {"size": size, **levels, "pixel_size_um": pixel}


def _finished(path: Path, job: Sites, asked: dict) -> Report | None:
    """The report of a store that needs no work: as asked, and its failed sites still fail."""
    there = store.read_attributes(path)
    if there is None or {key: there[key] for key in asked} != asked:
        return None
    failed = [(site, why) for site, why in there["failed"]]
    row = {site: k for k, site in enumerate(job.site_ids)} if failed else {}
    shape = store.open_store(path).shape[1:]
    images = (attempt(job.image, row[site]) for site, _ in failed)
    if any(isinstance(image, np.ndarray) and image.shape == shape for image in images):
        return None
    return Report(0, len(there["site_ids"]), failed)


def _plan(part: Path, job: Sites, groups: list[str], asked: dict) -> dict:
    """What stays fixed over the pass: image shape and grey levels. Read back when resuming."""
    plan = files.read_json(part / "plan.json")
    if plan is not None and plan["asked"] == asked:
        return plan
    for old in part.iterdir():  # made with other parameters, or killed before it had a plan
        files.remove(old)
    cut = job.shape(job.cut)
    size, pixel = asked["parameters"]["size"], asked["parameters"]["pixel_size_um"]
    plan = {
        "asked": asked,
        "shape": [len(job.channels), *((size, size) if size else cut[1:])],
        "pixel_size_um": pixel * cut[2] / size if size and pixel else pixel,
        "levels": _levels(job, groups) if asked["parameters"]["scale"] != "image" else {},
    }
    store.create(part / "store", len(job.site_ids), tuple(plan["shape"]))
    files.write_json(part / "plan.json", plan)
    return plan


def _levels(job: Sites, groups: list[str]) -> dict[str, list[list[float]]]:
    """For each group [low, high], each with one grey level a channel, from a seeded sample."""
    rows_of = pd.Series(range(len(groups))).groupby(groups).indices
    found = {group: job.levels(rows) for group, rows in rows_of.items()}
    return {group: levels for group, levels in found.items() if levels is not None}


def _fill(part: Path, job: Sites, groups: list[str], plan: dict, progress: bool) -> Report:
    """Write shard after shard; a shard counts once `progress.json` says so."""
    images = store.open_started(part / "store", len(job.site_ids))
    state = files.read_json(part / "progress.json") or {"rows": 0, "written": 0, "failed": []}
    failed = [tuple(pair) for pair in state["failed"]]
    before = written = state["written"]
    total = len(job.site_ids)
    rows = range(state["rows"], total)
    scale, levels = plan["asked"]["parameters"]["scale"], plan["levels"]
    one = partial(job.scaled, shape=plan["shape"], scale=scale)
    scaled = partial(attempt, lambda row: one(row, levels=levels.get(groups[row])))
    block: list[np.ndarray] = []
    images_of = map_threads(scaled, rows, ahead(plan["shape"]))
    for row, image in zip(_tracked(rows, progress), images_of, strict=True):
        if isinstance(image, str):
            failed.append((job.site_ids[row], image))
        else:
            block.append(image)
        if block and (len(block) == images.shards[0] or row == total - 1):
            store.write_shard(images, written, np.stack(block))
            written, block = written + len(block), []
            state = {"rows": row + 1, "written": written, "failed": failed}
            files.write_json(part / "progress.json", state)
    return Report(written - before, before, failed)


def _tracked(rows: Iterable[int], progress: bool) -> Iterable[int]:
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    shown = progress and watched
    return tqdm(rows, "Preprocessing", unit="site", leave=False, disable=not shown)


def _finish(part: Path, path: Path, job: Sites, plan: dict, report: Report) -> None:
    """Name the sites, list the failed ones beside the store, and move it to its place."""
    absent = dict(report.failed)
    store.finish(
        part / "store",
        [site for site in job.site_ids if site not in absent],
        job.channels,
        pixel_size_um=plan["pixel_size_um"],
        levels=plan["levels"],
        failed=report.failed,
        **plan["asked"],
    )
    listing = path.with_name(path.name + ".failed.csv")
    if report.failed:
        with files.replacing(listing) as temporary:
            table = pd.DataFrame(report.failed, columns=["site_id", "reason"])
            table.to_csv(temporary, index=False)
    else:
        files.remove(listing)
    files.move_into_place(part / "store", path)


def control_statistics(
    images: store.Store,
    manifest: pd.DataFrame,
    by: str = "plate",
    over: str = "controls",
) -> pd.DataFrame:
    """Mean and sd of every channel's pixels, 0 … 255, for each group of wells (`by`).

    Over the negative controls (role `negcon`), or over all sites. Index: the groups; columns
    `mean_<channel>` and `std_<channel>` (population sd). Sites that the store lacks are left out.

    Raises `InputError` naming the groups that have no negative control.
    """
    if over not in ("controls", "all"):
        raise InputError(f"over is {over!r}; choose 'controls' or 'all'.")
    frame = manifest[manifest["site_id"].isin(images.site_ids)]
    if frame.empty:
        raise InputError(f"{images.path} and the manifest have no site in common.")
    chosen = frame if over == "all" else frame[frame["role"] == "negcon"]
    bare = sorted(set(frame[by]) - set(chosen[by]))
    if bare:
        raise InputError(
            f"No negative control (role negcon) in {len(bare)} of {frame[by].nunique()} groups of "
            f"{by}: {', '.join(map(str, bare[:20]))}. Name controls, or use over='all'."
        )
    rows = images.rows(chosen["site_id"])
    step = max(1, (16 << 20) // int(np.prod(images.shape[1:])))
    blocks = (images.read(rows[start : start + step]) for start in range(0, len(rows), step))
    parts = [moments(block) for block in blocks]
    mean, square = (
        pd.DataFrame(np.concatenate(part), columns=images.channels).groupby(chosen[by].to_numpy())
        for part in zip(*parts, strict=True)
    )
    mean = mean.mean()
    std = np.sqrt((square.mean() - mean**2).clip(lower=0))
    return mean.add_prefix("mean_").join(std.add_prefix("std_")).rename_axis(by)


def plate_statistics(found: np.ndarray, control: np.ndarray, channels: tuple[str, ...]) -> dict:
    """Mean and sd of each channel over the negative controls, over all sites where there is none.

    `found` [n 2 c]: each site's mean and mean square; as in `control_statistics`.
    """
    over = "controls" if control.any() else "all"
    chosen = found[control] if control.any() else found
    mean, square = chosen.mean(0)
    std = np.sqrt((square - mean**2).clip(min=0))
    table = {"over": over, "fields": len(chosen)}
    table |= {f"mean_{name}": float(x) for name, x in zip(channels, mean, strict=True)}
    return table | {f"std_{name}": float(x) for name, x in zip(channels, std, strict=True)}

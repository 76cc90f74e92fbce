"""A screen plate by plate: a plan, one independent job for each plate, and what joins them.

out/plan.json, manifest.parquet    what was asked for, and the sites after field sampling
out/plates/<plate>.json            a plate is done: its failures, statistics, bytes, seconds
out/plates/<plate>.zarr            its store, or
out/images/<plate>/                its tree of PNG or JPEG-XL files
out/images.zarr                    all plates in one store: the bytes that `preprocess` writes
out/failed.csv, statistics.parquet, report.csv
"""

import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd

from hcs_utils import files
from hcs_utils.data import formats, store
from hcs_utils.data import manifest as manifests
from hcs_utils.data.images import map_threads
from hcs_utils.data.manifest import PATH, PLANE
from hcs_utils.data.plan import attributes, place, plan, read_plan, rows_of
from hcs_utils.data.preprocess import Report, ahead, plate_statistics
from hcs_utils.data.recipe import PAPER, Recipe, safe_names, sites_of
from hcs_utils.data.sites import Levels, Sites, attempt, moments
from hcs_utils.errors import InputError

__all__ = ["PAPER", "Recipe", "join", "plan", "read_plan", "run_plate"]


# A plate


def run_plate(out: str | Path, plate: str, *, allow_missing: bool = False) -> Report:
    """Preprocess one plate of the plan in `out`, reading no other; whole or not at all.

    What a killed job had done is done again. A plate that is done is left as it is, unless a site
    that failed can be read by now. Sites that fail are listed with the reason.

    Raises `InputError` when no site of the plate can be read, unless `allow_missing`.
    """
    out, planned = Path(out), read_plan(out)
    names = [entry["plate"] for entry in planned["plates"]]
    if plate not in names:
        near = manifests.nearest(plate, names)
        raise InputError(f"{out} has no plate {plate!r}{near}; it has {len(names)} plates.")
    number = names.index(plate)
    entry = planned["plates"][number]
    done = out / "plates" / f"{entry['folder']}.json"
    part = done.with_suffix(".part")
    with files.storage_errors(part), files.locked(part):
        try:
            frame = rows_of(out, number)
            status, skipped = files.read_json(done), 0
            if status is None or _mended(out, entry, planned, status, frame):
                status = _run(out, entry, planned, frame, part)
                files.write_json(done, status)
            else:
                skipped = status["done"]
        finally:
            files.remove(part)
    if not status["done"] and not allow_missing:
        listed = "\n".join(f"    {site}: {why}" for site, why in status["failed"][:20])
        more = max(0, len(status["failed"]) - 20)
        listed += f"\n    … and {more} more" if more else ""
        raise InputError(f"None of {entry['sites']} sites of plate {plate} can be read:\n{listed}")
    return Report(status["done"] - skipped, skipped, [tuple(pair) for pair in status["failed"]])


def _mended(out: Path, entry: dict, planned: dict, status: dict, frame: pd.DataFrame) -> bool:
    """Whether a plate that was done has lost its images, or has more to show by now."""
    here = place(out, planned, entry["folder"]).exists() or (out / "images.zarr").exists()
    if status["done"] and not here:
        return True
    absent = {site for site, _ in status["failed"]}
    if not absent:
        return False
    plain = {**planned["asked"], "recipe": planned["asked"]["recipe"] | {"illumination": "none"}}
    sites = sites_of(frame[frame["site_id"].isin(absent)].reset_index(drop=True), plain)
    images = (attempt(sites.image, row) for row in range(len(sites.paths)))
    right = status["shape"] if status["done"] else None
    return any(
        not isinstance(image, str) and right in (None, list(image.shape)) for image in images
    )


def _run(out: Path, entry: dict, planned: dict, frame: pd.DataFrame, part: Path) -> dict:
    """The plate's images in their place, and all that is to be known of them."""
    began, recipe = time.monotonic(), Recipe(**planned["asked"]["recipe"])
    for old in part.iterdir():  # of a killed job
        files.remove(old)
    sites, shape, levels = sites_of(frame, planned["asked"]), planned["shape"], planned["levels"]
    if recipe.form != "zarr":  # a tree may hold plates of several sizes
        found = attempt(lambda _: sites.shape(sites.image), 0)
        shape = shape if isinstance(found, str) else list(found)
    if recipe.scale == "plate":
        levels = sites.levels(np.arange(len(frame)))
    ids = frame["site_id"].tolist()
    write = _to_store if recipe.form == "zarr" else _to_tree
    results = write(sites, ids, shape, levels, recipe, part / "images")
    failed = [(site, why) for site, why in zip(ids, results, strict=True) if isinstance(why, str)]
    absent = {site for site, _ in failed}
    kept = ~frame["site_id"].isin(absent).to_numpy()
    status = {
        "plate": entry["plate"],
        "sites": len(frame),
        "done": int(kept.sum()),
        "failed": failed,
        "shape": shape,
        "levels": levels if recipe.scale == "plate" else None,
    }
    if kept.any():
        if recipe.form == "zarr":
            known = attributes(
                planned, {entry["plate"]: levels}, [s for s in ids if s not in absent]
            )
            store.finish(part / "images", failed=failed, **known)
        target = place(out, planned, entry["folder"])
        target.parent.mkdir(exist_ok=True)
        status["bytes_out"] = _bytes(part / "images")
        files.move_into_place(part / "images", target)
        roles = (frame["role"] == "negcon").to_numpy()[kept]
        found = np.stack([result for result in results if not isinstance(result, str)])
        status["statistics"] = plate_statistics(found, roles, sites.channels)
    status["bytes_in"] = _bytes_in(sites)
    return status | {"seconds": round(time.monotonic() - began, 3)}


def _to_store(
    sites: Sites,
    ids: list[str],
    shape: list[int],
    levels: Levels | None,
    recipe: Recipe,
    path: Path,
) -> list[np.ndarray | str]:
    """Write every site that can be read to a store; for each its moments [2 c], or the reason."""
    store.create(path, len(ids), tuple(shape))
    images = store.open_started(path, len(ids))
    block, results, written = [], [], 0

    def one(row: int) -> tuple[np.ndarray, np.ndarray]:
        image = sites.scaled(row, shape, recipe.scale, levels)
        return image, np.stack(moments(image[None]))[:, 0]

    rows = range(len(ids))
    for row, found in zip(
        rows, map_threads(lambda k: attempt(one, k), rows, ahead(shape)), strict=True
    ):
        results.append(found if isinstance(found, str) else found[1])
        if not isinstance(found, str):
            block.append(found[0])
        if block and (len(block) == images.shards[0] or row == rows[-1]):
            store.write_shard(images, written, np.stack(block))
            written, block = written + len(block), []
    return results


def _to_tree(
    sites: Sites,
    ids: list[str],
    shape: list[int],
    levels: Levels | None,
    recipe: Recipe,
    path: Path,
) -> list[np.ndarray | str]:
    """Write every site that can be read as files; for each its moments [2 c], or the reason."""
    stems = safe_names(ids)

    def one(row: int) -> np.ndarray:
        image = sites.scaled(row, shape, recipe.scale, levels)
        formats.write_site(
            path, stems[ids[row]], image, sites.channels, recipe.form, recipe.distance
        )
        return np.stack(moments(image[None]))[:, 0]

    return list(map_threads(lambda row: attempt(one, row), range(len(ids)), ahead=8))


def _bytes_in(sites: Sites) -> int:
    plain = {re.sub(PLANE, "", path) for paths in sites.paths for path in paths}
    known = [sites.root / path for path in plain]
    return sum(path.stat().st_size for path in known if path.is_file())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# All plates


def join(out: str | Path, *, allow_missing: bool = False, tidy: bool = False) -> Path:
    """Join the plates that are done: one store, or one manifest of the tree; gives its path.

    Beside it: `failed.csv`, `statistics.parquet` (a row a plate) and `report.csv`. `tidy` removes
    the plates' own stores afterwards. Killed, it goes on where it stopped.

    Raises `InputError` naming the plates that are missing or could not be read, unless
    `allow_missing`.
    """
    out, planned = Path(out), read_plan(out)
    with files.storage_errors(out), files.locked(out):
        status = [_status(out, entry) for entry in planned["plates"]]
        missing = [entry for entry in status if not entry["done"]]
        if missing and (not allow_missing or len(missing) == len(status)):
            raise InputError(_told(missing, len(status)))
        tree = planned["asked"]["recipe"]["form"] != "zarr"
        failed = _failed(out, status)
        path = (_join_tree if tree else _join_stores)(out, planned, status, failed)
        _write_tables(out, status, failed)
        for entry in status if tidy and not tree else []:
            files.remove(place(out, planned, entry["folder"]))
    return path


def _status(out: Path, entry: dict) -> dict:
    there = files.read_json(out / "plates" / f"{entry['folder']}.json")
    return entry | (there or {"done": 0, "failed": None, "levels": None})


def _told(missing: list[dict], total: int) -> str:
    lines = [f"{len(missing)} of {total} plates are missing; run them, or allow_missing=True:"]
    for entry in missing[:20]:
        why = "has not been run" if entry["failed"] is None else entry["failed"][0][1]
        lines.append(f"    {entry['plate']}: {why}")
    return "\n".join(lines + [f"    … and {len(missing) - 20} more"] * (len(missing) > 20))


def _failed(out: Path, status: list[dict]) -> pd.DataFrame:
    """Every site that is not among the images: site_id, plate, reason."""
    rows = []
    for number, entry in enumerate(status):
        pairs = entry["failed"]
        if pairs is None:
            ids = rows_of(out, number)["site_id"]
            pairs = [(site, "its plate has not been run") for site in ids]
        rows += [(site, entry["plate"], why) for site, why in pairs]
    return pd.DataFrame(rows, columns=["site_id", "plate", "reason"], dtype=str)


def _join_stores(out: Path, planned: dict, status: list[dict], failed: pd.DataFrame) -> Path:
    absent, ids = set(failed["site_id"]), []
    for number in range(len(status)):
        ids += [site for site in rows_of(out, number)["site_id"] if site not in absent]
    levels = {entry["plate"]: entry["levels"] for entry in status}
    known = attributes(planned, levels, ids)
    known["failed"] = failed[["site_id", "reason"]].to_numpy().tolist()
    path, part = out / "images.zarr", out / "images.zarr.part"
    there = store.read_attributes(path) or {}
    if {key: there.get(key) for key in known} == known:
        return path
    asked = {"sha256": files.sha256(json.dumps(known).encode())}
    if files.read_json(part / "plan.json") != asked:  # of a join of other plates
        files.remove(part)
        part.mkdir()
        files.write_json(part / "plan.json", asked)
    stores = [place(out, planned, entry["folder"]) for entry in status if entry["done"]]
    if store.concatenate(part / "store", stores) != len(ids):
        raise InputError(f"Stores in {out / 'plates'} were changed. Remove {out}, and plan again.")
    store.finish(part / "store", **known)
    files.move_into_place(part / "store", path)
    files.remove(part)
    return path


def _join_tree(out: Path, planned: dict, status: list[dict], failed: pd.DataFrame) -> Path:
    absent, form = set(failed["site_id"]), planned["asked"]["recipe"]["form"]
    parts = []
    for number, entry in enumerate(status):
        frame = rows_of(out, number)
        stems = frame["site_id"].map(safe_names(frame["site_id"]))
        for channel in planned["channels"]:
            names = stems + f"__{channel}.{form}"
            frame[PATH + channel] = entry["folder"] + "/" + names
        parts.append(frame[~frame["site_id"].isin(absent)])
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {"root": str(out / "images"), "pixel_size_um": planned["pixel_size_um"]}
    manifests.write(table, out / "images" / "manifest.parquet")
    return out / "images"


def _write_tables(out: Path, status: list[dict], failed: pd.DataFrame) -> None:
    done = [entry for entry in status if entry["done"]]
    rows = pd.DataFrame([entry["statistics"] for entry in done])
    rows.index = pd.Index([entry["plate"] for entry in done], name="plate")
    with files.replacing(out / "statistics.parquet") as temporary:
        rows.to_parquet(temporary)
    with files.replacing(out / "failed.csv") as temporary:
        failed.to_csv(temporary, index=False)
    report = pd.DataFrame(status)[["plate", "done"]].rename(columns={"done": "fields"})
    report["failed"] = [entry["sites"] - entry["done"] for entry in status]
    for name in ("bytes_in", "bytes_out", "seconds"):
        report[name] = [entry.get(name, 0) for entry in status]
    with files.replacing(out / "report.csv") as temporary:
        report.to_csv(temporary, index=False)

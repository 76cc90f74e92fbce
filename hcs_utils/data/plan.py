"""The plan of a screen's preprocessing, written once and read by the job of each plate."""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from hcs_utils import files
from hcs_utils.data import manifest as manifests
from hcs_utils.data.recipe import ILLUM, Recipe, safe_names, sites_of
from hcs_utils.data.sampling import sample_fields
from hcs_utils.errors import InputError

_OURS = ("manifest.parquet", "plates", "images", "images.zarr", "failed.csv", "report.csv")


def plan(
    manifest: pd.DataFrame,
    root: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    pixel_size_um: float | int | None = None,
) -> Path:
    """Write `out/plan.json` and `out/manifest.parquet`: all that a plate's job needs to know.

    `pixel_size_um` is that of the files; None takes `manifest.attrs["pixel_size_um"]`, if any.
    The same request again changes nothing.

    Raises `InputError` when `out` holds another request, naming what differs, when the folder is
    not ours, or when no site can be read.
    """
    out, root = Path(out), Path(root)
    if not root.is_dir():
        raise InputError(f"There is no folder {root} to read images from. Mend the screen's root.")
    pixel = manifest.attrs.get("pixel_size_um") if pixel_size_um is None else pixel_size_um
    frame = manifests.validate(manifest)
    _refuse_names(frame, recipe)
    asked = {
        "recipe": asdict(recipe),
        "root": str(root.resolve()),
        "pixel_size_um": None if pixel is None else float(pixel),
        "manifest_sha256": manifests.digest(frame),
        "illumination_sha256": _light_digest(frame) if recipe.illumination == "files" else "",
    }
    with files.storage_errors(out), files.locked(out):
        there = files.read_json(out / "plan.json")
        if there is not None:
            _refuse_other(out, there["asked"], asked)
            return out / "plan.json"
        taken = [name for name in _OURS if (out / name).exists()]
        if taken and not (out / ".plates").exists():
            raise InputError(f"{out} holds {', '.join(taken)} of something else. Choose another.")
        (out / ".plates").touch()
        _write_plan(frame, out, recipe, asked)
    return out / "plan.json"


def _write_plan(frame: pd.DataFrame, out: Path, recipe: Recipe, asked: dict) -> None:
    fields = recipe.treatment_fields, recipe.control_fields
    sampled = sample_fields(frame, *fields, recipe.seed) if any(fields) else frame
    digest = manifests.digest(sampled) if any(fields) else asked["manifest_sha256"]
    sampled = sampled.sort_values(["plate", "well", "site", "site_id"], ignore_index=True)
    sites = sites_of(sampled, asked)
    cut, size, pixel = sites.shape(sites.cut), recipe.size, asked["pixel_size_um"]
    counts = sampled.groupby("plate").size()
    names = safe_names(counts.index)
    written = {
        "asked": asked,
        "channels": list(sites.channels),
        "shape": [cut[0], size, size] if size else list(cut),
        "pixel_size_um": pixel * cut[2] / size if size and pixel else pixel,
        "levels": sites.levels(np.arange(len(sampled))) if recipe.scale == "screen" else None,
        "manifest_sha256": digest,
        "plates": [{"plate": k, "folder": names[k], "sites": int(n)} for k, n in counts.items()],
    }
    with files.replacing(out / "manifest.parquet") as temporary:
        table = pyarrow.Table.from_pandas(sampled, preserve_index=False)
        with parquet.ParquetWriter(temporary, table.schema) as writer:
            start = 0
            for n in counts:  # a row group a plate, so that a job reads its own rows alone
                writer.write_table(table.slice(start, n), row_group_size=n)
                start += n
    files.write_json(out / "plan.json", written)


def _refuse_names(frame: pd.DataFrame, recipe: Recipe) -> None:
    names = manifests.channels(frame)
    if recipe.form != "zarr":
        bad = [name for name in names if not re.fullmatch(r"[\w-]+", name)]
        if bad:
            raise InputError(f"Channels {bad} cannot be parts of a file's name. Rename them.")
    if recipe.illumination == "files":
        lacking = [ILLUM + name for name in names if ILLUM + name not in frame]
        if lacking and "illum" not in frame:
            raise InputError(
                f"illumination 'files' needs the columns {', '.join(lacking)}, paths within the "
                "root; or one column illum, such as 'illum/{plate}/{plate}_Illum{channel}.npy'."
            )


def _refuse_other(out: Path, there: dict, asked: dict) -> None:
    flat = [{**request, **request["recipe"]} for request in (there, asked)]
    told = [
        f"- {name}: {flat[0].get(name)!r} there, {value!r} asked for"
        for name, value in flat[1].items()
        if name != "recipe" and flat[0].get(name) != value
    ]
    if told:
        listed = "\n".join(told)
        raise InputError(f"{out} was planned for another request. Choose another out:\n{listed}")


def read_plan(out: str | Path) -> dict:
    """What `plan` wrote; `InputError` where it did not."""
    there = files.read_json(Path(out) / "plan.json")
    if there is None:
        raise InputError(
            f"There is no plan in {out}. Make one first: plan(manifest, root, out, …)."
        )
    return there


def rows_of(out: str | Path, number: int) -> pd.DataFrame:
    """The manifest's rows of the plan's plate `number`, and no others read."""
    with parquet.ParquetFile(Path(out) / "manifest.parquet") as file:
        return file.read_row_group(number).to_pandas()


def place(out: Path, planned: dict, folder: str) -> Path:
    """Where the images of a plate come to lie."""
    tree = planned["asked"]["recipe"]["form"] != "zarr"
    return out / "images" / folder if tree else out / "plates" / f"{folder}.zarr"


def attributes(planned: dict, levels: dict, site_ids: list[str]) -> dict:
    """What a store says of itself: for a recipe that `preprocess` knows, what that would write."""
    asked = planned["asked"]
    parameters = {"size": asked["recipe"]["size"] or None}
    parameters |= {key: asked["recipe"][key] for key in ("scale", "low", "high")}
    parameters["pixel_size_um"] = asked["pixel_size_um"]
    changed = {key: asked["recipe"][key] for key in ("crop_px", "illumination")}
    parameters |= {key: value for key, value in changed.items() if value not in (0, "none")}
    scale = asked["recipe"]["scale"]
    known = {"image": {}, "screen": {"all": planned["levels"]}, "plate": levels}[scale]
    return {
        "site_ids": site_ids,
        "channels": planned["channels"],
        "pixel_size_um": planned["pixel_size_um"],
        "manifest_sha256": planned["manifest_sha256"],
        "parameters": parameters,
        "levels": {plate: found for plate, found in known.items() if found is not None},
    }


def _light_digest(frame: pd.DataFrame) -> str:
    names = sorted(name for name in frame if name == "illum" or str(name).startswith(ILLUM))
    return files.sha256(frame.sort_values("site_id")[names].to_csv(index=False).encode())

"""Preprocessing per core: the cross-modal paper's way beside ours, from TIFF to 8 bits on disk.

Theirs (gwatkinson/jump_download@304339a, final_image_class.py: image_processing; utils.py:
robust_convert_to_8bit), written anew: read by Pillow, the central 768² pixels, float32,
percentiles ordered three times, clipped, truncated to 8 bits, PNG by Pillow's defaults. Ours: read
by imagecodecs, the same crop, percentiles counted once, rounded; PNG of this project, or the store.

Fields of 5 × 1080², 16 bit, uncompressed TIFF (2.3 MB a plane, as JUMP's): cells of the simulated
screen drawn at 360², enlarged three times, with photon noise at full size; and, where they are on
this machine ($HCS_SHARED, or ../shared/data beside the checkout), mosaics of BBBC006's real planes.
One process on one core, the ways in turn. Two minutes:

    python benchmarks/preprocessing.py [fields] [rounds]     as in  10 7
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import zarr
from PIL import Image
from scipy import ndimage

from hcs_utils import records
from hcs_utils.data import formats, images, store
from hcs_utils.data.screens import simulated

CHANNELS = ("DNA", "AGP", "ER", "Mito", "RNA")
SIDE, CROP = 1080, 768
GOAL = 3
ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("HCS_SHARED", ROOT.parent / "shared" / "data"))


def theirs(folder: Path, names: list[str], out: Path) -> None:
    for name in names:
        for channel in CHANNELS:
            plane = np.array(Image.open(folder / f"{name}_{channel}.tiff"))
            top, left = (n // 2 - CROP // 2 for n in plane.shape)
            plane = plane[top : top + CROP, left : left + CROP].astype(np.float32)
            plane = (plane - np.percentile(plane, 1)) / (
                np.percentile(plane, 99) - np.percentile(plane, 1) + np.finfo(float).eps
            )
            grey = (np.clip(plane, 0, 1) * 255).astype(np.uint8)
            Image.fromarray(grey).save(out / f"{name}__{channel}.png")


def ours(folder: Path, name: str) -> np.ndarray:
    row = {f"path_{channel}": f"{name}_{channel}.tiff" for channel in CHANNELS}
    return images.to_uint8(images.center_crop(images.read_site(folder, row, CHANNELS), CROP))


def ours_png(folder: Path, names: list[str], out: Path) -> None:
    for name in names:
        formats.write_site(out, name, ours(folder, name), CHANNELS, "png")


def ours_zarr(folder: Path, names: list[str], out: Path) -> None:
    array = store.create(out / "store", len(names), (len(CHANNELS), CROP, CROP))
    for start in range(0, len(names), array.shards[0]):
        block = [ours(folder, name) for name in names[start : start + array.shards[0]]]
        store.write_shard(array, start, np.stack(block))
    store.finish(out / "store", names, CHANNELS)


WAYS = {"theirs": theirs, "png": ours_png, "zarr": ours_zarr}


def drawn(count: int, rng: np.random.Generator) -> np.ndarray:
    """Simulated fields [n c y x], enlarged, with the noise of photons that real ones have."""
    config = simulated.SimulatedConfig(
        treatments=max(2, count), batches=3, plates=1, wells=1, control_wells=1, sites=1,
        size=SIDE // 3,
    )  # fmt: skip
    small = simulated.plate_fields(config, 0)[1][:count]
    large = np.stack([[ndimage.zoom(p.astype(np.float32), 3, order=1) for p in f] for f in small])
    noise = rng.standard_normal(large.shape, dtype=np.float32) * np.sqrt(large + 25)
    return np.clip(large + noise, 0, 65535).astype(np.uint16)


def mosaics(count: int, rng: np.random.Generator) -> np.ndarray | None:
    """Fields [n c y x] of real planes side by side, in their own resolution and noise."""
    found = sorted((SHARED / "bbbc006_focus").glob("*_focus/*.png"))
    planes = [images.read_plane(path.parent, path.name) for path in found]
    planes = [plane for plane in planes if plane.shape == (520, 696) and plane.dtype == np.uint16]
    if not planes:
        return None

    def mosaic() -> np.ndarray:
        chosen = [planes[k] for k in rng.permutation(len(planes))[:6]]
        return np.block([chosen[2 * k : 2 * k + 2] for k in range(3)])[:SIDE, :SIDE]

    return np.stack([[mosaic() for _ in CHANNELS] for _ in range(count)])


def measure(fields: np.ndarray, rounds: int) -> dict:
    """Seconds a field of each way, medians; bytes; and how far the results differ."""
    names = [f"p1__A{k + 1:02d}__1" for k in range(len(fields))]
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "tiff")
        source.mkdir()
        for name, field in zip(names, fields, strict=True):
            for channel, plane in zip(CHANNELS, field, strict=True):
                tifffile.imwrite(source / f"{name}_{channel}.tiff", plane)
        for turn in range(rounds + 1):  # the first warms up
            for way, run in WAYS.items():
                out = Path(scratch, f"{way}{turn}")
                out.mkdir()
                began = time.perf_counter()
                run(source, names, out)
                seconds[way].append((time.perf_counter() - began) / len(names))
        found = {f"{way}_sec_per_field": float(np.median(s[1:])) for way, s in seconds.items()}
        for way in WAYS:
            written = Path(scratch, f"{way}{rounds}").rglob("*")
            size = sum(path.stat().st_size for path in written if path.is_file())
            found[f"{way}_bytes_per_field"] = size / len(names)
        return found | _difference(Path(scratch), rounds, names)


def _difference(scratch: Path, turn: int, names: list[str]) -> dict:
    """Grey levels between theirs and ours, and that PNG and store hold the same."""
    opened = store.open_store(scratch / f"zarr{turn}" / "store")
    differing = total = largest = 0
    for k, name in enumerate(names):
        row = {f"path_{channel}": f"{name}__{channel}.png" for channel in CHANNELS}
        a, b = (
            images.read_site(scratch / f"{way}{turn}", row, CHANNELS) for way in ("theirs", "png")
        )
        assert (b == opened.read([k])[0]).all(), name
        apart = np.abs(a.astype(np.int16) - b)
        largest = max(largest, int(apart.max()))
        differing, total = differing + int((apart > 0).sum()), total + apart.size
    assert largest <= 1, f"results differ by {largest} grey levels"
    return {
        "largest_difference_levels": largest,
        "share_of_pixels_one_level_apart": differing / total,
    }


def main(count: int = 10, rounds: int = 7) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    with zarr.config.set({"threading.max_workers": 1}):
        found = {"drawn": measure(drawn(count, rng), rounds)}
        real = mosaics(count, rng)
        if real is not None:
            found["bbbc006"] = measure(real, rounds)
    print(f"{'fields':8}{'way':8}{'ms a field':>12}{'MB a field':>12}{'times':>8}")
    for content, row in found.items():
        for way in WAYS:
            sec, size = row[f"{way}_sec_per_field"], row[f"{way}_bytes_per_field"]
            times = row["theirs_sec_per_field"] / sec
            print(f"{content:8}{way:8}{1e3 * sec:12.1f}{size / 1e6:12.2f}{times:8.2f}")
        print(f"{content:8}one grey level apart: {row['share_of_pixels_one_level_apart']:.1%}")
    for way in ("png", "zarr"):
        ratios = {
            c: r["theirs_sec_per_field"] / r[f"{way}_sec_per_field"] for c, r in found.items()
        }
        measured = {f"{c}_{key}": value for c, r in found.items() for key, value in r.items()}
        records.save_benchmark(
            f"preprocessing_{way}", ratio=min(ratios.values()), goal=GOAL,
            reference="the authors' way (percentiles three times, Pillow's PNG), per core; the "
            "lower of drawn and real fields of 5×1080², 16 bit",
            measured=measured | {f"{c}_ratio": ratio for c, ratio in ratios.items()},
        )  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

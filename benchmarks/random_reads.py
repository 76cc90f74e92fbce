"""Random reads of sites: the store beside trees of per-channel PNG and JPEG-XL files.

The same drawn fields of 5 channels in 8 bits, minibatches of 64 sites in random order, one process
on one core, the ways in turn. PNGs as the cross-modal paper's: written and read by Pillow; as a
stronger reference, written by this project and decoded by imagecodecs. Warm: from the page cache.
Cold: pages are dropped first (posix_fadvise), so the disk of this machine counts. Five minutes:

    python benchmarks/random_reads.py [sizes] [sites] [rounds]     as in  48,128,256 600 5
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from hcs_utils import records
from hcs_utils.data import formats, images, store
from hcs_utils.data.screens import simulated

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
MINIBATCH = 64
GOAL = 5
DECODERS = {"png": imagecodecs.png_decode, "jxl": imagecodecs.jpegxl_decode}
LABELS = {
    "store": "store",
    "pillow": "PNG tree, Pillow",
    "png": "PNG tree, imagecodecs",
    "jxl": "JPEG-XL tree",
}


def fields(size: int, count: int) -> np.ndarray:
    """Drawn fields [n c y x], uint8."""
    wells = -(-count // 9)
    config = simulated.SimulatedConfig(
        treatments=max(2, wells), batches=3, plates=1, wells=1, control_wells=1, sites=9, size=size
    )
    drawn = simulated.plate_fields(config, 0)[1][:count]
    return np.stack([images.to_uint8(image) for image in drawn])


def name(k: int, channel: str) -> str:
    return f"p1/p1__{k:05d}__{channel}"


def write(folder: Path, pixels: np.ndarray) -> None:
    store.write_store(folder / "store", pixels, [f"s{k}" for k in range(len(pixels))], CHANNELS)
    for form in ("pillow", "png", "jxl"):
        (folder / form / "p1").mkdir(parents=True)
        for k, image in enumerate(pixels):
            for channel, plane in zip(CHANNELS, image, strict=True):
                path = folder / form / f"{name(k, channel)}.{'jxl' if form == 'jxl' else 'png'}"
                if form == "pillow":
                    Image.fromarray(plane).save(path)
                else:
                    path.write_bytes(formats.encode(plane, form))
    os.sync()


def reader(folder: Path, form: str, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives the images [n c y x] of some rows."""
    if form == "store":
        return store.open_store(folder / "store").read

    def by_pillow(rows: np.ndarray) -> np.ndarray:
        paths = ([f"{folder}/pillow/{name(k, c)}.png" for c in CHANNELS] for k in rows)
        return np.stack([np.stack([np.asarray(Image.open(p)) for p in site]) for site in paths])

    def decoded(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *shape), np.uint8)
        for place, k in zip(out, rows, strict=True):
            for plane, channel in zip(place, CHANNELS, strict=True):
                with open(f"{folder}/{form}/{name(k, channel)}.{form}", "rb") as file:
                    DECODERS[form](file.read(), out=plane)
        return out

    return by_pillow if form == "pillow" else decoded


def forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def measure(size: int, count: int, rounds: int) -> dict[str, float]:
    """Sites a second of each way, warm and cold: medians over rounds, the ways in turn."""
    pixels = fields(size, count)
    order = np.random.default_rng(0).permutation(count)
    minibatches = [order[k : k + MINIBATCH] for k in range(0, count, MINIBATCH)]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder, pixels)
        readers = {form: reader(folder, form, pixels.shape[1:]) for form in LABELS}
        for form, read in readers.items():
            assert all((read(rows) == pixels[rows]).all() for rows in minibatches), form
            files = [p.stat().st_size for p in (folder / form).rglob("*") if p.is_file()]
            found[f"{form}_bytes_per_site"] = sum(files) / count
        for state in ("warm", "cold") if hasattr(os, "posix_fadvise") else ("warm",):
            seconds: dict[str, list[float]] = {form: [] for form in LABELS}
            for _ in range(rounds if state == "warm" else max(3, rounds // 3)):
                for form, read in readers.items():
                    if state == "cold":
                        forget(folder / form)
                    began = time.perf_counter()
                    for rows in minibatches:
                        read(rows)
                    seconds[form].append(time.perf_counter() - began)
            for form, taken in seconds.items():
                found[f"{form}_{state}_sites_per_sec"] = count / float(np.median(taken))
    return found


def main(sizes: str = "48,128,256", count: int = 600, rounds: int = 5) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{'px':>4}  {'way':24}{'kB a site':>10}{'warm/s':>10}{'store ×':>9}{'cold/s':>10}")
    for size in map(int, sizes.split(",")):
        found = measure(size, count, rounds)
        times = {
            form: found["store_warm_sites_per_sec"] / found[f"{form}_warm_sites_per_sec"]
            for form in LABELS
        }
        for form, label in LABELS.items():
            kilobytes = found[f"{form}_bytes_per_site"] / 1e3
            warm = found[f"{form}_warm_sites_per_sec"]
            cold = found.get(f"{form}_cold_sites_per_sec", float("nan"))
            print(
                f"{size:4}  {label:24}{kilobytes:10.1f}{warm:10.0f}{times[form]:9.1f}{cold:10.0f}"
            )
        records.save_benchmark(
            f"random_reads_{size}", ratio=times["pillow"], goal=GOAL,
            reference="a tree of PNGs, a file a channel, read by Pillow; one core, warm",
            measured=found | {f"times_{form}": value for form, value in times.items()},
        )  # fmt: skip


if __name__ == "__main__":
    main(*[text if "," in text or k == 0 else int(text) for k, text in enumerate(sys.argv[1:])])

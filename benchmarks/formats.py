"""Forms of 8-bit fields compared: bytes, speed of writing and of random reads, accuracy lost.

PNG, JPEG XL (lossless, and at four distances), the Zarr store, and TIFF as the microscope wrote
it, on simulated fields and, where they are on this machine ($HCS_SHARED, or ../shared/data beside
the checkout), on real ones: BBBC006, 16 bit, and BBBC021, 8 bit. Accuracy lost:

- simulated: k-NN across batches after Z-norm, an encoder trained on lossless fields and given
  fields that were encoded and decoded; and the same after training on other grey scales;
- real: colour and texture with logistic regression, a plate left out.

A record for each form (and seed) goes to build/results. About a quarter of an hour on one core:

    python benchmarks/formats.py [size] [seeds] [parts]     as in  quick 0,1,2 simulated,bbbc006
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import tifffile
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hcs_utils import experiments, files, records, runs
from hcs_utils.data import formats, images, preprocess, store
from hcs_utils.evaluation import metrics, postprocess
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import embed, features
from hcs_utils.learning.views import ViewsConfig

if __name__ == "__main__":  # run as a file: benchmarks/ is on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import real_bbbc021 as real

SHARED = Path(os.environ.get("HCS_SHARED", real.ROOT.parent / "shared" / "data"))
DISTANCES = {"jxl_d0.5": 0.5, "jxl_d1": 1.0, "jxl_d2": 2.0, "jxl_d4": 4.0}
FORMS = ("tiff", "png", "jxl", *DISTANCES, "zarr")
SCALES = ("screen", "plate", "image")
ROUNDS = 5


@dataclass
class Fields:
    """Fields of one screen to store: as they were written, and in 8 bits, both [n c y x]."""

    screen: str
    preset: str
    written: np.ndarray
    channels: tuple[str, ...]

    def __post_init__(self):
        deep = self.written.dtype == np.uint16
        self.small = np.stack([images.to_uint8(x) for x in self.written]) if deep else self.written


# Bytes and speed


def write(form: str, fields: Fields, folder: Path) -> None:
    """All fields in one form; nothing is flushed, in any of them."""
    count, *shape = fields.small.shape
    if form == "zarr":
        array = store.create(folder / "store", count, tuple(shape))
        for start in range(0, count, array.shards[0]):
            store.write_shard(array, start, fields.small[start : start + array.shards[0]])
        store.finish(folder / "store", [f"s{k}" for k in range(count)], fields.channels)
        return
    for k in range(count):
        if form == "tiff":
            for channel, plane in zip(fields.channels, fields.written[k], strict=True):
                tifffile.imwrite(folder / f"s{k}__{channel}.tiff", plane)
        else:
            kind, distance = form.split("_")[0], DISTANCES.get(form, 0.0)
            formats.write_site(folder, f"s{k}", fields.small[k], fields.channels, kind, distance)


def read(form: str, fields: Fields, folder: Path, order: np.ndarray) -> np.ndarray:
    """Fields in random order, one at a time; gives the last."""
    if form == "zarr":
        opened = store.open_store(folder / "store")
        for k in order:
            image = opened.read(np.array([k]))[0]
        return image
    suffix = {"tiff": "tiff", "png": "png"}.get(form, "jxl")
    for k in order:
        row = {f"path_{channel}": f"s{k}__{channel}.{suffix}" for channel in fields.channels}
        image = images.read_site(folder, row, fields.channels)
    return image


def measure(fields: Fields) -> dict[str, dict]:
    """Metrics of each form: medians over rounds, in each of which the forms take turns."""
    count, pixels = len(fields.small), fields.small.size
    order = np.random.default_rng(0).permutation(count)
    sec = {form: {"write": [], "read": []} for form in FORMS}
    sec["tiff"]["rescale"] = []
    found = {}
    for _ in range(ROUNDS):
        for form in FORMS:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                sec[form]["write"].append(timed(write, form, fields, folder))
                sec[form]["read"].append(timed(read, form, fields, folder, order))
                if form == "tiff":
                    again = timed(lambda: [images.to_uint8(x) for x in fields.written])
                    sec[form]["rescale"].append(again)
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                lossless = form not in DISTANCES
                wanted = fields.written if form == "tiff" else fields.small
                last = read(form, fields, folder, order[-1:])
                assert not lossless or (last == wanted[order[-1]]).all(), form
            found[form] = {"bytes_per_field": size / count, "factor": pixels / size}
    for form, taken in sec.items():
        for verb, values in taken.items():
            wall, cpu = np.median(values, axis=0)
            found[form] |= {f"{verb}_fields_per_sec": count / wall}
            found[form] |= {f"{verb}_mpx_per_cpu_sec": pixels / 1e6 / cpu}
    return found


def timed(function, *arguments) -> tuple[float, float]:
    """Seconds by the clock, and of this process's CPU time, which others on the machine leave."""
    began, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - began, time.process_time() - cpu


# Which fields


def simulated_fields(screen: experiments.Screen, count: int = 100) -> Fields:
    rows = np.random.default_rng(0).permutation(len(screen.table))[:count]
    chosen = screen.table.iloc[np.sort(rows)].to_dict("records")
    written = [images.read_site(screen.root, row, screen.channels) for row in chosen]
    return Fields(screen.name, screen.name.removeprefix("simulated-"), np.stack(written),
                  screen.channels)  # fmt: skip


def bbbc006() -> Fields | None:
    """The full-size fields of U2OS nuclei, in and out of focus: one channel, 520×696, 16 bit."""
    root = SHARED / "bbbc006_focus"
    if not root.is_dir():
        return None
    found = sorted(root.glob("in_focus/*.png")) + sorted(root.glob("out_of_focus/*.*"))
    planes = [images.read_plane(path.parent, path.name) for path in found]
    planes = [plane for plane in planes if plane.shape == (520, 696)]
    return Fields("bbbc006", real.PRESET, np.stack(planes)[:, None], ("DNA",))


def bbbc021(screen: experiments.Screen) -> Fields:
    written = screen.store.read(np.arange(len(screen.store)))
    return Fields(screen.name, real.PRESET, written, screen.channels)


# Accuracy lost


def again(stored: np.ndarray, distance: float) -> np.ndarray:
    """Fields [n c y x] as they come back from JPEG XL at a distance."""
    flat = stored.reshape(-1, *stored.shape[-2:])
    coded = (formats.encode(plane, "jxl", distance) for plane in flat)
    return np.stack([imagecodecs.jpegxl_decode(content) for content in coded]).reshape(stored.shape)


def with_images(screen: experiments.Screen, pixels: np.ndarray, path: Path) -> experiments.Screen:
    """The same screen with other pixels in its store."""
    other = store.write_store(
        path, pixels, list(screen.store.site_ids), screen.channels,
        pixel_size_um=screen.store.pixel_size_um, manifest_sha256=screen.store.manifest_sha256,
    )  # fmt: skip
    return replace(screen, store=other)


def on_scale(screen: experiments.Screen, scale: str, folder: Path) -> experiments.Screen:
    """The screen rescaled by percentiles 1 and 99 of the screen, of each plate or each image."""
    path = folder / f"{scale}.zarr"
    preprocess.preprocess(
        screen.table, screen.root, path, scale=scale, low=1, high=99,
        pixel_size_um=screen.store.pixel_size_um, progress=False,
    )  # fmt: skip
    opened = store.open_store(path)
    table = screen.table.set_index("site_id").loc[list(opened.site_ids)].reset_index()
    return experiments.Screen(f"{screen.name}-scale-{scale}", screen.root, table, opened)


def trained(settings: experiments.Settings, screen: experiments.Screen):
    """The encoder of a run, and its table with the column `split`."""
    before = os.environ.get("HCS_RESULTS")
    with tempfile.TemporaryDirectory() as folder:  # the run's own record is not wanted
        os.environ["HCS_RESULTS"] = folder
        try:
            result = experiments.run(settings, screen, progress=False)
        finally:
            os.environ.pop("HCS_RESULTS")
            if before is not None:
                os.environ["HCS_RESULTS"] = before
    network = encoder(settings.encoder, screen.channels)
    network.load_state_dict(
        load_file(experiments.run_folder(settings, screen) / "model.safetensors")
    )
    return network, result.table


def right(network, table: pd.DataFrame, screen: experiments.Screen) -> pd.Series:
    """Whether k-NN after Z-norm names the treatment of each treated field of the test batches."""
    norm, plate = experiments.normaliser(screen, "controls")
    view = ViewsConfig.for_fields(min(screen.store.shape[-2:])).global_size
    z = embed(network, screen.images(), table["site_id"], plate, norm, view, screen.channels)
    control, treated = ((table["role"] == role).to_numpy() for role in ("negcon", "trt"))
    zn = postprocess.zscore_by_controls(features(z), table["batch"].to_numpy(), control)
    bank, query = ((table["split"] == part).to_numpy() & treated for part in ("train", "test"))
    label = table["treatment"].to_numpy()
    named = metrics.knn_predict(zn[bank], label[bank], zn[query])
    return pd.Series(named == label[query], index=table["site_id"][query], dtype=float)


def lost(base: pd.Series, other: pd.Series, well: pd.Series) -> dict:
    """Accuracy of `other` and what it lost on `base`, with intervals over whole wells."""
    other, unit = other.loc[base.index], well.loc[base.index].to_numpy()
    less = base.to_numpy() - other.to_numpy()
    return {
        "knn_znorm": (other.mean(), *metrics.bootstrap_interval(other, unit)),
        "knn_znorm_lost": (less.mean(), *metrics.bootstrap_interval(less, unit)),
    }


def simulated_accuracy(screen: experiments.Screen, seeds: list[int], size: str) -> dict:
    """Metrics by (form or scale, seed); the forms hold the fields on the screen's scale."""
    known, options = experiments.Settings.__annotations__, runs.preset(size)
    options = {name: value for name, value in options.items() if name in known}
    treated, found = screen.table.loc[screen.table["role"] == "trt", "treatment"], {}
    with tempfile.TemporaryDirectory() as name:
        scaled = {scale: on_scale(screen, scale, Path(name)) for scale in SCALES}
        whole = scaled["screen"]
        stored = whole.store.read(np.arange(len(whole.store)))
        variants = {
            form: with_images(whole, again(stored, distance), Path(name) / f"{form}.zarr")
            for form, distance in DISTANCES.items()
        }
        for seed in seeds:
            settings = experiments.Settings(**options | {"method": "supervised", "seed": seed})
            network, table = trained(settings, whole)
            base = right(network, table, whole)
            held = {form: base for form in ("png", "jxl", "zarr", "scale_screen")}  # same pixels
            held |= {form: right(network, table, other) for form, other in variants.items()}
            for scale in SCALES[1:]:
                held[f"scale_{scale}"] = right(*trained(settings, scaled[scale]), scaled[scale])
            well = table.set_index("site_id").eval("plate + well")
            for form, own in held.items():
                found[form, seed] = lost(base, own, well) | {"chance": 1 / treated.nunique()}
                tell(f"seed {seed} {form} lost", found[form, seed]["knn_znorm_lost"])
    return found


def real_accuracy(screen: experiments.Screen, fields: Fields) -> dict:
    """Accuracy of colour and texture, a plate left out in turn, for each form."""
    found, base = {}, plate_left_out(screen.table, fields.small)
    assert np.isclose(base.mean(), real.baseline(screen.store, screen.table).mean())
    well = (screen.table["plate"] + screen.table["well"]).to_numpy()
    for form in FORMS:
        pixels = again(fields.small, DISTANCES[form]) if form in DISTANCES else fields.small
        held = plate_left_out(screen.table, pixels) if form in DISTANCES else base
        found[form] = {
            "accuracy": (held.mean(), *metrics.bootstrap_interval(held, well)),
            "accuracy_lost": (
                (base - held).mean(),
                *metrics.bootstrap_interval(base - held, well),
            ),
        }
        tell(f"{screen.name} {form} lost", found[form]["accuracy_lost"])
    return found


def plate_left_out(table: pd.DataFrame, pixels: np.ndarray) -> np.ndarray:
    """1 where the rule learned on the other plates names the compound of a field, else 0."""
    x = real.colour_and_texture(pixels)
    label, plate = table["compound"].to_numpy(), table["plate"].to_numpy()
    right = np.zeros(len(table))
    for name in set(plate):
        out = plate == name
        rule = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        right[out] = rule.fit(x[~out], label[~out]).predict(x[out]) == label[out]
    return right


# Records


def tell(name: str, values: tuple) -> None:
    print(f"  {name}: " + " to ".join(f"{value:.3f}" for value in values), flush=True)


def save(fields: Fields, digest: str, measured: dict, accuracy: dict, began: float) -> None:
    """One record a form, and a seed where there are seeds; speeds are the same for each."""
    keys = {key if isinstance(key, tuple) else (key, 0) for key in accuracy}
    keys |= {(form, 0) for form in measured if form not in {name for name, _ in keys}}
    count, channels, *side = fields.small.shape
    for form, seed in sorted(keys):
        found = accuracy.get((form, seed), accuracy.get(form, {}))
        about = {"fields": count, "channels": channels, "size_px": side, "rounds": ROUNDS}
        about |= {"written_bits": 8 * fields.written.itemsize, "distance": DISTANCES.get(form, 0)}
        path = records.save_record(
            experiment="preprocessing", screen=fields.screen, method=form, preset=fields.preset,
            parameters=about, fold=1, seed=seed, metrics=measured.get(form, {}) | found,
            device=records.device(), seconds=time.perf_counter() - began, manifest_sha256=digest,
        )  # fmt: skip
    print(f"  {len(keys)} records such as {path}", flush=True)


def show(fields: Fields, measured: dict) -> None:
    table = pd.DataFrame(measured).T.filter(
        regex="bytes|factor|fields_per_sec|write_mpx|rescale_mpx"
    )
    table["write_times_png"] = table["write_fields_per_sec"] / table["write_fields_per_sec"]["png"]
    table["read_times_png"] = table["read_fields_per_sec"] / table["read_fields_per_sec"]["png"]
    print(f"\n{fields.screen}: {len(fields.small)} fields {fields.small.shape[1:]}")
    print(table.round(2).dropna(axis=1, how="all").to_string(), flush=True)


def simulated(size: str, seeds: str) -> None:
    began = time.perf_counter()
    screen = experiments.prepare("simulated", size, progress=True)
    fields = simulated_fields(screen)
    show(fields, measured := measure(fields))
    accuracy = simulated_accuracy(screen, [int(seed) for seed in seeds.split(",")], size)
    save(fields, screen.store.manifest_sha256, measured, accuracy, began)


def focus() -> None:
    began = time.perf_counter()
    if (fields := bbbc006()) is not None:
        show(fields, measured := measure(fields))
        save(fields, files.sha256(fields.written.tobytes()), measured, {}, began)


def week9() -> None:
    began = time.perf_counter()
    if not (SHARED / "bbbc021_fields").is_dir():
        return
    with tempfile.TemporaryDirectory() as folder:
        path = real.screen_file(SHARED / "bbbc021_fields", Path(folder))
        screen = experiments.prepare(str(path))
    fields = bbbc021(screen)
    show(fields, measured := measure(fields))
    accuracy = real_accuracy(screen, fields)
    save(fields, screen.store.manifest_sha256, measured, accuracy, began)


def main(
    size: str = "quick", seeds: str = "0,1,2", parts: str = "simulated,bbbc006,bbbc021"
) -> int:
    if "simulated" in parts:
        simulated(size, seeds)
    if "bbbc006" in parts:
        focus()
    if "bbbc021" in parts:
        week9()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Quality control on real images, with few labels: classical measures beside three encoders.

Three trials, each where its folder is in $HCS_SHARED, or in ../shared/data beside the checkout:

mitocheck  MitoCheck's single nuclei: Interphase is normal, OutOfFocus and Apoptosis abnormal. Whole
           plates are held out. Nuclei out of focus are of 7 plates and 8 fields only, so that a
           split decides much: every fold is another.
focus      BBBC006: fields in focus and out of it, cut into squares on a grid. One plate, and the
           two kinds are mostly different wells: what is found may be the well. Whole wells are
           held out.
drawn      BBBC021's fields with faults drawn into a third of them: real cells, known faults. Whole
           plates are held out.

Encoders are small, get grey images as red, green and blue, and one scale of pixels for all:
untrained (random), pre-trained on drawings (procedural), or by SimCLR on the crops of the training
plates without labels. All is judged as in chapter 12. A run takes 2 to 6 minutes on one core,
classical a few seconds; one that has its record is not made again:

    python benchmarks/real_qc.py --trials mitocheck --methods classical,procedural --folds 1,2
"""

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import torch

from hcs_utils import files, qc_assemble, qc_judging, records
from hcs_utils.data import label_draws
from hcs_utils.data.screens import faults
from hcs_utils.learning import train
from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.views import Normaliser
from hcs_utils.qc_settings import SELF_SUPERVISED, QCSettings

FOLDERS = {"mitocheck": "mitocheck_cells", "focus": "bbbc006_focus", "drawn": "bbbc021_fields"}
METHODS = ("classical", "random", "procedural", "simclr")
PRESET = "real"


@dataclass
class Crops:
    """Real crops, and what is known of them."""

    images: np.ndarray  # uint8 [n c y x]: one channel, or three
    held: np.ndarray  # [n] what is held out as a whole: plate or well
    field: np.ndarray  # [n] number of the field
    fault: np.ndarray  # [n] "" of a normal crop


def mitocheck(root: Path) -> Crops:
    """64 px nuclei; plate and field stand in the file's name."""
    images, plates, fields, wrong = [], [], [], []
    for kind, fault in (("Interphase", ""), ("OutOfFocus", "out_of_focus"), ("Apoptosis", "dead")):
        for path in sorted((root / kind).glob("*.png")):
            plate, well, time_point = path.name.split("___")[:3]
            images.append(imagecodecs.imread(path)[None])
            plates.append(plate.split("--")[0])
            fields.append(f"{plates[-1]} {well} {time_point}")
            wrong.append(fault)
    return Crops(
        np.stack(images), np.array(plates), pd.factorize(np.array(fields))[0], np.array(wrong)
    )


def focus(root: Path, side: int = 96) -> Crops:
    """Squares of `side` px, halved; each field by its own 1st and 99.8th percentile.

    Without a scale of their own fields out of focus are dimmer, and brightness would tell.
    """
    images, wells, wrong = [], [], []
    for folder, fault in (("in_focus", ""), ("out_of_focus", "out_of_focus")):
        for path in sorted((root / folder).iterdir()):
            if "cropped" in path.name:  # a part of another
                continue
            image = imagecodecs.imread(path).astype(float)
            low, high = np.percentile(image, [1, 99.8])
            image = np.clip(255 * (image - low) / (high - low), 0, 255)
            rows, columns = (n // side for n in image.shape)
            tiles = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
            tiles = tiles.transpose(0, 2, 1, 3).reshape(-1, side // 2, 2, side // 2, 2)
            tiles = tiles.mean((2, 4))
            images.append(tiles.round().astype(np.uint8)[:, None])
            words = [word for word in path.stem.split("_") if word]
            well = next(word for word in words if len(word) == 3 and word[1:].isdigit())
            wells += [well] * len(tiles)
            wrong += [fault] * len(tiles)
    wells = np.array(wells)
    number = pd.factorize(np.char.add(wells, np.array(wrong)))[0]
    return Crops(np.concatenate(images), wells, number, np.array(wrong))


def drawn(root: Path, side: int = 64, each: int = 4, rate: float = 0.35, seed: int = 0) -> Crops:
    """Squares of `side` px, `each` a field by lot; a third of the fields has one drawn fault.

    A square is abnormal when a local fault covers 2 % of it or more, as in chapter 11. Grey levels
    are those of the plate: the medians of its fields' 1st and 99.5th percentiles.
    """
    table = pd.read_csv(root / "labels.csv", sep=";", index_col=0)
    rng, parts, held, number, wrong = np.random.default_rng(seed), [], [], [], []
    for plate, of in table.groupby("plate"):
        found = {}
        for row in of.index:
            rgb = imagecodecs.imread(root / "images" / f"bbbc021v1_{row}.png")
            field = np.moveaxis(rgb[..., ::-1], 2, 0).astype(np.uint16) * 257  # DNA first
            fault, mask = "", np.zeros(field.shape[1:], bool)
            if rng.random() < rate:
                fault = str(rng.choice(faults.FAULTS))
                severity = float(rng.uniform(0.3, 1))
                field, mask = faults.apply(field, fault, severity, rng, nucleus_px=6)
            found[row] = field, fault, mask
        ends = [np.percentile(field, [1, 99.5], axis=(1, 2)) for field, _, _ in found.values()]
        low, high = np.median(ends, axis=0)[..., None, None]
        high = low + 1.5 * (high - low)
        for row, (field, fault, mask) in found.items():
            grey = np.clip(255 * (field - low) / (high - low), 0, 255).round().astype(np.uint8)
            count = field.shape[1] // side
            for tile in rng.permutation(count**2)[:each]:
                top, left = side * np.array(divmod(int(tile), count))
                here = slice(top, top + side), slice(left, left + side)
                parts.append(grey[::-1, *here])  # red, green, blue
                held.append(plate)
                number.append(row)
                wrong.append(fault if mask[here].mean() >= 0.02 else "")
    return Crops(np.stack(parts), np.array(held), np.array(number), np.array(wrong))


TRIALS = {"mitocheck": mitocheck, "focus": focus, "drawn": drawn}


def question(crops: Crops, fold: int, test_share: float = 0.4) -> qc_judging.Question:
    """Wells or plates dealt to the parts; of the test part as many normal as abnormal crops.

    `fold` counts the deals in which both parts have enough of both classes for 350 labels.
    """
    wrong, names = crops.fault != "", np.arange(len(crops.fault)).astype(str)
    table = pd.DataFrame({"site_id": names, "plate": crops.held})
    left = fold
    for seed in range(1000):
        part = label_draws.split(table, seed, test_share, 0.05).to_numpy()
        rows = {name: np.flatnonzero(part == name) for name in ("train", "test")}
        few = [min(wrong[r].sum(), (~wrong[r]).sum()) for r in rows.values()]
        whole = all(set(crops.fault[r]) == set(crops.fault) for r in rows.values())
        if whole and few[0] >= 175 and few[1] >= 40:
            left -= 1
            if not left:
                break
    else:
        raise SystemExit(f"There is no deal number {fold} with enough crops of both classes.")
    test = label_draws.draw(wrong, crops.field, rows["test"], 2 * int(min(few[1], 150)), 0)
    pool = crops.images[rows["train"]].astype(np.float32)
    mean, sd = pool.mean((0, 2, 3)), pool.std((0, 2, 3))
    return qc_judging.Question(
        torch.from_numpy(crops.images), np.zeros(len(names), int),
        Normaliser(torch.tensor(mean)[None], torch.tensor(sd)[None]),
        qc_assemble.CHANNELS if len(mean) == 3 else ("DNA",), wrong, crops.field, crops.fault,
        rows["train"], {"": test},
    )  # fmt: skip


def in_colour(of: qc_judging.Question) -> qc_judging.Question:
    """Grey crops as red, green and blue alike, for encoders."""
    if of.images.shape[1] == 3:
        return of
    normaliser = Normaliser(of.normaliser.mean.repeat(1, 3), of.normaliser.std.repeat(1, 3))
    return dataclasses.replace(
        of,
        images=of.images.repeat(1, 3, 1, 1),
        normaliser=normaliser,
        channels=qc_assemble.CHANNELS,
    )


def settings(method: str, fold: int = 1, seed: int = 0, **changes) -> QCSettings:
    """As preset standard, more passes over the fewer crops."""
    options = {"epochs": 20, "minibatch": 64, "finetune_steps": 60, "precision": "bf16-mixed"}
    return QCSettings(preset=PRESET, method=method, fold=fold, seed=seed, **(options | changes))


def run(trial: str, of: qc_judging.Question, chosen: QCSettings) -> Path:
    """One record of one method and fold."""
    began, network = time.perf_counter(), None
    colour = in_colour(of)
    if chosen.method != "classical":
        network = qc_assemble.network(chosen)
    if chosen.method in SELF_SUPERVISED:
        rows = colour.pool
        minibatches = CropMinibatches(
            colour.images, rows, colour.plate[rows], colour.normaliser, size=chosen.minibatch,
            seed=chosen.seed,
        )  # fmt: skip
        made = qc_assemble.method(chosen, network, len(rows))
        folder = files.checkout() / "build" / "real" / f"qc-{trial}-f{chosen.fold}-s{chosen.seed}"
        config = qc_assemble.train_config(chosen, minibatches.per_epoch)
        train.fit(made, minibatches, config, folder, progress=False)
        network = made.encoder
    scores = qc_judging.judge(network, of if network is None else colour, chosen)
    return records.save_record(
        experiment="qc", screen=FOLDERS[trial], method=chosen.method, preset=PRESET,
        fold=chosen.fold, seed=chosen.seed, parameters=asdict(chosen), metrics=scores,
        device=f"CPU, {torch.get_num_threads()} threads", seconds=time.perf_counter() - began,
        manifest_sha256=files.sha256(of.images.numpy().tobytes()),
    )  # fmt: skip


def done(trial: str, chosen: QCSettings) -> bool:
    """Whether there is a record of this very run."""
    path = records.record_path(
        records.results_root(), PRESET, "qc", FOLDERS[trial], chosen.method, chosen.fold,
        chosen.seed,
    )  # fmt: skip
    return path.exists() and json.loads(path.read_text("utf-8"))["parameters"] == asdict(chosen)


def table_of(found: pd.DataFrame, budgets: tuple[int, ...]) -> pd.DataFrame:
    """Accuracy in per cent, mean over folds of means over draws, by task and number of labels."""
    rows = {}
    for method, of in found.groupby("method"):
        for task in qc_judging.TASKS:
            names = [f"{task}_accuracy_{budget}" for budget in budgets]
            if set(names) <= set(of.columns) and of[names].notna().all(axis=None):
                mean, sd = 100 * of[names].mean(), 100 * of[names].std()
                rows[method, task] = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, sd, strict=True)]
    columns = [f"{budget} labels" for budget in budgets]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", default=",".join(TRIALS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--folds", default="1,2,3", help="deals of plates or wells")
    asked = parser.parse_args(arguments)
    for trial in asked.trials.split(","):
        root = files.shared_data(FOLDERS[trial])
        if root is None:
            print(f"{FOLDERS[trial]} is not on this machine; see $HCS_SHARED.")
            continue
        crops = TRIALS[trial](root)
        for fold in map(int, asked.folds.split(",")):
            of = question(crops, fold)
            for method in asked.methods.split(","):
                chosen = settings(method, fold)
                if not done(trial, chosen):
                    print(run(trial, of, chosen), flush=True)
        print(f"\n{trial}\n{qc_judging.counts(of)}")
        found = records.load_records(preset=PRESET, experiment="qc")
        found = found[found["screen"] == FOLDERS[trial]]
        print(table_of(found, settings("classical").label_budgets).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())

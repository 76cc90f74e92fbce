"""Is the simulated screen neither too easy nor too hard? Its difficulty contract, measured.

k-NN finds the treatments of unseen batches (the test part of fold 1, wells of role trt), after
Z-norm by controls, from what a method should and should not be able to use:

python benchmarks/difficulty.py [quick|standard|full|smoke] [MEASURE ...] [--seeds 0 1 2]
python benchmarks/difficulty.py quick --dial     only what needs no training, at four strengths

Training is the preset's of the same name; `--part val` judges on validation batches, to tune with.
"""

import argparse
import os
import tempfile
from dataclasses import replace

import numpy as np
import pandas as pd

from hcs_utils import experiments, records, runs
from hcs_utils.data import images
from hcs_utils.data.screens import simulated
from hcs_utils.evaluation import leaks, metrics, postprocess
from hcs_utils.learning.embed import features
from hcs_utils.prepare import prepare

MEASURES = ("oracle", "intensity", "batch", "random", "supervised")
AT_MOST = {"intensity": 0.2, "random": 0.2}
AT_LEAST = {"oracle": 0.95, "batch": 0.4, "supervised": 0.6}
HARDER = {"full": {"supervised": 0.85}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", nargs="?", default="quick", choices=simulated.SIZES)
    parser.add_argument("measures", nargs="*", default=[], help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--part", default="test", choices=("test", "val"))
    parser.add_argument("--dial", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.measures) - set(MEASURES):
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(MEASURES)}")
    if asked.dial:
        dial(asked.size, asked.part)
    else:
        contract(asked.size, asked.measures or MEASURES, asked.seeds, asked.part)


def contract(size: str, measures, seeds: list[int], part: str) -> None:
    screen = prepare("simulated", size, progress=True)
    truth = simulated.truth(screen.root).set_index("site_id").loc[screen.table["site_id"]]
    traits = truth.filter(like="trait_").to_numpy()
    statistics = leaks.intensity_statistics(screen.store.read(np.arange(len(screen.store))))
    for measure in measures:
        if measure == "oracle":
            values = [treatments_found(screen.table, traits, part)]
        elif measure == "intensity":
            values = [treatments_found(screen.table, statistics, part)]
        elif measure == "batch":
            values = [batches_found(screen.table, statistics)]
        else:
            values = [learned(screen, size, measure, seed, part) for seed in seeds]
        most = measure in AT_MOST
        goal = AT_MOST[measure] if most else (AT_LEAST | HARDER.get(size, {}))[measure]
        row = records.save_benchmark(
            f"difficulty_{size}_{measure}",
            ratio=float(np.mean(values)), goal=goal,
            unit="at most, share found" if most else "share found",
            reference=f"chance {chance(screen.table, measure):.3f}",
            measured={"values": values, "part": part, "fields": len(screen.table)},
        )  # fmt: skip
        spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        print(f"{size:9}{measure:11}{row['ratio']:.3f}{spread:9} "
              f"{'at most' if most else 'at least'} {goal}: {row['met']}", flush=True)  # fmt: skip


def dial(size: str, part: str) -> None:
    """What needs no training, at four strengths of batch effects; nothing is written to disk."""
    for strength in (0.0, 0.5, 1.0, 2.0):
        config = replace(simulated.SIZES[size], batch_strength=strength)
        table, statistics = in_memory(config)
        traits = table.filter(like="trait_").to_numpy()
        found = {
            "batch": batches_found(table, statistics),
            "intensity": treatments_found(table, statistics, part),
            "intensity_raw": treatments_found(table, statistics, part, znorm=False),
            "oracle": treatments_found(table, traits, part),
        }
        print(f"batch_strength {strength:g}: ", {k: round(v, 3) for k, v in found.items()})
        records.save_benchmark(
            f"dial_{size}_batch_strength_{strength:g}", ratio=found["batch"],
            goal=1.5 * chance(table, "batch") if strength == 0 else AT_LEAST["batch"],
            unit="at most, share of batches found" if strength == 0 else "share of batches found",
            reference=f"chance {chance(table, 'batch'):.3f}", measured=found,
        )  # fmt: skip


def in_memory(config: simulated.SimulatedConfig) -> tuple[pd.DataFrame, np.ndarray]:
    """Fields as a manifest would list them, and the intensity statistics of their 8-bit images."""
    plates = [simulated.plate_fields(config, k) for k in range(config.batches * config.plates)]
    sample = np.concatenate([pixels[::24] for _, pixels in plates])
    low, high = np.percentile(sample, (0.5, 99.8), axis=(0, 2, 3))
    low, high = low[:, None, None], high[:, None, None]
    statistics = [
        leaks.intensity_statistics(np.stack([images.rescale(x, low, high) for x in pixels]))
        for _, pixels in plates
    ]
    table = pd.concat([fields for fields, _ in plates], ignore_index=True)
    count = config.treatments // len(config.doses_um)
    role = {"DMSO": "negcon", f"SIM-{count:04d}": "poscon"}
    table["role"] = table["compound"].map(role).fillna("trt")
    table["treatment"] = table["compound"] + table["dose_um"].astype(str)
    return table, np.concatenate(statistics)


def treatments_found(table, values: np.ndarray, part: str, znorm: bool = True) -> float:
    split = experiments.split(table, 1, 6 if table["batch"].nunique() >= 12 else 3).to_numpy()
    if znorm:
        control = (table["role"] == "negcon").to_numpy()
        values = postprocess.zscore_by_controls(values, table["batch"].to_numpy(), control)
    treated = (table["role"] == "trt").to_numpy()
    bank, query = treated & (split == "train"), treated & (split == part)
    label = table["treatment"].to_numpy()
    return float(metrics.knn_accuracy(values[bank], label[bank], values[query], label[query]))


def batches_found(table, values: np.ndarray) -> float:
    """k-NN from half of the wells of every plate to the other half, raw statistics."""
    well = (table["plate"] + table["well"]).to_numpy(object)
    half = pd.util.hash_array(well) % 2 == 0
    values = (values - values.mean(0)) / (values.std(0) + 1e-9)
    batch = table["batch"].to_numpy()
    return float(metrics.knn_accuracy(values[half], batch[half], values[~half], batch[~half]))


def learned(screen, size: str, method: str, seed: int, part: str) -> float:
    """A network trained with the preset of the size; its record goes to a temporary folder."""
    known = {k: v for k, v in runs.preset(size).items() if hasattr(experiments.Settings, k)}
    settings = experiments.Settings(**known | {"method": method, "seed": seed, "fold": 1})
    before = os.environ.get("HCS_RESULTS")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HCS_RESULTS"] = folder
        try:
            embedding = experiments.run(settings, screen, progress=False).embedding
        finally:
            os.environ.pop("HCS_RESULTS")
            if before is not None:
                os.environ["HCS_RESULTS"] = before
    rows = embedding.set_index("site_id").loc[screen.table["site_id"]].reset_index()
    return treatments_found(screen.table, features(rows), part)


def chance(table, measure: str) -> float:
    of = table["batch"] if measure == "batch" else table.loc[table["role"] == "trt", "treatment"]
    return 1 / of.nunique()


if __name__ == "__main__":
    main()

"""Real fields, a plate left out: every method beside simple colour and texture features.

BBBC021, three plates of Week9_39282 with three compounds, 28 fields each. Needs the folder
bbbc021_fields in $HCS_SHARED, or in ../shared/data beside the checkout. All methods train with the
same settings, in bf16-mixed arithmetic. A run takes some 80 s on one core (DINO and kin), 40 s
(BYOL) or 20 s (supervised), all together 70 minutes; one that has its record is not made
again, so that a part can be run at a time, and a stopped one goes on:

    python benchmarks/real_bbbc021.py --methods cdcl,dino --seeds 0,1 --folds 2
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hcs_utils import experiments, records
from hcs_utils.data.store import Store

ROOT = Path(__file__).resolve().parents[1]
PLATES = ("Week9_39282", "Week9_39283", "Week9_39301")
PRESET = "real"
METHODS = "random,intensity,leaks,supervised,dino,byol,dino_bl,byol_bl,dino_cb,byol_cb,cdcl"
METRICS = {"knn_znorm": "k-NN after Z-norm by all wells", "linear_znorm": "the same, by lines"}
LARGEST = 3 / 7  # share of the largest class
SCREEN = """\
name: bbbc021-week9
root: {root}
table: labels.csv
columns: {{batch: plate, plate: plate, well: well, compound: compound, treatment: compound,
  dose_um: concentration, moa: moa}}
channels: {{actin: "images/bbbc021v1_{{row}}.png#0", tubulin: "images/bbbc021v1_{{row}}.png#1",
  DNA: "images/bbbc021v1_{{row}}.png#2"}}
filter: {{plate: [{plates}]}}
"""


def screen_file(fields: Path, folder: Path) -> Path:
    """A screen.yaml in ``folder`` that points to the fields where they are."""
    path = folder / "screen.yaml"
    path.write_text(SCREEN.format(root=fields, plates=", ".join(PLATES)), "utf-8")
    return path


def settings(screen: Path, **changes) -> experiments.Settings:
    """A setting for 56 training fields without controls: all wells of a plate norm it."""
    options = dict(
        preset=PRESET, screen=str(screen), image_px=96, folds=0, epochs=150, minibatch=28,
        image_norm="all", znorm="all", precision="bf16-mixed",
    )  # fmt: skip
    return experiments.Settings(**(options | changes))


def colour_and_texture(images: np.ndarray) -> np.ndarray:
    """Simple features [n f] of uint8 fields [n c y x], channel by channel.

    Mean, sd and percentiles of the grey levels; contrast, homogeneity, energy and correlation of
    the co-occurrence matrix at 1, 2 and 4 px; histogram of uniform local binary patterns.
    """
    return np.array([np.concatenate([_channel(c) for c in field]) for field in images])


def _channel(image: np.ndarray) -> np.ndarray:
    levels = np.percentile(image, [1, 10, 25, 50, 75, 90, 99])
    angles = np.arange(4) * np.pi / 4
    pairs = graycomatrix(image // 8, [1, 2, 4], angles, levels=32, symmetric=True, normed=True)
    names = ("contrast", "homogeneity", "energy", "correlation")
    texture = [graycoprops(pairs, name).mean(axis=1) for name in names]
    patterns = local_binary_pattern(image, 8, 1, method="uniform")
    histogram = np.bincount(patterns.astype(int).ravel(), minlength=10) / image.size
    return np.concatenate([[image.mean(), image.std()], levels, *texture, histogram])


def baseline(store: Store, table: pd.DataFrame) -> pd.Series:
    """Accuracy of a logistic regression on colour and texture, for each plate left out."""
    features = colour_and_texture(store.read(store.rows(table["site_id"])))
    label, plate, right = table["compound"].to_numpy(), table["plate"].to_numpy(), {}
    for name in sorted(set(plate)):
        out = plate == name
        rule = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        right[name] = rule.fit(features[~out], label[~out]).score(features[out], label[out])
    return pd.Series(right, name="colour and texture")


def table_of(found: pd.DataFrame, simple: pd.Series, metric: str = "knn_znorm") -> pd.DataFrame:
    """A metric of each method and plate left out, mean ± sd over seeds; and of the baseline.

    "mean" is of the plates' means: mean ± sd over seeds.
    """
    found = found.assign(plate=[sorted(simple.index)[fold - 1] for fold in found["fold"]])
    rows = {}
    for method, runs in found.dropna(subset=[metric]).groupby("method"):
        values = {plate: group[metric] for plate, group in runs.groupby("plate")}
        rows[method] = {plate: _with_spread(v) for plate, v in values.items()}
        rows[method]["mean"] = _with_spread(runs.groupby("seed")[metric].mean())
    rows[simple.name] = {**simple.map("{:.2f}".format), "mean": f"{simple.mean():.2f}"}
    return pd.DataFrame(rows).T.reindex(columns=[*simple.index, "mean"]).fillna("")


def _with_spread(values: pd.Series) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def done(chosen: experiments.Settings, screen: str) -> bool:
    """Whether there is a record of this very run."""
    path = records.record_path(
        records.results_root(), PRESET, "cdcl", screen, chosen.method, chosen.fold, chosen.seed
    )
    if not path.exists():
        return False
    return json.loads(path.read_text("utf-8"))["parameters"] == dataclasses.asdict(chosen)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--folds", default="1,2,3", help="number of the plate left out")
    parser.add_argument("--epochs", type=int, default=150)
    asked = parser.parse_args(arguments)
    shared = Path(os.environ.get("HCS_SHARED", ROOT.parent / "shared" / "data")).resolve()
    if not (shared / "bbbc021_fields").is_dir():
        print("The fields of BBBC021 are not on this machine; see $HCS_SHARED.")
        return 0
    os.chdir(ROOT)  # so that a record names the screen as any other checkout does
    folder = Path("build/real")
    folder.mkdir(parents=True, exist_ok=True)
    path = screen_file(shared / "bbbc021_fields", folder)
    screen = experiments.prepare(str(path), image_px=settings(path).image_px)
    methods, seeds, folds = (x.split(",") for x in (asked.methods, asked.seeds, asked.folds))
    for seed, method, fold in [(int(s), m, int(f)) for s in seeds for m in methods for f in folds]:
        chosen = settings(path, method=method, seed=seed, fold=fold, epochs=asked.epochs)
        if not done(chosen, screen.name):
            result = experiments.run(chosen, screen, progress=False)
            score = np.ravel(result.metrics["knn_znorm"])[0]
            print(f"{result.record}  {score:.2f}  {result.seconds:.0f} s", flush=True)
    found = records.load_records(preset=PRESET, experiment="cdcl")
    found = found[(found["screen"] == screen.name) & found["method"].isin(METHODS.split(","))]
    for metric, title in METRICS.items():
        print(f"\n{title}, per plate left out; largest class {LARGEST:.2f}")
        print(table_of(found, baseline(screen.store, screen.table), metric).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())

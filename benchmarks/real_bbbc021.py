"""Real fields, a plate left out: every method beside simple colour and texture features.

BBBC021, three plates of Week9_39282 with three compounds, 28 fields each. Needs the folder
bbbc021_fields in $HCS_SHARED, or in ../shared/data beside the checkout. About a minute a run:

    python benchmarks/real_bbbc021.py [methods] [seeds] [epochs]     as in  cdcl,dino  0,1,2  150
"""

import os
import sys
import tempfile
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
METHODS = "random,intensity,supervised,dino,dino_cb,cdcl"
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
        image_norm="all", znorm="all",
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


def table_of(found: pd.DataFrame, simple: pd.Series) -> pd.DataFrame:
    """k-NN after Z-norm of each method and plate left out, mean ± sd over seeds; the baseline."""
    found = found.assign(plate=[sorted(simple.index)[fold - 1] for fold in found["fold"]])
    rows = {}
    for method, runs in found.groupby("method"):
        values = {plate: group["knn_znorm"] for plate, group in runs.groupby("plate")}
        rows[method] = {plate: _with_spread(v) for plate, v in values.items()}
        rows[method]["mean"] = f"{runs['knn_znorm'].mean():.2f}"
    rows[simple.name] = {**simple.map("{:.2f}".format), "mean": f"{simple.mean():.2f}"}
    return pd.DataFrame(rows).T.reindex(columns=[*simple.index, "mean"]).fillna("")


def _with_spread(values: pd.Series) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def main(methods=METHODS, seeds="0,1,2", epochs="150") -> int:
    shared = Path(os.environ.get("HCS_SHARED", ROOT.parent / "shared" / "data"))
    if not (shared / "bbbc021_fields").is_dir():
        print("The fields of BBBC021 are not on this machine; see $HCS_SHARED.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = screen_file(shared / "bbbc021_fields", Path(folder))
        screen = experiments.prepare(str(path), image_px=settings(path).image_px)
        for method in methods.split(","):
            for seed in map(int, seeds.split(",")):
                for fold in (1, 2, 3):
                    chosen = dict(method=method, seed=seed, fold=fold, epochs=int(epochs))
                    result = experiments.run(settings(path, **chosen), screen, progress=False)
                    print(f"{result.record}  {result.metrics['knn_znorm'][0]:.2f}", flush=True)
    found = records.load_records(preset=PRESET)
    found = found[(found["screen"] == screen.name) & found["method"].isin(methods.split(","))]
    table = table_of(found, baseline(screen.store, screen.table))
    print("\nk-NN after Z-norm by all, per plate left out; largest class 0.43")
    print(table.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

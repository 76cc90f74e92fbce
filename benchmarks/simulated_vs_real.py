"""How like a real screen is the simulated one? The same measures on both, a record for each.

Real: BBBC021, four groups of three plates with three compounds, from the folder bbbc021_fields in
$HCS_SHARED or in ../shared/data beside the checkout. Simulated: preset quick, dealt in groups of
the same design: three plates of three batches, three compounds. Two minutes:

    python benchmarks/simulated_vs_real.py
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import skew
from skimage.filters import threshold_otsu
from sklearn.neighbors import KNeighborsClassifier

from hcs_utils import experiments, files, records
from hcs_utils.evaluation import leaks

GROUPS = ("Week3_25421", "Week3_25681", "Week4_27801", "Week9_39282")
WINDOW = 48  # px: about 100 um in both


def real_groups(fields: Path) -> list[pd.DataFrame]:
    """The four groups whose three plates hold the same three compounds."""
    labels = pd.read_csv(fields / "labels.csv", sep=";")
    made_on = labels.groupby("compound")["plate"].agg(lambda p: tuple(sorted(set(p))))
    labels["group"] = labels["compound"].map(made_on).map(lambda plates: plates[0])
    return [rows.assign(row=rows.index) for _, rows in labels.groupby("group") if _ in GROUPS]


def real_screen(fields: Path, plates: list[str], folder: Path):
    """Three plates as a screen, in the full size of the files."""
    described = {
        "name": f"bbbc021-{plates[0].lower()}", "root": str(fields), "table": "labels.csv",
        "columns": {"batch": "plate", "plate": "plate", "well": "well", "compound": "compound",
                    "treatment": "compound", "dose_um": "concentration"},
        "channels": {c: f"images/bbbc021v1_{{row}}.png#{k}"
                     for k, c in enumerate(("actin", "tubulin", "DNA"))},
        "filter": {"plate": plates},
    }  # fmt: skip
    path = folder / f"{plates[0]}.yaml"
    path.write_text(yaml.safe_dump(described), "utf-8")
    return experiments.prepare(str(path))


def simulated_groups(screen, groups: int = 12, fields: int = 4) -> list[np.ndarray]:
    """Rows of the store in groups of one plate from each of three batches and three compounds."""
    rng, table = np.random.default_rng(0), screen.table
    found = []
    for _ in range(groups):
        batches = rng.choice(table["batch"].unique(), 3, replace=False)
        treatments = rng.choice(
            table.loc[table["role"] == "trt", "treatment"].unique(), 3, replace=False
        )
        first = table[table["batch"].isin(batches) & table["treatment"].isin(treatments)]
        plates = first.groupby("batch")["plate"].min()
        first = first[first["plate"].isin(plates) & (first["site"] <= fields)]
        wells = first.groupby(["plate", "treatment"])["well"].transform("min")
        found.append(first.index[first["well"] == wells].to_numpy())
    return found


def shares(images: np.ndarray, plate: np.ndarray, treatment: np.ndarray) -> dict[str, float]:
    """Where the variance of a field's log mean intensity lies; mean over channels."""
    level = np.log(images.mean((2, 3)) + 1)
    total = ((level - level.mean(0)) ** 2).sum(0)

    def between(labels) -> np.ndarray:
        means = pd.DataFrame(level).groupby(labels).transform("mean").to_numpy()
        return ((means - level.mean(0)) ** 2).sum(0)

    well = pd.Series(plate).str.cat(pd.Series(treatment), sep="/").to_numpy()
    of_plate, of_treatment, of_well = between(plate), between(treatment), between(well)
    parts = {
        "plate": of_plate, "treatment": of_treatment,
        "well": of_well - of_plate - of_treatment, "field": total - of_well,
    }  # fmt: skip
    return {f"share_{name}": float(np.mean(part / total)) for name, part in parts.items()}


def told(images: np.ndarray, plate: np.ndarray, treatment: np.ndarray) -> dict[str, float]:
    """Accuracy of intensity statistics, 3 neighbours, for two questions; chance is about 1/3.

    Which plate, for compounds unseen; and which compound, on a plate unseen.
    """
    x = leaks.intensity_statistics(images)
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    right = {}
    for name, label, held in (
        ("plate_told", plate, treatment),
        ("treatment_told", treatment, plate),
    ):
        hits = []
        for out in np.unique(held):
            test = held == out
            rule = KNeighborsClassifier(3).fit(x[~test], label[~test])
            hits.append(rule.score(x[test], label[test]))
        right[name] = float(np.mean(hits))
    return right


def pixels(images: np.ndarray, channels: tuple[str, ...]) -> dict[str, float]:
    """Measures of the pixels alone, in windows of the same size; medians over fields."""
    side = images.shape[-1]
    at = (side - WINDOW) // 2
    window = images[:, :, at : at + WINDOW, at : at + WINDOW].astype(float)
    dna = window[:, channels.index("DNA")]
    flat = window.reshape(*window.shape[:2], -1)
    bright = [(w > threshold_otsu(w)).mean() for w in dna if w.std() > 0]
    together = [np.corrcoef(f)[np.triu_indices(len(f), 1)] for f in flat if (f.std(1) > 0).all()]
    return {
        "dna_foreground": float(np.median(bright)),
        "dna_skewness": float(np.median(skew(dna.reshape(len(dna), -1), axis=1))),
        "spectrum_slope": float(np.median([_slope(w) for w in dna])),
        "channel_correlation": float(np.median(np.concatenate(together))),
        "saturated": float((window == 255).mean()),
    }


def _slope(plane: np.ndarray) -> float:
    """Exponent of the radial power spectrum between 2 cycles a window and half of Nyquist."""
    power = np.abs(np.fft.fft2(plane - plane.mean())) ** 2
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(len(plane)) * len(plane)] * 2))
    radius = np.arange(2, len(plane) // 4 + 1)
    mean = [power[(k >= r - 0.5) & (k < r + 0.5)].mean() + 1e-9 for r in radius]
    return float(np.polyfit(np.log(radius), np.log(mean), 1)[0])


def measure(screen, groups: list[np.ndarray]) -> dict[str, tuple[float, float, float]]:
    """Mean and range over groups of every measure."""
    rows = []
    for group in groups:
        images, table = screen.store.read(group), screen.table.iloc[group]
        plate, treatment = table["plate"].to_numpy(str), table["treatment"].to_numpy(str)
        rows.append(
            shares(images, plate, treatment)
            | told(images, plate, treatment)
            | pixels(images, screen.channels)
        )
    table = pd.DataFrame(rows)
    return {name: (table[name].mean(), table[name].min(), table[name].max()) for name in table}


def main() -> int:
    began = time.perf_counter()
    simulated = experiments.prepare("simulated", "quick")
    found = {"quick": (simulated, measure(simulated, simulated_groups(simulated)))}
    fields = files.shared_data("bbbc021_fields")
    if fields is None:
        print("The fields of BBBC021 are not on this machine ($HCS_SHARED): simulated only.")
    else:
        with tempfile.TemporaryDirectory() as folder:
            values = []
            for rows in real_groups(fields):
                screen = real_screen(fields, sorted(rows["plate"].unique()), Path(folder))
                values.append(measure(screen, [np.arange(len(screen.table))]))
        joined = pd.DataFrame([{k: v[0] for k, v in value.items()} for value in values])
        spread = {n: (joined[n].mean(), joined[n].min(), joined[n].max()) for n in joined}
        found["real"] = (screen, spread)
    for preset, (screen, values) in found.items():
        name = screen.name if preset == "quick" else "bbbc021-fields"
        records.save_record(
            experiment="screens", screen=name, method="statistics", preset=preset,
            parameters={"groups": 12 if preset == "quick" else len(GROUPS), "window_px": WINDOW},
            fold=0, seed=0, metrics=values, device=records.device(),
            seconds=time.perf_counter() - began, manifest_sha256=screen.store.manifest_sha256,
        )  # fmt: skip
    print(pd.DataFrame({p: {k: v[0] for k, v in vs.items()} for p, (_, vs) in found.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Seven real plates judged: what corrections do, what a well's position tells, what crosses time.

CPJUMP1, compounds, U2OS, 24 h and 48 h, one layout on every plate. Needs the folder
cpjump1_profiles in $HCS_SHARED or in ../shared/data beside the checkout. A record for each
correction, one of the leaks, four of what crosses plates; two tables for figures. Six minutes:

    python benchmarks/real_cpjump1.py
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from hcs_utils import files, records
from hcs_utils.data import profiles
from hcs_utils.evaluation import leaks
from hcs_utils.evaluation import postprocess as correct
from hcs_utils.evaluation.classification import knn_predict
from hcs_utils.evaluation.intervals import bootstrap_interval
from hcs_utils.evaluation.mixing import kbet, lisi, silhouette
from hcs_utils.evaluation.neighbours import nearest
from hcs_utils.evaluation.replicates import (
    grit,
    grit_by_treatment,
    nsc_moa_accuracy,
    replicate_map,
)

SCREEN, PRESET, EXPERIMENT = "cpjump1", "real", "judging"
SHARE = 0.1  # regularisation of sphering and TVN
NEIGHBOURS = 0.02  # of all rows, for kBET: 0.5 % of 1,152 rows would be 5 of 3 plates
NULLS = 5  # shuffles
CROWDING = ("Neighbors", "Parent")  # numbers of cells: touching, distances, mean object number
CROSSED = ("as_given", "z_controls", "sphere", "harmony")
MAPPED = ("as_given", "sphere", "harmony")

Correction = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # features, plate, control
CORRECTIONS: dict[str, Correction] = {
    "as_given": lambda x, plate, control: x,
    "z_controls": correct.zscore_by_controls,
    "z_all": lambda x, plate, control: correct.zscore_by_all(x, plate),
    "sphere_0.01": lambda x, plate, control: correct.sphere(x, control, 0.01),
    "sphere": lambda x, plate, control: correct.sphere(x, control, SHARE),
    "sphere_1": lambda x, plate, control: correct.sphere(x, control, 1),
    "tvn": lambda x, plate, control: correct.tvn(x, plate, control, SHARE),
    "combat": lambda x, plate, control: correct.combat(x, plate),
    "harmony": lambda x, plate, control: correct.harmony(x, plate),
}


class Screen:
    """The plates, as arrays."""

    def __init__(self, folder: Path):
        self.table, self.features, self.names = profiles.cpjump1(folder)
        for name in ("plate", "well", "compound", "target", "moa", "anomaly"):
            setattr(self, name, self.table[name].to_numpy(str))
        self.time = self.table["time_h"].to_numpy()
        self.control = (self.table["role"] == "negcon").to_numpy()
        self.treated = ~self.control
        wells = self.table.groupby(["plate", "compound"])["well"].transform("size").to_numpy()
        self.two = self.treated & (wells == 2)  # compounds in two wells of each plate
        self.halves = self._halves()
        digests = [files.sha256(path) for path in sorted(folder.glob("*.gz"))]
        self.digest = files.sha256("".join(digests).encode())

    def _halves(self) -> list[np.ndarray]:
        """The control wells in two halves: positions, the same on each plate."""
        wells = np.unique(self.well[self.control])
        first = np.random.default_rng(0).permutation(wells)[: len(wells) // 2]
        chosen = np.isin(self.well, first)
        return [self.control & chosen, self.control & ~chosen]


def found(right: np.ndarray, unit: np.ndarray) -> tuple[float, float, float]:
    """Share, with its interval when the units are drawn anew."""
    return float(np.mean(right)), *bootstrap_interval(right, unit)


# Which compound?


def across_plates(s: Screen, x: np.ndarray, rows: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Whether each of the rows finds its label by k-NN among those rows of the other plates."""
    right = np.zeros(len(x), bool)
    for plate in np.unique(s.plate):
        query, bank = rows & (s.plate == plate), rows & (s.plate != plate)
        right[query] = knn_predict(x[bank], label[bank], x[query]) == label[query]
    return right[rows]


def same_or_other_position(s: Screen, x: np.ndarray) -> np.ndarray:
    """Compounds in two wells: found when other plates show the same position, the other one?

    Each bank shows every such compound in one of its two wells: six right answers, beside all
    other compounds. One column a row of `two`: `[2, m]`.
    """
    first = s.two & ~pd.DataFrame({"p": s.plate, "c": s.compound}).duplicated().to_numpy()
    second = s.two & ~first
    right = np.zeros((2, len(x)))
    for plate in np.unique(s.plate):
        for asked, twin in ((first, second), (second, first)):
            query = asked & (s.plate == plate)
            for form, hidden in enumerate((twin, asked)):
                bank = s.treated & (s.plate != plate) & ~hidden
                answer = knn_predict(x[bank], s.compound[bank], x[query])
                right[form, query] = answer == s.compound[query]
    return right[:, s.two]


def compounds(
    s: Screen, x: np.ndarray, given: dict[str, np.ndarray]
) -> tuple[dict[str, tuple], dict[str, np.ndarray]]:
    """Compounds found, by position, and the gain over `given`, what was right without correction.

    Also what was right here, for the next."""
    same, other = same_or_other_position(s, x)
    right = {
        "knn_compound": across_plates(s, x, s.treated, s.compound).astype(float),
        "knn_same_position": same,
        "knn_other_position": other,
    }
    out, unit = {}, {name: s.compound[s.two] for name in right}
    unit["knn_compound"] = s.compound[s.treated]
    for name, values in right.items():
        out[name] = found(values, unit[name])
        out[f"{name}_gain"] = found(values - given.get(name, values), unit[name])
    out["knn_lost_with_position"] = found(same - other, s.compound[s.two])
    return out | {"knn_compound_null": shuffled(s, x)}, right


def shuffled(s: Screen, x: np.ndarray) -> tuple[float, float, float]:
    """`across_plates` with compounds dealt anew to the treated wells of each plate."""
    values = []
    for seed in range(NULLS):
        rng, label = np.random.default_rng(seed), s.compound.copy()
        for plate in np.unique(s.plate):
            rows = s.treated & (s.plate == plate)
            label[rows] = rng.permutation(label[rows])
        values.append(across_plates(s, x, s.treated, label).mean())
    return float(np.mean(values)), float(min(values)), float(max(values))


def nothing_but_position(s: Screen, correction: Correction) -> dict[str, tuple]:
    """What controls tell, which all hold the same, with the correction learned on other controls.

    It is learned on half of the control wells and judged on the other half, both ways. `dmso_well`:
    wells found among themselves on the other plates. `dmso_active`: share of control wells that,
    taken for compounds, are active (q < 0.05) against controls that neither learned from; without
    an effect of position it would be 0. `_learned`: against those that the correction learned
    from. `map_activity_held_out`: compounds against controls it did not learn from.
    """
    right, unit, wells, active, learned_active, compound = [], [], np.unique, [], [], []
    for learned, judged in (s.halves, s.halves[::-1]):
        x = correction(s.features, s.plate, learned)
        right.append(across_plates(s, x, judged, s.well))
        unit.append(s.well[judged])
        first = judged & np.isin(s.well, wells(s.well[judged])[::2])
        for fake, negative in ((first, judged & ~first), (judged & ~first, first)):
            active.append(_called(s, x, s.well, fake, negative)["corrected_p_value"])
        learned_active.append(_called(s, x, s.well, judged, learned)["corrected_p_value"])
        compound.append(_called(s, x, s.compound, s.treated, judged))
    out = {"dmso_well": found(np.concatenate(right), np.concatenate(unit))}
    out["dmso_well_null"] = (2 / len(wells(s.well[s.control])), None, None)
    for name, values in (("dmso_active", active), ("dmso_active_learned", learned_active)):
        below = pd.concat(values) < 0.05
        out[name] = found(below.to_numpy(float), below.index.to_numpy(str))
    both = pd.concat(compound)
    names, precision = both.index.to_numpy(str), both["mean_average_precision"].to_numpy()
    below = (both["corrected_p_value"] < 0.05).to_numpy(float)
    out["map_activity_held_out"] = found(precision, names)
    out["map_activity_significant_held_out"] = found(below, names)
    return out


def _called(
    s: Screen, x: np.ndarray, label: np.ndarray, asked: np.ndarray, negative: np.ndarray
) -> pd.DataFrame:
    """`replicate_map` of the rows asked against the negatives; positives from other plates."""
    rows = asked | negative
    return replicate_map(x[rows], label[rows], s.plate[rows], negative[rows])


# Replicates, targets and mechanisms


def replicates(s: Screen, x: np.ndarray) -> dict[str, tuple]:
    """mAP against controls and against other compounds; grit; positives from other plates."""
    rng = np.random.default_rng(0)
    dealt = x.copy()
    for plate in np.unique(s.plate):
        rows = np.flatnonzero(s.plate == plate)
        dealt[rows] = x[rng.permutation(rows)]
    out = {}
    for name, rows, control in (
        ("activity", np.ones(len(x), bool), s.control),
        ("consistency", s.treated, None),
    ):
        mask = None if control is None else control[rows]
        for suffix, values in (("", x), ("_null", dealt)):
            table = replicate_map(values[rows], s.compound[rows], s.plate[rows], mask)
            unit = table.index.to_numpy(str)
            out[f"map_{name}{suffix}"] = found(table["mean_average_precision"].to_numpy(), unit)
            below = (table["corrected_p_value"] < 0.05).to_numpy(float)
            out[f"map_{name}_significant{suffix}"] = found(below, unit)
    for suffix, values in (("", x), ("_null", dealt)):
        score = grit_by_treatment(grit(values, s.compound, s.control), s.compound)["grit"].dropna()
        middle = [
            np.median(np.random.default_rng(k).choice(score.to_numpy(), len(score)))
            for k in range(1000)
        ]
        out[f"grit_median{suffix}"] = (score.median(), *np.quantile(middle, [0.025, 0.975]))
    return out


def mechanisms(s: Screen, x: np.ndarray) -> dict[str, tuple]:
    """1-NN, not same compound, of target and MoA on the median profile of each compound."""
    table, values = correct.aggregate(s.table[s.treated], x[s.treated], "compound")
    out = {}
    for name in ("target", "moa"):
        label = s.table[s.treated].groupby("compound")[name].first()
        label = label.loc[table["compound"]].to_numpy(str)
        known = label != ""
        points, label, compound = values[known], label[known], table["compound"][known]
        near = nearest(points, points, 1, exclude_self=True)[1][:, 0]
        possible = pd.Series(label).groupby(label).transform("size").to_numpy() > 1
        _, *interval = found((label[near] == label)[possible], compound.to_numpy(str)[possible])
        value = nsc_moa_accuracy(points, compound.to_numpy(str), label)
        out[f"nsc_{name}"] = (value, *interval)
        null = [
            nsc_moa_accuracy(
                points, compound.to_numpy(str), np.random.default_rng(k).permutation(label)
            )
            for k in range(20)
        ]
        out[f"nsc_{name}_null"] = (np.mean(null), *np.quantile(null, [0.025, 0.975]))
    return out


# Do plates mix?


def mixing(s: Screen, x: np.ndarray) -> dict[str, tuple]:
    """kBET, LISI (0 apart, 1 mixed) and silhouette of plates, over all and within a time."""
    out = {}
    for name, rows in (("all", s.time > 0), ("48h", s.time == 48), ("24h", s.time == 24)):
        points, plate, unit = x[rows], s.plate[rows], s.well[rows]
        dealt = np.random.default_rng(0).permutation(plate)
        mixed = lisi(points, plate, normalised=True)
        out[f"kbet_{name}"] = (kbet(points, plate, NEIGHBOURS), None, None)
        out[f"kbet_{name}_null"] = (kbet(points, dealt, NEIGHBOURS), None, None)
        out[f"lisi_{name}"] = found(mixed, unit)
        out[f"lisi_{name}_null"] = found(lisi(points, dealt, normalised=True), unit)
        out[f"silhouette_{name}"] = found(silhouette(points, plate), unit)
    return out


# What crosses plates, times and stains


def crossing(s: Screen, x: np.ndarray) -> dict[str, tuple]:
    """1-NN, one plate as bank and one as query: each pair, and the means over kinds of pairs."""
    plates = np.unique(s.plate)
    kind = {p: (int(s.time[s.plate == p][0]), str(s.anomaly[s.plate == p][0])) for p in plates}
    out, right, unit = {}, {}, {}
    for bank in plates:
        for query in plates[plates != bank]:
            b, q = s.treated & (s.plate == bank), s.treated & (s.plate == query)
            hit = knn_predict(x[b], s.compound[b], x[q], k=1) == s.compound[q]
            out[f"from_{bank}_to_{query}"] = found(hit, s.compound[q])
            for name in _kinds(kind[bank], kind[query]):
                right.setdefault(name, []).append(hit)
                unit.setdefault(name, []).append(s.compound[q])
    for name in right:
        out[name] = found(np.concatenate(right[name]), np.concatenate(unit[name]))
    return out


def _kinds(bank: tuple[int, str], query: tuple[int, str]) -> list[str]:
    if bank[0] != query[0]:
        return ["between_24h_and_48h", f"from_{bank[0]}h_to_{query[0]}h"]
    if bank[0] == 24:
        return ["within_24h"]
    stains = sorted((bank[1], query[1]))
    pair = {("none", "none"): "clean", ("Mitotracker", "Mitotracker"): "mitotracker"}
    return ["within_48h", f"within_48h_{pair.get(tuple(stains), 'clean_and_mitotracker')}"]


# What needs no cells


def audited(s: Screen) -> dict[str, tuple]:
    """ "Which compound" from the plate map and small groups of features; means over the plates.

    `leaks.audit`, each plate in turn left out, for what is narrow; the score's own k-NN on
    features of mean 0 and sd 1 for intensities and for features shuffled one by one.
    """
    position = leaks.sources(s.table)["well position"]
    words = {"row": 0, "column": 1, "distance to the edge": 2}
    narrow = {
        "well position": position,
        **{name: position[:, k].astype(int).astype(str) for name, k in words.items()},
        "plate": s.plate,
        "crowding features": s.features[:, _named(s, CROWDING)],
    }
    narrow = {name: values[s.treated] for name, values in narrow.items()}
    plate, compound = s.plate[s.treated], s.compound[s.treated]
    tables = [
        leaks.audit(compound, plate != out, plate == out, narrow, unit=compound)
        for out in np.unique(plate)
    ]
    mean = sum(table[["value", "low", "high", "null"]] for table in tables) / len(tables)
    out = {}
    for name, row in mean.iterrows():
        key = str(name).replace(" ", "_")
        out |= {key: (row["value"], row["low"], row["high"]), f"{key}_null": row["null"]}
    rng, scaled = np.random.default_rng(0), correct.zscore_by_controls(
        s.features, s.plate, s.control
    )  # fmt: skip
    permuted = np.stack([rng.permutation(column) for column in scaled.T], axis=1)
    for name, x in (
        ("intensity_features", scaled[:, _named(s, ("_Intensity_",))]),
        ("permuted_features", permuted),
    ):
        out[name] = found(across_plates(s, x, s.treated, s.compound), compound)
        out[f"{name}_null"] = shuffled(s, x)
    return out | _position_elsewhere(s)


def _named(s: Screen, words: tuple[str, ...]) -> np.ndarray:
    return np.array([any(word in name for word in words) for name in s.names])


def _position_elsewhere(s: Screen) -> dict[str, tuple]:
    """Compounds in two wells from the nearest wells when their own position may not answer."""
    at = leaks.sources(s.table)["well position"][:, :2]
    asked = np.flatnonzero(s.two)
    right = []
    for row in asked:
        bank = s.treated & (s.plate != s.plate[row]) & (s.well != s.well[row])
        away = np.linalg.norm(at[bank] - at[row], axis=1)
        closest = s.compound[bank][away == away.min()]
        right.append(np.mean(closest == s.compound[row]))
    return {"well_position_other_position": found(np.array(right), s.compound[asked])}


# The whole


def umap(s: Screen, corrected: dict[str, np.ndarray]) -> pd.DataFrame:
    """A map of every well under some corrections (umap-learn's defaults, cosine)."""
    import warnings

    from umap import UMAP

    parts = []
    for name in MAPPED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a seed needs one thread
            at = UMAP(metric="cosine", random_state=0).fit_transform(corrected[name])
        about = s.table[["plate", "well", "time_h", "role", "compound"]]
        x, y = at.round(2).astype("float32").T
        parts.append(about.assign(correction=name, x=x, y=y))
    return pd.concat(parts, ignore_index=True)


def main() -> int:
    folder = files.shared_data("cpjump1_profiles")
    if folder is None:
        print("The profiles of CPJUMP1 are not on this machine; see $HCS_SHARED.")
        return 0
    s, shown = Screen(folder), {}
    corrected, wells = {}, s.table[["plate", "well", "role"]].copy()

    def save(method: str, metrics: dict, began: float) -> None:
        records.save_record(
            experiment=EXPERIMENT, screen=SCREEN, method=method, preset=PRESET,
            parameters={"plates": np.unique(s.plate), "regularisation": SHARE, "k": 10,
                        "temperature": 0.1, "kbet_fraction": NEIGHBOURS, "null_shuffles": NULLS},
            fold=0, seed=0, metrics=metrics, device=records.device(),
            seconds=time.perf_counter() - began, manifest_sha256=s.digest,
        )  # fmt: skip
        print(f"{method}: {time.perf_counter() - began:.0f} s", flush=True)

    given = {}
    for name, correction in CORRECTIONS.items():
        began = time.perf_counter()
        x = corrected[name] = correction(s.features, s.plate, s.control)
        values, right = compounds(s, x, given)
        given = given or right
        wells.loc[s.treated, name] = right["knn_compound"]
        wells.loc[s.control, name] = across_plates(s, x, s.control, s.well).astype(float)
        shown[name] = {
            **values,
            **nothing_but_position(s, correction),
            **replicates(s, x),
            **mechanisms(s, x),
            **mixing(s, x),
        }
        save(name, shown[name], began)
        if name in CROSSED:
            began = time.perf_counter()
            save(f"crossing_{name}", crossing(s, x), began)
    began = time.perf_counter()
    save("leaks", audited(s), began)
    where = records.record_path(records.results_root(), PRESET, EXPERIMENT, SCREEN, "x", 0, 0)
    by_well = wells.groupby("well").agg({"role": "first", **dict.fromkeys(CORRECTIONS, "mean")})
    for name, table in (("wells", by_well.reset_index()), ("umap", umap(s, corrected))):
        with files.replacing(where.parent / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    table = pd.DataFrame({m: {k: v[0] for k, v in values.items()} for m, values in shown.items()})
    print(table.round(3).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())

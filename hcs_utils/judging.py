"""What a run's embedding is judged by: one question and every metric, on batches held out."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from hcs_utils.errors import InputError
from hcs_utils.evaluation import leaks, metrics, postprocess
from hcs_utils.evaluation.classification import KNN_CARON, KNN_CDCL
from hcs_utils.evaluation.neighbours import unit
from hcs_utils.learning.embed import features
from hcs_utils.settings import Settings

Scores = dict[str, tuple[float, float, float] | float]


def question(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What every accuracy answers: bank, query (masks of rows), label and well of each row.

    The bank is the training part, queries are the test part, both without controls, whose many
    wells would set the score.
    """
    treated = (table["role"] == "trt").to_numpy()
    train_, test = (table["split"].eq(part).to_numpy() for part in ("train", "test"))
    well = (table["plate"] + table["well"]).to_numpy()
    return train_ & treated, test & treated, table["treatment"].to_numpy(), well


def znorm(
    z: np.ndarray, table: pd.DataFrame, settings: Settings, lone: str = "raise"
) -> np.ndarray:
    """Features [n d] after the Z-norm a batch that the settings ask for.

    "minibatch" is CDCL's released code: all samples, for test fields those in the same minibatch,
    where a field that is alone of its batch is refused or (`lone` "nan") NaN.
    """
    batch, test = table["batch"].to_numpy(), (table["split"] == "test").to_numpy()
    if settings.znorm == "controls":
        return postprocess.zscore_by_controls(z, batch, (table["role"] == "negcon").to_numpy())
    if settings.znorm == "all":
        return postprocess.zscore_by_all(z, batch)
    scaled = postprocess.zscore_by_minibatch(z, batch, None, lone)
    if test.any():
        scaled[test] = postprocess.zscore_by_minibatch(z[test], batch[test], lone=lone)
    return scaled


def judge(embedding: pd.DataFrame, table: pd.DataFrame, settings: Settings) -> Scores:
    """Every metric of a run, by name: `accuracies`, `mixing`, `replicates` and `mechanisms`.

    `table`: the manifest with `split`; `embedding`: its sites in any order. Raw features and those
    after the settings' Z-norm (names with `znorm`) are judged alike. Metrics that a screen does not
    allow (one test batch, no controls, no mechanisms) are left out.
    """
    z = features(embedding.set_index("site_id").loc[table["site_id"]].reset_index())
    zn = znorm(z, table, settings)
    scores = accuracies(z, zn, table, settings) | mixing(z, zn, table, settings)
    return scores | replicates(z, zn, table, settings) | mechanisms(z, table, settings)


def accuracies(z: np.ndarray, zn: np.ndarray, table: pd.DataFrame, settings: Settings) -> Scores:
    """k-NN and a linear reading, of the `question`; intervals resample whole wells.

    knn, knn_znorm: k = 10 and temperature 0.1; knn_caron: 20 and 0.07, where the bank has as many;
    knn_znorm_all: Z-norm from all samples; knn_znorm_minibatch: as the released code, a field that
    it makes NaN counted wrong; knn_znorm_moved: of the queries whose treatment never stands in that
    well of a plate of the bank; knn_shuffled: the bank's labels shuffled; val_knn_znorm: validation
    fields as queries, the one number on which choices may be made; linear, linear_znorm: what
    `metrics.linear_predict` reads.
    """
    bank, query, label, well = question(table)
    val = (table["split"].eq("val") & table["role"].eq("trt")).to_numpy()
    place = (table["well"] + " " + table["treatment"]).to_numpy()
    moved = ~np.isin(place[query], place[bank])
    names = label[bank]
    everything, released = (dataclasses.replace(settings, znorm=w) for w in ("all", "minibatch"))
    asked = {
        "knn": (z, names, query, KNN_CDCL),
        "knn_znorm": (zn, names, query, KNN_CDCL),
        "knn_znorm_all": (znorm(z, table, everything), names, query, KNN_CDCL),
        "knn_znorm_minibatch": (znorm(z, table, released, "nan"), names, query, KNN_CDCL),
        "knn_caron": (zn, names, query, KNN_CARON),
        "knn_shuffled": (
            zn, np.random.default_rng(settings.seed).permutation(names), query, KNN_CDCL,
        ),
        "val_knn_znorm": (zn, names, val, KNN_CDCL),
    }  # fmt: skip
    scores: Scores = {"chance": 1 / len(np.unique(names))}
    for name, (x, labels, rows, options) in asked.items():
        if not rows.any() or (name == "knn_caron" and bank.sum() < options["k"]):
            continue
        usable = rows & np.isfinite(x).all(axis=1)
        right = np.zeros(len(x), bool)
        if usable.any():
            found = metrics.knn_predict(x[bank], labels, x[usable], **options)
            right[usable] = found == label[usable]
        scores[name] = _mean(right[rows], well[rows], settings.seed)
        if name == "knn_znorm" and len(np.unique(well[query][moved])) > 1:
            found_again, wells = right[query][moved], well[query][moved]
            scores["knn_znorm_moved"] = _mean(found_again, wells, settings.seed)
    if 1 < len(np.unique(names)) < bank.sum():
        for name, x in (("linear", z), ("linear_znorm", zn)):
            right = metrics.linear_predict(x[bank], names, x[query]) == label[query]
            scores[name] = _mean(right, well[query], settings.seed)
    return scores


def mixing(z: np.ndarray, zn: np.ndarray, table: pd.DataFrame, settings: Settings) -> Scores:
    """kBET: how well batches mix among all fields of a part, controls included.

    kbet_train, kbet and kbet_znorm: `metrics.kbet` by batch. As CDCL's released code, step by step:
    kbet_released changes the form; kbet_by_treatment takes the treatment for the batch as well;
    kbet_znorm_by_treatment does so after a Z-norm of each *treatment* by all its test fields, so
    that it says how well treatments have been mixed up.
    """
    batch, treatment = table["batch"].to_numpy(), table["treatment"].to_numpy()
    train_, test = (table["split"].eq(part).to_numpy() for part in ("train", "test"))
    own = postprocess.zscore_by_minibatch(z[test], treatment[test], None, lone="nan")
    several = np.isfinite(own).all(axis=1)
    asked = {
        "kbet_train": (z[train_], batch[train_], "standard"),
        "kbet": (z[test], batch[test], "standard"),
        "kbet_znorm": (zn[test], batch[test], "standard"),
        "kbet_released": (z[test], batch[test], "released"),
        "kbet_by_treatment": (z[test], treatment[test], "released"),
        "kbet_znorm_by_treatment": (own[several], treatment[test][several], "released"),
    }
    return {
        name: metrics.kbet(x, group, settings.kbet_fraction, form=form)
        for name, (x, group, form) in asked.items()
        if len(np.unique(group)) > 1
    }


def replicates(z: np.ndarray, zn: np.ndarray, table: pd.DataFrame, settings: Settings) -> Scores:
    """Grit of treated fields against the negative controls of the same part, in their deviations.

    grit_train, grit and grit_znorm (test): a field is a profile, a treatment's fields in any well
    and batch its replicates; mean of the treatments' means, so that treatments weigh alike, and the
    interval resamples compounds. Missing where a part has fewer than two control fields, or where
    controls are so alike (a collapsed encoder) that there is nothing to measure by.
    """
    compound = pd.Series(_compound(table).to_numpy(), table["treatment"].to_numpy())
    compound = compound[~compound.index.duplicated()]
    scores: Scores = {}
    for name, x, part in (
        ("grit_train", z, "train"), ("grit", z, "test"), ("grit_znorm", zn, "test"),
    ):  # fmt: skip
        rows = (table["split"].eq(part) & table["role"].isin(["trt", "negcon"])).to_numpy()
        control = table["role"].to_numpy()[rows] == "negcon"
        treatment = table["treatment"].to_numpy()[rows]
        repeated = len(np.unique(treatment[~control])) < (~control).sum()
        if control.sum() < 2 or not repeated:
            continue
        try:
            score = metrics.grit(x[rows], treatment, control)
        except InputError:  # every other fault of features was told before
            continue
        each = metrics.grit_by_treatment(score, treatment)["grit"].dropna()
        scores[name] = _mean(each.to_numpy(), compound[each.index].to_numpy(), settings.seed)
    return scores


def mechanisms(z: np.ndarray, table: pd.DataFrame, settings: Settings) -> Scores:
    """Is a treatment's nearest treatment of another compound of its mechanism (MoA)? Test batches.

    nsc_moa: fields scaled a plate by its negative controls (all its fields, on a screen where
    a plate has fewer than two; a plate's lone field is left out), to length 1, averaged over each
    treatment; 1-NN by cosine, the own compound left out; the interval resamples compounds.
    nsc_moa_chance: the same with mechanisms permuted among compounds, the mean of 200.
    nsc_moa_released: as CDCL's code, by the first treatment in sorted order (label 0) whatever it
    is, controls scored too, only the own treatment left out, and one that could not be right
    counted wrong; where every plate has that treatment.
    Nothing unless two mechanisms have two treated compounds or more. Source: CDCL, table 2a.
    """
    test = table["split"].eq("test").to_numpy()
    fields = table[test].groupby("plate").size().reindex(table["plate"])
    test = test & fields.gt(1).to_numpy()
    part, x = table[test].assign(compound=_compound(table[test])), z[test]
    treated, control = (part["role"].eq(role).to_numpy() for role in ("trt", "negcon"))
    if not mechanisms_repeat(part):
        return {}
    mean, about = _profiles(x, part, control, treated)
    compound, moa = about["compound"].to_numpy(), about["moa"].to_numpy()
    right = metrics.nsc_moa_right(mean, compound, moa)
    asked = np.isfinite(right)
    scores: Scores = {
        "nsc_moa": _mean(right[asked], compound[asked], settings.seed),
        "nsc_moa_chance": metrics.nsc_moa_chance(mean, compound, moa, seed=settings.seed),
    }
    first = part["treatment"].eq(part["treatment"].min()).to_numpy()
    if _in_each_plate(part, first):
        named = part.assign(moa=part["moa"].mask(control, "negative control"))
        mean, about = _profiles(x, named, first, np.ones(len(x), bool))
        scores["nsc_moa_released"] = metrics.nsc_moa_accuracy(
            mean, about.index.to_numpy(), about["moa"].to_numpy(), unmatched="wrong"
        )
    return scores


def mechanisms_repeat(table: pd.DataFrame) -> bool:
    """Whether two mechanisms or more have two treated compounds or more each."""
    known = table[table["role"].eq("trt") & table["moa"].ne("")]
    return bool((_compound(known).groupby(known["moa"]).nunique() > 1).sum() > 1)


def audit(sources: Mapping, table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """`leaks.audit` of the very question that `judge` asks.

    What comes from images is Z-normed as an embedding is; position and plate are left as they are.
    """
    bank, query, label, well = question(table)
    same = {
        name: values if name in ("well position", "plate") else znorm(values, table, settings)
        for name, values in sources.items()
    }
    return leaks.audit(label, bank, query, same, unit=well, seed=settings.seed)


def _mean(values: np.ndarray, unit: np.ndarray, seed: int) -> tuple[float, float, float] | float:
    """Mean and its interval over units; the mean alone where there is one unit."""
    mean = float(values.mean())
    if len(np.unique(unit)) < 2:
        return mean
    return mean, *metrics.bootstrap_interval(values, unit, seed=seed)


def _compound(table: pd.DataFrame) -> pd.Series:
    """The compound of each row, the treatment where it has none (siRNA)."""
    return table["compound"].where(table["compound"] != "", table["treatment"])


def _in_each_plate(table: pd.DataFrame, rows: np.ndarray) -> bool:
    """Whether every plate has two of the rows or more."""
    return bool((pd.Series(rows).groupby(table["plate"].to_numpy()).sum() > 1).all())


def _profiles(x: np.ndarray, table: pd.DataFrame, control: np.ndarray, rows: np.ndarray):
    """The mean of each treatment's scaled fields among the rows, and what its first row says."""
    plate = table["plate"].to_numpy()
    if _in_each_plate(table, control):
        scaled = postprocess.zscore_by_controls(x, plate, control)
    else:
        scaled = postprocess.zscore_by_all(x, plate)
    found, mean = postprocess.aggregate(
        table.loc[rows, ["treatment"]], unit(scaled)[rows], "treatment", "mean"
    )
    about = table[rows].drop_duplicates("treatment").set_index("treatment")
    return mean, about.loc[found["treatment"]]

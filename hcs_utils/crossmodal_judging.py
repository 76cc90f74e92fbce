"""What a space of molecules and images is judged by, on compounds held out from training."""

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from scipy.stats import t

from hcs_utils import records
from hcs_utils.data.molecule_properties import properties
from hcs_utils.errors import InputError
from hcs_utils.evaluation import metrics, postprocess, separation
from hcs_utils.evaluation.neighbours import unit
from hcs_utils.judging import Scores
from hcs_utils.learning.embed import features

LARGE = 1000  # pairs of the larger pool, where so many compounds are held out
TARGETS = 9  # of the batch-effect task; the released code takes 10
MOST = 1200  # fields of the task
SPLITS = ("well", "plate", "batch", "source")
_FEW = 40  # pools where they only make a null or a switch


@runtime_checkable
class Asked(Protocol):
    """What of a run's settings the judgement reads."""

    pool: int  # pairs a pool
    seed: int


def judge(
    molecules: pd.DataFrame, fields: pd.DataFrame, table: pd.DataFrame, settings: Asked
) -> Scores:
    """Every metric of a cross-modal run, by name: `retrieved` of both parts, `batch_effect`.

    `molecules`: `compound`, then the projections z…; `fields`: `site_id`, then those of the images,
    raw, of the same width, rows in any order. `table`: the manifest with `split`, by compound.
    What a screen does not allow is left out. Raises `InputError` where a compound that is held out
    has no molecule, a molecule is in two parts, or fewer than two compounds are held out.
    """
    _undivided(table)
    scores = retrieved(molecules, fields, table, settings)
    scores |= validation(molecules, fields, table, settings)
    return scores | batch_effect(fields, table, settings)


def retrieved(
    molecules: pd.DataFrame, fields: pd.DataFrame, table: pd.DataFrame, settings: Asked
) -> Scores:
    """Is the own partner found among the compounds of the test part? Both directions.

    m2i_hr1, m2i_hr3, m2i_hr5, m2i_hr10, m2i_mrr ask with a molecule for its image, i2m_… with an
    image: 200 random pools of `settings.pool` compounds (all, where there are fewer: `pool`),
    one field a compound drawn anew for each pool; intervals resample compounds. With a suffix:

    - _1000: pools of 1,000, where so many are held out
    - _matched: pools of the molecules nearest in seven properties (`molecule_properties`), at most
      an eighth of the compounds, lest far ones be among the nearest: `matched_pool`
    - _unmatched: random pools of that size
    - _well, _mean: not a field but the mean of a well, or of all of a compound's fields
    - _shuffled: molecules given to images at random, the null
    - _blocks: as released, one field a compound and blocks in the order of InChI
    - _inverted: as the released code with L2, whose distances are taken for similarities

    chance_hr1, … is what guessing gives; `compounds`, how many are held out. Compounds that are
    one molecule (column `molecule`, else `smiles`) count as one, negative controls as none.
    """
    molecule, image, name, smiles, well = _held_out(molecules, fields, table, "test")
    many = len(molecule)
    pool, keys = min(settings.pool, many), np.arange(many)
    wells, of_well = _means(image, well)
    means, _ = _means(image, name)
    near = max(2, min(pool, many // 8))
    alike = {"form": "matched", "properties": properties(smiles).to_numpy(), "pools": 4000 // near}
    turned = np.random.default_rng([settings.seed, 9]).permutation(many)
    order = np.argsort(_inchi(smiles), kind="stable")
    drawn = np.random.default_rng([settings.seed, 8]).permutation(len(name))
    one = drawn[np.unique(name[drawn], return_index=True)[1]]  # a field of each compound
    asked = {
        "": (molecule, image, name, {}),
        "_matched": (molecule, image, name, alike | {"pool": near}),
        "_unmatched": (molecule, image, name, {"pool": near, "pools": 4000 // near}),
        "_well": (molecule, wells, name[of_well], {}),
        "_mean": (molecule, means, keys, {}),
        "_shuffled": (molecule[turned], image, name, {"pools": _FEW}),
        "_blocks": (molecule[order], image[one][order], keys, {"form": "blocks"}),
        "_inverted": (molecule, -image, name, {"pools": _FEW}),
    }
    if many >= LARGE:
        asked["_1000"] = (molecule, image, name, {"pool": LARGE, "pools": 20})
    scores: Scores = {"compounds": float(many), "pool": float(pool), "matched_pool": float(near)}
    for suffix, (rows, fields_, names, options) in asked.items():
        options = {"pool": pool, "seed": settings.seed} | options
        found = _both_ways(rows, fields_, (keys, names), options)
        scores |= {f"{key}{suffix}": value for key, value in found.items() if key != "chance"}
        if suffix in ("", "_1000", "_matched"):
            scores |= {f"chance_{k}{suffix}": value for k, value in found["chance"].items()}
    return scores


def validation(
    molecules: pd.DataFrame, fields: pd.DataFrame, table: pd.DataFrame, settings: Asked
) -> Scores:
    """The same of the validation part, for choices: val_m2i_hr1, …, val_pool; no other forms.

    Nothing where the part has fewer than two compounds.
    """
    part = _held_out(molecules, fields, table, "val", least=0)
    if len(part[0]) < 2:
        return {}
    molecule, image, name = part[:3]
    pool, keys = min(settings.pool, len(molecule)), np.arange(len(molecule))
    options = {"pool": pool, "seed": settings.seed, "pools": 2 * _FEW}
    found = _both_ways(molecule, image, (keys, name), options)
    del found["chance"]
    return {f"val_{key}": value for key, value in found.items()} | {"val_pool": float(pool)}


def batch_effect(fields: pd.DataFrame, table: pd.DataFrame, settings: Asked) -> Scores:
    """The target of a compound from its image, when training shares less and less with the test.

    Rows: treated fields of the test part's compounds, which the space has not seen, of the nine
    targets with most fields; of more than 1,200 fields some wells. Classifiers read raw projections
    as they are: target_random_logistic, target_well_logistic, … and …_knn are accuracies, mean and
    t interval over five repeats, which draw from the same fields: read it as no more than that.
    g_nsw_…, g_nsp_…, g_nsb_…, g_nss_…: generalisation over wells, plates, batches and sources,
    `separation.ratios`, over the random split (of fields, as released); with _wells, over the split
    of whole wells, which is honest. target_chance: the share of the largest target; _shuffled:
    targets given to wells at random. With _top10, ten targets as released; with _seen, compounds
    that were trained on; with _dmso, scaled a plate by its negative controls, with _dmso_released
    the last plate alone.
    Source: the cross-modal paper, section 5.1 and table 3.
    """
    table = table[table["site_id"].isin(fields["site_id"])]
    rows, target, groups = _task(table, "test", TARGETS, settings.seed)
    if not len(rows):
        return {}
    z = _z(fields, table)
    x, classes = z[rows], np.unique(target, return_counts=True)[1]
    scores: Scores = {
        "targets": float(len(classes)), "target_fields": float(len(rows)),
        "target_chance": float(classes.max() / classes.sum()),
    }  # fmt: skip
    for kind in ("logistic", "knn"):
        judged = separation.batch_effect_task(x, target, groups, kind, seed=settings.seed)
        for split, of in judged.groupby("split"):
            scores[f"target_{split}_{kind}"] = records.t_interval(of["accuracy"].to_numpy())
        scores |= _ratios(judged, f"_{kind}")
        scores["target_converged"] = float(judged["converged"].mean())
    scores |= _null(x, target, groups, settings)
    return scores | _switched(z, table, settings)


def _switched(z: np.ndarray, table: pd.DataFrame, settings: Asked) -> Scores:
    """Generalisation over sources where one thing is done as the released code does it."""
    scores: Scores = {}
    for name, part, most in (("_top10", "test", TARGETS + 1), ("_seen", "train", TARGETS)):
        rows, target, groups = _task(table, part, most, settings.seed)
        if len(rows) and "source" in groups:
            of = {"well": groups["well"], "source": groups["source"]}
            judged = separation.batch_effect_task(z[rows], target, of, "logistic", 5, 0.8,
                                                  settings.seed)  # fmt: skip
            scores |= _ratios(judged, f"_logistic{name}", ("g_nss",))
    rows, target, groups = _task(table, "test", TARGETS, settings.seed)
    plate, control = table["plate"].to_numpy(), table["role"].eq("negcon").to_numpy()
    counted = pd.Series(control).groupby(plate).sum()
    if "source" in groups and (counted > 1).all():
        scaled = postprocess.zscore_by_controls(z, plate, control)
        last = np.where((plate == max(plate[rows]))[:, None], scaled, z)
        for name, x in (("_dmso", scaled), ("_dmso_released", last)):
            judged = separation.batch_effect_task(x[rows], target, {"source": groups["source"]},
                                                  "knn", seed=settings.seed)  # fmt: skip
            scores |= _ratios(judged, f"_knn{name}", ("g_nss",))
    return scores


def _null(x: np.ndarray, target: np.ndarray, groups: dict, settings: Asked) -> Scores:
    """k-NN with whole wells apart, targets given to wells at random."""
    if "well" not in groups:
        return {}
    code = np.unique(groups["well"], return_inverse=True)[1]
    first = pd.Series(target).groupby(code).first().to_numpy()
    given = np.random.default_rng([settings.seed, 10]).permutation(first)[code]
    judged = separation.batch_effect_task(x, given, {"well": groups["well"]}, seed=settings.seed)
    accuracy = judged.loc[judged["split"] == "well", "accuracy"].to_numpy()
    return {"target_well_knn_shuffled": records.t_interval(accuracy)}


def _task(table: pd.DataFrame, part: str, most: int, seed: int):
    """Rows, their targets, and the groups that can be held out; no rows where there is no task."""
    asked = table["split"].eq(part) & table["role"].eq("trt") & table["target"].ne("")
    counted = table.loc[asked, "target"].value_counts().rename_axis("target").reset_index()
    best = counted.sort_values(["count", "target"], ascending=[False, True])["target"][:most]
    rows = np.flatnonzero(asked & table["target"].isin(best))
    well = (table["plate"] + " " + table["well"]).to_numpy()
    if len(rows) > MOST:
        wells = np.random.default_rng([seed, 11]).permutation(np.unique(well[rows]))
        held = pd.Series(well[rows]).value_counts()[wells].cumsum()
        rows = rows[np.isin(well[rows], held.index[held <= MOST])]
    of = table.iloc[rows]
    groups = {"well": well[rows]} | {name: of[name].to_numpy() for name in SPLITS[1:]}
    groups = {name: values for name, values in groups.items() if len(np.unique(values)) > 1}
    if len(rows) < 10 or of["target"].nunique() < 2:
        rows, of = rows[:0], of[:0]
    return rows, of["target"].to_numpy(), groups


def _ratios(judged: pd.DataFrame, suffix: str, kept: tuple[str, ...] = ()) -> Scores:
    """G of each split by name, over the random split and over that of wells."""
    scores: Scores = {}
    for reference, tail in (("random", ""), ("well", "_wells")):
        of = judged[judged["split"] == reference]
        if of.empty or (of["accuracy"] == 0).any():
            continue
        for name, row in separation.ratios(judged, reference).iterrows():
            reach = t.ppf(0.975, row["n"] - 1) * row["sd"] / np.sqrt(row["n"])
            low, high = row["mean"] - reach, row["mean"] + reach
            scores[f"{name.lower()}{suffix}{tail}"] = float(row["mean"]), float(low), float(high)
    return {name: s for name, s in scores.items() if not kept or name.startswith(kept)}


def _both_ways(molecule: np.ndarray, image: np.ndarray, names: tuple, options: dict) -> dict:
    """m2i_hr1, …, i2m_mrr with their intervals, and `chance` by metric."""
    k = tuple(k for k in (1, 3, 5, 10) if k <= options["pool"])
    there = metrics.retrieval(molecule, image, k=k, names=names, **options)
    back = metrics.retrieval(image, molecule, k=k, names=names[::-1], **options)
    found = {"chance": {key.replace("@", ""): float(c) for key, c in there["chance"].items()}}
    for way, judged in (("m2i", there), ("i2m", back)):
        for key, row in judged.iterrows():
            interval = (float(row[name]) for name in ("value", "low", "high"))
            found[f"{way}_{key.replace('@', '')}"] = tuple(interval)
    return found


def _held_out(molecules, fields, table, part: str, least: int = 2):
    """Molecules [n d], images [m d], the molecule of each image, SMILES [n] and well [m]."""
    of = table[table["split"].eq(part) & table["role"].ne("negcon") & table["smiles"].ne("")]
    of = of.assign(molecule=_molecule(of))
    listed = of.sort_values("compound").drop_duplicates("molecule")
    if len(listed) < least:
        raise InputError(
            f"The {part} part has {len(listed)} compounds with SMILES; retrieval needs {least} or "
            "more to tell apart: hold out more compounds, or take a larger screen."
        )
    known = molecules.set_index("compound")
    if lacking := sorted(set(listed["compound"]) - set(known.index)):
        raise InputError(
            f"{len(lacking)} compounds of the {part} part have no molecule: "
            f"{', '.join(lacking[:20])}; embed every compound that has SMILES."
        )
    if known.index.has_duplicates:
        raise InputError("molecules must have one row a compound; a compound is there twice.")
    molecule = features(known.loc[listed["compound"]])
    image = _z(fields, of)
    name = pd.Index(listed["molecule"]).get_indexer(of["molecule"])
    return molecule, image, name, listed["smiles"].tolist(), (of["plate"] + of["well"]).to_numpy()


def _z(fields: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """Features of the table's rows."""
    if lacking := sorted(set(table["site_id"]) - set(fields["site_id"])):
        raise InputError(
            f"{len(lacking)} fields of the table were not embedded: {', '.join(lacking[:20])}."
        )
    return features(fields.set_index("site_id").loc[table["site_id"]])


def _means(image: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the unit rows of each group, groups in sorted order, and a row of each."""
    names, first, code = np.unique(group, return_index=True, return_inverse=True)
    total = np.zeros((len(names), image.shape[1]))
    np.add.at(total, code, unit(image))
    return total / np.bincount(code)[:, None], first


def _inchi(smiles: list[str]) -> list[str]:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return [Chem.MolToInchi(Chem.MolFromSmiles(one)) for one in smiles]


def _molecule(table: pd.DataFrame) -> pd.Series:
    """The group of compounds that are one molecule: as the split has it, else of one SMILES."""
    return table["molecule"] if "molecule" in table else table["smiles"]


def _undivided(table: pd.DataFrame) -> None:
    of = table[table["role"].ne("negcon") & table["smiles"].ne("") & table["split"].ne("")]
    parts = of["split"].groupby(_molecule(of)).nunique()
    if (parts > 1).any():
        names = of[_molecule(of).isin(parts.index[parts > 1])]["compound"].unique()
        raise InputError(
            f"{len(names)} molecules are in more than one part of the split: "
            f"{', '.join(map(str, names[:20]))}. Split by compound or by scaffold."
        )

"""One run from end to end: screen → store → training → embedding → metrics → record."""

import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hcs_utils import assemble, files, records
from hcs_utils.data import manifest as manifests
from hcs_utils.data import preprocess, splits, subsets
from hcs_utils.errors import InputError
from hcs_utils.evaluation import leaks, metrics, postprocess
from hcs_utils.evaluation.classification import KNN_CARON, KNN_CDCL
from hcs_utils.learning import diagnose, ranks, train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import as_table, embed, features
from hcs_utils.learning.minibatches import Chosen, Minibatches
from hcs_utils.learning.views import Normaliser
from hcs_utils.prepare import Screen, prepare
from hcs_utils.settings import TRAINED, Settings

SIGNS = ("effective_rank", "agreement", "batch_shared", "treatment_shared")  # kept in a record


@dataclass
class Result:
    """What a run leaves: its record's path, its log, its embedding and its metrics."""

    record: Path
    log: pd.DataFrame
    embedding: pd.DataFrame
    metrics: dict[str, tuple[float, float, float] | float]
    table: pd.DataFrame  # the manifest with the column ``split``
    seconds: float


def split(table: pd.DataFrame, fold: int, folds: int) -> pd.Series:
    """Part (train, val, test) of every site by whole batches; ``folds`` 0 leaves one batch out."""
    batches = table["batch"].unique()
    if len(batches) < 2:
        raise InputError(
            f"The screen has one batch only ({batches[0]}), so no batch can be held out. Give the "
            "column that tells days, runs or plates apart as `batch`."
        )
    parts = (
        splits.batch_folds(batches, fold, folds) if folds else splits.leave_one_out(batches, fold)
    )
    part = splits.split_sites(table, parts, by="batch")
    splits.assert_disjoint(table, part, by="batch")
    return part.loc[table["site_id"]].set_axis(table.index)


def normaliser(screen: Screen, over: str) -> tuple[Normaliser, np.ndarray]:
    """Channel statistics by plate, and the row of them that belongs to each site."""
    stats = preprocess.control_statistics(screen.store, screen.table, by="plate", over=over)
    mean = stats[[f"mean_{c}" for c in screen.channels]].to_numpy(np.float32)
    std = stats[[f"std_{c}" for c in screen.channels]].to_numpy(np.float32)
    plate = pd.Index(stats.index).get_indexer(screen.table["plate"])
    return Normaliser(torch.tensor(mean), torch.tensor(np.maximum(std, 1.0))), plate


def run(settings: Settings, screen: Screen | None = None, progress: bool = True) -> Result:
    """Train (or take the baseline), embed every site, judge on the unseen batches, save the record.

    A killed run, started again with the same settings, goes on and ends with the same metrics.
    """
    screen = screen or prepare(settings.screen, settings.size, settings.image_px, progress)
    for name, by in (("image_norm", "plate"), ("znorm", "batch")):  # said before training
        if getattr(settings, name) == "controls":
            manifests.require_controls(screen.table, by, f"{name}='all'")
    table = screen.table.assign(split=split(screen.table, settings.fold, settings.folds))
    images, began, log = screen.images(), time.perf_counter(), pd.DataFrame()
    sources = leaks.sources(table, screen.store) if settings.method == "leaks" else {}
    if settings.method in ("intensity", "leaks"):
        told = sources or {"intensity statistics": _intensity(screen)}
        numbers = [values for values in told.values() if values.ndim == 2]
        embedding = as_table(np.hstack(numbers), table["site_id"])
        seconds, device = time.perf_counter() - began, _device()
    else:
        embedding, log, seconds, device = _learned(settings, screen, table, images, progress)
    scores = judge(embedding, table, settings) | _last_signs(log)
    if sources:
        untrained = dataclasses.replace(settings, method="random")
        weights = _learned(untrained, screen, table, images, progress)[0]
        sources["random weights"] = features(weights)
        scores |= leaks.as_metrics(audit(sources, table, settings))
        seconds = time.perf_counter() - began
    record = records.save_record(
        experiment="cdcl", screen=screen.name, method=settings.method, preset=settings.preset,
        parameters=asdict(settings), fold=settings.fold, seed=settings.seed, metrics=scores,
        device=device, seconds=seconds, manifest_sha256=screen.store.manifest_sha256,
    )  # fmt: skip
    return Result(record, log, embedding, scores, table, seconds)


def _learned(settings, screen, table, images, progress):
    norm, plate = normaliser(screen, settings.image_norm)
    views = assemble.views(settings, min(screen.store.shape[-2:]))
    label = table["treatment"].astype("category").cat.codes.to_numpy(np.int64)
    domain = table["batch"].astype("category").cat.codes.to_numpy(np.int64)
    rows = subsets.training_rows(table, settings.subset)
    log, seconds, device = pd.DataFrame(), 0.0, _device()
    if settings.method == "random":
        torch.manual_seed(settings.seed)
        network = encoder(settings.encoder, screen.channels)
    else:
        counts = np.bincount(domain[rows], minlength=domain.max() + 1)
        method = assemble.method(settings, screen.channels, int(label.max()) + 1, counts)
        stream = Minibatches(
            images, rows, label[rows], domain[rows], plate[rows], norm, views,
            size=settings.minibatch, partner=method.partner, seed=settings.seed,
        )  # fmt: skip
        config = assemble.train_config(settings, settings.epochs * stream.per_epoch)
        folder = run_folder(settings, screen)
        doctor = diagnose.Doctor(stream, labels=True, seed=settings.seed, say=progress)
        score = None
        if settings.select == "best":
            score = _validation_score(settings, screen, table, images, plate, norm, views)
        log = train.fit(
            method, stream, config, folder, monitor=doctor, progress=progress, score=score
        )
        log = pd.DataFrame(log)
        seconds, network = train.seconds(folder), method.encoder
        device = _device(network) if ranks.count() == 1 else f"{ranks.count()} × {_device(network)}"
    if ranks.this():
        return None  # the first process embeds and judges
    embedding = embed(
        network, images, table["site_id"], plate, norm, views.global_size, screen.channels
    )
    return embedding, log, seconds, device


def assist(settings: Settings, screen: Screen) -> None:
    """What `run` is to the other processes of ``torchrun``: a share of the training, no more."""
    if settings.method in TRAINED:
        table = screen.table.assign(split=split(screen.table, settings.fold, settings.folds))
        _learned(settings, screen, table, screen.images(), False)


def _validation_score(settings, screen, table, images, plate, norm, views):
    """A score for `train.fit`: k-NN after Z-norm, of validation fields by training fields.

    Of treated wells at most 2,000 fields are the bank and 1,000 the queries, drawn once; the
    controls of a batch, at most 64, are there for its Z-norm. No test field is looked at.
    """
    rng = np.random.default_rng([settings.seed, 8])
    part, role = table["split"], table["role"]
    masks = [part.eq("train") & role.eq("trt"), part.eq("val") & role.eq("trt")]
    if not masks[1].any():
        raise InputError(
            "select='best' chooses on validation batches, and this split has none: set folds to 3 "
            "or more, or select to 'last'."
        )
    control = part.isin(["train", "val"]) & role.eq("negcon")
    masks += [control & table["batch"].eq(name) for name in table.loc[control, "batch"].unique()]
    most = [2000, 1000] + [64] * (len(masks) - 2)
    drawn = [rng.permutation(np.flatnonzero(m))[:k] for m, k in zip(masks, most, strict=True)]
    rows, (bank, query) = np.concatenate(drawn), np.cumsum([len(x) for x in drawn[:2]])
    asked, fields = table.iloc[rows], Chosen(images, rows)
    label = asked["treatment"].to_numpy()

    def score(method) -> float:
        z = embed(
            method.encoder, fields, asked["site_id"], plate[rows], norm, views.global_size,
            screen.channels,
        )  # fmt: skip
        z = znorm(features(z), asked, settings)
        return metrics.knn_accuracy(
            z[:bank], label[:bank], z[bank:query], label[bank:query], **KNN_CDCL
        )

    return score


def question(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What every accuracy answers: bank, query (masks of rows), label and well of each row.

    The bank is the training part, queries are the test part, both without controls, whose many
    wells would set the score.
    """
    treated = (table["role"] == "trt").to_numpy()
    train_, test = (table["split"].eq(part).to_numpy() for part in ("train", "test"))
    well = (table["plate"] + table["well"]).to_numpy()
    return train_ & treated, test & treated, table["treatment"].to_numpy(), well


def znorm(z: np.ndarray, table: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Features [n d] after the Z-norm a batch that the settings ask for.

    "minibatch" is CDCL's released code: all samples, for test fields those in the same minibatch.
    """
    batch, test = table["batch"].to_numpy(), (table["split"] == "test").to_numpy()
    if settings.znorm == "controls":
        return postprocess.zscore_by_controls(z, batch, (table["role"] == "negcon").to_numpy())
    if settings.znorm == "all":
        return postprocess.zscore_by_all(z, batch)
    scaled = postprocess.zscore_by_minibatch(z, batch, None)
    scaled[test] = postprocess.zscore_by_minibatch(z[test], batch[test])
    return scaled


def judge(embedding: pd.DataFrame, table: pd.DataFrame, settings: Settings) -> dict:
    """k-NN, a linear reading and k-BET on the batches no training image came from.

    k-NN: `question`, with k = 10 and temperature 0.1; `knn_caron` with 20 and 0.07, after Z-norm,
    where the bank has as many; `knn_znorm_moved`: of the queries whose treatment never stands in
    that well of a plate of the bank, where there are any; `linear_znorm`: what
    `metrics.linear_predict` reads, as the audit does. Intervals resample whole wells.
    """
    z = features(embedding.set_index("site_id").loc[table["site_id"]].reset_index())
    zn = znorm(z, table, settings)
    bank, query, label, well = question(table)
    place = (table["well"] + " " + table["treatment"]).to_numpy()
    moved = ~np.isin(place[query], place[bank])
    shuffled = np.random.default_rng(settings.seed).permutation(label[bank])
    asked = {
        "knn": (z, label[bank], KNN_CDCL),
        "knn_znorm": (zn, label[bank], KNN_CDCL),
        "knn_caron": (zn, label[bank], KNN_CARON),
        "knn_shuffled": (zn, shuffled, KNN_CDCL),
    }
    scores: dict = {"chance": 1 / len(np.unique(label[bank]))}
    for name, (x, names, options) in asked.items():
        if name == "knn_caron" and bank.sum() < options["k"]:
            continue
        found = metrics.knn_predict(x[bank], names, x[query], **options)
        right = found == label[query]
        scores[name] = _with_interval(right, well[query], settings.seed)
        if name == "knn_znorm" and len(np.unique(well[query][moved])) > 1:
            scores["knn_znorm_moved"] = _with_interval(
                right[moved], well[query][moved], settings.seed
            )
    if 1 < len(np.unique(label[bank])) < bank.sum():
        right = metrics.linear_predict(zn[bank], label[bank], zn[query]) == label[query]
        scores["linear_znorm"] = _with_interval(right, well[query], settings.seed)
    batch = table["batch"].to_numpy()
    train_, test = (table["split"].eq(part).to_numpy() for part in ("train", "test"))
    for name, x, part in (("kbet_train", z, train_), ("kbet", z, test), ("kbet_znorm", zn, test)):
        if len(np.unique(batch[part])) > 1:
            scores[name] = metrics.kbet(x[part], batch[part], k_fraction=settings.kbet_fraction)
    return scores


def _with_interval(right: np.ndarray, unit: np.ndarray, seed: int) -> tuple[float, float, float]:
    return float(right.mean()), *metrics.bootstrap_interval(right, unit, seed=seed)


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


def run_folder(settings: Settings, screen: Screen) -> Path:
    """Where a run keeps its checkpoint: named by its settings, its images and the code's state."""
    code = hashlib.sha256()
    for path in sorted(Path(train.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    judged_only = ("znorm", "kbet_fraction", "preset", "variant", "finetune_epochs")
    state = {k: v for k, v in asdict(settings).items() if k not in judged_only}
    state |= {"store": json.dumps([screen.store.manifest_sha256, list(screen.store.shape)])}
    key = files.sha256((json.dumps(state, sort_keys=True) + code.hexdigest()).encode())
    root = Path(os.environ.get("HCS_RUNS") or (files.checkout() or Path.cwd()) / "build" / "runs")
    return root / screen.name / f"{settings.method}-f{settings.fold}-s{settings.seed}-{key[:10]}"


def _intensity(screen: Screen) -> np.ndarray:
    rows = np.array_split(np.arange(len(screen.store)), -(-len(screen.store) // 1024))
    return np.concatenate([leaks.intensity_statistics(screen.store.read(part)) for part in rows])


def _last_signs(log: pd.DataFrame) -> dict[str, float]:
    """Vital signs at the end of training, as metrics of the record."""
    signs = log.filter(list(SIGNS)).tail(1)
    found = signs.iloc[0].dropna().items() if len(signs) else ()
    return {f"sign_{name}": float(value) for name, value in found}


def _device(network: torch.nn.Module | None = None) -> str:
    if network is not None and next(network.parameters()).is_cuda:
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"

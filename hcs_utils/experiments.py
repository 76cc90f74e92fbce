"""One run from end to end: screen → store → training → embedding → metrics → record."""

import dataclasses
import hashlib
import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hcs_utils import assemble, files, records, same_run
from hcs_utils.data import manifest as manifests
from hcs_utils.data import subsets
from hcs_utils.errors import InputError
from hcs_utils.evaluation import leaks, metrics, probes
from hcs_utils.evaluation.classification import KNN_CDCL
from hcs_utils.judging import Scores, audit, judge, mechanisms, mechanisms_repeat, znorm
from hcs_utils.judging import question as question
from hcs_utils.learning import diagnose, ranks, train
from hcs_utils.learning.backbones import encoder as encoder
from hcs_utils.learning.embed import as_table, embed, features
from hcs_utils.learning.minibatches import Chosen, Minibatches
from hcs_utils.prepare import Screen, normaliser, prepare, split
from hcs_utils.settings import TRAINED, Settings

SIGNS = ("effective_rank", "agreement", "batch_shared", "treatment_shared")  # kept in a record


@dataclass
class Result:
    """What a run leaves: its record's path, its log, its embedding and its metrics."""

    record: Path
    log: pd.DataFrame
    embedding: pd.DataFrame
    metrics: Scores
    table: pd.DataFrame  # the manifest with the column ``split``
    seconds: float


def run(settings: Settings, screen: Screen | None = None, progress: bool = True) -> Result:
    """Train (or take the baseline), embed every site, judge on the unseen batches, save the record.

    A killed run, started again with the same settings, goes on and ends with the same metrics.
    """
    screen = screen or prepare(settings.screen, settings.size, settings.image_px, progress)
    table = _ready(settings, screen)
    images, began, log = screen.images(), time.perf_counter(), pd.DataFrame()
    sources = leaks.sources(table, screen.store) if settings.method == "leaks" else {}
    if settings.method in ("intensity", "leaks"):
        told = sources or {"intensity statistics": _intensity(screen)}
        numbers = np.hstack([values for values in told.values() if values.ndim == 2])
        embedding = as_table(numbers, table["site_id"])
        seconds, device = time.perf_counter() - began, _device()
        scores = judge(embedding, table, settings)
    else:
        optics = _optics(settings, screen)
        network, log, seconds, device = _learned(settings, screen, table, images, optics, progress)
        embedding, scores = _judged(network, settings, screen, table, images, optics)
        scores |= _last_signs(log)
    if sources:
        untrained, optics = assemble.backbone(settings, screen.channels), _optics(settings, screen)
        sources["random weights"] = features(_embedded(untrained, screen, images, optics))
        scores |= leaks.as_metrics(audit(sources, table, settings))
        seconds = time.perf_counter() - began
    record = records.save_record(
        **_place(settings, screen), parameters=asdict(settings), metrics=scores, device=device,
        seconds=seconds, manifest_sha256=screen.store.manifest_sha256,
    )  # fmt: skip
    return Result(record, log, embedding, scores, table, seconds)


def scores(settings: Settings, screen: Screen, progress: bool = True) -> Scores:
    """The metrics of a run, read from its record where that is of this very run, else run now.

    That is: the same parameters, manifest and versions of packages, and the commit that is checked
    out, with nothing changed since; so baselines need not be run again beside every method.
    """
    place, manifest = _place(settings, screen), screen.store.manifest_sha256
    found = same_run.metrics(place, asdict(settings), manifest)
    return run(settings, screen, progress).metrics if found is None else found


def judge_again(
    settings: Settings, weights: Path | str, screen: Screen | None = None, progress: bool = False
) -> Path:
    """The record of a run that was trained before, judged by the code as it is now.

    `weights`: the ``model.safetensors`` that training left, with ``log.csv`` beside it; seconds
    and the last signs are those of the training. Where the record to be replaced was of this
    training, its device and memory stay, and its revision is kept as `trained_git_revision`.
    A folder whose name tells of another method, fold or seed raises `InputError`.
    """
    if settings.method not in TRAINED:
        raise InputError(f"{settings.method} is not trained: run it again, which takes seconds.")
    weights, name = Path(weights), f"{settings.method}-f{settings.fold}-s{settings.seed}"
    folder = re.fullmatch(r"(\w+-f\d+-s\d+)-[0-9a-f]{10}", weights.parent.name)
    if folder and folder[1] != name:
        raise InputError(f"{weights} is of the run {folder[1]}, and the settings are of {name}.")
    if not (weights.with_name("log.csv").exists() and weights.exists()):
        raise InputError(f"{weights} and log.csv beside it are what training leaves; one is not.")
    screen = screen or prepare(settings.screen, settings.size, settings.image_px, progress)
    table, log = _ready(settings, screen), pd.read_csv(weights.with_name("log.csv"))
    network = encoder(settings.encoder, screen.channels, str(weights), settings.drop_path)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    optics = _optics(settings, screen)
    metrics_now = _judged(network, settings, screen, table, screen.images(), optics)[1]
    place, manifest = _place(settings, screen), screen.store.manifest_sha256
    seconds = train.seconds(weights.parent)
    before = files.read_json(records.record_path(records.results_root(), **place)) or {}
    if (before.get("seconds"), before.get("manifest_sha256")) != (round(seconds, 2), manifest):
        before = {}  # none, or of another training
    return records.save_record(
        **place, parameters=asdict(settings), metrics=metrics_now | _last_signs(log),
        device=before.get("device", _device(network)), seconds=seconds, manifest_sha256=manifest,
        peak_memory_mib=before.get("peak_memory_mib"),
        trained_git_revision=before.get("trained_git_revision", before.get("git_revision", "")),
    )  # fmt: skip


def _place(settings: Settings, screen: Screen) -> dict:
    """What names the record of a run; one with a switch of the ledger stands by itself."""
    return {
        "experiment": "ledger" if settings.variant else "cdcl", "screen": screen.name,
        "method": settings.method, "preset": settings.preset, "fold": settings.fold,
        "seed": settings.seed, "variant": settings.variant,
    }  # fmt: skip


def _ready(settings: Settings, screen: Screen) -> pd.DataFrame:
    """The manifest with its split; what the screen lacks for the settings is said at once."""
    for name, by in (("image_norm", "plate"), ("znorm", "batch")):
        if getattr(settings, name) == "controls":
            manifests.require_controls(screen.table, by, f"{name}='all'")
    table = screen.table.assign(split=split(screen.table, settings.fold, settings.folds))
    if settings.finetune_epochs and not mechanisms_repeat(table[table["split"] == "test"]):
        raise InputError(
            "finetune_epochs needs mechanisms to learn and to find again: two MoAs or more, with "
            "two treated compounds or more each in the test batches. Set it to 0."
        )
    return table


def _optics(settings: Settings, screen: Screen):
    """Through what images are seen: normaliser, row of it for each site, crops."""
    views = assemble.views(settings, min(screen.store.shape[-2:]))
    return *normaliser(screen, settings.image_norm), views


def _embedded(network, screen, images, optics) -> pd.DataFrame:
    ids, (norm, plate, views) = screen.table["site_id"], optics
    return embed(network, images, ids, plate, norm, views.global_size, screen.channels)


def _judged(network, settings, screen, table, images, optics) -> tuple[pd.DataFrame, Scores]:
    """The embedding of every site and its metrics; fine-tuned as well where that is asked for."""
    embedding = _embedded(network, screen, images, optics)
    found = judge(embedding, table, settings)
    if settings.finetune_epochs:
        tuned = _finetuned(network, settings, screen, table, images, optics)
        z = features(_embedded(tuned, screen, images, optics))
        found["nsc_moa_finetuned"] = mechanisms(z, table, settings)["nsc_moa"]
    return embedding, found


def _finetuned(network, settings, screen, table, images, optics) -> torch.nn.Module:
    """A copy of the encoder, trained to name the mechanism of treated training fields.

    As in CDCL's table 2a, batches are held out and compounds are not: what the network is asked of
    (test batches) are other wells of compounds whose mechanisms it was told. So a score above
    `nsc_moa_chance` says that it knows its compounds again, not that it knows mechanisms.
    """
    norm, plate, views = optics
    known = (table["role"].eq("trt") & table["moa"].ne("")).to_numpy()
    bank, test = (known & table["split"].eq(part).to_numpy() for part in ("train", "test"))
    query = test & table["moa"].isin(table["moa"][bank]).to_numpy()
    config = dataclasses.replace(probes.CDCL_MOA, epochs=settings.finetune_epochs)
    return probes.finetune(
        network, images, table["moa"].to_numpy(), bank, query, plate=plate, normaliser=norm,
        channels=screen.channels, size=views.global_size, config=config, seed=settings.seed,
    ).encoder  # fmt: skip


def _learned(settings, screen, table, images, optics, progress):
    norm, plate, views = optics
    label = table["treatment"].astype("category").cat.codes.to_numpy(np.int64)
    domain = table["batch"].astype("category").cat.codes.to_numpy(np.int64)
    rows = subsets.training_rows(table, settings.subset)
    log, seconds, device = pd.DataFrame(), 0.0, _device()
    if settings.method == "random":
        network = assemble.backbone(settings, screen.channels)
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
    return network, log, seconds, device


def assist(settings: Settings, screen: Screen) -> None:
    """What `run` is to the other processes of ``torchrun``: a share of the training, no more."""
    if settings.method in TRAINED:
        table = screen.table.assign(split=split(screen.table, settings.fold, settings.folds))
        _learned(settings, screen, table, screen.images(), _optics(settings, screen), False)


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

"""One cross-modal run: screen → split by compounds → training → embeddings → metrics → record."""

import hashlib
import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from hcs_utils import crossmodal_assemble as assemble
from hcs_utils import crossmodal_baselines as baselines
from hcs_utils import files, records, same_run
from hcs_utils.crossmodal_assemble import Ready
from hcs_utils.crossmodal_judging import judge
from hcs_utils.crossmodal_settings import TRAINED, CrossmodalSettings
from hcs_utils.errors import InputError
from hcs_utils.evaluation.retrieval import ranks as places
from hcs_utils.judging import Scores
from hcs_utils.learning import ranks, train
from hcs_utils.learning.embed import as_table, embed, features
from hcs_utils.learning.minibatches import Chosen
from hcs_utils.prepare import Screen, prepare

_CHUNK = 512  # molecules
_VALIDATED = 1024  # compounds that a checkpoint looks at


@dataclass
class Result:
    """What a run leaves: its record's path, its log, both embeddings and its metrics."""

    record: Path
    log: pd.DataFrame
    molecules: pd.DataFrame  # compound, z000, …: every compound with SMILES
    embedding: pd.DataFrame  # site_id, z000, …: every field, not scaled to length 1
    metrics: Scores
    table: pd.DataFrame  # the manifest with the column `split`
    seconds: float  # of training


def run(
    settings: CrossmodalSettings, screen: Screen | None = None, progress: bool = True
) -> Result:
    """Train (or take the baseline), embed molecules and fields, judge, save the record.

    A killed run, started again with the same settings, goes on and ends with the same metrics.
    """
    screen = screen or prepare(settings.screen, settings.size, settings.image_px, progress)
    of = assemble.ready(settings, screen)
    network, log, seconds, device = _learned(settings, of, progress)
    molecules, fields = _embedded(settings, of, network)
    scores = judge(molecules, fields, of.table, settings) | _last_signs(log)
    record = records.save_record(
        **_place(settings, screen), parameters=asdict(settings), metrics=scores, device=device,
        seconds=seconds, manifest_sha256=screen.store.manifest_sha256,
    )  # fmt: skip
    return Result(record, log, molecules, fields, scores, of.table, seconds)


def scores(settings: CrossmodalSettings, screen: Screen, progress: bool = True) -> Scores:
    """The metrics of a run, read from its record where that is of this very run, else run now.

    As `experiments.scores`: the same parameters, manifest, packages and commit, nothing changed.
    """
    place, manifest = _place(settings, screen), screen.store.manifest_sha256
    found = same_run.metrics(place, asdict(settings), manifest)
    return run(settings, screen, progress).metrics if found is None else found


def judge_again(
    settings: CrossmodalSettings,
    weights: Path | str,
    screen: Screen | None = None,
    progress: bool = False,
) -> Path:
    """The record of a run that was trained before, judged by the code as it is now.

    `weights`: the ``model.safetensors`` that training left, with ``log.csv`` beside it. Where the
    record to be replaced was of this training, its device and memory stay, and its revision is
    kept as `trained_git_revision`.
    """
    if settings.method not in TRAINED:
        raise InputError(f"{settings.method} is no trained space: run it again.")
    weights, name = Path(weights), f"{settings.method}-f{settings.fold}-s{settings.seed}"
    folder = re.fullmatch(r"(\w+-f\d+-s\d+)-[0-9a-f]{10}", weights.parent.name)
    if folder and folder[1] != name:
        raise InputError(f"{weights} is of the run {folder[1]}, and the settings are of {name}.")
    if not (weights.with_name("log.csv").exists() and weights.exists()):
        raise InputError(f"{weights} and log.csv beside it are what training leaves; one is not.")
    screen = screen or prepare(settings.screen, settings.size, settings.image_px, progress)
    of, log = assemble.ready(settings, screen), pd.read_csv(weights.with_name("log.csv"))
    made = _loaded(settings, of, weights)
    scores = judge(*_embedded(settings, of, made), of.table, settings) | _last_signs(log)
    place, manifest = _place(settings, screen), screen.store.manifest_sha256
    seconds = train.seconds(weights.parent)
    before = files.read_json(records.record_path(records.results_root(), **place)) or {}
    if (before.get("seconds"), before.get("manifest_sha256")) != (round(seconds, 2), manifest):
        before = {}  # none, or of another training
    return records.save_record(
        **place, parameters=asdict(settings), metrics=scores, seconds=seconds,
        device=before.get("device", _device(made)), manifest_sha256=manifest,
        peak_memory_mib=before.get("peak_memory_mib"),
        trained_git_revision=before.get("trained_git_revision", before.get("git_revision", "")),
    )  # fmt: skip


def load(settings: CrossmodalSettings, screen: Screen, weights: Path | str) -> nn.Module:
    """The `Space` that a run left in ``model.safetensors``, in evaluation mode, on the GPU if any.

    Raises `InputError` where the file is of other settings.
    """
    return _loaded(settings, assemble.ready(settings, screen), Path(weights))


def _loaded(settings: CrossmodalSettings, of: Ready, weights: Path) -> nn.Module:
    made = assemble.space(settings, of)
    try:
        made.load_state_dict(load_file(weights))
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{weights} does not hold a space of these settings ({str(error).splitlines()[0]}). "
            "Encoders, width and channels must be those of its training."
        ) from error
    return made.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def assist(settings: CrossmodalSettings, screen: Screen) -> None:
    """What `run` is to the other processes of ``torchrun``: a share of the training, no more."""
    _learned(settings, assemble.ready(settings, screen), False)


def _place(settings: CrossmodalSettings, screen: Screen) -> dict:
    """What names the record of a run; one with a switch of the ledger stands by itself."""
    return {
        "experiment": "crossmodal-ledger" if settings.variant else "crossmodal",
        "screen": screen.name, "method": settings.method, "preset": settings.preset,
        "fold": settings.fold, "seed": settings.seed, "variant": settings.variant,
    }  # fmt: skip


def _learned(settings: CrossmodalSettings, of: Ready, progress: bool):
    """The network (None: none is needed), the log of its training, its seconds and its device."""
    folder, log, seconds = run_folder(settings, of.screen), pd.DataFrame(), 0.0
    if settings.method in ("position", "intensity"):
        return None, log, seconds, _device()
    if settings.method == "cdcl":
        network, log, seconds = baselines.cdcl(settings, of, folder, progress)
    elif settings.method == "random":
        network = assemble.space(settings, of)
    else:
        minibatches = assemble.stream(settings, of)
        made = assemble.method(settings, assemble.space(settings, of))
        watch = _watch(settings, of)
        best = {"score": watch} if settings.select == "best" else {}

        def monitor(step: int, method: nn.Module) -> dict[str, float]:
            signs = {"trivial_loss": float(method.trivial_loss)}
            return signs if best else signs | {"val_mrr": watch(method)}

        rows = train.fit(
            made, minibatches, assemble.train_config(settings), folder,
            monitor=monitor, progress=progress, **best,
        )  # fmt: skip
        network, log, seconds = made.encoder, pd.DataFrame(rows), train.seconds(folder)
    device = _device(network)
    many = ranks.count() > 1 and seconds > 0
    return network, log, seconds, f"{ranks.count()} × {device}" if many else device


def _watch(settings: CrossmodalSettings, of: Ready):
    """A score for `train.fit`: MRR, both ways, among validation compounds, one field of each.

    At most 1,024 compounds, the same ones and the same fields at each call; no test compound.
    """
    rng = np.random.default_rng([settings.seed, 17])
    part = of.table["split"].eq("val") & of.table["role"].ne("negcon") & (of.row >= 0)
    rows = rng.permutation(np.flatnonzero(part))
    first = np.unique(of.table["molecule"].iloc[rows], return_index=True)[1]
    rows = rng.permutation(rows[first])[:_VALIDATED]
    if len(rows) < 2:
        raise InputError(
            f"The validation part has {len(rows)} compounds: retrieval needs 2 or more. Raise "
            "val_share."
        )
    asked, images, compounds = of.table.iloc[rows], Chosen(of.images, rows), of.row[rows]

    def score(method: nn.Module) -> float:
        z = features(embed(
            method.encoder, images, asked["site_id"], of.plate[rows], of.normaliser,
            of.crops.global_size, of.screen.channels,
        ))  # fmt: skip
        m = embed_molecules(method.encoder, of.molecules, compounds)
        return float(np.mean([(1 / places(a, b)).mean() for a, b in ((m, z), (z, m))]))

    return score


@torch.no_grad()
def embed_molecules(space: nn.Module, molecules, rows: np.ndarray) -> np.ndarray:
    """Projections [n w] of those rows of `Graphs` or `Fingerprints`, not scaled to length 1."""
    device, was_training, parts = next(space.parameters()).device, space.training, []
    space.eval()
    for part in np.array_split(rows, max(1, -(-len(rows) // _CHUNK))):
        asked = molecules[torch.from_numpy(part)].to(device)
        parts.append(space.molecules(asked).float().cpu().numpy())
    space.train(was_training)
    return np.concatenate(parts)


def _embedded(settings: CrossmodalSettings, of: Ready, network):
    """Tables of molecules and of fields, in one space."""
    if settings.method in TRAINED or settings.method == "random":
        ids, side = of.table["site_id"], of.crops.global_size
        fields = embed(network, of.images, ids, of.plate, of.normaliser, side, of.screen.channels)
        z = embed_molecules(network, of.molecules, np.arange(len(of.compounds)))
        molecules = as_table(z, of.compounds["compound"]).rename(columns={"site_id": "compound"})
        return molecules, fields
    from hcs_utils.learning.molecules import Fingerprints

    smiles = of.compounds["smiles"].tolist()
    bits = Fingerprints.build(smiles, bits=settings.bits)[torch.arange(len(smiles))]
    known = baselines.known_otherwise(settings, of, network)
    return baselines.mapped(of, known, bits.numpy().astype(float))


def run_folder(settings: CrossmodalSettings, screen: Screen) -> Path:
    """Where a run keeps its checkpoint: named by its settings, its images and the code's state."""
    code = hashlib.sha256()
    for path in sorted(Path(train.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    judged_only = ("preset", "variant", "pool")
    state = {k: v for k, v in asdict(settings).items() if k not in judged_only}
    state |= {"store": json.dumps([screen.store.manifest_sha256, list(screen.store.shape)])}
    key = files.sha256((json.dumps(state, sort_keys=True) + code.hexdigest()).encode())
    root = Path(os.environ.get("HCS_RUNS") or (files.checkout() or Path.cwd()) / "build" / "runs")
    name = f"{settings.method}-f{settings.fold}-s{settings.seed}-{key[:10]}"
    return root / screen.name / "crossmodal" / name


def _last_signs(log: pd.DataFrame) -> dict[str, float]:
    """What is known of the end of training beside the loss, as metrics of the record."""
    last = log.drop(columns=["step", "learning_rate"], errors="ignore").tail(1)
    found = last.iloc[0].dropna().items() if len(last) else ()
    return {f"sign_{name}": float(value) for name, value in found}


def _device(network: nn.Module | None = None) -> str:
    if network is not None and next(network.parameters()).is_cuda:
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"

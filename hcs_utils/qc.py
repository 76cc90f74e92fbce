"""One run of quality control: screen → crops → encoder → few labels → metrics → record."""

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from hcs_utils import files, records, same_run
from hcs_utils import qc_assemble as assemble
from hcs_utils.errors import InputError
from hcs_utils.judging import Scores
from hcs_utils.learning import ranks, train
from hcs_utils.qc_assemble import Ready
from hcs_utils.qc_judging import judge
from hcs_utils.qc_settings import SELF_SUPERVISED, QCSettings

_JUDGED = (  # settings that training does not know
    "preset", "variant", "budgets", "draws", "null_draws", "feature_scale", "linear_epochs",
    "linear_rate", "finetune_epochs", "finetune_steps", "finetune_rate", "shift_screen",
    "shift_size", "shift_labels", "shift_composite", "shift_crops", "test_crops", "labels",
)  # fmt: skip


@dataclass
class Result:
    """What a run leaves: its record's path, its log, its encoder and its metrics."""

    record: Path
    log: pd.DataFrame
    encoder: nn.Module | None  # None: the classical measures
    metrics: Scores
    ready: Ready
    seconds: float  # of training


def run(settings: QCSettings, progress: bool = False, of: Ready | None = None) -> Result:
    """Train (or take the baseline), judge with few labels, save the record.

    A killed run, started again with the same settings, goes on and ends with the same metrics.
    """
    of = of or assemble.ready(settings, progress)
    network, log, seconds, device = _learned(settings, of, progress)
    scores = judge(network, of.question, settings) | _last_signs(log)
    record = records.save_record(
        **_place(settings, of), parameters=asdict(settings), metrics=scores, device=device,
        seconds=seconds, manifest_sha256=of.crops.store.manifest_sha256,
    )  # fmt: skip
    return Result(record, log, network, scores, of, seconds)


def scores(settings: QCSettings, of: Ready, progress: bool = False) -> Scores:
    """The metrics of a run, read from its record where that is of this very run, else run now.

    As `experiments.scores`: the same parameters, crops, packages and commit, nothing changed.
    """
    place, manifest = _place(settings, of), of.crops.store.manifest_sha256
    found = same_run.metrics(place, asdict(settings), manifest)
    return run(settings, progress, of).metrics if found is None else found


def load(settings: QCSettings, weights: Path | str) -> nn.Module:
    """The encoder that a run left in ``model.safetensors``, on the GPU if there is one.

    Raises `InputError` where the file is of another encoder.
    """
    made = assemble.network(settings)
    try:
        made.load_state_dict(load_file(weights))
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{weights} does not hold an encoder of these settings "
            f"({str(error).splitlines()[0]}). qc_encoder must be that of its training."
        ) from error
    return made.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def assist(settings: QCSettings, of: Ready) -> None:
    """What `run` is to the other processes of ``torchrun``: a share of the training, no more."""
    _learned(settings, of, False)


def _place(settings: QCSettings, of: Ready) -> dict:
    """What names the record of a run; one with a switch of the ledger stands by itself."""
    return {
        "experiment": "qc-ledger" if settings.variant else "qc", "screen": of.crops.name,
        "method": settings.method, "preset": settings.preset, "fold": settings.fold,
        "seed": settings.seed, "variant": settings.variant,
    }  # fmt: skip


def _learned(settings: QCSettings, of: Ready, progress: bool):
    """The encoder (None: none is needed), the log of its training, its seconds and its device."""
    log, seconds = pd.DataFrame(), 0.0
    if settings.method == "classical":
        return None, log, seconds, _device()
    network = assemble.network(settings)
    if settings.method in SELF_SUPERVISED:
        minibatches, folder = assemble.stream(settings, of), run_folder(settings, of)
        made = assemble.method(settings, network, len(of.trained))

        def monitor(step: int, method: nn.Module) -> dict[str, float]:
            return {"trivial_loss": float(method.trivial_loss)}

        config = assemble.train_config(settings, minibatches.per_epoch)
        rows = train.fit(made, minibatches, config, folder, monitor=monitor, progress=progress)
        network, log, seconds = made.encoder, pd.DataFrame(rows), train.seconds(folder)
    elif torch.cuda.is_available():
        network = network.cuda()
    device = _device(network)
    many = ranks.count() > 1 and seconds > 0
    return network.eval(), log, seconds, f"{ranks.count()} × {device}" if many else device


def run_folder(settings: QCSettings, of: Ready) -> Path:
    """Where a run keeps its checkpoint: named by its settings, its crops and the code's state."""
    code = hashlib.sha256()
    for path in sorted(Path(train.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    state = {k: v for k, v in asdict(settings).items() if k not in _JUDGED}
    store = of.crops.store
    state |= {"store": json.dumps([store.manifest_sha256, list(store.shape)])}
    key = files.sha256((json.dumps(state, sort_keys=True) + code.hexdigest()).encode())
    root = Path(os.environ.get("HCS_RUNS") or (files.checkout() or Path.cwd()) / "build" / "runs")
    name = f"{settings.method}-f{settings.fold}-s{settings.seed}-{key[:10]}"
    return root / of.crops.name / "qc" / name


def _last_signs(log: pd.DataFrame) -> dict[str, float]:
    """What is known of the end of training beside the loss, as metrics of the record."""
    last = log.drop(columns=["step", "learning_rate"], errors="ignore").tail(1)
    found = last.iloc[0].dropna().items() if len(last) else ()
    return {f"sign_{name}": float(value) for name, value in found}


def _device(network: nn.Module | None = None) -> str:
    if network is not None and next(network.parameters()).is_cuda:
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"

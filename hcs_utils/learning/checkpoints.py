"""The folder of a run: whose it is, where it goes on, and what it leaves. No file is a pickle."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from hcs_utils.errors import InputError
from hcs_utils.files import replacing
from hcs_utils.learning.compound_minibatches import CompoundMinibatches
from hcs_utils.learning.minibatches import Minibatches

Row = dict[str, float | int]


@dataclass
class State:
    """How far a run is: steps done, logged rows, seconds spent, the best encoder where one is."""

    step: int = 0
    log: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the encoder, on the CPU
    best_step: int = 0
    best_score: float = -np.inf


def identity(
    method: nn.Module, minibatches: Minibatches | CompoundMinibatches, config, select: str
) -> dict:
    """What must agree for a checkpoint to be continued; ``config`` is a ``train.TrainConfig``."""
    passing = {"accelerator", "checkpoint_every"}
    if config.optimizer == "adamw":  # runs from before there was a choice go on
        passing |= {"optimizer", "momentum"}
    settings = {k: v for k, v in asdict(config).items() if k not in passing}
    shapes = {k: list(v.shape) for k, v in method.state_dict().items()}
    own = {k: asdict(v) for k, v in vars(method).items() if is_dataclass(v)}
    sites = hashlib.sha256()
    for values in (minibatches.rows, minibatches.label, minibatches.domain):
        sites.update(np.ascontiguousarray(values).tobytes())
    found = {
        "method": type(method).__name__, "config": own, "train": settings,
        "views": asdict(minibatches.views), "minibatch": minibatches.size,
        "images": len(minibatches.rows), "sites": sites.hexdigest(), "seed": minibatches.seed,
        "shapes": shapes, "select": select,
    }  # fmt: skip
    return json.loads(json.dumps(found))


def claim(run: Path, now: dict, write: bool = True) -> None:
    """Make ``run`` the folder of this run; refuse one that holds another.

    Of several processes only one should ``write``.
    """
    path = run / "run.json"
    if path.exists():
        try:
            before = dict(json.loads(path.read_text()))
        except ValueError as error:
            raise InputError(f"{path} cannot be read. Remove the folder {run}.") from error
        differ = [k for k in now if before.get(k) != now[k]]
        if differ:
            raise InputError(
                f"{run} holds a run with other settings ({', '.join(differ)} differ). "
                "Choose another folder for this run, or remove that one."
            )
        return
    if write:
        with replacing(path) as part:
            part.write_text(json.dumps(now, indent=1))


def save(run: Path, method: nn.Module, optimizer, precision, state: State) -> None:
    """Weights, optimiser, the best encoder and the log in one safetensors file, replaced whole.

    A run whose tensors are not all finite is not saved: `InputError`, and the file before stays.
    """
    tensors = {f"model.{k}": v for k, v in method.state_dict().items()}
    for index, kept in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in kept.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    bad = [k for k, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise InputError(f"{bad[0]} holds numbers that are not finite {lost(run, state.step)}")
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    about = {
        "step": state.step, "log": state.log, "seconds": round(state.seconds, 2),
        "best_step": state.best_step, "best_score": state.best_score,
        "precision": precision.state_dict(),
    }  # fmt: skip
    _write(run / "resume.safetensors", tensors, {k: json.dumps(v) for k, v in about.items()})


def resume(run: Path, method: nn.Module, optimizer, precision) -> State:
    """Bring method, optimiser and gradient scaler to the last checkpoint, if there is one."""
    path = run / "resume.safetensors"
    if not path.exists():
        return State()
    try:
        with safe_open(path, "pt") as file:
            about = {k: json.loads(v) for k, v in file.metadata().items()}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        method.load_state_dict(_below("model.", tensors))
        kept: dict[int, dict] = {}
        for key, value in _below("optimizer.", tensors).items():
            index, name = key.split(".", 1)
            kept.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": kept, "param_groups": groups})
        precision.load_state_dict(about.pop("precision"))
        return State(**about, best=_below("best.", tensors))
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}). Remove it, and the "
            "same command starts this run anew."
        ) from error


def finish(run: Path, encoder: nn.Module, state: State) -> None:
    """The log as a table, and the weights of the encoder, with the step that they are from."""
    import pandas as pd

    with replacing(run / "log.csv") as part:
        pd.DataFrame(state.log).to_csv(part, index=False)
    weights = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    channels = json.dumps(list(getattr(encoder, "channels", ())))
    step = state.best_step if state.best else state.step
    about = {"channels": channels, "seconds": f"{state.seconds:.1f}", "step": str(step)}
    _write(run / "model.safetensors", weights, about)


def seconds(run: Path | str) -> float:
    """Seconds of training of a finished run, over all its restarts."""
    with safe_open(Path(run) / "model.safetensors", "pt") as file:
        return float(file.metadata()["seconds"])


def lost(run: Path, step: int) -> str:
    """The end of a message: where training went wrong, what is kept, what to try."""
    there = (run / "resume.safetensors").exists()
    return (
        f"at step {step} of {run.name}; "
        f"{'the last good checkpoint is kept' if there else 'no checkpoint was made yet'}. Start "
        "again with a smaller learning_rate or more warmup_steps; with precision='32-true', if it "
        "was lower; with a higher teacher_temperature, where a teacher is trained with; with a "
        "smaller clip_norm. Look, too, for fields that are all of one value."
    )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _write(path, tensors, about):
    """Not ``save_file``, whose error for a full disk is no OSError and tells nobody what to do."""
    with replacing(path) as part:
        part.write_bytes(as_bytes(tensors, about))

"""One loop: minibatch in, optimiser step, checkpoint; it knows no method and no metric."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

import numpy as np
import torch
from lightly.utils.scheduler import cosine_schedule
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from tqdm import tqdm

from hcs_utils.errors import InputError
from hcs_utils.files import replacing
from hcs_utils.learning.minibatches import Minibatches


@dataclass(frozen=True)
class TrainConfig:
    """How to optimise; which method and which images come from elsewhere."""

    steps: int = 800
    learning_rate: float = 2e-3  # peak; CDCL released: 7e-4 for DEiT-S
    warmup_share: float = 0.05  # of the steps, where warmup_steps is 0
    warmup_steps: int = 0  # CDCL paper: 1,000; released: 10 epochs
    final_share: float = 0.01  # learning rate at the end over its peak
    weight_decay: float = 1e-4  # weights only; CDCL released: 4e-3 → 1e-2 along a cosine
    weight_decay_end: float | None = None  # None: as at the start
    clip_norm: float = 3.0
    precision: str = "32-true"  # Fabric's names: "bf16-mixed" on a GPU
    compile: bool = False  # torch.compile of the encoders
    accelerator: str = "auto"
    checkpoint_every: int = 100  # steps
    seed: int = 0


def fit(
    method: nn.Module,
    minibatches: Minibatches,
    config: TrainConfig,
    run: Path | str,
    monitor: Callable[[int, nn.Module], dict[str, float]] | None = None,
    progress: bool = True,
) -> list[dict[str, float | int]]:
    """Train ``method``; leave ``model.safetensors`` and ``log.csv`` in the folder ``run``.

    Every random number of step ``s`` comes from (seed, s), so a run that was killed goes on from
    its last checkpoint to the same weights as one that was not (on a CPU to the bit). A loss that
    is not finite stops the run and keeps the last checkpoint. Returns the log, one dict a
    logged step. ``monitor`` is called with (step, method) at each checkpoint; what it returns is
    logged. If it has a method ``line``, that turns a logged row into the words beside the bar.
    """
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    _refuse_other_run(run, method, minibatches, config)
    fabric = Fabric(
        accelerator=config.accelerator, devices=1, precision=config.precision,
        plugins=LightningEnvironment(),  # one process, whatever cluster it may find itself on
    )  # fmt: skip
    method = method.to(fabric.device)
    minibatches.normaliser = minibatches.normaliser.to(fabric.device)
    optimizer = torch.optim.AdamW(_groups(method, config.weight_decay), lr=config.learning_rate)
    step, log, spent = _resume(run, method, optimizer)
    method.train()
    bar = tqdm(total=config.steps, initial=step, disable=not progress, mininterval=2, unit="step")
    say = getattr(monitor, "line", lambda row: f"loss={row['loss']:.3f}")
    began = time.perf_counter() - spent
    while step < config.steps:
        loss, extra = _step(fabric, method, minibatches, optimizer, config, step)
        step += 1
        bar.update()
        saving = step % config.checkpoint_every == 0 or step == config.steps
        if step % 20 == 0 or saving:
            row = {"step": step, "loss": float(loss), **{k: float(v) for k, v in extra.items()}}
            row["learning_rate"] = optimizer.param_groups[0]["lr"]
            _stop_if_not_finite(row, run)
            log.append(row)
            if saving and monitor is not None:
                row.update(monitor(step, method))
            bar.set_postfix_str(say(row))
        if saving:
            _save(run, method, optimizer, step, log, time.perf_counter() - began)
    bar.close()
    _finish(run, method, log, time.perf_counter() - began)
    method.eval()
    return log


def _step(fabric, method, minibatches, optimizer, config, step):
    share = step / config.steps
    torch.manual_seed((config.seed * 1_000_003 + step) % 2**63)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    minibatch = minibatches(step, fabric.device)
    with fabric.autocast():
        loss, extra = method.loss(minibatch, share)
    fabric.backward(loss)
    method.before_step(share)
    norm = nn.utils.clip_grad_norm_(_trainable(method), config.clip_norm)
    if torch.isfinite(norm):
        optimizer.step()
        method.after_step(share)
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), extra


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to ``final_share`` of the peak."""
    warmup = config.warmup_steps or max(1, round(config.warmup_share * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    end = config.learning_rate * config.final_share
    return cosine_schedule(step - warmup, max(2, config.steps - warmup), config.learning_rate, end)


def _trainable(method):
    return [p for p in method.parameters() if p.requires_grad]


def _groups(method, weight_decay):
    """Weights decay; biases and other one-dimensional parameters do not."""
    weights = [p for p in _trainable(method) if p.ndim > 1]
    others = [p for p in _trainable(method) if p.ndim <= 1]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _stop_if_not_finite(row, run):
    if not math.isfinite(row["loss"]):
        there = (run / "resume.safetensors").exists()
        raise InputError(
            f"The loss is {row['loss']} at step {row['step']} of {run.name}; "
            f"{'the last good checkpoint is kept' if there else 'no checkpoint was made yet'}. "
            "Start again with a smaller learning_rate or clip_norm, or with precision='32-true'."
        )


def _identity(method, minibatches, config) -> dict:
    """What must agree for a checkpoint to be continued."""
    settings = {
        k: v for k, v in asdict(config).items() if k not in ("accelerator", "checkpoint_every")
    }
    shapes = {k: list(v.shape) for k, v in method.state_dict().items()}
    own = {k: asdict(v) for k, v in vars(method).items() if is_dataclass(v)}
    sites = hashlib.sha256()
    for values in (minibatches.rows, minibatches.label, minibatches.domain):
        sites.update(np.ascontiguousarray(values).tobytes())
    identity = {
        "method": type(method).__name__, "config": own, "train": settings,
        "views": asdict(minibatches.views), "minibatch": minibatches.size,
        "images": len(minibatches.rows), "sites": sites.hexdigest(), "seed": minibatches.seed,
        "shapes": shapes,
    }  # fmt: skip
    return json.loads(json.dumps(identity))


def _refuse_other_run(run, method, minibatches, config):
    path, now = run / "run.json", _identity(method, minibatches, config)
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
    with replacing(path) as part:
        part.write_text(json.dumps(now, indent=1))


def _save(run, method, optimizer, step, log, seconds):
    """Weights, optimiser state and log in one safetensors file: no pickle, replaced whole."""
    tensors = {f"model.{k}": v.contiguous() for k, v in method.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()
        }
    tensors = {k: v.detach().cpu().clone() for k, v in tensors.items()}
    about = {"step": str(step), "log": json.dumps(log), "seconds": f"{seconds:.2f}"}
    _write(run / "resume.safetensors", tensors, about)


def _resume(run, method, optimizer) -> tuple[int, list, float]:
    path = run / "resume.safetensors"
    if not path.exists():
        return 0, [], 0.0
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata()
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        method.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        state: dict[int, dict] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return int(meta["step"]), json.loads(meta["log"]), float(meta["seconds"])
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}). Remove it, and the "
            "same command starts this run anew."
        ) from error


def _finish(run, method, log, seconds):
    import pandas as pd

    with replacing(run / "log.csv") as part:
        pd.DataFrame(log).to_csv(part, index=False)
    weights = {k: v.detach().cpu().contiguous() for k, v in method.encoder.state_dict().items()}
    channels = json.dumps(list(getattr(method.encoder, "channels", ())))
    about = {"channels": channels, "seconds": f"{seconds:.1f}"}
    _write(run / "model.safetensors", weights, about)


def _write(path, tensors, about):
    """Not ``save_file``, whose error for a full disk is no OSError and tells nobody what to do."""
    with replacing(path) as part:
        part.write_bytes(save(tensors, about))


def seconds(run: Path | str) -> float:
    """Seconds of training of a finished run, over all its restarts."""
    with safe_open(Path(run) / "model.safetensors", "pt") as file:
        return float(file.metadata()["seconds"])

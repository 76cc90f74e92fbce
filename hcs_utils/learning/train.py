"""One loop: minibatch in, optimiser step, checkpoint; it knows no method and no metric."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightly.utils.scheduler import cosine_schedule
from torch import nn
from tqdm import tqdm

from hcs_utils.errors import InputError
from hcs_utils.learning import checkpoints, devices, ranks
from hcs_utils.learning.checkpoints import seconds
from hcs_utils.learning.compound_minibatches import CompoundMinibatches
from hcs_utils.learning.minibatches import Minibatches

__all__ = ["TrainConfig", "fit", "learning_rate", "seconds", "weight_decay"]

_PASSED_OVER = 30  # steps in a row without a finite gradient, after which a run is stopped


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
    clip_norm: float = 3.0  # of the gradient of all weights together; 0: not clipped
    optimizer: str = "adamw"  # or "sgd": quality control's paper, at a learning rate of 1e-3
    momentum: float = 0.9  # of sgd
    precision: str = "32-true"  # Fabric's names: "bf16-mixed" on a GPU
    compile: bool = False  # torch.compile of the encoders
    accelerator: str = "auto"
    checkpoint_every: int = 100  # steps
    seed: int = 0


def fit(
    method: nn.Module,
    minibatches: Minibatches | CompoundMinibatches,
    config: TrainConfig,
    run: Path | str,
    monitor: Callable[[int, nn.Module], dict[str, float]] | None = None,
    progress: bool = True,
    score: Callable[[nn.Module], float] | None = None,
    score_every: int = 1,
) -> list[dict[str, float | int]]:
    """Train ``method``; leave ``model.safetensors`` and ``log.csv`` in the folder ``run``.

    Every random number of step ``s`` comes from (seed, s, rank), so a run that was killed goes on
    from its last checkpoint to the same weights as one that was not (on a CPU to the bit). A step
    whose loss or gradient is infinite is passed over; a loss that is NaN, or 30 such steps in a
    row, stop the run with `InputError` and keep the last checkpoint.

    Returns the log, one dict a logged step. ``monitor`` is called with (step, method) at each
    checkpoint; what it returns is logged. If it has a method ``line``, that turns a logged row into
    the words beside the bar. With ``score``, called with the method at every ``score_every``-th
    checkpoint and at the end, the encoder of the highest score is kept and ends in the method and
    in ``model.safetensors``; the log has each ``val_score``, and in ``best_step`` the step of the
    best until then.

    Within `ranks.joined` all processes call it alike. Each takes its share of every minibatch, and
    the gradients are averaged. All call ``monitor`` and ``score``; only the first writes.
    """
    run, first = Path(run), ranks.this() == 0
    run.mkdir(parents=True, exist_ok=True)
    fabric = devices.fabric(config.accelerator, config.precision)
    method = devices.synchronised(method.to(fabric.device))
    minibatches.normaliser = minibatches.normaliser.to(fabric.device)
    minibatches.share(ranks.this(), ranks.count())
    precision, select = fabric.strategy.precision, "best" if score else "last"
    optimizer, state = _begun(run, method, minibatches, config, precision, select)
    method.train()
    if state.step == 0 and hasattr(method, "begin"):  # DeepClusterV2 fills its bank
        method.begin(minibatches, fabric.device)
    bar = tqdm(
        total=config.steps, initial=state.step, disable=not (progress and first), mininterval=2,
        unit="step",
    )  # fmt: skip
    say = getattr(monitor, "line", lambda row: f"loss={row['loss']:.3f}")
    began, passed_over = time.perf_counter() - state.seconds, 0
    with devices.compiled(method, config.compile) as eager:
        module, wrapped = fabric.setup(method, optimizer)
        if ranks.count() > 1:
            module.mark_forward_method("loss")
        while state.step < config.steps:
            loss, extra, moved = _step(fabric, module, minibatches, wrapped, config, state.step)
            state.step += 1
            bar.update()
            passed_over = 0 if moved else passed_over + 1
            _stop_if_lost(loss, passed_over, run, state.step)
            last = state.step == config.steps
            checkpoint = state.step // config.checkpoint_every
            saving = last or state.step % config.checkpoint_every == 0
            if state.step % 20 and not saving:
                continue
            row = {"step": state.step, "loss": loss} | _numbers(fabric, extra)
            row["learning_rate"] = optimizer.param_groups[0]["lr"]
            state.log.append(row)
            if saving:
                with eager():
                    row.update(monitor(state.step, method) if monitor else {})
                    if score and (last or checkpoint % score_every == 0):
                        row.update(_scored(state, method, score))
                state.seconds = time.perf_counter() - began
                if first:
                    checkpoints.save(run, method, optimizer, precision, state)
            bar.set_postfix_str(say(row))
    bar.close()
    if state.best:
        method.encoder.load_state_dict(state.best)
    if first:
        checkpoints.finish(run, method.encoder, state)
    ranks.wait()
    method.eval()
    return state.log


def _begun(run, method, minibatches, config, precision, select):
    """The optimiser and the state of a run, from its last checkpoint if it has one."""
    identity = checkpoints.identity(method, minibatches, config, select)
    checkpoints.claim(run, identity, write=ranks.this() == 0)
    groups = _groups(method, config.weight_decay)
    optimizer = _optimizer(groups, config)
    state = checkpoints.resume(run, method, optimizer, precision)
    if steps := ranks.differ(state.step):
        raise InputError(
            f"The processes would go on from different steps ({steps}): {run} must lie on a disk "
            "that all machines see. Point $HCS_RUNS there."
        )
    return optimizer, state


def _optimizer(groups, config):
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    raise InputError(f"unknown optimizer {config.optimizer!r}: it is 'adamw' or 'sgd'.")


def _step(fabric, module, minibatches, optimizer, config, step):
    """Loss (mean over processes), what the method says beside it, and whether weights moved."""
    method, share = module.module, step / config.steps
    torch.manual_seed((config.seed * 1_000_003 + step + (ranks.this() << 40)) % 2**63)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    optimizer.param_groups[0]["weight_decay"] = weight_decay(config, step)
    minibatch = minibatches(step, fabric.device)
    with fabric.autocast():
        loss, extra = module.loss(minibatch, share)
    fabric.backward(loss)
    method.before_step(share)
    precision = fabric.strategy.precision
    precision.unscale_gradients(optimizer.optimizer)
    norm = nn.utils.clip_grad_norm_(_trainable(method), config.clip_norm or math.inf)
    loss = fabric.all_reduce(loss.detach().float()) if ranks.count() > 1 else loss.detach().float()
    loss, norm = torch.stack((loss, norm.to(loss))).tolist()  # the one wait for the device
    finite = math.isfinite(loss) and math.isfinite(norm)
    if finite or precision.state_dict():  # a gradient scaler passes over by itself, and learns
        optimizer.step()
    if finite:
        method.after_step(share)
    optimizer.zero_grad(set_to_none=True)
    return loss, extra, finite


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to ``final_share`` of the peak."""
    warmup = config.warmup_steps or max(1, round(config.warmup_share * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    end = config.learning_rate * config.final_share
    return cosine_schedule(step - warmup, max(2, config.steps - warmup), config.learning_rate, end)


def weight_decay(config: TrainConfig, step: int) -> float:
    """From ``weight_decay`` at the first step to ``weight_decay_end`` at the last, by a cosine."""
    start, end = config.weight_decay, config.weight_decay_end
    return start if end is None else cosine_schedule(step, config.steps, start, end)


def _trainable(method):
    return [p for p in method.parameters() if p.requires_grad]


def _groups(method, decay):
    """Weights decay; biases and other one-dimensional parameters do not."""
    weights = [p for p in _trainable(method) if p.ndim > 1]
    others = [p for p in _trainable(method) if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _numbers(fabric, extra) -> dict[str, float]:
    """What a method says of a step, as means over the processes."""
    return {k: float(v) for k, v in (fabric.all_reduce(extra) if extra else extra).items()}


def _scored(state, method, score):
    value = float(score(method))
    if value > state.best_score:
        weights = method.encoder.state_dict().items()
        state.best = {k: v.detach().cpu().contiguous().clone() for k, v in weights}
        state.best_step, state.best_score = state.step, value
    return {"val_score": value, "best_step": state.best_step}


def _stop_if_lost(loss, passed_over, run, step):
    if math.isnan(loss):
        raise InputError(f"The loss is nan {checkpoints.lost(run, step)}")
    if passed_over >= _PASSED_OVER:
        raise InputError(
            f"No gradient was finite in {passed_over} steps, so nothing is learned, "
            f"{checkpoints.lost(run, step)}"
        )

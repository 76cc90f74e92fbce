"""Weights learned from drawn textures and shapes, where there are none from photographs."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from lightly.utils.scheduler import cosine_schedule
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from hcs_utils import files
from hcs_utils.data import textures
from hcs_utils.errors import InputError

RATES = {"vgg": 2e-4, "convnext": 5e-4}  # by the beginning of a name: no batch norm in them


@dataclass(frozen=True)
class ProceduralConfig:
    """What is drawn and how it is learned; the defaults: two minutes of a core for ``small``."""

    classes: int = textures.GENERAL
    px: int = 48
    steps: int = 2000
    minibatch: int = 64
    learning_rate: float | None = None  # peak, of AdamW; None: 2e-3, less for some of `RATES`
    weight_decay: float = 1e-4
    held_out: int = 2000  # pictures for the accuracy that is told
    seed: int = 0


def weights(
    name: str, channels: int, build: Callable[[], nn.Module],
    config: ProceduralConfig | None = None, progress: bool = True,
) -> Path:  # fmt: skip
    """The .safetensors file of an encoder pre-trained on `textures.draw`; made once, then found.

    ``build()`` makes the encoder ``name`` for so many channels. The file lies in
    ``$HCS_DATA/weights``, its settings in its name and, with the accuracy on held-out drawings,
    in its metadata (`about`). Of several processes one makes it, and the others wait. Neither its
    random numbers nor the caller's touch one another. Channels are drawn alike, so the weights
    serve channels of any names.
    """
    c = config or ProceduralConfig()
    if c.learning_rate is None:
        rate = next((rate for start, rate in RATES.items() if name.startswith(start)), 2e-3)
        c = replace(c, learning_rate=rate)
    if c.steps < 1 or c.minibatch < 2:
        raise InputError(f"{c.steps} steps of {c.minibatch} drawings: take 1 of 2 or more.")
    folder = files.data_root() / "weights"
    path = folder / (
        f"procedural-{name}-{channels}ch-{c.classes}x{c.px}px-{c.steps}x{c.minibatch}"
        f"-lr{c.learning_rate:g}-wd{c.weight_decay:g}-s{c.seed}.safetensors"
    )
    if not path.exists():
        with files.locked(folder):
            if not path.exists():
                _make(path, name, channels, build, c, progress)
    return path


def about(path: Path | str) -> dict:
    """What the metadata of such a file tell: settings, accuracy, chance, seconds.

    Raises `InputError` for other files.
    """
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["procedural"])
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise InputError(f"{path} holds no weights learned from drawings.") from error


def _make(path, name, channels, build, c, progress) -> None:
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(c.seed)
        network = build().to(device)
        head = nn.Linear(network.num_features, c.classes).to(device)
        levels = _train(network, head, name, channels, c, progress)
    accuracy = _accuracy(network, head, channels, c, levels)
    told = asdict(c) | {
        "encoder": name, "channels": channels, "accuracy": round(accuracy, 4),
        "chance": round(1 / c.classes, 4), "seconds": round(time.perf_counter() - began, 1),
        "mean": levels[0], "sd": levels[1],
    }  # fmt: skip
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with files.replacing(path) as part:
        part.write_bytes(save(tensors, {"procedural": json.dumps(told)}))


def _train(network, head, name, channels, c, progress) -> tuple[float, float]:
    """Every drawing is seen once. Gives mean and sd of grey levels, by which all are normalised."""
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, c.learning_rate, weight_decay=c.weight_decay)
    block = min(c.steps, max(1, 4096 // c.minibatch))  # steps whose drawings are made together
    levels, warmup = None, max(1, c.steps // 20)
    network.train()
    say = f"weights of {name} from drawings, once"
    steps = tqdm(range(c.steps), say, disable=not progress, mininterval=2, leave=False)
    for step in steps:
        if step % block == 0:
            seed = c.seed * 1_000_003 + 1 + step
            images, label = _drawn(block * c.minibatch, channels, c, seed)
            levels = levels or (float(images.float().mean()), float(images.float().std()))
        own = slice(step % block * c.minibatch, (step % block + 1) * c.minibatch)
        loss = F.cross_entropy(
            head(network(_normal(images[own], levels, head))), label[own].to(head.weight.device)
        )
        rate = cosine_schedule(step, max(2, c.steps), c.learning_rate, 0.01 * c.learning_rate)
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / warmup)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 3.0)
        optimizer.step()
    return levels


@torch.no_grad()
def _accuracy(network, head, channels, c, levels) -> float:
    """Share of new drawings whose class is told."""
    images, label = _drawn(c.held_out, channels, c, c.seed * 1_000_003)
    network.eval()
    parts = images.split(256)
    found = torch.cat(
        [head(network(_normal(part, levels, head))).argmax(1).cpu() for part in parts]
    )
    return float((found == label).float().mean())


def _drawn(count, channels, c, seed) -> tuple[Tensor, Tensor]:
    images, label = textures.draw(count, c.classes, c.px, channels, seed)
    return torch.from_numpy(images), torch.from_numpy(label)


def _normal(images, levels, head):
    x = (images.to(head.weight.device).float() - levels[0]) / levels[1]
    return x.contiguous(memory_format=torch.channels_last)

"""A few steps of CLIP, EMM and IMM in this process, or in one of two that share the minibatch."""

from datetime import timedelta

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from hcs_utils.learning.compound_minibatches import CompoundMinibatch
from hcs_utils.learning.methods.clip import CLIP, CLIPConfig
from hcs_utils.learning.methods.emm import EMM, EMMConfig
from hcs_utils.learning.methods.imm import IMM, IMMConfig
from hcs_utils.learning.space import Space

SETTINGS = dict(temperature=0.4, learn_temperature=True)
KINDS = {
    f"{name} {form}": (kind, config(form=form, **SETTINGS))
    for name, kind, config in (
        ("clip", CLIP, CLIPConfig), ("emm", EMM, EMMConfig), ("imm", IMM, IMMConfig),
    )
    for form in ("paper", "released")
}  # fmt: skip
N, M, STEPS = 6, 3, 3


class Net(nn.Module):
    """An encoder of channel means, or of bits."""

    num_features = 6

    def __init__(self, inputs: int):
        super().__init__()
        self.channels = tuple("abcdefgh"[:inputs])
        self.layers = nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return self.layers(x.mean((2, 3)) if x.ndim == 4 else x)


def space(inputs: int = 2, width: int = 5) -> Space:
    return Space(Net(inputs), Net(4), width)


def minibatch(step: int, part: slice) -> CompoundMinibatch:
    """Some of the compounds of the minibatch of that step."""
    g = torch.Generator().manual_seed(step)
    images = torch.randn(N, M, 2, 4, 4, generator=g)
    molecules = torch.randn(N, 4, generator=g)
    domain = torch.zeros(N, M, dtype=torch.long)
    return CompoundMinibatch(
        images[part].flatten(0, 1), molecules[part], M, torch.arange(N)[part], domain[part]
    )


def trained(kind: str, rank: int = 0, ranks: int = 1) -> dict[str, torch.Tensor]:
    """Losses, first gradients and weights after some steps, averaged over ranks."""
    torch.manual_seed(0)
    make, config = KINDS[kind]
    method = make(space(), config).double()
    weights = dict(method.named_parameters())
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    part = slice(rank * N // ranks, (rank + 1) * N // ranks)
    found = {}
    for step in range(STEPS):
        share = minibatch(step, part)
        share.images, share.molecules = share.images.double(), share.molecules.double()
        loss, _ = method.loss(share, step / STEPS)
        loss.backward()
        found[f"loss {step}"] = loss.detach().clone()
        if ranks > 1:  # what DDP does
            for value in (found[f"loss {step}"], *(p.grad for p in weights.values())):
                dist.all_reduce(value)
                value /= ranks
        if step == 0:
            found |= {f"gradient {k}": p.grad.clone() for k, p in weights.items()}
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step / STEPS)
    return found | {k: v.clone() for k, v in method.state_dict().items()}


def work(rank: int, folder: str) -> None:
    """Be one of two processes: train each kind, leave what came out in a file."""
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    try:
        found = {f"{kind}/{k}": v for kind in KINDS for k, v in trained(kind, rank, 2).items()}
        save_file({k: v.contiguous() for k, v in found.items()}, f"{folder}/{rank}.safetensors")
    finally:
        dist.destroy_process_group()

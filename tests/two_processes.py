"""A few steps of a method in this process, or in one of two that share the minibatch over gloo."""

from datetime import timedelta

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig
from hcs_utils.learning.methods.dino import DINOConfig, DINOCrossBatch
from hcs_utils.learning.minibatches import Minibatch

HEAD = dict(hidden=8, bottleneck=5, width=9)
KINDS = {
    "dino": lambda net: DINOCrossBatch(net, DINOConfig(**HEAD)),
    "dino cross": lambda net: DINOCrossBatch(net, DINOConfig(**HEAD, view_pairs="cross")),
} | {
    f"cdcl {form} {rule}": lambda net, form=form, rule=rule: CDCL(
        net, [9, 5, 2], DINOConfig(**HEAD), CDCLConfig(form=form, centers=rule)
    )
    for form, rule in (("paper", "paper"), ("released", "released"), ("released", "one"))
}
N, LOCAL, STEPS = 6, 3, 3


class Net(nn.Module):
    num_features, channels = 6, ("a", "b")

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return self.layers(x.mean((2, 3)))


def minibatch(step: int, part: slice) -> Minibatch:
    """Some of the images of the minibatch of that step, all their views."""
    g = torch.Generator().manual_seed(step)
    views = torch.randn(2, N, 2, 4, 4, generator=g).double()
    local = torch.randn(2 * LOCAL, N, 2, 3, 3, generator=g).double()
    domain = torch.randint(3, (2, N), generator=g)
    return Minibatch(
        views[:, part].flatten(0, 1), local[:, part].flatten(0, 1), torch.arange(N)[part],
        domain[:, part],
    )  # fmt: skip


def trained(kind: str, rank: int = 0, ranks: int = 1) -> dict[str, torch.Tensor]:
    """Losses, first gradients, and weights and centres after some steps, averaged over ranks."""
    torch.manual_seed(0)
    method = KINDS[kind](Net()).double()
    weights = {k: p for k, p in method.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    part = slice(rank * N // ranks, (rank + 1) * N // ranks)
    found = {}
    for step in range(STEPS):
        loss, _ = method.loss(minibatch(step, part), step / STEPS)
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

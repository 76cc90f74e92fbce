"""A few steps of quality control's methods in this process, or in one of two that share them."""

from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from hcs_utils.learning.methods.deepcluster import DeepClusterConfig, DeepClusterV2
from hcs_utils.learning.methods.simclr import SimCLR, SimCLRConfig
from hcs_utils.learning.methods.swav import SwAV, SwAVConfig
from hcs_utils.learning.methods.vicreg import VICReg, VICRegConfig
from hcs_utils.learning.qc_views import QCViews
from hcs_utils.learning.views import Normaliser
from tests.oracles_selfsupervised import Flat

N, COUNT, STEPS = 6, 12, 5
SWAV = SwAVConfig(9, 5, prototypes=4, queue=9, queue_starts=0.4)
KINDS = {
    "simclr": lambda net: SimCLR(net, SimCLRConfig(9, 5, 0.3)),
    "barlow_twins": lambda net: BarlowTwins(net, BarlowTwinsConfig(9, 5)),
    "vicreg": lambda net: VICReg(net, VICRegConfig(9, 5)),
    "swav": lambda net: SwAV(net, SWAV),
    "deepcluster": lambda net: DeepClusterV2(net, DeepClusterConfig(9, 5, 3), count=COUNT),
}


def stream(rank: int, ranks: int) -> CropMinibatches:
    """Crops of one colour each; views are the crops, so that shares of them are the same."""
    g = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (COUNT, 2, 1, 1), generator=g, dtype=torch.uint8)
    norm = Normaliser(torch.full((1, 2), 127.0), torch.full((1, 2), 70.0))
    found = CropMinibatches(
        images.expand(-1, -1, 4, 4), np.arange(COUNT), np.zeros(COUNT, int), norm,
        QCViews(turn=False, probability=0), size=N,
    )  # fmt: skip
    found.share(rank, ranks)
    return found


def trained(kind: str, rank: int = 0, ranks: int = 1) -> dict[str, torch.Tensor]:
    """Losses, first gradients, weights and buffers after some steps, averaged over ranks.

    Batch norms are taken out: on CPUs each process normalises its own share.
    """
    torch.manual_seed(0)
    method = KINDS[kind](Flat())
    method.projector.layers = nn.Sequential(
        *(nn.Identity() if isinstance(m, nn.BatchNorm1d) else m for m in method.projector.layers)
    )
    crops = stream(rank, ranks)
    if hasattr(method, "begin"):
        method.begin(crops, "cpu")
    weights = {k: p for k, p in method.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    found = {}
    for step in range(STEPS):
        minibatch = crops(step, "cpu")
        g = torch.Generator().manual_seed(step)  # views that differ, alike in all processes
        noise = torch.randn(2, N, 2, 1, 1, generator=g)[:, crops.part]
        minibatch.global_views = minibatch.global_views + 0.3 * noise.flatten(0, 1)
        loss, _ = method.loss(minibatch, step / STEPS)
        loss.backward()
        found[f"loss {step}"] = loss.detach().clone()
        if ranks > 1:  # what DDP does
            for value in (found[f"loss {step}"], *(p.grad for p in weights.values())):
                dist.all_reduce(value)
                value /= ranks
        if step == 0:
            found |= {f"gradient {k}": p.grad.clone() for k, p in weights.items()}
        method.before_step(step / STEPS)
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

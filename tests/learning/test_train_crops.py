"""Training on crops without labels: by AdamW or SGD, stopped anywhere and resumed to the bit."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hcs_utils.errors import InputError
from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from hcs_utils.learning.methods.deepcluster import DeepClusterConfig, DeepClusterV2
from hcs_utils.learning.methods.simclr import SimCLR, SimCLRConfig
from hcs_utils.learning.methods.swav import SwAV, SwAVConfig
from hcs_utils.learning.methods.vicreg import VICReg, VICRegConfig
from hcs_utils.learning.train import TrainConfig, fit
from hcs_utils.learning.views import Normaliser

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS = ("red", "green", "blue")
KINDS = {
    "simclr": lambda net: SimCLR(net, SimCLRConfig(16, 8, 0.2)),
    "barlow_twins": lambda net: BarlowTwins(net, BarlowTwinsConfig(16, 8, scale=0.1)),
    "vicreg": lambda net: VICReg(net, VICRegConfig(16, 8)),
    "swav": lambda net: SwAV(net, SwAVConfig(16, 8, prototypes=6, queue=24, queue_starts=0.3)),
    "deepcluster": lambda net: DeepClusterV2(net, DeepClusterConfig(16, 8, 6), count=40),
    "deepcluster released": lambda net: DeepClusterV2(
        net, DeepClusterConfig(16, 8, 6, first_epoch="released"), count=40
    ),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def stream(seed=0):
    """Forty crops of 16 px, each of a colour of its own, with some noise."""
    g = torch.Generator().manual_seed(7)
    images = 40 + 160 * torch.rand(40, 3, 1, 1, generator=g) + torch.zeros(1, 1, 16, 16)
    images += 12 * torch.randn(40, 3, 16, 16, generator=g)
    norm = Normaliser(torch.full((2, 3), 120.0), torch.full((2, 3), 46.0))
    return CropMinibatches(
        images.clamp(0, 255).byte(), np.arange(40), np.arange(40) % 2, norm, size=12, seed=seed
    )


def method(kind):
    torch.manual_seed(0)
    return KINDS[kind](encoder("tiny", CHANNELS))


def config(**changes):
    options = dict(steps=12, checkpoint_every=5, accelerator="cpu", learning_rate=0.01)
    return TrainConfig(**(options | changes))


def trained(net, run, **changes):
    return fit(net, stream(), config(**changes), run, progress=False)


def same_tensors(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@kinds
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [3, 7, 11])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(tmp_path, kind, optimizer, stop):
    """Three steps are an epoch, so stops lie in the first, the third and the last."""
    whole = trained(method(kind), tmp_path / "whole", optimizer=optimizer)
    net, calls = method(kind), []
    loss = net.loss

    def until(minibatch, progress):
        calls.append(progress)
        if len(calls) > stop:
            raise KeyboardInterrupt
        return loss(minibatch, progress)

    net.loss = until
    with pytest.raises(KeyboardInterrupt):
        trained(net, tmp_path / "run", optimizer=optimizer)
    assert trained(method(kind), tmp_path / "run", optimizer=optimizer) == whole
    for name in ("model.safetensors", "resume.safetensors"):
        assert same_tensors(tmp_path / "whole" / name, tmp_path / "run" / name), name


@kinds
def test_it_learns_to_tell_crops_by_their_colour(tmp_path, kind):
    """The loss falls below that of equal outputs, and outputs stay apart."""
    net = method(kind)
    log = trained(net, tmp_path, steps=60, checkpoint_every=20)
    assert log[-1]["loss"] < 0.8 * net.trivial_loss
    assert log[-1].get("directions", 2) > 1.5 and log[-1].get("prototypes_used", 6) > 3


@kinds
def test_lower_precision_trains_too(tmp_path, kind):
    log = trained(method(kind), tmp_path, precision="bf16-mixed")
    assert np.isfinite([row["loss"] for row in log]).all()


def test_sgd_is_torchs_with_the_papers_momentum(tmp_path):
    """A step by hand of the first minibatch, its gradient not clipped."""
    torch.manual_seed(0)
    net, s = method("simclr"), stream()
    weights = [p for p in net.parameters() if p.requires_grad]
    torch.manual_seed(0)  # seed 0, step 0
    net.train().loss(s(0, "cpu"), 0.0)[0].backward()
    expected = [p.detach() - 0.1 * p.grad for p in weights]
    run = method("simclr")
    trained(
        run, tmp_path, steps=1, optimizer="sgd", learning_rate=0.1, warmup_steps=1,
        weight_decay=0.0, clip_norm=0.0,
    )  # fmt: skip
    for p, q in zip((p for p in run.parameters() if p.requires_grad), expected, strict=True):
        torch.testing.assert_close(p.detach(), q)
    saved = load_file(tmp_path / "resume.safetensors")
    assert any(name.endswith("momentum_buffer") for name in saved)
    assert TrainConfig().momentum == 0.9


def test_an_unknown_optimizer_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown optimizer 'lion'"):
        trained(method("simclr"), tmp_path, optimizer="lion")


def test_another_optimizer_is_another_run_and_old_runs_go_on(tmp_path):
    """Runs from before there was a choice named none: they were of AdamW."""
    trained(method("simclr"), tmp_path)
    about = json.loads((tmp_path / "run.json").read_text())
    assert not {"optimizer", "momentum"} & set(about["train"])
    with pytest.raises(InputError, match="train differ"):
        trained(method("simclr"), tmp_path, optimizer="sgd")
    assert train.seconds(tmp_path) > 0

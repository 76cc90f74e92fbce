"""CLIP against loops, and the method: minibatches, temperature, training, two processes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from safetensors.torch import load_file
from torch import nn

from hcs_utils.errors import InputError
from hcs_utils.learning.compound_minibatches import CompoundMinibatches, WellViews
from hcs_utils.learning.diagnose import Doctor
from hcs_utils.learning.methods.clip import CLIP, CLIPConfig, clip_loss
from hcs_utils.learning.methods.emm import EMM, EMMConfig
from hcs_utils.learning.methods.imm import IMM, IMMConfig
from hcs_utils.learning.train import TrainConfig, fit
from hcs_utils.learning.views import Normaliser, ViewsConfig
from tests import oracles_crossmodal as oracle
from tests import two_processes_crossmodal as two_processes
from tests.oracles_crossmodal import drawn, with_gradients
from tests.two_processes_crossmodal import KINDS, minibatch

kinds = pytest.mark.parametrize(
    ("kind", "config"), [(CLIP, CLIPConfig), (EMM, EMMConfig), (IMM, IMMConfig)]
)
forms = pytest.mark.parametrize("form", ["paper", "released"])


@forms
@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_loss_and_gradients_are_those_of_the_loop(form, tau):
    mol, img = drawn()
    ours = with_gradients(lambda a, b, t: clip_loss(a, b[:, 0], t, form), mol, img, tau)
    theirs = with_gradients(lambda a, b, t: oracle.clip(a, b[:, 0], t, form), mol, img, tau)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_paper_form_is_cross_entropy_both_ways_and_symmetric():
    mol, img = drawn()[0], drawn(1)[0]
    scores = F.normalize(mol) @ F.normalize(img).mT / 0.2
    right = torch.arange(5)
    both = (F.cross_entropy(scores, right) + F.cross_entropy(scores.mT, right)) / 2
    torch.testing.assert_close(clip_loss(mol, img, 0.2), both)
    torch.testing.assert_close(clip_loss(img, mol, 0.2), both)
    assert clip_loss(mol, img, 0.2, "released") != clip_loss(img, mol, 0.2, "released")


def test_paper_form_is_lightlys_where_its_negatives_of_one_kind_are_far():
    """NTXentLoss has molecules against molecules below the line; opposed ones add e^(−1/τ) each."""
    a = torch.eye(2).double()[[0]].repeat(2, 1) * torch.tensor([[1.0], [-1.0]]).double()
    b = a + 0.3 * torch.eye(2).double()[[1]]
    s = F.normalize(a) @ F.normalize(b).mT / 0.5
    within = [F.normalize(x)[0] @ F.normalize(x)[1] / 0.5 for x in (a, b)]
    rows = [(s, within[0]), (s.mT, within[1])]
    extra = sum(
        (torch.log(t.exp().sum(1) + w.exp()) - t.diagonal()).mean() for t, w in rows
    ) / 2  # fmt: skip
    torch.testing.assert_close(NTXentLoss(temperature=0.5)(a, b), extra)
    less = sum((torch.log(t.exp().sum(1)) - t.diagonal()).mean() for t, _ in rows) / 2
    torch.testing.assert_close(clip_loss(a, b, 0.5), less)


@forms
def test_order_of_compounds_does_not_matter(form):
    mol, img = drawn()[0], drawn(1)[0]
    order = torch.randperm(5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        clip_loss(mol[order], img[order], 0.1, form), clip_loss(mol, img, 0.1, form)
    )


# The method


def method(kind=CLIP, config=None) -> CLIP:
    torch.manual_seed(0)
    return kind(two_processes.space(), config)


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        (CLIP, CLIPConfig(), math.log(6)),
        (CLIP, CLIPConfig(form="released"), math.log(5)),
        (EMM, EMMConfig(), math.log(5)),
        (EMM, EMMConfig(form="released"), math.log(5)),
        (IMM, IMMConfig(gamma=0.4), 1.4 * math.log(5)),
        (IMM, IMMConfig(gamma=0.4, pairs="all"), 1.4 * math.log(5)),
        (IMM, IMMConfig(gamma=0.4, form="released"), (3 + 3 * 0.4) * math.log(5)),
    ],
)
def test_trivial_loss_is_that_of_equal_outputs(kind, config, expected):
    net = method(kind, config)
    assert math.isnan(net.trivial_loss)
    for last in (net.space.image_head[-1], net.space.molecule_head[-1]):
        nn.init.zeros_(last.weight)
        nn.init.ones_(last.bias)
    loss, said = net.loss(minibatch(0, slice(6)), 0.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert net.trivial_loss == pytest.approx(expected)
    assert set(said) == {"m2i_first", "i2m_first", "temperature"}


def test_clip_takes_the_first_view_and_the_others_all():
    for kind, same in ((CLIP, True), (EMM, False), (IMM, False)):
        net, one, other = method(kind), minibatch(0, slice(6)), minibatch(0, slice(6))
        images = other.images.view(6, 3, *other.images.shape[1:]).clone()
        images[:, 1:] += 30 * torch.randn_like(images[:, 1:])
        other.images = images.flatten(0, 1)
        assert (net.loss(one, 0.0)[0] == net.loss(other, 0.0)[0]) == same
    one.images = one.images[:-1]
    with pytest.raises(InputError, match="needs 18 images, and has 17"):
        net.loss(one, 0.0)


@pytest.mark.parametrize(("kind", "config"), [(CLIP, CLIPConfig), (IMM, IMMConfig)])
def test_a_learned_temperature_is_learned_and_kept_between_its_bounds(kind, config):
    net = method(kind, config(learn_temperature=True, temperature=0.5, temperature_min=0.2))
    optimizer = torch.optim.SGD([net.log_temperature], lr=1e9)
    net.loss(minibatch(0, slice(6)), 0.0)[0].backward()
    assert net.log_temperature.grad.abs() > 0
    optimizer.step()
    assert not 0.2 <= net.temperature <= 1.0
    net.after_step(0.0)
    assert any(net.temperature.item() == pytest.approx(bound) for bound in (0.2, 1.0))
    assert "log_temperature" in net.state_dict()
    assert "log_temperature" not in method(kind).state_dict() and method(kind).temperature == 0.1


def test_autocast_leaves_the_loss_in_single_precision():
    net, views = method(EMM), minibatch(0, slice(6))
    with torch.autocast("cpu", torch.bfloat16):
        mol, img = net.outputs(views)
        loss = net.loss(views, 0.0)[0]
    assert loss.dtype == mol.dtype == torch.float32 and torch.equal(mol, mol.bfloat16().float())
    assert loss == net.objective(mol, img)


def stream(seed=0) -> CompoundMinibatches:
    """Sixty compounds with two wells each, as bright in four channels as their molecule says."""
    g = torch.Generator().manual_seed(9)
    molecule = torch.rand(60, 4, generator=g)
    images = 40 + 160 * molecule.repeat_interleave(2, 0)[:, :, None, None]
    images = images.expand(-1, -1, 8, 8) + 8 * torch.randn(120, 4, 8, 8, generator=g)
    batch = np.tile([0, 1], 60)
    levels = {"source": batch, "batch": batch, "plate": batch, "well": np.arange(120)}
    return CompoundMinibatches(
        images.clamp(0, 255).byte(), np.arange(120), np.repeat(np.arange(60), 2), levels, batch,
        Normaliser(torch.full((2, 4), 120.0), torch.full((2, 4), 46.0)),
        WellViews(ViewsConfig(global_size=6), count=2), molecule - 0.5, compounds=20, seed=seed,
    )  # fmt: skip


class Killed(CompoundMinibatches):
    """Stops the process at step 35, as a power cut would."""

    def __call__(self, step, device):
        if step == 35:
            raise KeyboardInterrupt
        return super().__call__(step, device)


@kinds
def test_fit_trains_it_with_a_doctor_and_resumes(kind, config, tmp_path, one_thread):
    """Molecules find their images; a run that was cut has the weights of one that was not."""
    settings = TrainConfig(steps=60, learning_rate=0.02, checkpoint_every=20, accelerator="cpu")

    def trained(folder, minibatches):
        torch.manual_seed(0)
        net = kind(two_processes.space(4, 64), config(learn_temperature=True))
        doctor = Doctor(minibatches, fields=24, say=False)
        log = fit(net, minibatches, settings, tmp_path / folder, doctor, progress=False)
        return net, log

    net, log = trained("whole", stream())
    killed = stream()
    killed.__class__ = Killed
    with pytest.raises(KeyboardInterrupt):
        trained("parts", killed)
    torch.testing.assert_close(
        trained("parts", stream())[0].state_dict(), net.state_dict(), rtol=0, atol=0
    )
    last = log[-1]
    assert last["m2i_first"] > 0.3 and last["i2m_first"] > 0.3 and 0.01 <= last["temperature"] < 0.1
    assert last["trivial_loss"] == net.trivial_loss and last["loss"] < 0.7 * net.trivial_loss
    saved = load_file(tmp_path / "whole" / "model.safetensors")
    assert saved.keys() == net.space.state_dict().keys()


# Several processes


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes has after the steps in which they shared the minibatches."""
    folder = str(tmp_path_factory.mktemp("two"))
    second = torch.multiprocessing.get_context("spawn").Process(
        target=two_processes.work, args=(1, folder)
    )
    second.start()
    two_processes.work(0, folder)
    second.join()
    return [load_file(f"{folder}/{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one_with_the_joined_minibatch(two, kind):
    """Loss, gradients (the temperature's, too) and weights: each compound has all others."""
    alone = two_processes.trained(kind)
    assert any(k.startswith("gradient log_temperature") for k in alone)
    for rank in two:
        own = {name: rank[f"{kind}/{name}"] for name in alone}
        torch.testing.assert_close(own, alone, rtol=1e-6, atol=1e-9)

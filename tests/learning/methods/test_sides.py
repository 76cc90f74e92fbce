"""What the losses of molecules and images refuse, and what must not matter to any of them."""

import pytest
import torch

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.clip import CLIPConfig, clip_loss
from hcs_utils.learning.methods.emm import EMMConfig, emm_loss
from hcs_utils.learning.methods.imm import IMMConfig, imm_loss
from hcs_utils.learning.methods.sides import found_first
from tests.oracles_crossmodal import drawn

LOSSES = {
    "clip": lambda mol, img, tau: clip_loss(mol, img[:, 0], tau),
    "clip released": lambda mol, img, tau: clip_loss(mol, img[:, 0], tau, "released"),
    "emm": emm_loss,
    "emm released": lambda mol, img, tau: emm_loss(mol, img, tau, "released"),
    "imm": imm_loss,
    "imm all": lambda mol, img, tau: imm_loss(mol, img, tau, pairs="all"),
    "imm released": lambda mol, img, tau: imm_loss(mol, img, tau, form="released"),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@each_loss
@pytest.mark.parametrize("tau", [1e-2, 1e-4])
def test_small_temperatures_in_single_precision_agree_with_double(loss, tau):
    found = []
    for kind in (torch.float32, torch.double):
        mol, img = (x.to(kind).requires_grad_() for x in drawn(n=6))
        value = loss(mol, img, tau)
        value.backward()
        assert value.isfinite() and mol.grad.isfinite().all() and img.grad.isfinite().all()
        found.append(value.double().detach())
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@each_loss
def test_half_precision_is_summed_in_single(loss):
    mol, img = (x.bfloat16() for x in drawn())
    value = loss(mol, img, 0.1)
    assert value.dtype == torch.float32 and value == loss(mol.float(), img.float(), 0.1)


@each_loss
def test_lengths_do_not_count(loss):
    mol, img = drawn()
    scale = torch.rand(5, 3, 1) * 9 + 0.1
    torch.testing.assert_close(loss(3 * mol, scale * img, 0.3), loss(mol, img, 0.3))


@each_loss
def test_what_has_no_loss_is_refused(loss):
    mol, img = drawn()
    with pytest.raises(InputError, match="1 compound"):
        loss(mol[:1], img[:1], 0.1)
    for tau in (0, -0.5, float("nan"), torch.tensor(0.0)):
        with pytest.raises(InputError, match="temperature"):
            loss(mol, img, tau)
    bad = img.clone()
    bad[3, 0, 1] = torch.inf
    with pytest.raises(InputError, match=r"images.*compound 3"):
        loss(mol, bad, 0.1)


@pytest.mark.parametrize("loss", [emm_loss, imm_loss])
def test_sides_of_different_compounds_are_refused(loss):
    mol, img = drawn()
    with pytest.raises((InputError, TypeError)):  # of the shapes' own check, in tests
        loss(mol[:4], img, 0.1)


@pytest.mark.parametrize("config", [CLIPConfig, EMMConfig, IMMConfig])
def test_settings_that_mean_nothing_are_refused(config):
    for wrong in (
        {"temperature": 0}, {"temperature": -1}, {"temperature_min": 0.0},
        {"temperature_min": 0.5, "temperature_max": 0.4}, {"form": "realeased"},
        {"learn_temperature": True, "temperature": 5},
    ):  # fmt: skip
        with pytest.raises(InputError):
            config(**wrong)
    with pytest.raises(InputError):
        IMMConfig(pairs="some")


def test_nearest_are_counted_both_ways():
    mol = torch.eye(4)[[0, 1, 2, 2]]
    img = torch.eye(4)[[0, 1, 2, 1]] + 0.01 * torch.eye(4)[3]
    found = found_first(mol, img)
    assert found["m2i_first"] == 0.75 and found["i2m_first"] == 0.75

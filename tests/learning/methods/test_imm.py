"""IMM against loops from equation 2, in both readings of B_M, and from the released code."""

import pytest
import torch

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.emm import emm_loss
from hcs_utils.learning.methods.imm import imm_loss
from tests import oracles_crossmodal as oracle
from tests.oracles_crossmodal import drawn, with_gradients

KINDS = [("paper", "distinct"), ("paper", "all"), ("released", "distinct")]
kinds = pytest.mark.parametrize(("form", "pairs"), KINDS)


@kinds
@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize("m", [2, 3])
def test_loss_and_gradients_are_those_of_the_loop(form, pairs, tau, m):
    mol, img = drawn(m=m)
    ours = with_gradients(lambda a, b, t: imm_loss(a, b, t, 0.7, form, pairs), mol, img, tau)
    theirs = with_gradients(lambda a, b, t: oracle.imm(a, b, t, 0.7, form, pairs), mol, img, tau)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@kinds
def test_order_of_compounds_and_of_views_does_not_matter(form, pairs):
    """But for the released pairs of views, a < b, which go one way."""
    mol, img = drawn()
    value, g = imm_loss(mol, img, 0.1, 0.5, form, pairs), torch.Generator().manual_seed(0)
    order = torch.randperm(5, generator=g)
    moved = imm_loss(mol[order], img[order], 0.1, 0.5, form, pairs)
    torch.testing.assert_close(moved, value)
    turned = imm_loss(mol, img[:, [1, 2, 0]], 0.1, 0.5, form, pairs)
    assert torch.isclose(turned, value) == (form == "paper")


def test_without_gamma_it_is_emm_and_released_m_times_emm():
    mol, img = drawn()
    for pairs in ("distinct", "all"):
        torch.testing.assert_close(imm_loss(mol, img, 0.2, 0, pairs=pairs), emm_loss(mol, img, 0.2))
    three = imm_loss(mol, img, 0.2, 0, "released")
    torch.testing.assert_close(three, 3 * emm_loss(mol, img, 0.2, "released"))


def test_a_view_with_itself_takes_the_pull_from_the_others():
    """Where a = b counts, e^(1/τ) above the line drowns the pairs a ≠ b at τ = 0.1."""
    mol, img = drawn(n=8, d=16)
    pulls = []
    for pairs in ("distinct", "all"):
        leaf = img.clone().requires_grad_()
        (imm_loss(mol, leaf, 0.1, 1.0, pairs=pairs) - emm_loss(mol, leaf, 0.1)).backward()
        step = img - 0.01 * leaf.grad / leaf.grad.norm()
        unit = torch.nn.functional.normalize(torch.stack([img, step]), dim=-1)
        own = torch.einsum("snad,snbd->snab", unit, unit).sum((1, 2, 3))
        pulls.append((own[1] - own[0]).item())
    assert pulls[0] > 0 and pulls[1] < pulls[0]


def test_one_view_has_no_pairs():
    mol, img = drawn(m=1)
    with pytest.raises(InputError, match="got 1 view"):
        imm_loss(mol, img, 0.1)
    one = imm_loss(mol, img, 0.1, form="released")
    torch.testing.assert_close(one, emm_loss(mol, img, 0.1, "released"))

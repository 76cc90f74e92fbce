"""EMM against loops from equation 1 and from the released code."""

import pytest
import torch

from hcs_utils.learning.methods.clip import clip_loss
from hcs_utils.learning.methods.emm import emm_loss
from tests import oracles_crossmodal as oracle
from tests.oracles_crossmodal import drawn, with_gradients

forms = pytest.mark.parametrize("form", ["paper", "released"])


@forms
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_loss_and_gradients_are_those_of_the_loop(form, tau):
    mol, img = drawn()
    ours = with_gradients(lambda a, b, t: emm_loss(a, b, t, form), mol, img, tau)
    theirs = with_gradients(lambda a, b, t: oracle.emm(a, b, t, form), mol, img, tau)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@forms
def test_order_of_compounds_and_of_views_does_not_matter(form):
    """Views of all compounds in another order; in the paper's form each compound's own order."""
    mol, img = drawn()
    value, g = emm_loss(mol, img, 0.1, form), torch.Generator().manual_seed(0)
    compounds, views = torch.randperm(5, generator=g), torch.randperm(3, generator=g)
    torch.testing.assert_close(emm_loss(mol[compounds], img[compounds], 0.1, form), value)
    torch.testing.assert_close(emm_loss(mol, img[:, views], 0.1, form), value)
    own = torch.stack([x[torch.randperm(3, generator=g)] for x in img])
    same = torch.isclose(emm_loss(mol, own, 0.1, form), value)
    assert same == (form == "paper")  # released: negatives of the same view index only


def test_one_view_makes_both_forms_one_and_equal_views_too():
    mol, img = drawn()
    one = img[:, :1]
    expected = oracle.emm(mol, one, 0.3)
    for form in ("paper", "released"):
        torch.testing.assert_close(emm_loss(mol, one, 0.3, form), expected)
        torch.testing.assert_close(emm_loss(mol, one.repeat(1, 4, 1), 0.3, form), expected)
    swapped = clip_loss(img[:, 0], mol, 0.3, "released")  # there images ask, here molecules
    torch.testing.assert_close(swapped, expected)


def test_one_way_and_without_a_floor():
    """Turning the sides around changes it; found positives bring it below 0, which CLIP's is not"""
    eye = torch.eye(6).double()
    assert emm_loss(eye, eye[:, None], 0.1).item() < -8
    assert clip_loss(eye, eye, 0.1).item() > 0
    mol, img = drawn(m=1)
    assert not torch.isclose(emm_loss(mol, img, 0.1), emm_loss(img[:, 0], mol[:, None], 0.1))

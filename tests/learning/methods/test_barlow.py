"""The Barlow loss by Gram matrices against the K x K matrix, for one pair and for many."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hcs_utils.learning.methods.barlow import barlow_loss, barlow_pairs
from tests import oracles_learning as oracle

forms = pytest.mark.parametrize("form", ["paper", "released"])
seeds = st.integers(0, 2**32 - 1)


def slow(a, b, form, weight):
    if form == "paper":
        return oracle.barlow_paper(a, b, weight / ((1 - weight) * (a.shape[1] - 1)))
    return oracle.barlow_released(a, b, weight)


@forms
@given(seed=seeds, n=st.integers(2, 9), k=st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_gram_form_of_barlow_is_the_k_by_k_matrix(form, seed, n, k):
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, n, k, generator=g, dtype=torch.double) * 3 + 1
    expected = slow(a, b, form, 0.6)
    torch.testing.assert_close(barlow_loss(a, b, 0.6, form), expected, rtol=1e-9, atol=1e-12)


@forms
def test_each_pair_of_views_has_the_loss_and_the_gradient_of_its_matrix(form):
    g = torch.Generator().manual_seed(0)
    a = torch.randn(2, 6, 7, generator=g, dtype=torch.double)
    b = torch.randn(8, 6, 7, generator=g, dtype=torch.double)
    pull = torch.randn(2, 8, generator=g, dtype=torch.double)
    found = []
    for loss in (
        lambda x, y: barlow_pairs(x, y, 0.7, form),
        lambda x, y: torch.stack([torch.stack([slow(i, j, form, 0.7) for j in y]) for i in x]),
    ):
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        values = loss(x, y)
        (values * pull).sum().backward()
        found.append((values.detach(), x.grad, y.grad))
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-12)


@forms
def test_barlow_is_nothing_for_independent_columns_and_large_for_one_column(form):
    h = torch.ones(1, 1, dtype=torch.double)
    for _ in range(3):
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    columns = h[:, 1:]  # seven orthogonal columns of mean 0 and variance 1
    assert barlow_loss(columns, columns, 0.95, form) < 1e-8
    repeated = columns[:, :1].expand(-1, 7)
    assert barlow_loss(repeated, repeated, 0.95, form) > 0.9
    assert barlow_loss(columns, columns.flip(1), 0.95, form) > 0.5


class Largest(TorchDispatchMode):
    """The most numbers any tensor had that was made within."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return out


@forms
def test_no_matrix_of_k_by_k_is_made_forwards_or_backwards(form):
    n, k = 4, 2000
    a, b = torch.randn(2, n, k), torch.randn(8, n, k, requires_grad=True)
    with Largest() as most:
        barlow_pairs(a, b, 0.95, form).sum().backward()
    assert b.numel() <= most.numbers <= 2 * 8 * n * k < k * k / 20
    with Largest() as most:  # what the test would see
        oracle.barlow_released(a[0], b[0])
    assert most.numbers >= k * k


@forms
def test_half_precision_of_the_network_does_not_reach_the_loss(form):
    a, b = torch.randn(2, 16, 300).bfloat16()
    expected = barlow_loss(a.float(), b.float(), 0.95, form)
    with torch.autocast("cpu", torch.bfloat16):
        got = barlow_loss(a, b, 0.95, form)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)

"""Scores in chunks: the same numbers, less memory."""

import pytest
import torch

from hcs_utils.learning.methods.contrast import log_ratio
from tests.oracles_crossmodal import drawn


@pytest.mark.parametrize("chunk", [1, 40, 100])
def test_chunks_change_nothing(chunk):
    """One compound at a time, three, and all but a few: values and gradients."""
    found = []
    for size in (chunk, 10**6):
        img = drawn(n=7)[1].requires_grad_()
        value = log_ratio(img, img, 0.2, torch.eye(3, dtype=torch.bool), chunk=size)
        value.sin().backward()
        found.append((value.detach(), img.grad))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_what_is_kept_for_the_gradient_grows_as_the_compounds():
    """Numbers that autograd keeps: twice the compounds, about twice, and far from all scores."""
    kept = []
    for n in (64, 128):
        img = torch.randn(n, 4, 16, requires_grad=True)
        sizes = {}

        def pack(x, sizes=sizes):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // 4
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            log_ratio(img, img, 0.1, chunk=4 * 4 * n * 4)
        kept.append(sum(sizes.values()))
    assert kept[1] < 2.2 * kept[0] and kept[1] < (128 * 4) ** 2 / 2

"""Quality control's methods: two processes are one with the joined minibatch."""

import pytest
import torch
from safetensors.torch import load_file

from hcs_utils.learning.methods.two_views import projections, prototypes_used
from tests import oracles_selfsupervised as oracles
from tests import two_processes_selfsupervised as two_processes


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


@pytest.mark.parametrize("kind", two_processes.KINDS)
def test_two_processes_are_one_with_the_joined_minibatch(two, kind):
    """Losses, gradients, weights; and queue, bank, clusters and prototypes, alike in both."""
    alone = two_processes.trained(kind)
    assert any(name.startswith("gradient") for name in alone)
    for rank in two:
        own = {name: rank[f"{kind}/{name}"] for name in alone}
        torch.testing.assert_close(
            own, alone, rtol=2e-3 if kind == "deepcluster" else 1e-4, atol=1e-5
        )


def test_the_projector_sees_one_view_at_a_time():
    """Batch statistics of a projector are those of one view: the other may move without effect."""
    torch.manual_seed(0)
    net, head = oracles.Flat().double(), torch.nn.BatchNorm1d(6).double()
    views = oracles.minibatch(0)
    first = projections(net, head, views)[0]
    views.global_views[8:] += 3
    torch.testing.assert_close(projections(net, head, views)[0], first)


def test_prototypes_that_are_nearest_are_counted():
    scores = torch.tensor([[[0.9, 0.1, 0.0], [0.8, 0.1, 0.1]], [[0.0, 0.1, 0.2], [1.0, 0.0, 0.0]]])
    assert prototypes_used(scores) == 2
    assert prototypes_used(torch.ones(2, 5, 4)) == 1

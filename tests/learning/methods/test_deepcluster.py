"""DeepClusterV2: targets by scikit-learn's k-means, loss by a loop, a first epoch not wasted."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from hcs_utils.errors import InputError
from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.methods.bank import ClusterBank
from hcs_utils.learning.methods.deepcluster import (
    DeepClusterConfig,
    DeepClusterV2,
    deepcluster_loss,
)
from hcs_utils.learning.views import Normaliser
from tests import oracles_selfsupervised as oracles

SMALL = dict(hidden=12, width=7, prototypes=3)
COUNT = 18


def method(**changes):
    torch.manual_seed(0)
    return DeepClusterV2(oracles.Flat(), DeepClusterConfig(**(SMALL | changes)), count=COUNT)


def crops(count=COUNT):
    """A stream whose crops, as they are stored, differ in their mean colours."""
    g = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 2, 1, 1), generator=g, dtype=torch.uint8)
    norm = Normaliser(torch.full((1, 2), 127.0), torch.full((1, 2), 70.0))
    images, plate = images.expand(-1, -1, 4, 4), np.zeros(count, int)
    return CropMinibatches(images, np.arange(count), plate, norm, size=min(count, 8))


def begun(**changes):
    m = method(**changes)
    m.begin(crops(), "cpu")
    return m


def views(seed, rows=None):
    """Two views of eight crops, the first or those of ``rows``."""
    drawn = oracles.minibatch(seed, rows=rows)
    drawn.global_views = drawn.global_views.float()
    return drawn


def step(m, number, rows=None):
    rows = torch.arange(8) + 8 * (number % 2) if rows is None else rows
    loss, said = m.loss(views(number, rows), 0.0)
    m.after_step(0.0)
    return loss, said


def test_targets_are_scikit_learns_clusters_of_the_bank_from_the_same_starts():
    m = begun(iterations=4)
    kept = F.normalize(m.bank.outputs.float(), dim=1).numpy()
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    starts = kept[order[:3]]
    for _ in range(4):
        peer = KMeans(3, init=starts, n_init=1, max_iter=1, tol=0).fit(kept)
        starts = peer.cluster_centers_ / np.linalg.norm(peer.cluster_centers_, axis=1)[:, None]
    step(m, 0)
    np.testing.assert_allclose(m.bank.prototypes.numpy(), starts, atol=1e-5)
    np.testing.assert_array_equal(m.bank.target.numpy(), (kept @ starts.T).argmax(1))


def test_loss_is_that_of_the_loop():
    g = torch.Generator().manual_seed(1)
    scores = 2 * torch.rand(2, 6, 4, generator=g).double() - 1
    for target in ([0, 3, 1, 1, 2, 0], [0, -1, 1, -1, 2, -1], [-1] * 6):
        target = torch.tensor(target)
        found = deepcluster_loss(scores, target, 0.2).item()
        assert found == pytest.approx(oracles.deepcluster(scores, target, 0.2))


def test_the_first_step_learns_from_clusters_of_the_untrained_encoder():
    m = begun()
    assert m.bank.outputs.any(1).all()
    loss, said = step(m, 0)
    loss.backward()
    assert loss > 0 and m.backbone.layers[0].weight.grad.abs().sum() > 0
    assert said["prototypes_used"] > 1
    assert sorted(m.bank.target.unique().tolist()) == [0, 1, 2]


def test_filling_the_bank_leaves_the_network_as_it_was():
    before, after = method().state_dict(), begun().state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"bank.outputs"}


def test_the_released_first_epoch_learns_nothing_but_does_not_break():
    """Ledger 40: all targets are −1. There the loss is NaN, here it is 0; no gradient in both."""
    m = begun(first_epoch="released")
    assert not m.bank.outputs.any()
    for number in range(2):
        loss, _ = step(m, number)
        loss.backward()
        assert loss == 0 and (m.bank.target == -1).all()
        assert all(p.grad is None or not p.grad.any() for p in m.parameters())
    loss, _ = step(m, 2)  # the second epoch: of the crops that the first has shown
    assert loss > 0 and (m.bank.target[:16] >= 0).all() and (m.bank.target[16:] == -1).all()


def test_clusters_change_once_an_epoch_and_the_bank_at_every_step():
    m, targets, banks = begun(), [], []
    for number in range(4):
        step(m, number)
        targets.append(m.bank.target.clone())
        banks.append(m.bank.outputs.clone())
        torch.testing.assert_close(
            m.bank.outputs[m.latest[0]], m.latest[1].to(m.bank.outputs), rtol=0, atol=0
        )
    assert torch.equal(targets[0], targets[1]) and torch.equal(targets[2], targets[3])
    assert not torch.equal(targets[1], targets[2])
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(banks))
    assert m.step == 4


def test_evaluating_a_loss_moves_nothing():
    m = begun()
    step(m, 0)
    before = {k: v.clone() for k, v in m.state_dict().items()}
    m.eval()
    m.step.fill_(2)  # an epoch would begin
    m.loss(views(5), 0.0)
    m.step.fill_(1)
    assert all(torch.equal(v, before[k]) for k, v in m.state_dict().items())


def test_the_bank_is_in_half_precision_and_as_large_as_it_says():
    bank = ClusterBank(1000, 128, 10)
    stored = sum(b.numel() * b.element_size() for b in (bank.outputs, bank.target))
    assert stored == 1000 * (2 * 128 + 4) and bank.outputs.dtype == torch.float16
    assert not bank.cluster(3, 0)


def test_what_cannot_be_clustered_is_said():
    with pytest.raises(InputError, match="2 crops cannot be put into 3 clusters"):
        DeepClusterV2(oracles.Flat(), DeepClusterConfig(**SMALL), count=2)
    with pytest.raises(InputError, match="first_epoch is 'never'"):
        method(first_epoch="never")
    with pytest.raises(InputError, match="bank is empty: call begin"):
        step(method(), 0)
    with pytest.raises(InputError, match="made for 18 crops, and there are 5"):
        method().begin(crops(5), "cpu")
    unnamed = views(0)
    unnamed.rows = None
    with pytest.raises(InputError, match="use CropMinibatches"):
        begun().loss(unnamed, 0.0)


def test_trivial_loss_and_settings():
    scores = torch.zeros(2, 4, 3)
    loss = deepcluster_loss(scores, torch.tensor([0, 1, 2, 0]))
    assert loss.item() == pytest.approx(method().trivial_loss) == pytest.approx(math.log(3))
    c = DeepClusterConfig()
    assert (c.prototypes, c.iterations, c.temperature, c.first_epoch) == (500, 10, 0.1, "encoder")


def test_half_precision_is_summed_in_single():
    m = begun()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = m.loss(views(0), 0.5)
    assert loss.dtype == torch.float32
    assert m.encoder is m.backbone and m.partner == "self"

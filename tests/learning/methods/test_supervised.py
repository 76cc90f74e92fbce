"""Supervision by treatment: cross-entropy of the first global crop of each image."""

import math

import pytest
import torch
from torch import nn

from hcs_utils.learning.methods.supervised import Supervised, SupervisedConfig
from hcs_utils.learning.minibatches import Minibatch


class Means(nn.Module):
    num_features = 2

    def forward(self, x):
        return x.mean((2, 3))


def minibatch(n=4):
    torch.manual_seed(1)
    views = torch.randn(2 * n, 2, 3, 3)
    return Minibatch(views, views[:0], torch.arange(n) % 3, torch.zeros(2, n, dtype=torch.long))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_the_cross_entropy_of_each_first_view(smoothing):
    torch.manual_seed(0)
    method = Supervised(Means(), 3, SupervisedConfig(label_smoothing=smoothing))
    views = minibatch()
    loss, extra = method.loss(views, 0.5)
    total, right = 0.0, 0
    for image, label in zip(views.global_views[:4], views.label.tolist(), strict=True):
        weights = zip(method.head.weight.detach(), method.head.bias.detach(), strict=True)
        scores = [float(w @ image.mean((1, 2)) + b) for w, b in weights]
        log_sum = math.log(sum(math.exp(s) for s in scores))
        wanted = [smoothing / 3 + (1 - smoothing) * (k == label) for k in range(3)]
        total -= sum(w * (s - log_sum) for w, s in zip(wanted, scores, strict=True))
        right += scores.index(max(scores)) == label
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)
    assert extra["accuracy"].item() == right / 4


def test_second_views_and_partners_are_not_looked_at():
    method, views = Supervised(Means(), 3), minibatch()
    before = method.loss(views, 0.5)[0]
    views.global_views[4:] = 99.0
    assert method.loss(views, 0.5)[0] == before
    assert method.partner == "self" and method.encoder is method.backbone


def test_it_learns_a_brightness_that_tells_treatments_apart():
    torch.manual_seed(0)
    method, views = Supervised(Means(), 3), minibatch(12)
    views.global_views[:12] += 3 * torch.stack([views.label, views.label**2], 1)[..., None, None]
    optimizer = torch.optim.Adam(method.parameters(), lr=0.3)
    for step in range(150):
        method.before_step(step / 150)
        optimizer.zero_grad()
        method.loss(views, step / 150)[0].backward()
        optimizer.step()
        method.after_step(step / 150)
    assert method.loss(views, 1.0)[1]["accuracy"] == 1


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_trivial_loss_is_that_of_equal_shares(smoothing):
    method = Supervised(Means(), 3, SupervisedConfig(label_smoothing=smoothing))
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    assert method.loss(minibatch(), 0.5)[0].item() == pytest.approx(method.trivial_loss)

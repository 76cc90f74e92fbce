"""Slow loops of the losses of quality control's methods, and what their tests share."""

import math

import torch
from torch import nn

from hcs_utils.learning.minibatches import Minibatch


class Flat(nn.Module):
    """A backbone for views of any size: two layers on the channel means."""

    num_features, channels = 6, ("a", "b")

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        return self.layers(x.mean((2, 3)))


def minibatch(seed: int, n: int = 8, rows=None) -> Minibatch:
    """Two views of n crops whose mean colours differ, drawn from the seed."""
    g = torch.Generator().manual_seed(seed)
    views = torch.randn(2 * n, 2, 4, 4, generator=g).double()
    plate = torch.zeros(2, n, dtype=torch.long)
    return Minibatch(views, views[:0], plate[0], plate, torch.arange(n) if rows is None else rows)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.hypot(*a) * math.hypot(*b))


def simclr(first, second, tau):
    """SimCLR, equation 1 and algorithm 1: the mean over all 2N views of l(i, p(i))."""
    views, n = [*first.tolist(), *second.tolist()], len(first)
    terms = []
    for i, own in enumerate(views):
        e = [math.exp(cosine(own, other) / tau) for other in views]
        terms.append(-math.log(e[(i + n) % (2 * n)] / sum(e[:i] + e[i + 1 :])))
    return sum(terms) / len(terms)


def standardised(column):
    mean = sum(column) / len(column)
    sd = math.sqrt(sum((x - mean) ** 2 for x in column) / len(column) + 1e-5)
    return [(x - mean) / sd for x in column]


def barlow_twins(first, second, off_diagonal, scale):
    """Barlow Twins, equations 1 and 2, times solo-learn's scale."""
    a, b = ([standardised(c) for c in x.T.tolist()] for x in (first, second))
    total = 0.0
    for i, column in enumerate(a):
        for j, other in enumerate(b):
            c = sum(x * y for x, y in zip(column, other, strict=True)) / len(column)
            total += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return scale * total


def vicreg(first, second, invariance, variance, covariance):
    """VICReg, equations 1–6 with solo-learn's mean over outputs in the invariance."""
    n, k = first.shape
    total = 0.0
    for x, y in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True):
        total += invariance * (x - y) ** 2 / (n * k)
    for view in (first, second):
        columns = [[x - sum(c) / n for x in c] for c in view.T.tolist()]
        for i, column in enumerate(columns):
            for j, other in enumerate(columns):
                cov = sum(x * y for x, y in zip(column, other, strict=True)) / (n - 1)
                if i == j:
                    total += variance * max(0.0, 1 - math.sqrt(cov + 1e-4)) / k
                else:
                    total += covariance * cov**2 / k
    return total


def follows(ours, parts, theirs, steps=5, after=lambda step: None, rows=None, total=5):
    """Train ours and theirs(step, x0, x1) side by side: losses, gradients, weights agree.

    ``parts`` are pairs of modules, ours and theirs, whose weights begin alike.
    """
    kinds = [[p for pair in parts for p in pair[k].parameters() if p.requires_grad] for k in (0, 1)]
    optimizers = [torch.optim.SGD(weights, lr=0.05, momentum=0.9) for weights in kinds]
    for step in range(steps):
        views = minibatch(step)
        loss = ours.loss(views, step / total)[0]
        other = theirs(step, *views.global_views.chunk(2))
        torch.testing.assert_close(loss, other.squeeze())
        for value, optimizer in zip((loss, other), optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
        ours.before_step(step / total)
        after(step)
        for p, q in zip(*kinds, strict=True):
            torch.testing.assert_close(p.grad, q.grad)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in kinds[0])
        for optimizer in optimizers:
            optimizer.step()
        ours.after_step(step / total)
        for p, q in zip(*kinds, strict=True):
            torch.testing.assert_close(p, q)


def sinkhorn(scores, epsilon, iterations):
    """SwAV, equation 4: codes [n k] by turns of rows and columns, from nested lists."""
    n, k = len(scores), len(scores[0])
    q = [[math.exp(s / epsilon) for s in row] for row in scores]
    for _ in range(iterations):
        for j in range(k):
            total = sum(row[j] for row in q)
            for row in q:
                row[j] /= total * k
        for row in q:
            total = sum(row)
            row[:] = [x / (total * n) for x in row]
    return [[x * n for x in row] for row in q]


def log_softmax(row):
    most = max(row)
    total = math.log(sum(math.exp(x - most) for x in row)) + most
    return [x - total for x in row]


def swav(first, second, tau, epsilon, iterations, queue=None):
    """SwAV, equations 1, 2 and 4: each view's code predicted from the other view."""
    total, n = 0.0, len(first)
    views = [first.tolist(), second.tolist()]
    for v in (0, 1):
        rows = views[v] + (queue[v].tolist() if queue is not None else [])
        codes = sinkhorn([list(row) for row in rows], epsilon, iterations)[:n]
        for code, scores in zip(codes, views[1 - v], strict=True):
            log_p = log_softmax([s / tau for s in scores])
            total -= sum(q * p for q, p in zip(code, log_p, strict=True))
    return total / (2 * n)


def deepcluster(scores, target, tau):
    """The mean cross-entropy of views of crops that have a target."""
    terms = [
        -log_softmax([s / tau for s in row])[t]
        for view in scores.tolist()
        for row, t in zip(view, target.tolist(), strict=True)
        if t >= 0
    ]
    return sum(terms) / len(terms) if terms else 0.0

"""Planted data for the tests of metrics."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**31)
quick = settings(max_examples=15, deadline=None)


def clusters(seed, n, classes=5, d=8, spread=1.0, centers_seed=99):
    """Rows around one centre a class, with their labels."""
    centers = np.random.default_rng(centers_seed).normal(0, 1, (classes, d))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return centers[labels] + rng.normal(0, spread, (n, d)), labels


def rotation(seed, d=8):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]

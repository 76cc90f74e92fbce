"""The measures of benchmarks/simulated_vs_real.py, on images whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import simulated_vs_real as likeness

PLATE = np.repeat(["p1", "p2", "p3"], 12)
TREATMENT = np.tile(np.repeat(["a", "b", "c"], 4), 3)


def fields(of_plate=0.0, of_treatment=0.0, of_field=0.0, seed=0):
    """Flat fields [36 2 8 8] whose log brightness is a sum of known effects."""
    rng = np.random.default_rng(seed)
    level = 5 + of_plate * np.unique(PLATE, return_inverse=True)[1]
    level = level + of_treatment * np.unique(TREATMENT, return_inverse=True)[1]
    level = level + of_field * rng.standard_normal(36)
    return np.exp(level)[:, None, None, None] * np.ones((1, 2, 8, 8))


@pytest.mark.parametrize("part", ["plate", "treatment", "field"])
def test_variance_is_found_where_it_was_put(part):
    shares = likeness.shares(fields(**{f"of_{part}": 0.3}), PLATE, TREATMENT)
    assert shares[f"share_{part}"] > 0.5
    assert max(shares.items(), key=lambda item: item[1])[0] == f"share_{part}"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 99))
def test_shares_are_parts_of_one(of_plate, of_treatment, of_field, seed):
    shares = likeness.shares(fields(of_plate, of_treatment, of_field, seed), PLATE, TREATMENT)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > -1e-9


def test_a_steeper_spectrum_is_a_smoother_picture():
    rng = np.random.default_rng(0)
    white = rng.standard_normal((48, 48))
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(48)] * 2))
    frequency[0, 0] = 1
    pink = np.fft.ifft2(np.fft.fft2(white) / frequency).real
    assert likeness._slope(white) == pytest.approx(0, abs=0.4)
    assert likeness._slope(pink) == pytest.approx(-2, abs=0.4)


def test_plates_that_differ_in_brightness_are_told_apart_and_compounds_are_not():
    images = (fields(of_plate=0.3, of_field=0.02) / 3).clip(0, 255).astype(np.uint8)
    told = likeness.told(images, PLATE, TREATMENT)
    assert told["plate_told"] == 1 and told["treatment_told"] < 0.6

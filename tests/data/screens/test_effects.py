"""What differs between batches is dialled by one number, between fields by another."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from hcs_utils.data.screens.drawing import Nuisance
from hcs_utils.data.screens.effects import nuisance

WELLS = pd.DataFrame(
    {"edge": np.tile([1.0, 0.0], 200), "across": np.linspace(-1, 1, 400), "down": 0.0}
)


def made(place=(0, 0, 0), batch=1.0, field=1.0, seed=0):
    return nuisance(place, WELLS, 48, (batch, field), seed, np.random.default_rng(5))


def differ(one, two):
    return {
        f.name for f in fields(Nuisance) if np.any(getattr(one, f.name) != getattr(two, f.name))
    }


def test_without_batch_effects_every_place_is_the_same():
    assert differ(made((0, 0, 0), batch=0.0), made((1, 7, 15), batch=0.0)) == set()


def test_plates_batches_and_sources_differ_in_what_is_theirs():
    everything = {f.name for f in fields(Nuisance)}
    assert differ(made((0, 0, 0)), made((0, 0, 1))) == {"gain"}
    assert differ(made((0, 0, 0)), made((0, 2, 0))) == everything - {"read_noise"}
    of_source = {"gain", "background", "defocus_px", "crosstalk", "light", "read_noise"}
    assert differ(made((0, 0, 0)), made((1, 0, 0))) == of_source


def test_without_field_effects_fields_at_one_place_are_the_same():
    one = made(field=0.0)
    for name in ("density", "cell_size", "background", "defocus_px", "light"):
        values = getattr(one, name)
        assert np.ptp(values[::2], axis=0).max() < 1e-9 * np.abs(values).max(), name
    assert np.ptp(made(field=1.0).cell_size) > 0.5


def test_the_rim_has_fewer_cells_and_another_light():
    one = made(field=0.0)
    assert one.density[0] == pytest.approx(0.7 * one.density[1])
    flat = WELLS.assign(across=0.0)
    gain = nuisance((0, 0, 0), flat, 48, (1.0, 0.0), 0, np.random.default_rng(5)).gain
    assert np.abs(gain[0] / gain[1] - 1).max() > 0.01


def test_the_dial_scales_how_far_batches_lie_apart():
    def spread(strength):
        gains = [made((k % 2, k, k), batch=strength, field=0.0).gain[1] for k in range(12)]
        return np.log(gains).std(0).mean()

    values = [spread(s) for s in (0.0, 0.5, 1.0, 2.0)]
    assert values[0] < 1e-12 and values[1] > 0.1
    np.testing.assert_allclose(np.array(values[1:]) / values[1], [1, 2, 4], rtol=0.2)


@pytest.mark.parametrize("strength", [0.0, 1.0, 5.0])
def test_every_number_stays_possible(strength):
    one = made(batch=strength, field=strength)
    for f in fields(Nuisance):
        assert np.isfinite(getattr(one, f.name)).all()
    for name in ("density", "cell_size", "gain", "background", "defocus_px", "read_noise"):
        assert (getattr(one, name) > 0).all(), name

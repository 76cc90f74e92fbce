import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from hcs_utils.errors import InputError
from hcs_utils.evaluation.postprocess import zscore_by_all, zscore_by_controls
from tests import oracles


def screen(seed=0, n=90, d=4, batches=3):
    rng = np.random.default_rng(seed)
    batch = np.array([f"B{i % batches}" for i in range(n)])
    control = (np.arange(n) // batches) % 3 == 0
    return rng.normal(3, 2, (n, d)), batch, control


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_controls_become_standard(seed):
    features, batch, control = screen(seed)
    z = zscore_by_controls(features, batch, control)
    for b in np.unique(batch):
        chosen = z[(batch == b) & control]
        np.testing.assert_allclose(chosen.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(chosen.std(axis=0), 1, atol=1e-12)


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_gain_and_offset_of_a_batch_vanish(seed):
    features, batch, control = screen(seed)
    rng = np.random.default_rng(seed + 1)
    code = np.unique(batch, return_inverse=True)[1]
    shifted = features * rng.uniform(0.1, 9, (3, 4))[code] + rng.normal(0, 50, (3, 4))[code]
    np.testing.assert_allclose(
        zscore_by_controls(shifted, batch, control),
        zscore_by_controls(features, batch, control),
        atol=1e-9,
    )


def test_rows_keep_their_order():
    features, batch, control = screen()
    order = np.random.default_rng(1).permutation(len(batch))
    z = zscore_by_controls(features, batch, control)
    np.testing.assert_array_equal(
        zscore_by_controls(features[order], batch[order], control[order]).round(9),
        z[order].round(9),
    )


def test_agrees_with_the_loop_and_with_scikit_learn():
    features, batch, control = screen()
    z = zscore_by_controls(features, batch, control)
    np.testing.assert_allclose(z, oracles.zscore(features, batch, control), atol=1e-10)
    for b in np.unique(batch):
        rows = batch == b
        scaler = StandardScaler().fit(features[rows & control])
        np.testing.assert_allclose(z[rows], scaler.transform(features[rows]), atol=1e-10)


def test_all_uses_every_sample():
    features, batch, _ = screen()
    everything = np.ones(len(batch), dtype=bool)
    np.testing.assert_allclose(
        zscore_by_all(features, batch), oracles.zscore(features, batch, everything), atol=1e-10
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_feature_constant_in_controls_is_only_centred(value):
    features, batch, control = screen()
    features[control, 1] = value
    z = zscore_by_controls(features.astype(np.float32), batch, control)
    expected = features.astype(np.float32)[~control, 1].astype(float) - np.float32(value)
    np.testing.assert_allclose(z[~control, 1], expected, rtol=1e-6)
    assert (z[control, 1] == 0).all()


def test_input_is_left_alone():
    features, batch, control = screen()
    before = features.copy()
    zscore_by_controls(features, batch, control)
    np.testing.assert_array_equal(features, before)


def test_batch_without_controls_is_named():
    features, batch, control = screen()
    control[batch == "B1"] = False
    with pytest.raises(InputError, match=r"in every batch: B1 has 0; use zscore_by_all"):
        zscore_by_controls(features, batch, control)


def test_single_control_is_not_enough():
    features, batch, control = screen()
    control[np.flatnonzero((batch == "B2") & control)[1:]] = False
    with pytest.raises(InputError, match=r"B2 has 1"):
        zscore_by_controls(features, batch, control)


def test_many_short_batches_are_counted():
    with pytest.raises(InputError, match=r"and 10 more; leave them out"):
        zscore_by_all(np.ones((30, 2)), np.arange(30))


def test_nan_lengths_and_types_are_told():
    features, batch, control = screen()
    with pytest.raises(InputError, match=r"90 rows of features but batch has shape \(89,\)"):
        zscore_by_controls(features, batch[:-1], control)
    with pytest.raises(InputError, match=r'role == "negcon"'):
        zscore_by_controls(features, batch, np.where(control, "negcon", "trt"))
    features[7, 2] = np.nan
    with pytest.raises(InputError, match=r"1 of 90 rows hold NaN .* first is row 7"):
        zscore_by_controls(features, batch, control)
    with pytest.raises(InputError, match=r"table \[n, d\]"):
        zscore_by_all(features[:, 0], batch)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from hcs_utils.errors import InputError
from hcs_utils.evaluation.classification import knn_accuracy
from hcs_utils.evaluation.postprocess import (
    combat,
    harmony,
    zscore_by_all,
    zscore_by_controls,
    zscore_by_minibatch,
)
from tests import oracles
from tests import oracles_postprocess as slow_loops


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


def batches_with_effects(seed=0, n=150, d=8):
    """Three batches with gains and offsets of their own, two groups with a planted difference."""
    rng = np.random.default_rng(seed)
    batch = np.array([f"B{i % 3}" for i in range(n)])
    group = np.where(rng.random(n) < 0.5, "treated", "plain")
    effect = rng.normal(0, 1.5, d)
    clean = rng.normal(0, 1, (n, d)) + np.outer(group == "treated", effect)
    code = np.unique(batch, return_inverse=True)[1]
    moved = clean * rng.uniform(0.4, 2.5, (3, d))[code] + rng.normal(0, 6, (3, d))[code]
    return moved, batch, group, effect


# Z-norm within minibatches, as released


@pytest.mark.parametrize("minibatch", [10, 37, 92, None])
def test_minibatch_agrees_with_the_loop(minibatch):
    features, batch, _ = screen(n=100)
    ours = zscore_by_minibatch(features, batch, minibatch, lone="nan")
    slow = slow_loops.zscore_by_minibatch(features, batch, minibatch)
    np.testing.assert_allclose(ours, slow, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(ours[np.isfinite(ours[:, 0])], axis=1), 1)


def test_minibatch_agrees_with_torch():
    torch = pytest.importorskip("torch")
    features, batch, _ = screen(n=100)
    x = torch.nn.functional.normalize(torch.from_numpy(features))
    rows = np.flatnonzero(batch[:92] == "B1")
    own = x[rows]
    z = torch.nn.functional.normalize((own - own.mean(0)) / (own.std(0) + 1e-8))
    np.testing.assert_allclose(zscore_by_minibatch(features, batch)[rows], z.numpy(), atol=1e-9)


def test_minibatch_depends_on_the_order_and_the_whole_table_does_not():
    features, batch, _ = screen(n=240)
    order = np.random.default_rng(5).permutation(240)
    quirk = zscore_by_minibatch(features, batch)
    assert np.abs(zscore_by_minibatch(features[order], batch[order]) - quirk[order]).max() > 0.05
    whole = zscore_by_minibatch(features, batch, None)
    np.testing.assert_allclose(
        zscore_by_minibatch(features[order], batch[order], None), whole[order], atol=1e-9
    )
    renamed = np.array([{"B0": "x", "B1": "c", "B2": "d"}[b] for b in batch])
    np.testing.assert_allclose(zscore_by_minibatch(features, renamed), quirk, atol=1e-12)


def test_a_row_alone_in_its_minibatch_is_told_or_nan():
    features, batch, _ = screen(n=20)
    batch[:] = "A"
    batch[[3, 12, 13]] = "B"
    with pytest.raises(InputError, match=r"1 rows are alone .* minibatch of 10.*: row 3 of batch"):
        zscore_by_minibatch(features, batch, 10)
    z = zscore_by_minibatch(features, batch, 10, lone="nan")
    assert np.flatnonzero(np.isnan(z).any(axis=1)).tolist() == [3]
    with pytest.raises(InputError, match='"raise" or "nan"'):
        zscore_by_minibatch(features, batch, lone="drop")
    with pytest.raises(InputError, match="2 rows or more"):
        zscore_by_minibatch(features, batch, 1)


# ComBat


@given(st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_combat_agrees_with_the_loop_of_the_paper(seed):
    features, batch, group, _ = batches_with_effects(seed, n=60)
    design = (group == "treated").astype(float)[:, None]
    np.testing.assert_allclose(combat(features, batch), slow_loops.combat(features, batch))
    np.testing.assert_allclose(
        combat(features, batch, {"group": group}), slow_loops.combat(features, batch, design)
    )


def test_combat_stops_near_the_solution():
    features, batch, _, _ = batches_with_effects(n=60)
    converged = slow_loops.combat(features, batch, tolerance=1e-10)
    assert np.abs(combat(features, batch) - converged).max() < 0.01 * converged.std()


def test_combat_removes_a_planted_shift_and_keeps_a_planted_effect():
    features, batch, group, effect = batches_with_effects(n=600)
    for protected in (None, {"group": group}):
        z = combat(features, batch, protected)
        means = np.array([z[batch == b].mean(axis=0) for b in np.unique(batch)])
        before = np.array([features[batch == b].mean(axis=0) for b in np.unique(batch)])
        assert np.ptp(means, axis=0).max() < 0.1 * np.ptp(before, axis=0).max()
        found = z[group == "treated"].mean(axis=0) - z[group == "plain"].mean(axis=0)
        assert np.corrcoef(found, effect)[0, 1] > 0.9


def test_combat_with_unequal_batches_needs_the_covariate_to_keep_the_effect():
    rng = np.random.default_rng(0)
    batch = np.repeat(["A", "B"], 200)
    treated = rng.random(400) < np.where(batch == "A", 0.9, 0.1)
    features = rng.normal(0, 1, (400, 6)) + 3.0 * treated[:, None] + 5.0 * (batch == "B")[:, None]
    effect = [
        (z[treated].mean(axis=0) - z[~treated].mean(axis=0)).mean()
        for z in (combat(features, batch), combat(features, batch, {"treated": treated}))
    ]
    assert effect[0] < 2.0 and 2.8 < effect[1] < 3.2


def test_combat_permutes_with_rows_and_ignores_names(capfd):
    features, batch, group, _ = batches_with_effects()
    z = combat(features, batch, {"group": group})
    order = np.random.default_rng(1).permutation(len(batch))
    again = combat(features[order], batch[order], {"group": group[order]})
    np.testing.assert_allclose(again, z[order], atol=1e-8)
    renamed = np.array([{"B0": 9, "B1": 4, "B2": 7}[b] for b in batch])
    other = np.where(group == "plain", "a plain", "a bold")
    np.testing.assert_allclose(combat(features, renamed, {"other": other}), z, atol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_combat_with_a_continuous_covariate():
    features, batch, _, _ = batches_with_effects()
    dose = np.random.default_rng(3).uniform(0, 5, len(batch))
    slope = np.linspace(-2, 2, features.shape[1])
    z = combat(features + np.outer(dose, slope), batch, {"dose": dose})
    standard = ((dose - dose.mean()) / dose.std())[:, None]
    slow = slow_loops.combat(features + np.outer(dose, slope), batch, standard)
    np.testing.assert_allclose(z, slow, atol=1e-5)


def test_combat_only_moves_features_without_spread():
    features, batch, _, _ = batches_with_effects()
    features[:, 2] = 4.0
    features[:, 5] = np.where(batch == "B1", 10.1, 0.1)
    z = combat(features, batch)
    np.testing.assert_allclose(z[:, 2], 4.0)
    np.testing.assert_allclose(z[:, 5], features[:, 5].mean())
    others = [0, 1, 3, 4, 6, 7]
    np.testing.assert_array_equal(z[:, others], combat(features[:, others], batch))


def test_combat_says_what_it_cannot_do():
    features, batch, group, _ = batches_with_effects()
    with pytest.raises(InputError, match="at least two batches, got only B0"):
        combat(features[batch == "B0"], batch[batch == "B0"])
    lone = np.where(np.arange(150) == 7, "B9", batch)
    with pytest.raises(InputError, match="at least two rows in every batch: B9 has 1"):
        combat(features, lone)
    with pytest.raises(InputError, match="'site' is confounded with the batches"):
        combat(features, batch, {"site": np.where(batch == "B0", "x", "y")})
    with pytest.raises(InputError, match="'again' is confounded with the batches, or with cov"):
        combat(features, batch, {"group": group, "again": group == "plain"})
    with pytest.raises(InputError, match="'flat' must be finite and vary"):
        combat(features, batch, {"flat": np.ones(150)})
    with pytest.raises(InputError, match=r"The covariate 'dose' is missing in row 4"):
        combat(features, batch, {"dose": np.where(np.arange(150) == 4, np.nan, 1.0)})
    with pytest.raises(InputError, match=r"covariate 'dose' has shape \(3,\)"):
        combat(features, batch, {"dose": np.ones(3)})
    with pytest.raises(InputError, match="only one of 1 varies"):
        combat(features[:, :1], batch)
    with pytest.raises(InputError, match="vary exactly alike"):
        combat(np.repeat(features[:, :1], 3, axis=1), batch)


# Harmony


def test_harmony_is_harmonypy_on_principal_components(capfd):
    import pandas as pd
    from harmonypy import run_harmony

    features, batch, _, _ = batches_with_effects(n=300)
    pcs = PCA(4, svd_solver="full").fit_transform(features)
    theirs = run_harmony(
        pcs, pd.DataFrame({"b": batch}), "b", verbose=False, random_state=3, ncores=1
    ).Z_corr
    ours = harmony(features, batch, components=4, seed=3)
    sign = np.sign((ours * theirs).sum(axis=0))
    assert ours.shape == (300, 4) and ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs * sign, atol=0.05 * theirs.std())
    np.testing.assert_array_equal(harmony(features, batch, components=4, seed=3), ours)
    assert capfd.readouterr() == ("", "")


def test_harmony_mixes_batches_and_keeps_groups():
    rng = np.random.default_rng(0)
    batch, group = np.arange(600) % 2, np.arange(600) // 2 % 3
    centres = 8 * np.eye(3, 10)[group]
    features = rng.normal(0, 1, (600, 10)) + centres + np.outer(batch, 5 * np.eye(10)[5])
    z = harmony(features, batch)
    bank = rng.random(600) < 0.5

    def told(x):
        return knn_accuracy(x[bank], batch[bank], x[~bank], batch[~bank])

    assert told(features) > 0.95 and told(z) < 0.65
    assert knn_accuracy(z[batch == 0], group[batch == 0], z[batch == 1], group[batch == 1]) > 0.98


def test_harmony_ignores_names_and_says_what_it_cannot_do():
    features, batch, _, _ = batches_with_effects()
    renamed = np.array([{"B0": 0, "B1": 1, "B2": 2}[b] for b in batch])
    np.testing.assert_array_equal(harmony(features, renamed), harmony(features, batch))
    with pytest.raises(InputError, match="at least two batches"):
        harmony(features, np.zeros(150))
    with pytest.raises(InputError, match="components = 9 of 150 rows with 8 features; choose 1 to"):
        harmony(features, batch, components=9)
    with pytest.raises(InputError, match="clusters = 150"):
        harmony(features, batch, clusters=150)
    few = harmony(features[:9], batch[:9])
    assert few.shape == (9, 8) and np.isfinite(few).all()
    batch = batch.astype(object)
    batch[5] = None
    with pytest.raises(InputError, match="batch is missing in row 5"):
        harmony(features, batch)

import numpy as np
import pytest
from hypothesis import given
from sklearn.decomposition import PCA

from hcs_utils.errors import InputError
from hcs_utils.evaluation.whitening import METHODS, fit_sphere, sphere, tvn
from tests import oracles_postprocess as oracles
from tests.evaluation.planted import quick, rotation, seeds


def screen(seed=0, n=120, d=5, batches=3):
    """Correlated features of unequal size, far from zero; a third of each batch are controls."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * 10.0 ** rng.uniform(-1, 1, d)
    batch = np.array([f"B{i % batches}" for i in range(n)])
    control = (np.arange(n) // batches) % 3 == 0
    return 7 + rng.normal(size=(n, d)) @ mix, batch, control


@given(seeds)
@quick
@pytest.mark.parametrize("method", METHODS)
def test_controls_have_the_identity_as_covariance(method, seed):
    features, _, control = screen(seed)
    z = sphere(features, control, method=method)
    np.testing.assert_allclose(np.cov(z[control].T), np.eye(5), atol=1e-3)
    np.testing.assert_allclose(np.cov(z[control].T), np.eye(5), atol=1e-8)
    np.testing.assert_allclose(z[control].mean(axis=0), 0, atol=1e-9)


def test_svd_of_uncentred_rows_would_not_pass():
    """The mistake of a released package: right singular vectors of rows that are not centred."""
    features, _, control = screen()
    _, s, v = np.linalg.svd(features[control], full_matrices=False)
    wrong = (features[control] @ v.T) / s * np.sqrt(control.sum() - 1)
    assert np.abs(np.cov(wrong.T) - np.eye(5)).max() > 0.1


def test_agrees_with_the_loop_and_with_scikit_learn():
    features, _, control = screen(n=45)
    for share in (0.0, 0.3):
        np.testing.assert_allclose(
            sphere(features, control, share), oracles.sphere(features, control, share), atol=1e-7
        )
    pca = PCA(whiten=True, svd_solver="full").fit(features[control])
    ours, theirs = sphere(features, control, method="PCA"), pca.transform(features)
    sign = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * sign, atol=1e-8)


@given(seeds)
@quick
def test_order_units_and_rotation_of_features_do_not_matter(seed):
    features, batch, control = screen(seed)
    order = np.random.default_rng(seed).permutation(len(features))
    z = sphere(features, control, 0.1)
    np.testing.assert_allclose(sphere(features[order], control[order], 0.1), z[order], atol=1e-8)
    np.testing.assert_allclose(sphere(1000 * features, control, 0.1), z, atol=1e-8)
    turn = rotation(seed, 5)
    np.testing.assert_allclose(sphere(features @ turn, control, 0.1), z @ turn, atol=1e-7)
    aligned = tvn(features, batch, control, 0.1)
    np.testing.assert_allclose(
        tvn(features[order], batch[order], control[order], 0.1), aligned[order], atol=1e-7
    )
    renamed = np.array([{"B0": "z", "B1": "a", "B2": "m"}[b] for b in batch])
    np.testing.assert_allclose(tvn(features, renamed, control, 0.1), aligned, atol=1e-12)


def test_correlation_forms_do_not_see_the_unit_of_a_feature():
    features, _, control = screen()
    units = np.array([1e3, 1e-3, 1, 5, 0.2])
    for method in ("ZCA-cor", "PCA-cor"):
        np.testing.assert_allclose(
            sphere(features * units, control, 0.2, method),
            sphere(features, control, 0.2, method),
            atol=1e-7,
        )


def test_learned_on_some_controls_and_applied_to_others():
    features, batch, control = screen()
    training = batch != "B2"
    fitted = fit_sphere(features[control & training], 0.1)
    np.testing.assert_array_equal(fitted.apply(features), sphere(features, control & training, 0.1))
    changed = np.where(training[:, None], features, features * 9 + 4)
    np.testing.assert_array_equal(
        sphere(changed, control & training, 0.1)[training], fitted.apply(features)[training]
    )
    with pytest.raises(InputError, match=r"learned on 5 features, these rows have 4"):
        fitted.apply(features[:, :4])


def test_fewer_controls_than_features_names_the_smallest_regularisation():
    rng = np.random.default_rng(0)
    features, control = rng.normal(3, 2, (60, 30)), np.arange(60) < 20
    with pytest.raises(InputError, match=r"20 controls span at most 19 of the 30 directions") as e:
        sphere(features, control)
    smallest = float(str(e.value).split("regularisation=")[2].split(" ")[0])
    assert 1e-12 < smallest < 1e-9
    z = sphere(features, control, smallest)
    order = rng.permutation(60)
    again = sphere(features[order], control[order], smallest)
    np.testing.assert_allclose(again, z[order], rtol=1e-3, atol=1e-3 * np.abs(z).max())
    with pytest.raises(InputError, match="cannot be sphered"):
        sphere(features, control, smallest / 1000)


def test_constant_and_repeated_features_are_told():
    features, _, control = screen()
    features[control, 2] = 4.0
    with pytest.raises(InputError, match="constant over the 42 controls, or made of others"):
        sphere(features, control)
    assert np.isfinite(sphere(features, control, 0.01)).all()
    assert np.isfinite(sphere(features, control, 0.01, "ZCA-cor")).all()
    features[:, 2] = features[:, 1]
    with pytest.raises(InputError, match="made of others"):
        sphere(features, control)
    with pytest.raises(InputError, match="All 42 controls are the same row"):
        sphere(np.full((120, 5), 0.1), control, 1)


def test_bad_input_is_told():
    features, batch, control = screen()
    with pytest.raises(InputError, match="at least two controls, got 0"):
        sphere(features, control & (batch == "none"))
    with pytest.raises(InputError, match='role == "negcon"'):
        sphere(features, control[:-1])
    with pytest.raises(InputError, match="method must be one of ZCA"):
        sphere(features, control, method="zca2")
    with pytest.raises(InputError, match="0 or more, got -1"):
        sphere(features, control, -1)
    with pytest.raises(InputError, match="alignment must be 0 or more"):
        tvn(features, batch, control, alignment=-1)
    features[3, 1] = np.nan
    with pytest.raises(InputError, match="first is row 3"):
        sphere(features, control)
    with pytest.raises(InputError, match=r"got shape \(0, 3\)"):
        fit_sphere(np.empty((0, 3)))


@pytest.mark.parametrize("alignment", [0.0, 0.5, 1])
def test_tvn_agrees_with_the_loop(alignment):
    """The loop spheres by ZCA: the same up to a rotation, so distances agree."""
    features, batch, control = screen(n=90, d=4)
    ours = tvn(features, batch, control, 0.05, alignment)
    slow = oracles.tvn(features, batch, control, 0.05, alignment)
    np.testing.assert_allclose(ours @ ours.T, slow @ slow.T, atol=1e-6)


def test_tvn_gives_the_controls_of_every_batch_one_mean_and_covariance():
    features, batch, control = screen(n=300)
    shift = np.array([[0, 0, 0, 0, 0], [50, 0, -9, 0, 1], [0, 3, 0, 8, 0]])
    stretch = np.array([1.0, 3.0, 0.2])
    code = np.unique(batch, return_inverse=True)[1]
    moved = features * stretch[code][:, None] + shift[code]
    z = tvn(moved, batch, control, alignment=0)
    everything = np.cov(z[control].T)
    for b in np.unique(batch):
        chosen = z[(batch == b) & control]
        np.testing.assert_allclose(chosen.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(np.cov(chosen.T), everything, atol=0.03)
    damped = tvn(moved, batch, control, alignment=1)
    spread = [np.trace(np.cov(damped[(batch == b) & control].T)) for b in np.unique(batch)]
    before = [np.trace(np.cov(moved[(batch == b) & control].T)) for b in np.unique(batch)]
    assert max(spread) / min(spread) < max(before) / min(before) / 3


def test_tvn_says_which_batch_lacks_controls():
    features, batch, control = screen()
    with pytest.raises(InputError, match=r"TVN needs at least two controls .* B1 has 0; use sphe"):
        tvn(features, batch, control & (batch != "B1"))
    few = control & ((batch != "B1") | (np.cumsum(control & (batch == "B1")) <= 4))
    with pytest.raises(InputError, match="controls of batch B1 do not vary in all 5 directions"):
        tvn(features, batch, few, alignment=0)
    assert np.isfinite(tvn(features, batch, few)).all()

import numpy as np
import pytest
from hypothesis import given

from hcs_utils.errors import InputError
from hcs_utils.evaluation.grit import grit_by_treatment
from hcs_utils.evaluation.metrics import grit
from tests import oracles_replicates as oracles
from tests.evaluation.planted import quick, rotation, seeds


def screen(seed=0, treatments=6, wells=5, controls=12, d=10, strength=1.0):
    """Wells of treatments with a phenotype each, and of controls with none, around one profile."""
    rng = np.random.default_rng(seed)
    code = np.r_[np.repeat(np.arange(treatments), wells), np.full(controls, treatments)]
    phenotype = np.r_[strength * rng.normal(size=(treatments, d)), np.zeros((1, d))]
    features = rng.normal(size=d) + phenotype[code] + rng.normal(0, 0.7, (len(code), d))
    names = np.array([f"t{i}" for i in range(treatments)] + ["DMSO"])
    order = rng.permutation(len(code))
    return features[order], names[code][order], (code == treatments)[order]


@pytest.mark.parametrize("form", ["mean", "median"])
def test_grit_agrees_with_the_loop_and_with_cytominer_eval(form, monkeypatch):
    features, treatment, control = screen()
    treatment[np.flatnonzero(treatment == "t0")[1:]] = "t1"  # t0 has one replicate
    score = grit(features, treatment, control, form=form)
    loop = oracles.grit(features, treatment, control, form=getattr(np, form))
    well = np.array([f"w{i}" for i in range(len(features))])
    theirs = oracles.cytominer_grit(monkeypatch, features, treatment, control, well, form)
    np.testing.assert_allclose(score, loop, rtol=0, atol=1e-10)
    np.testing.assert_allclose(score, theirs, rtol=0, atol=1e-10)
    assert (np.isnan(score) == (control | (treatment == "t0"))).all()
    assert np.nanstd(score) > 0.1


@pytest.mark.parametrize("form", ["mean", "median"])
def test_wells_of_one_profile_are_no_replicates_of_each_other(form, monkeypatch):
    features, treatment, control = screen(seed=1, wells=6)
    number = np.random.default_rng(1).choice(3, len(treatment), p=[0.2, 0.3, 0.5])
    profile = np.array([f"{t}-{i}" for t, i in zip(treatment, number, strict=True)])
    score = grit(features, treatment, control, form, profile=profile)
    loop = oracles.grit(features, treatment, control, profile, getattr(np, form))
    theirs = oracles.cytominer_grit(monkeypatch, features, treatment, control, profile, form)
    np.testing.assert_allclose(score, loop, rtol=0, atol=1e-10)
    np.testing.assert_allclose(score, theirs, rtol=0, atol=1e-10)
    assert np.nanmax(np.abs(score - grit(features, treatment, control, form))) > 0.1
    assert all(len(np.unique(score[profile == p])) == 1 for p in set(profile))


def test_grit_of_planted_correlations():
    """Replicates correlate by exactly 0.8; with controls by 0.1 and 0.3, mean 0.2 and sd 0.1."""
    gram = np.eye(4)
    gram[0, 1] = gram[1, 0] = 0.8
    gram[:2, 2] = gram[2, :2] = 0.1
    gram[:2, 3] = gram[3, :2] = 0.3
    basis = np.linalg.qr(np.c_[np.ones(6), np.random.default_rng(0).normal(size=(6, 4))])[0][:, 1:]
    features = np.linalg.cholesky(gram) @ basis.T  # centred, of length 1
    features = features * [[3.0], [0.5], [2.0], [9.0]] + [[5.0], [0.0], [-1.0], [2.0]]
    score = grit(features, ["a", "a", "c", "c"], [False, False, True, True])
    np.testing.assert_allclose(score, [6.0, 6.0, np.nan, np.nan], rtol=1e-9)


def test_treatments_that_do_nothing_score_nothing_and_strong_ones_score_high():
    none, weak, strong = (
        np.nanmean(grit(*screen(2, 40, 6, 60, 30, strength))) for strength in (0, 0.5, 3)
    )
    assert abs(none) < 0.15 < weak < strong
    features, treatment, control = screen(2, 40, 6, 60, 30, strength=3)
    shuffled = treatment.copy()
    shuffled[~control] = np.random.default_rng(0).permutation(treatment[~control])
    assert np.nanmean(grit(features, shuffled, control)) < 0.1 * strong


@given(seeds)
@quick
def test_grit_ignores_order_names_and_the_scale_and_offset_of_a_row(seed):
    features, treatment, control = screen(seed)
    rng = np.random.default_rng(seed)
    score, order = grit(features, treatment, control), rng.permutation(len(control))
    again = grit(features[order], treatment[order], control[order])
    np.testing.assert_allclose(again, score[order], atol=1e-9)
    renamed = np.array([f"z{7 * int(t[1:]) % 11}" if t[0] == "t" else "A" for t in treatment])
    np.testing.assert_allclose(grit(features, renamed, control), score, atol=1e-9)
    scaled = features * rng.uniform(0.5, 2, (len(control), 1)) + rng.normal(size=(len(control), 1))
    np.testing.assert_allclose(grit(scaled, treatment, control), score, atol=1e-9)


@given(seeds)
@quick
def test_grit_ignores_rotations_that_keep_the_mean_of_a_row(seed):
    features, treatment, control = screen(seed)
    basis = np.linalg.qr(np.c_[np.ones(10), np.eye(10)[:, 1:]])[0]
    turn = np.eye(10)
    turn[1:, 1:] = rotation(seed, 9)
    turned = features @ basis @ turn @ basis.T
    score = grit(features, treatment, control)
    np.testing.assert_allclose(grit(turned, treatment, control), score, atol=1e-8)


def test_by_treatment_takes_the_mean_or_median_of_its_wells_and_counts_all():
    score = [1.0, 2.0, 6.0, np.nan, np.nan]
    treatment = ["b", "b", "b", "a", "DMSO"]
    table = grit_by_treatment(score, treatment)
    assert table.index.tolist() == ["DMSO", "a", "b"] and table.index.name == "treatment"
    assert table.replicates.tolist() == [1, 1, 3]
    assert table.grit["b"] == 3.0 and table.grit[["a", "DMSO"]].isna().all()
    assert grit_by_treatment(score, treatment, how="median").grit["b"] == 2.0
    with pytest.raises(InputError, match='"mean" or "median"'):
        grit_by_treatment(score, treatment, how="max")
    with pytest.raises(InputError, match="one number a row"):
        grit_by_treatment(np.ones((5, 2)), treatment)


def test_no_or_one_control_is_an_error():
    features, treatment, control = screen()
    with pytest.raises(InputError, match="No row is a control, of 42"):
        grit(features, treatment, np.zeros_like(control))
    with pytest.raises(InputError, match="Every row is a control"):
        grit(features, treatment, np.ones_like(control))
    drop = np.flatnonzero(control)[1:]
    with pytest.raises(InputError, match="two controls or more, and there is one"):
        grit(*(np.delete(column, drop, axis=0) for column in (features, treatment, control)))
    with pytest.raises(InputError, match="True or False"):
        grit(features, treatment, control.astype(int))


def test_controls_without_spread_are_an_error():
    features, treatment, control = screen()
    features[control] = features[control][0]
    with pytest.raises(InputError, match="All 12 controls are alike"):
        grit(features, treatment, control)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 4)) - 0.0
    controls = np.array([[1.0, -1, 0, 0], [-1.0, 1, 0, 0]])
    rows[0] = [0, 0, 1, -1]  # as far from one control as from the other
    with pytest.raises(InputError, match=r"1 rows correlate with every control alike.*rows 0;"):
        grit(np.r_[rows, controls], [0, 0, 1, 1, 2, 2, 9, 9], [False] * 6 + [True] * 2)


def test_constant_rows_are_named():
    features, treatment, control = screen()
    features[3] = 1e8
    features[30] = 0.1
    with pytest.raises(InputError, match=r"2 of 42 rows.*rows 3, 30; leave"):
        grit(features, treatment, control)
    features[:25] = np.arange(25.0)[:, None]
    with pytest.raises(InputError, match=r"17, 18, 19 and 6 more"):
        grit(features, treatment, control)


def test_one_replicate_throughout_is_an_error():
    features, _, control = screen()
    alone = np.where(control, -1, np.arange(42))
    with pytest.raises(InputError, match="No treatment has two replicates"):
        grit(features, alone, control)
    _, treatment, _ = screen()
    with pytest.raises(InputError, match="No treatment has two replicates"):
        grit(features, treatment, control, profile=treatment)


def test_faulty_input_is_an_error():
    features, treatment, control = screen()
    with pytest.raises(InputError, match="form must be"):
        grit(features, treatment, control, form="max")
    with pytest.raises(InputError, match="for 42 rows"):
        grit(features, treatment[:-1], control)
    with pytest.raises(InputError, match="each of the 42 rows"):
        grit(features, treatment, control[:-1])
    with pytest.raises(InputError, match="for 42 rows"):
        grit(features, treatment, control, profile=treatment[1:])
    with pytest.raises(InputError, match="1 profile ids belong to more than one treatment"):
        grit(features, treatment, control, profile=np.where(np.arange(42) < 12, "x", treatment))
    half = control.copy()
    half[np.flatnonzero(control)[0]] = False
    with pytest.raises(InputError, match="1 rows share their treatment with a control"):
        grit(features, treatment, half)
    missing = treatment.astype(object)
    missing[5] = None
    with pytest.raises(InputError, match="treatment is missing in 1 of 42 rows: 5;"):
        grit(features, missing, control)
    features[7, 2] = np.nan
    with pytest.raises(InputError, match="row 7"):
        grit(features, treatment, control)

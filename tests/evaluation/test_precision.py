import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from hcs_utils.errors import InputError
from hcs_utils.evaluation import neighbours, precision
from hcs_utils.evaluation.metrics import average_precision
from tests import oracles_replicates as oracles
from tests.evaluation.planted import clusters, quick, rotation, seeds

COLUMNS = ["average_precision", "n_pos_pairs", "n_total_pairs"]


def screen(seed=0, n=90):
    """Rows of eight treatments in three batches; the last treatment is the control."""
    features, treatment = clusters(seed, n, classes=8, spread=1.5)
    return features, treatment, np.random.default_rng(seed + 1).integers(0, 3, n), treatment == 7


def signs(seed, n=90):
    """Rows of 16 signs: cosines are eighths, the same however they are summed, and often tied."""
    rng = np.random.default_rng(seed)
    common = rng.choice([-1.0, 1.0], (8, 16))
    treatment, batch = rng.integers(0, 8, n), rng.integers(0, 3, n)
    return common[treatment] * rng.choice([-1, 1], (n, 16), p=[0.3, 0.7]), treatment, batch


def copairs(features, treatment, batch=None, control=None):
    """copairs' own, with its usual columns: replicability, or activity against the controls."""
    from copairs.map import average_precision

    meta = pd.DataFrame({"treatment": treatment, "batch": 0 if batch is None else batch})
    meta["reference"] = -1 if control is None else np.where(control, np.arange(len(meta)), -1)
    same = ["treatment"] if control is None else ["treatment", "reference"]
    apart = [] if batch is None else ["batch"]
    return average_precision(meta, features, same, apart, [], same, progress_bar=False)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("with_batch", [False, True])
@pytest.mark.parametrize("with_control", [False, True])
def test_agrees_with_the_loop_and_with_copairs(ties, with_batch, with_control):
    features, treatment, batch, _ = screen(3)
    if ties:
        features, treatment, batch = signs(3)
    batch = batch if with_batch else None
    control = treatment == 7 if with_control else None
    ours = average_precision(features, treatment, batch, control)
    loop = oracles.average_precision(features, treatment, batch, control)
    np.testing.assert_allclose(ours[COLUMNS], loop, rtol=0, atol=1e-12)
    theirs = copairs(features, treatment, batch, control)
    judged = np.full(len(ours), True) if control is None else ~control
    for column in [*COLUMNS, "normalized_average_precision"]:
        np.testing.assert_allclose(ours[column][judged], theirs[column][judged], atol=1e-12)
    assert ours.average_precision[judged].std() > 0.05
    assert ours.average_precision.isna().sum() == (~judged).sum()


def test_blocks_and_pieces_of_any_size_give_the_same(monkeypatch):
    features, treatment, batch, control = screen(4)
    whole = [
        average_precision(features, treatment, batch, c).average_precision for c in (None, control)
    ]
    monkeypatch.setattr(neighbours, "CHUNK_BYTES", 7 * 4 * 90)
    monkeypatch.setattr(precision, "PIECE", 3 * 90)
    monkeypatch.setattr(precision, "BINS", 16)
    for before, c in zip(whole, (None, control), strict=True):
        again = average_precision(features, treatment, batch, c).average_precision
        np.testing.assert_array_equal(before, again)


@given(seeds)
@quick
def test_nearer_counts_exactly_what_a_comparison_counts(seed):
    rng = np.random.default_rng(seed)
    rows, columns, width = rng.integers(1, [64, 12, 300])
    step, scale = rng.choice([0.5, 1e-3, 1e-9]), rng.choice([2, 1e-5])
    near = np.float32(np.round(scale * rng.random((rows, columns)) / step) * step)
    near[:, 1:][rng.random((rows, columns - 1)) < 0.3] = np.inf
    near.sort(axis=1)
    distance = np.float32(np.round(scale * rng.random((rows, width)) / step) * step)
    distance[rng.random(distance.shape) < 0.1] = precision.FAR
    counted = precision.nearer(near, distance)
    compared = (distance[:, None, :] < near[:, :, None]).sum(axis=2)
    np.testing.assert_array_equal(counted[np.isfinite(near)], compared[np.isfinite(near)])


def test_replicates_on_top_score_1_and_replicates_at_the_bottom_their_least():
    angle = np.radians([0, 1, 2, 90, 91, 92])
    features, treatment = np.c_[np.cos(angle), np.sin(angle)], list("aaabbb")
    best = average_precision(features, treatment)
    assert (best.average_precision == 1).all() and (best.normalized_average_precision == 1).all()
    angle = np.radians([0, 180, 60, 60.5])
    worst = average_precision(np.c_[np.cos(angle), np.sin(angle)], list("aabb"))
    assert worst.average_precision.tolist() == [1 / 3, 1 / 3, 1.0, 1.0]


def test_shuffled_labels_score_what_a_random_order_scores():
    rng = np.random.default_rng(0)
    features, treatment = rng.normal(size=(600, 30)), rng.permutation(np.repeat(np.arange(60), 10))
    table = average_precision(features, treatment)
    assert abs(table.normalized_average_precision.mean()) < 0.003
    random = [
        np.mean(np.arange(1, 10) / (np.sort(rng.permutation(599)[:9]) + 1)) for _ in range(4000)
    ]
    assert abs(table.average_precision.mean() - np.mean(random)) < 0.003


def test_replicates_of_the_same_batch_are_neither_positive_nor_negative():
    """Batches are islands: replicates look alike only because they share one."""
    rng = np.random.default_rng(0)
    batch, treatment = np.repeat(np.arange(4), 20), np.tile(np.repeat(np.arange(5), 4), 4)
    features = 5 * np.eye(4)[batch] @ rng.normal(size=(4, 12)) + rng.normal(size=(80, 12))
    inside = average_precision(
        features, np.unique([batch, treatment], axis=1, return_inverse=True)[1]
    )
    across = average_precision(features, treatment, batch)
    assert (across.n_pos_pairs == 12).all() and (across.n_total_pairs == 12 + 64).all()
    assert across.normalized_average_precision.mean() < inside.normalized_average_precision.mean()


@given(seeds)
@quick
def test_ignores_order_names_rotation_and_scale(seed):
    features, treatment, batch, control = screen(5)
    rng = np.random.default_rng(seed)
    order, row_scale = rng.permutation(90), rng.choice([0.5, 1.0, 4.0], (90, 1))
    names = np.array([f"{x:.6f}" for x in rng.random(8)])
    for c in (None, control):
        score = average_precision(features, treatment, batch, c).average_precision.to_numpy()
        again = average_precision(
            (features * row_scale)[order],
            names[treatment][order],
            names[batch][order],
            None if c is None else c[order],
        )
        np.testing.assert_allclose(again.average_precision, score[order], atol=1e-12)
        turned = average_precision(features @ rotation(seed), treatment, batch, c)
        np.testing.assert_allclose(
            turned.average_precision, score, atol=0.02
        )  # a near tie may turn
        assert abs(turned.average_precision - score).mean() < 1e-3


def test_faulty_input_is_an_error():
    features, treatment, batch, _ = screen()
    with pytest.raises(InputError, match="for 90 rows"):
        average_precision(features, treatment[1:])
    with pytest.raises(InputError, match="batch has shape"):
        average_precision(features, treatment, batch[1:])
    with pytest.raises(InputError, match="All rows are of one treatment"):
        average_precision(features, np.zeros(90))
    with pytest.raises(InputError, match="All 90 rows of features are the same"):
        average_precision(np.ones((90, 4)), treatment)
    with pytest.raises(InputError, match="batch is missing in 2 of 90 rows: 3, 8;"):
        average_precision(features, treatment, np.where(np.isin(np.arange(90), [3, 8]), np.nan, 1))
    with pytest.raises(InputError, match=r"and 52 more; mark all"):
        average_precision(features, treatment > 6, is_control=np.arange(90) > 80)
    features[4] = np.inf
    with pytest.raises(InputError, match="row 4"):
        average_precision(features, treatment)

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from hcs_utils.errors import InputError
from hcs_utils.evaluation.intervals import wilson_interval
from hcs_utils.evaluation.metrics import (
    bootstrap_interval,
    p_value,
    paired_interval,
    permutation_null,
)


def test_bootstrap_matches_a_loop_over_units():
    rng = np.random.default_rng(0)
    unit = rng.integers(0, 30, 200)
    correct = rng.random(200) < 0.4
    members = [correct[unit == u] for u in np.unique(unit)]
    means = [
        np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]).mean()
        for _ in range(4000)
    ]
    low, high = bootstrap_interval(correct, unit, n=4000)
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_bootstrap_covers_the_truth_only_when_whole_units_are_drawn():
    rng = np.random.default_rng(1)
    covered = {"unit": 0, "site": 0}
    for _ in range(100):
        unit = np.repeat(np.arange(25), 8)
        correct = (rng.random(25) < 0.5)[unit]  # the eight sites of a well fail together
        for name, grouping in (("unit", unit), ("site", np.arange(200))):
            low, high = bootstrap_interval(correct, grouping, n=400)
            covered[name] += low <= 0.5 <= high
    assert covered["unit"] >= 86
    assert covered["site"] <= 70


def test_bootstrap_repeats_itself_and_brackets_the_mean():
    correct, unit = np.arange(60) % 4 == 0, np.arange(60) // 3
    low, high = bootstrap_interval(correct, unit, seed=3)
    assert (low, high) == bootstrap_interval(correct, unit, seed=3)
    assert low < correct.mean() < high
    assert bootstrap_interval(np.ones(60), unit) == (1.0, 1.0)
    wide = bootstrap_interval(correct, unit, level=0.99)
    assert wide[0] <= low and wide[1] >= high


def test_paired_interval_matches_a_loop_that_draws_both_together():
    rng = np.random.default_rng(0)
    unit = rng.integers(0, 30, 200)
    a, b = rng.random(200) < 0.5, rng.random(200) < 0.4
    members = [np.flatnonzero(unit == u) for u in np.unique(unit)]
    gaps = []
    for _ in range(4000):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        gaps.append(a[rows].mean() - b[rows].mean())
    found = paired_interval(a, b, unit, n=4000)
    assert found == pytest.approx(np.quantile(gaps, [0.025, 0.975]), abs=0.012)


def test_paired_interval_sees_a_gain_that_two_intervals_hide():
    rng = np.random.default_rng(2)
    hard = np.repeat(rng.random(40) < 0.5, 5)  # wells that neither method can answer
    b = ~hard & (rng.random(200) < 0.8)
    a = b | (~hard & (rng.random(200) < 0.5))
    unit = np.arange(200) // 5
    assert bootstrap_interval(a, unit)[0] < bootstrap_interval(b, unit)[1]
    low, high = paired_interval(a, b, unit)
    assert 0 < low < a.mean() - b.mean() < high
    assert paired_interval(b, a, unit) == pytest.approx((-high, -low), abs=0.01)
    assert paired_interval(a, a, unit) == (0.0, 0.0)


def test_paired_interval_covers_the_true_difference():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        ease = rng.random(25)[np.arange(200) // 8]
        a, b = rng.random(200) < ease, rng.random(200) < ease * 0.8  # means 0.5 and 0.4
        low, high = paired_interval(a, b, np.arange(200) // 8, n=400)
        covered += low <= 0.1 <= high
    assert covered >= 86


def test_permutation_null_agrees_with_every_order_and_with_scipy():
    values, labels = np.array([3.1, 2.0, 4.4, 1.0, 0.3, 2.2, 1.7, 0.2]), np.array([1] * 4 + [0] * 4)

    def score(y):
        return float(values[y == 1].mean() - values[y == 0].mean())

    null = permutation_null(score, labels, 3000)
    every = [np.isin(range(8), chosen).astype(int) for chosen in combinations(range(8), 4)]
    exact = np.mean([score(y) >= score(labels) - 1e-12 for y in every])
    other = permutation_test(
        (values[:4], values[4:]), lambda a, b: a.mean() - b.mean(), alternative="greater"
    )
    assert other.pvalue == pytest.approx(exact)
    assert p_value(score(labels) - 1e-12, null) == pytest.approx(exact, abs=0.01)
    assert null.std() == pytest.approx(np.std(other.null_distribution), rel=0.05)
    assert 0.02 < exact < 0.2


def test_permutation_null_is_uniform_when_labels_say_nothing():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(80, 40))

    def p(column):
        labels = np.arange(40) % 2
        null = permutation_null(lambda y: column[y == 1].mean() - column[y == 0].mean(), labels, 99)
        return p_value(column[labels == 1].mean() - column[labels == 0].mean(), null)

    found = np.sort([p(column) for column in values])
    assert np.abs(found - (np.arange(80) + 0.5) / 80).max() < 0.18  # Kolmogorov, 1 %


def test_permutation_shuffles_whole_units_and_stays_within_groups():
    labels = np.repeat(list("aabbccdd"), 3)
    well, batch = np.arange(24) // 3, np.repeat([0, 1], 12)
    seen = []
    permutation_null(lambda y: seen.append(y) or 0.0, labels, 30, unit=well, within=batch)
    for shuffled in seen:
        assert (shuffled.reshape(8, 3) == shuffled.reshape(8, 3)[:, :1]).all()
        assert sorted(shuffled[:12]) == sorted(labels[:12])
    assert len({"".join(y) for y in seen}) > 15  # of 36
    free = []
    permutation_null(lambda y: free.append(y) or 0.0, labels, 30, unit=well)
    assert any(sorted(y[:12]) != sorted(labels[:12]) for y in free)


def test_permutation_repeats_itself_and_differs_by_seed():
    values, labels = np.arange(30.0), np.arange(30) % 2

    def score(y):
        return float(values[y == 1].mean())

    null = permutation_null(score, labels, 20, seed=4)
    np.testing.assert_array_equal(null, permutation_null(score, labels, 20, seed=4))
    assert (null != permutation_null(score, labels, 20, seed=5)).any()


def test_p_value_counts_the_value_itself():
    assert p_value(9, [1, 2, 3]) == 0.25
    assert p_value(2, [1, 2, 3]) == 0.75
    assert p_value(0, [1, 2, 3]) == 1.0


def test_errors_of_comparisons_say_what_to_do():
    with pytest.raises(InputError, match=r"a has shape \(2,\) and b \(3,\); .* same rows"):
        paired_interval([1, 0], [1, 0, 1], ["u", "v"])
    with pytest.raises(InputError, match=r"unit has shape"):
        permutation_null(lambda y: 0.0, ["a", "b"], unit=["u"])
    with pytest.raises(InputError, match=r"1 units have more than one label: u; give a finer"):
        permutation_null(lambda y: 0.0, ["a", "b", "c"], unit=["u", "u", "v"])
    with pytest.raises(InputError, match=r"1 units have more than one group of within: v"):
        permutation_null(lambda y: 0.0, list("abb"), unit=list("uvv"), within=[1, 1, 2])
    with pytest.raises(InputError, match=r"null of one draw or more, without NaN"):
        p_value(1.0, [np.nan])


def test_bootstrap_errors_say_what_to_do():
    with pytest.raises(InputError, match=r"finer unit"):
        bootstrap_interval([1, 0], ["B1", "B1"])
    with pytest.raises(InputError, match=r"drop NaN"):
        bootstrap_interval([1, np.nan], ["B1", "B2"])
    with pytest.raises(InputError, match=r"unit has shape"):
        bootstrap_interval([1, 0], ["B1"])


@pytest.mark.parametrize(("right", "n"), [(0, 20), (20, 20), (128, 130), (7, 9)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_that_of_scipy_and_stays_within_one(right, n, level):
    low, high = wilson_interval(right, n, level)
    theirs = binomtest(right, n).proportion_ci(level, method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= low <= right / n + 1e-12 and right / n - 1e-12 <= high <= 1
    both = wilson_interval([right, right], [n, 2 * n], level)
    assert both[0][0] == pytest.approx(low, abs=1e-12) and both[1][1] <= high
    with pytest.raises(InputError, match="0 ≤ right ≤ n"):
        wilson_interval(n + 1, n)

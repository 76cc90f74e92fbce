import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from hcs_utils.errors import InputError
from hcs_utils.evaluation import separation
from hcs_utils.evaluation.separation import batch_effect_task, ratios, training_rows
from tests.evaluation.planted import quick, seeds


def screen(effect, wells=0.0, seed=0, classes=4, batches=8, fields=3):
    """Features of a class, of its batch times `effect` and of its well times `wells`."""
    rng = np.random.default_rng(seed)
    target = np.repeat(np.tile(np.arange(classes), 2 * batches), fields)
    batch = np.repeat(np.arange(batches), len(target) // batches)
    well = np.arange(len(target)) // fields
    z = rng.normal(0, 1, (classes, 16))[target] + rng.normal(0, 0.7, (len(target), 16))
    # a batch moves every class its own way, so that what was learned elsewhere does not hold
    z += effect * rng.normal(0, 1, (batches, classes, 16))[batch, target]
    z += wells * rng.normal(0, 1, (well.max() + 1, 16))[well]
    return z, target, {"well": well, "batch": batch}


# Splits


@given(st.integers(2, 40), st.floats(0.05, 0.95), seeds)
@quick
def test_no_group_is_on_both_sides_and_the_share_is_kept(names, share, seed):
    group = np.random.default_rng(seed).integers(0, names, 200)
    count = len(np.unique(group))
    train = training_rows(group, share, seed)
    left, right = set(group[train]), set(group[~train])
    assert left and right and not left & right
    assert abs(len(left) - share * count) <= 0.5 or len(left) in (1, count - 1)


def test_ten_sources_are_eight_to_train_and_two_to_test():
    source = np.repeat([f"source_{k}" for k in range(10)], 7)
    held = {frozenset(source[~training_rows(source, 0.8, seed)]) for seed in range(20)}
    assert {len(h) for h in held} == {2} and len(held) > 5


def test_every_split_of_the_task_keeps_its_groups_whole(monkeypatch):
    z, target, groups = screen(0.5)
    seen = []
    monkeypatch.setattr(
        separation, "_judged", lambda f, t, train, c: seen.append(train) or {"accuracy": 1.0}
    )
    table = batch_effect_task(z, target, groups, repeats=4)
    assert table["split"].tolist() == ["random", "well", "batch"] * 4
    for split, train in zip(table["split"], seen, strict=True):
        assert abs(train.mean() - 0.8) < 0.06
        if split != "random":
            assert not set(groups[split][train]) & set(groups[split][~train])
    assert len({tuple(train) for train in seen}) == len(seen)  # no two draws are the same


def test_the_same_seed_is_the_same_table_and_another_is_another():
    z, target, groups = screen(0.5)
    one, same, other = (batch_effect_task(z, target, groups, seed=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(one, same)
    assert not one["accuracy"].equals(other["accuracy"])


# Truth


@pytest.mark.parametrize("classifier", ["knn", "logistic"])
def test_a_planted_batch_effect_is_seen_and_none_is_not(classifier):
    bad = ratios(batch_effect_task(*screen(1.5), classifier=classifier))
    assert bad.loc["G_NSB", "mean"] < 0.85
    assert bad.loc["G_NSB", "mean"] < bad.loc["G_NSW", "mean"] - 0.1
    none = ratios(batch_effect_task(*screen(0.0), classifier=classifier))
    assert none["mean"].sub(1).abs().max() < 0.05 and (none["n"] == 5).all()


def test_fields_of_one_well_on_both_sides_flatter_the_random_split():
    table = batch_effect_task(*screen(0.0, wells=2.0))
    by_row, by_well = ratios(table), ratios(table, reference="well")
    assert by_row.loc["G_NSW", "mean"] < 0.8 and by_row.loc["G_NSB", "mean"] < 0.8
    assert by_well.index.tolist() == ["G_NSB"] and by_well.loc["G_NSB", "mean"] > 0.85


def test_ratios_are_means_over_repeats_of_ratios():
    table = pd.DataFrame(
        {"repeat": [0, 0, 0, 1, 1, 1], "split": ["random", "source", "day"] * 2}
    ).assign(accuracy=[0.8, 0.4, 0.8, 0.5, 0.4, 0.25])
    found = ratios(table)
    assert found.index.tolist() == ["G_NSS", "G_day"]
    np.testing.assert_allclose(found.loc["G_NSS", "mean"], (0.5 + 0.8) / 2)
    np.testing.assert_allclose(found.loc["G_NSS", "sd"], np.std([0.5, 0.8], ddof=1))
    assert found.loc["G_day", "mean"] == 0.75 and found.loc["G_day", "n"] == 2


# Scores


@pytest.mark.parametrize("classifier", ["knn", "logistic"])
def test_scores_agree_with_loops(classifier):
    z, target, _ = screen(0.8, seed=3, classes=6)
    train = training_rows(np.arange(len(target)), 0.7, 5)
    row = separation._judged(z.astype(np.float32), target, train, classifier)
    if classifier == "logistic":
        model = LogisticRegression(max_iter=1000).fit(z[train], target[train])
        share = model.predict_proba(z[~train])
    else:
        share = np.zeros((int((~train).sum()), 6))
        for i, q in enumerate(z[~train]):
            cosine = [q @ b / np.linalg.norm(q) / np.linalg.norm(b) for b in z[train]]
            for j in sorted(range(len(cosine)), key=lambda j: -cosine[j])[:3]:
                share[i, target[train][j]] += 1 / 3
    truth, answer = target[~train], [max(range(6), key=lambda c: (s[c], -c)) for s in share]
    recalls, precisions, f1s, aucs = [], [], [], []
    for c in range(6):
        hit = sum(a == c and t == c for a, t in zip(answer, truth, strict=True))
        asked, given_ = sum(t == c for t in truth), sum(a == c for a in answer)
        recalls.append(hit / asked)
        precisions.append(hit / given_ if given_ else 0)
        f1s.append(2 * hit / (asked + given_))
        pairs = [(p, n) for p in share[truth == c, c] for n in share[truth != c, c]]
        aucs.append(np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs]))
    ranked = [sorted(range(6), key=lambda c: (-s[c], c)) for s in share]
    top = np.mean([t in r[:3] for t, r in zip(truth, ranked, strict=True)])
    right = np.mean([a == t for a, t in zip(answer, truth, strict=True)])
    loops = {"accuracy": right, "balanced_accuracy": np.mean(recalls), "f1": np.mean(f1s)}
    loops |= {"precision": np.mean(precisions), "recall": np.mean(recalls), "auc": np.mean(aucs)}
    loops |= {"top_3": top, "top_10": 1.0}
    for name, value in loops.items():
        assert row[name] == pytest.approx(value, abs=1e-3), name
    assert (row["untrained"], row["untested"], row["converged"]) == (0, 0, True)
    assert row["train"] + row["test"] == len(target)


def test_classes_on_one_side_only_are_counted_and_their_rows_are_wrong():
    z = np.eye(6)[np.repeat(np.arange(6), 4)]
    target = np.repeat(list("abcdef"), 4)
    batch = np.where(np.isin(target, ["a", "b"]), "one", "two")  # a and b were made in one batch
    table = batch_effect_task(z, target, {"batch": batch}, repeats=3)
    split = table[table["split"] == "batch"]
    assert (split["accuracy"] == 0).all() and (split["top_10"] == 0).all()
    assert split["auc"].isna().all() and ratios(table).loc["G_NSB", "mean"] == 0
    assert set(zip(split["untrained"], split["untested"], strict=True)) <= {(2, 4), (4, 2)}
    one = separation._judged(z, target, target == "a", "logistic")
    assert (one["accuracy"], one["untrained"], one["untested"]) == (0, 5, 1)


# Refusals


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(groups={"plate": np.zeros(48), "batch": np.zeros(48)}), "Only one plate, one batch"),
        (dict(groups={"plate": np.arange(9)}), r"groups\['plate'\] has shape \(9,\)"),
        (dict(groups={"random": np.arange(48)}), "name the group otherwise"),
        (dict(target=np.ones(48)), "All rows have the target"),
        (
            dict(target=np.array([None] + ["a", "b"] * 23 + ["a"], object)),
            "target is missing in 1 of 48",
        ),
        (dict(target=np.arange(3)), r"target has shape \(3,\) for 48 rows"),
        (dict(classifier="svm"), "classifier must be"),
        (dict(train_share=1.0), "train_share between 0 and 1"),
        (dict(repeats=0), "repeats must be 1 or more"),
        (dict(features=np.full((48, 2), np.nan)), "48 of 48 rows of features hold NaN"),
    ],
)
def test_what_cannot_be_asked_is_told(changed, words):
    rng = np.random.default_rng(0)
    good = dict(
        features=rng.normal(size=(48, 2)),
        target=np.arange(48) % 2,
        groups={"plate": np.arange(48) // 6},
    )
    with pytest.raises(InputError, match=words):
        batch_effect_task(**(good | changed))


def test_nothing_is_divided_by_zero_or_by_what_is_not_there():
    table = pd.DataFrame({"repeat": [0, 0], "split": ["random", "plate"], "accuracy": [0.0, 0.5]})
    with pytest.raises(InputError, match="'random' is 0 in a repeat"):
        ratios(table)
    with pytest.raises(InputError, match="no split 'well'; the table has plate, random"):
        ratios(table, reference="well")

import copy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from hcs_utils.data.nuclei import find_nuclei
from hcs_utils.errors import InputError
from hcs_utils.evaluation import leak_sources, leaks
from hcs_utils.evaluation.intervals import bootstrap_interval
from hcs_utils.evaluation.leaks import STATISTICS, intensity_statistics
from hcs_utils.evaluation.metrics import knn_accuracy
from tests import oracles_leaks
from tests.evaluation.planted import quick, seeds


def test_statistics_agree_with_a_loop():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 9), dtype=np.uint8)
    features = intensity_statistics(images)
    assert features.shape == (5, 3 * len(STATISTICS))
    for i, image in enumerate(images):
        for c, plane in enumerate(image):
            values = sorted(float(v) for row in plane for v in row)
            at = [q * (len(values) - 1) for q in (0.01, 0.99)]
            p1, p99 = (values[int(a)] + (a % 1) * (values[int(a) + 1] - values[int(a)]) for a in at)
            mean = sum(values) / len(values)
            sd = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
            np.testing.assert_allclose(features[i, 4 * c : 4 * c + 4], [mean, sd, p1, p99])


def test_place_of_pixels_is_not_seen_and_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6, 2, 10, 10), dtype=np.uint8)
    moved = images.reshape(6, 2, 100)[:, :, rng.permutation(100)].reshape(images.shape)
    np.testing.assert_allclose(intensity_statistics(moved), intensity_statistics(images))
    whole = intensity_statistics(images)
    monkeypatch.setattr(leak_sources, "_CHUNK_BYTES", 200 * 4)  # four images at a time
    np.testing.assert_array_equal(intensity_statistics(images), whole)


def test_planted_gain_is_found_and_planted_shape_is_not():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 8, (80, 1, 16, 16))
    gain = np.repeat([60, 120], 40)
    bright = np.clip(gain[:, None, None, None] + noise, 0, 255).astype(np.uint8)
    shape = np.zeros((80, 1, 16, 16))
    shape[:40, :, :8], shape[40:, :, :, :8] = 100, 100  # stripes across or down: the same histogram
    striped = np.clip(80 + shape + noise, 0, 255).astype(np.uint8)
    half = np.arange(80) % 2 == 0
    found = []
    for images in (bright, striped):
        z = intensity_statistics(images)
        z -= z.mean(axis=0)
        found.append(knn_accuracy(z[half], gain[half], z[~half], gain[~half]))
    assert found[0] == 1.0
    assert found[1] < 0.75


@pytest.mark.parametrize("images", [np.ones((2, 3, 4), np.uint8), np.ones((2, 1, 4, 4)), []])
def test_other_arrays_are_refused(images):
    with pytest.raises(InputError, match=r"uint8 \[n c y x\]"):
        intensity_statistics(images)


# The audit


BATCHES, CLASSES, WELLS, SITES = 6, 8, 3, 2


def planted(seed):
    """A screen of 6 batches: labels, wells, masks of the bank (4 batches) and the query (2)."""
    rng = np.random.default_rng(seed)
    label = np.tile(np.repeat(np.arange(CLASSES), WELLS), BATCHES)
    batch = np.repeat(np.arange(BATCHES), CLASSES * WELLS)
    order = rng.permutation(len(label))  # nothing may depend on the order of rows
    label, batch = (np.repeat(x[order], SITES) for x in (label, batch))
    names = np.array([f"siRNA {k}" for k in rng.permutation(CLASSES)])[label]
    well = np.repeat(np.arange(len(order)), SITES)
    return names, label, well, batch < 4, batch >= 4, rng


@pytest.mark.parametrize("seed", [0, 71])
def test_a_planted_leak_is_found_at_1(seed):
    names, label, well, bank, query, rng = planted(seed)
    place = rng.permutation(96)[:CLASSES][label]
    hidden = rng.normal(size=(len(names), 12))
    hidden[:, 5] = rng.permutation(CLASSES)[label] + rng.normal(0, 0.05, len(names))
    turned = rng.normal(size=(len(names), 40)) + 5 * rng.normal(size=(CLASSES, 40))[label]
    table = leaks.audit(names, bank, query, {
        "well position": np.column_stack(np.divmod(place, 12)),
        "plate": np.array([f"plate {k}" for k in label]),
        "cell count": 20 + 3 * rng.permutation(CLASSES)[label],
        "one column of twelve": hidden,
        "a direction": turned,
    }, unit=well, seed=seed)  # fmt: skip
    sources = table.drop("shuffled labels")
    assert (sources[["value", "low", "high"]].drop("one column of twelve") == 1).all(axis=None)
    assert sources["value"].min() > 0.9 and sources["leaks"].all()
    assert sources["null"].max() < 0.4 and table.loc["plate", "judge"] == "lookup"


def test_without_a_leak_each_source_stands_at_its_null():
    values, nulls, inside = [], [], []
    for seed in range(5):
        names, _, well, bank, query, rng = planted(seed)
        mixed = rng.permutation(well.max() + 1)[well]  # of wells, as layouts are drawn
        table = leaks.audit(names, bank, query, {
            "well position": np.column_stack(np.divmod(mixed % 96, 12)),
            "plate": np.where(bank, "p1", "p2"),
            "cell count": rng.poisson(30, well.max() + 1)[well] + rng.integers(0, 2, len(well)),
            "noise": rng.normal(size=(len(well), 6)),
        }, unit=well, seed=seed)  # fmt: skip
        values.append(table["value"])
        nulls.append(table["null"])
        inside.append(table["low"].le(table["null"]) & table["null"].le(table["high"]))
        assert not table.loc["plate", "leaks"] and table.loc["plate", "value"] == 1 / CLASSES
    gap = np.mean(values, axis=0) - np.mean(nulls, axis=0)
    assert np.abs(gap).max() < 0.08
    assert np.mean(inside) > 0.8  # 95 % of the truth; the null is itself a mean of 5 draws


def test_lookup_and_vote_agree_with_loops():
    names, label, well, bank, query, rng = planted(3)
    words = rng.choice(list("abcdefg"), len(names))
    words[query & (words == "g")] = "not in the bank"
    z = rng.normal(size=(len(names), 5)) * [1, 10, 100, 1, 1] + 3 + label[:, None] / 4
    task = leaks._task(names, bank, query, well)
    classes = np.unique(names[bank])
    judge = leaks._judges(words, task, 10, 0.1, 0)["lookup"]
    oracle = oracles_leaks.lookup(words[bank], names[bank], words[query])
    assert classes[judge(task.code)].tolist() == oracle
    judge = leaks._judges(z, task, 7, 0.2, 0)["vote"]
    oracle = oracles_leaks.vote(z[bank].tolist(), names[bank].tolist(), z[query].tolist(), 7, 0.2)
    assert classes[judge(task.code)].tolist() == oracle
    table = leaks.audit(names, bank, query, {"words": words}, unit=well)
    right = np.array(oracles_leaks.lookup(words[bank], names[bank], words[query])) == names[query]
    assert table.loc["words", "value"] == right.mean()
    assert tuple(table.loc["words", ["low", "high"]]) == bootstrap_interval(right, well[query])


@given(seeds)
@quick
def test_names_of_labels_order_of_sources_and_rows_change_no_lookup(seed):
    names, label, well, bank, query, rng = planted(seed)
    words = np.where(rng.random(len(names)) < 0.7, label, 9).astype(str)
    one = leaks.audit(names, bank, query, {"w": words}, unit=well).loc["w", "value"]
    renamed = np.array([f"compound {name}" for name in names])  # in the same order, for ties
    assert leaks.audit(renamed, bank, query, {"w": words}).loc["w", "value"] == one
    order = rng.permutation(len(names))
    mixed = leaks.audit(names[order], np.flatnonzero(bank[order]), np.flatnonzero(query[order]),
                        {"w": words[order]})  # fmt: skip
    assert mixed.loc["w", "value"] == pytest.approx(one)


def test_the_higher_of_two_answers_stands_against_the_higher_of_two_nulls(monkeypatch):
    names, _, well, bank, query, _ = planted(0)
    task = leaks._task(names, bank, query, well)
    answers = {"vote": 0.25, "trees": 0.5}

    def judge(share):
        def answer(code):
            if np.array_equal(code, task.code):
                return np.where(np.arange(len(task.answer)) < share * len(task.answer),
                                task.answer, -2)  # fmt: skip
            wrong = np.full(len(task.answer), -2)
            wrong[: int(share / 2 * len(wrong))] = task.answer[: int(share / 2 * len(wrong))]
            return wrong

        return answer

    made = {kind: judge(share) for kind, share in answers.items()}
    monkeypatch.setattr(leaks, "_judges", lambda *arguments: made)
    table = leaks.audit(names, bank, query, {"made up": well}, unit=well)
    row = table.loc["made up"]
    assert (row["value"], row["null"], row["judge"], row["leaks"]) == (0.5, 0.25, "trees", True)
    assert table.loc["shuffled labels", "value"] == 0.25


def test_a_source_that_never_changes_answers_with_the_most_frequent_label():
    names, label, well, bank, query, _ = planted(0)
    few = bank & ((label > 0) | (well % 2 == 0))
    table = leaks.audit(names, few, query, {"count": np.zeros(len(names))}, unit=well)
    assert table.loc["count", "value"] == 1 / CLASSES and not table.loc["count", "leaks"]


def test_labels_the_bank_has_not_are_wrong_answers():
    names, label, well, bank, query, _ = planted(0)
    bank = bank & (label > 0)
    table = leaks.audit(names, bank, query, {"told": label.astype(str)}, unit=well)
    assert table.loc["told", "value"] == 1 - 1 / CLASSES


def test_an_audit_goes_into_metrics_and_comes_back():
    names, label, well, bank, query, _ = planted(0)
    table = leaks.audit(names, bank, query, {"cell count": label, "x": well}, unit=well)
    metrics = leaks.as_metrics(table)
    assert metrics["leak_cell_count"] == (1.0, 1.0, 1.0) and "leak_shuffled_labels_null" in metrics
    again = leaks.from_metrics(metrics | {"knn": (0.5, 0.4, 0.6), "chance": 0.1})
    pd.testing.assert_frame_equal(again, table.drop(columns="judge"), check_dtype=False)
    assert leaks.from_metrics({"knn": 0.5}).empty


# Sources


def test_sources_of_a_screen_agree_with_its_images(smoke):
    found = leaks.sources(smoke.table, smoke.store)
    assert list(found) == ["well position", "plate", "cell count", "intensity statistics"]
    assert found.left_out == {} and found["plate"].tolist() == smoke.table["plate"].tolist()
    images = smoke.store.read(range(len(smoke.store)))
    np.testing.assert_array_equal(found["intensity statistics"], intensity_statistics(images))
    row = 17
    nuclei = find_nuclei(images[row, smoke.channels.index("DNA")], pixel_size_um=2.0)
    assert found["cell count"][row] == len(nuclei) and found["cell count"].std() > 0
    part = leaks.sources(smoke.table.iloc[[30, 2, 9]], smoke.store)
    for name in ("cell count", "intensity statistics", "well position"):
        np.testing.assert_array_equal(part[name], found[name][[30, 2, 9]])


def test_position_is_row_column_and_distance_to_the_edge():
    wells = ["A01", "B07", "H12", "D05"]
    at = leaks.sources(pd.DataFrame({"well": wells, "plate": "p"}))["well position"]
    for well, (row, column, edge) in zip(wells, at, strict=True):
        assert (row, column) == oracles_leaks.position(well)
        assert edge == min(row, column, 7 - row, 11 - column)
    large = pd.DataFrame({"well": ["A01", "Z10", "AA10", "AF48"], "plate": "p"})
    at = leaks.sources(large)["well position"]
    assert at.tolist() == [[0, 0, 0], [25, 9, 6], [26, 9, 5], [31, 47, 0]]
    with pytest.raises(InputError, match=r"2 wells have no row and column: 7B, \?"):
        leaks.sources(pd.DataFrame({"well": ["7B", "A01", "?", "7B"], "plate": "p"}))


def test_what_a_screen_does_not_offer_is_left_out_with_its_reason(smoke):
    bare = leaks.sources(smoke.table)
    assert list(bare) == ["well position", "plate"]
    assert set(bare.left_out) == {"cell count", "intensity statistics"}
    store = copy.copy(smoke.store)
    store.channels = ("w1", "w2", "w3", "w4", "w5")
    found = leaks.sources(smoke.table, store)
    assert "w1, w2, w3, w4, w5 is named DNA" in found.left_out["cell count"]
    assert "intensity statistics" in found and "cell count" not in found
    store.channels, store.pixel_size_um = ("Hoechst 33342", *"abcd"), None
    assert "µm" in leaks.sources(smoke.table, store).left_out["cell count"]
    store.pixel_size_um = 2.0
    assert "cell count" in leaks.sources(smoke.table, store)
    half = np.arange(144) % 2 == 0
    table = leaks.audit(smoke.table["treatment"], half, ~half, bare)
    assert table.attrs["left_out"] == bare.left_out


# Refusals


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(query=np.arange(3, 9)), "3 rows are in bank and query: 3, 4, 5"),
        (dict(query=np.zeros(12, bool)), "query must be a mask or row numbers, and hold at least"),
        (dict(bank=np.ones(5, bool)), r"bank is a mask of shape \(5,\) for 12 labels"),
        (dict(bank=np.array([0, 12])), "names rows that are none of 12: 12"),
        (dict(bank=np.array([0, 1, 1])), "bank names rows twice"),
        (dict(label=np.zeros((12, 2))), r"label must be one a row, \[n\]"),
        (dict(label=[None, *"abababababa"]), "1 rows have no label: 0"),
        (dict(label=list("aaaaaabbbbbb")), "No label of the query occurs in the bank"),
        (dict(unit=np.arange(4)), r"unit has shape \(4,\) for 12 labels"),
        (dict(unit=np.zeros(12)), "belong to one unit"),
        (dict(sources={}), "no source to audit"),
        (dict(sources={"tint": np.arange(11)}), r"source 'tint' has shape \(11,\) for 12"),
        (dict(sources={"tint": np.full(12, np.nan)}), "source 'tint' holds NaN .* in 12 rows"),
        (dict(sources={"tint": np.full((12, 2), "a")}), "source 'tint' has words in columns"),
        (dict(k=7), "7 neighbours"),
    ],
)
def test_what_cannot_be_audited_is_told(changed, words):
    good = dict(label=list("ab" * 6), bank=np.arange(6), query=np.arange(6, 12), k=3)
    good |= dict(sources={"count": np.arange(12.0)})
    with pytest.raises(InputError, match=words):
        leaks.audit(**(good | changed))

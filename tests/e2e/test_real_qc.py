"""Quality control on real images where they are here: splits, measures, few labels, drawn faults.

All methods, folds and fine-tuning, with intervals and nulls, are benchmarks/real_qc.py.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hcs_utils import qc_assemble, qc_judging, records

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "real_qc.py"


@pytest.fixture(scope="module")
def real_qc():
    spec = importlib.util.spec_from_file_location("real_qc", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def nuclei(real_qc, shared_data):
    return real_qc.mitocheck(shared_data("mitocheck_cells"))


def judged(real_qc, of, **changes):
    """Classical measures of the question, by every frozen task."""
    chosen = real_qc.settings("classical", **changes)
    x = qc_judging.measured(None, of)
    return qc_judging.frozen(qc_judging.scaled(x, of, chosen), of, chosen)


def test_mitocheck_is_split_by_plate_and_abnormal_nuclei_are_found(real_qc, nuclei):
    assert nuclei.images.shape == (1053, 1, 64, 64)
    count = {name: int((nuclei.fault == name).sum()) for name in ("", "out_of_focus", "dead")}
    assert count == {"": 420, "out_of_focus": 325, "dead": 308}
    assert len(set(nuclei.held[nuclei.fault == "out_of_focus"])) == 7  # the trap
    of = real_qc.question(nuclei, 1)
    rows = of.asked[""]
    assert not set(nuclei.held[of.pool]) & set(nuclei.held[rows])
    assert of.abnormal[rows].mean() == 0.5
    scores = judged(real_qc, of)
    for budget in (350, 100, 50, 25, 10):
        value, low, high = scores[f"logistic_auc_{budget}"]
        assert low <= value <= high
        null = scores[f"linear_accuracy_null_{budget}"]
        assert null[1] < 0.55 and null[2] > 0.45
    assert scores["logistic_auc_350"][1] > 0.6
    assert scores["logistic_auc_350"][0] > scores["logistic_auc_10"][0]


def test_grey_nuclei_go_through_an_encoder_in_colour(real_qc, nuclei):
    of = real_qc.in_colour(real_qc.question(nuclei, 1))
    assert of.channels == qc_assemble.CHANNELS and of.images.shape[1] == 3
    chosen = real_qc.settings("random", encoder="tiny", budgets="20,10", draws=2, finetune_steps=1)
    rows = of.drawn(20, 1, 0)
    found = qc_judging.finetuned_scores(
        qc_assemble.network(chosen), of, rows, of.abnormal[rows], of.asked[""][:20], chosen
    )
    assert found.shape == (1, 20) and np.isfinite(found).all()


def test_fields_out_of_focus_are_told_from_those_in_focus_in_other_wells(real_qc, shared_data):
    crops = real_qc.focus(shared_data("bbbc006_focus"))
    fields = {name: len(set(crops.field[crops.fault == name])) for name in ("", "out_of_focus")}
    assert fields == {"": 9, "out_of_focus": 25} and crops.images.shape[1:] == (1, 48, 48)
    mostly = set(crops.held[crops.fault == ""]) & set(crops.held[crops.fault != ""])
    assert mostly == {"a01"}  # the trap: a kind is nearly a list of wells
    of = real_qc.question(crops, 1)
    assert not set(crops.held[of.pool]) & set(crops.held[of.asked[""]])
    scores = judged(real_qc, of)
    assert scores["logistic_auc_350"][1] > 0.7


def test_faults_drawn_into_real_fields_are_found_each_in_its_measure(real_qc, shared_data):
    crops = real_qc.drawn(shared_data("bbbc021_fields"))
    assert crops.images.shape == (660 * 4, 3, 64, 64) and len(set(crops.held)) == 30
    assert 0.15 < (crops.fault != "").mean() < 0.4
    of = real_qc.question(crops, 1)
    scores = judged(real_qc, of)
    assert scores["logistic_auc_350"][1] > 0.75
    for fault in ("noise", "empty", "saturation"):
        assert scores[f"recall_{fault}_linear_350"][0] > 0.7
    assert scores["recall_normal_linear_350"][0] > 0.7


def test_ten_chosen_nuclei_are_compared_with_ten_by_lot(real_qc, nuclei, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FILE.parent)
    monkeypatch.setenv("HCS_RESULTS", str(tmp_path))
    bench = importlib.import_module("real_ten_labels")
    rows = bench.part(nuclei, 0.2, 0)
    assert (nuclei.fault[rows] != "").mean() == pytest.approx(0.2, abs=0.01)
    assert len(set(rows)) == len(rows) and set(rows) != set(bench.part(nuclei, 0.2, 1))
    table = bench.run("mitocheck", nuclei, 0.2, 2)
    assert list(table.index) == ["chosen", "chosen, shuffled", "lot", "lot, shuffled"]
    found = records.load_records(tmp_path, "real", "ten_labels").set_index("method")
    assert set(found.index) == {"chosen", "lot"} and set(found["variant"]) == {"share-20"}
    of = found.loc["chosen"]
    assert of["gain_auc_10"] == pytest.approx(of["auc_10"] - found.loc["lot", "auc_10"])
    assert of["auc_50"] > 0.7 and of["auc_50"] > of["auc_null_50"]

"""The quality-control paper's tables and claims, and ours beside them."""

import numpy as np
import pandas as pd
import pytest

from hcs_utils import qc_tables
from hcs_utils.errors import InputError
from hcs_utils.evaluation import abnormal
from hcs_utils.qc_settings import METHODS, SELF_SUPERVISED, TRANSFER


@pytest.fixture(scope="module")
def paper():
    return qc_tables.tables()


@pytest.fixture(scope="module")
def claims():
    return qc_tables.claims()


def records(accuracy):
    """Records of two seeds: {method: {metric: value}}."""
    rows = [
        {"experiment": "qc", "screen": "simulated", "preset": "standard", "variant": "", "fold": 1,
         "seed": seed, "method": method}
        | {name: value + 0.001 * seed * k for k, (name, value) in enumerate(metrics.items())}
        for method, metrics in accuracy.items() for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_paper_s_tables_are_whole(paper):
    assert set(paper["method"]) == set(qc_tables.METHODS) == {*TRANSFER, *SELF_SUPERVISED}
    assert set(qc_tables.NAMES) == {*METHODS, *(f"{method}_procedural" for method in TRANSFER)}
    for number, columns in qc_tables.TABLES.items():
        of = paper[paper["table"] == number]
        assert set(of["metric"]) == set(columns) and len(of) == 8 * len(columns)
    known = paper.set_index(["metric", "method"])["mean"]
    assert known["knn_accuracy_350", "vicreg"] == 76.30  # as the text says of it
    assert known["linear_accuracy_350", "convnext"] == 98.47
    assert known["finetuned_accuracy_10", "simclr"] == 84.89
    assert known["finetuned_f1_10", "barlow_twins"] == 80.39
    assert known["shift_finetuned_auc_350", "swav"] == 57.30
    assert paper["mean"].between(0, 100).all()


def test_claims_are_of_what_the_tables_have(paper, claims):
    assert not claims.duplicated(["metric", "better", "worse"]).any()
    metrics = set(paper["metric"]) | set(qc_tables.GAPS)
    assert set(claims["metric"]) <= metrics and set(claims["better"]) <= set(qc_tables.METHODS)
    order = qc_tables.paper_order(paper, claims)
    assert order.sum() == len(claims) - 1
    assert claims.loc[~order, "claim"].item().startswith("SwAV is nearer to transfer fine-tuned")


def test_the_stand_in_has_the_claims_of_transfer_once(claims):
    mine = qc_tables.stand_in(claims)
    assert set(mine["better"]) == {"procedural"} and set(mine["worse"]) == set(SELF_SUPERVISED)
    assert len(mine) == 8 * 5 and not mine["claim"].str.contains("VGG|ResNet|ConvNeXt").any()


def test_weights_from_drawings_are_no_transfer_from_photographs(claims):
    found = records({
        "resnet18": {"knn_accuracy_350": 0.9}, "simclr": {"knn_accuracy_350": 0.8},
        "procedural": {"knn_accuracy_350": 0.7},
    })  # fmt: skip
    judged = {}
    for weights in ("procedural", "procedural:100", "imagenet", "own.safetensors"):
        found["parameters"] = [{"weights": weights}] * len(found)
        of = qc_tables.with_gaps(qc_tables.with_weights(found))
        words = qc_tables.judge(claims, qc_tables.tables(), of, ["standard"])
        words = words[(words["better"] == "resnet18") & (words["worse"] == "simclr")]
        judged[weights] = words.set_index("metric")["verdict"]["knn_accuracy_350"]
        table = qc_tables.beside(qc_tables.tables(), of, "1", ["standard"])
        drawn = "ResNet18, procedural weights (2)"
        assert (("standard", drawn) in table.index) == weights.startswith("procedural")
        assert not table.index.isin([("standard", "VGG16, procedural weights")]).any()
    assert [*judged.values()] == ["not run", "not run", "reproduced", "reproduced"]
    assert set(of["method"]) == {"resnet18", "simclr", "procedural"}
    assert qc_tables.with_weights(found[:0]).empty


def test_a_gap_shrinks_by_what_the_equation_says(claims):
    found = records({
        "vgg16": {"linear_accuracy_350": 0.9, "finetuned_accuracy_350": 0.95},
        "resnet18": {"linear_accuracy_350": 0.94, "finetuned_accuracy_350": 0.97},
        "simclr": {"linear_accuracy_350": 0.8, "finetuned_accuracy_350": 0.94},
    })  # fmt: skip
    gap = "gap_linear_less_finetuned_350"
    got = qc_tables.with_gaps(found)
    mine = got[got["method"] == "simclr"].set_index("seed")[gap]
    assert mine[0] == pytest.approx((0.92 - 0.8) - (0.96 - 0.94))
    assert got.loc[got["method"] != "simclr", gap].isna().all()
    judged = qc_tables.judge(claims[claims["metric"] == gap], qc_tables.tables(), got, ["standard"])
    words = judged.set_index("better")["verdict"]
    assert words["simclr"] == "reproduced" and words["swav"] == "not run"
    assert (
        judged.set_index("better")["paper"]["swav"]
        < 0
        < judged.set_index("better")["paper"]["simclr"]
    )
    none = qc_tables.with_gaps(found, ("procedural",))
    assert none[gap].isna().all()


def test_a_part_is_judged_by_its_weakest_comparison_that_has_run(claims):
    found = records({
        "convnext": {"finetuned_accuracy_10": 0.9}, "simclr": {"finetuned_accuracy_10": 0.8},
        "swav": {"finetuned_accuracy_10": 0.95},
    })  # fmt: skip
    judged = qc_tables.judge(claims, qc_tables.tables(), qc_tables.with_gaps(found), ["standard"])
    said = qc_tables.said_by(judged)
    assert said.loc["budget 10", ["reproduced", "not", "not run", "all"]].tolist() == [
        1,
        1,
        13,
        "not",
    ]
    assert said.loc["shift", "all"] == "not run"


def test_tables_stand_beside_ours_in_per_cent(paper):
    found = records({"simclr": {"shift_finetuned_accuracy_350": 0.7},
                     "classical": {"knn_accuracy_350": 0.9}})  # fmt: skip
    table = qc_tables.beside(paper, found, "3", ["standard"])
    assert table.loc[("paper", "SimCLR"), "Acc"] == "73.66"
    assert table.loc[("standard", "SimCLR (2)"), "Acc"] == "70.0\u00a0±\u00a00.0"
    assert table.loc[("standard", "SimCLR (2)"), "AUC"] == "–"
    assert table.loc[("standard", "Classical measures (2)"), "Acc"] == "–"
    assert table.loc[("standard", "VICReg"), "Acc"] == "not\u00a0run"
    assert qc_tables.spread(1.26, float("nan")) == "1.3"


def test_curves_and_recalls_are_of_what_there_is():
    columns = {f"knn_accuracy_10{end}": v for end, v in (("", 0.6), ("_low", 0.5), ("_high", 0.7))}
    columns |= {f"recall_noise_knn_350{e}": 0.4 for e in ("", "_low", "_high")}
    found = records({"swav": columns})
    got = qc_tables.curves(found, "knn")
    assert got[["method", "labels"]].to_numpy().tolist() == [["swav", 10]]
    assert qc_tables.recalls(found, "knn", 350)["fault"].tolist() == ["noise"]
    assert qc_tables.curves(found[:0], "knn").empty


def test_denominators_are_those_that_were_found_by_hand(paper):
    table = qc_tables.denominators(paper)
    assert table["fit"].to_dict() == {
        ("tables 1 and 2", 130): 0, ("tables 1 and 2", 128): 30, ("tables 1 and 2", 384): 39,
        ("table 3", 200): 0, ("table 3", 224): 8,
    }  # fmt: skip
    assert (table["by_chance"] < 4).all() and table["of"].max() == 56


def test_a_share_fits_its_own_denominator_and_few_others():
    assert qc_tables.fit(98.44, 128) and qc_tables.fit(98.43, 128)  # 126 of 128: rounded, cut
    assert not qc_tables.fit(98.42, 128) and not qc_tables.fit(98.45, 128)
    rng = np.random.default_rng(0)
    truth, scores = np.arange(200) % 2 == 0, rng.random((20, 200))
    shares = 100 * abnormal.by_minibatches(truth, scores)
    assert all(qc_tables.fit(round(float(share), 2), 224) for share in shares)


def test_tables_that_are_not_whole_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(qc_tables.files, "checkout", lambda: tmp_path)
    with pytest.raises(InputError, match="part of the project's checkout"):
        qc_tables.tables()
    (tmp_path / "book" / "paper").mkdir(parents=True)
    (tmp_path / "book" / "paper" / "qc_tables.csv").write_text(
        "table,metric,method,value\n1,a,,2\n"
    )
    with pytest.raises(InputError, match="all of them filled"):
        qc_tables.tables()

"""The paper's tables against the notes they were copied from; records beside them; claims."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcs_utils import files, paper_tables, records
from hcs_utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT.parent / "shared" / "papers" / "facts.md"
NAMES = {"Weakly": "supervised", "ImageNet": "imagenet"}
NAMES |= {title: m for m, title in (paper_tables.METHODS | paper_tables.BARLOW).items()}


def save(root, method, metrics, seed=0, fold=1, preset="quick", variant=""):
    experiment = "ledger" if variant else "cdcl"
    records.save_record(
        experiment=experiment, screen="simulated-quick", method=method, preset=preset,
        parameters={}, fold=fold, seed=seed, metrics=metrics, device="cpu", seconds=1.0,
        manifest_sha256="ab", peak_memory_mib=1.0, variant=variant, root=root,
    )  # fmt: skip


@pytest.fixture
def found(tmp_path):
    """Two methods, three seeds with quick; with standard, one run of CDCL alone."""
    for seed in range(3):
        for method, value in (("dino", 0.1), ("cdcl", 0.3)):
            value += seed / 100
            metrics = {"knn": value, "knn_znorm": value + 0.05, "grit": 2 + value}
            save(tmp_path, method, metrics | {"kbet_train": (seed + 1) / 100}, seed)
            half = {"knn": 0.2, "knn_znorm": value / 2}
            save(tmp_path, method, half, seed, variant="half-treatments")
    save(tmp_path, "cdcl", {"knn": 0.5, "knn_znorm": 0.4}, preset="standard")
    save(tmp_path, "cdcl", {"knn_znorm": 0.9}, variant="norm-all")
    return paper_tables.with_settings(records.load_records(tmp_path))


# The paper's numbers


def cells(text: str) -> list[tuple[float, float]]:
    return [
        (float(a), float(b)) for a, b in re.findall(r"(\d+(?:\.\d+)?) ?± ?(\d+(?:\.\d+)?)", text)
    ]


def noted() -> dict[tuple[str, str, str], tuple[float, float]]:
    """Section A7 of the notes: (table, metric, method) -> (mean, sd)."""
    section = NOTES.read_text("utf-8").split("## A7.")[1].split("\n---")[0]
    found, four = {}, ("linear", "knn", "knn_znorm", "kbet")
    first, barlow = section.split("**T3**")
    for table, text in (("1", first), ("3", barlow.split("**T4")[0])):
        for row in re.findall(r"^\|(.*)\|$", text, re.MULTILINE):
            name, *values = row.split("|")
            if name in NAMES:
                pairs = zip(four, cells(" ".join(values)), strict=True)
                found |= {(table, metric, NAMES[name]): value for metric, value in pairs}
    for row in re.findall(r"^\|(.*)\|$", barlow.split("**T4")[1], re.MULTILINE):
        name, *values = row.split("|")
        if name in NAMES:
            for table, stem, text in (("4", "kbet", values[0]), ("5", "grit", values[1])):
                pairs = zip(("_train", "", "_znorm"), cells(text), strict=True)
                found |= {(table, stem + part, NAMES[name]): value for part, value in pairs}
    return found | _second_table(first)


def _second_table(text: str) -> dict:
    frozen, tuned = re.search(r"\*\*T2a\*\*(.*)", text)[1].split("fine-tuned ", 2)[1:]
    order = ("imagenet", "supervised", "cdcl")
    found = {("2a", "nsc_moa", m): v for m, v in zip(order, cells(frozen), strict=True)}
    found |= {("2a", "nsc_moa_finetuned", m): v for m, v in zip(order, cells(tuned), strict=True)}
    settings = re.search(r"\*\*T2b\*\*.*?: (.*)", text)[1]
    for setting, part in zip(("I", "II", "III"), settings.split(";"), strict=True):
        values = zip(("supervised", "cdcl"), cells(part), strict=True)
        found |= {("2b", f"knn_znorm_{setting}", m): v for m, v in values}
    return found


@pytest.mark.skipif(not NOTES.exists(), reason="the notes on the paper are not beside the checkout")
def test_every_number_is_the_one_in_the_notes():
    table = paper_tables.tables().set_index(["table", "metric", "method"])
    ours = {key: (row["mean"], row["sd"]) for key, row in table.iterrows()}
    assert ours == noted()


def test_tables_have_each_cell_once_and_the_test_kbet_in_two_tables_alike():
    table = paper_tables.tables()
    assert not table.duplicated(["table", "metric", "method"]).any()
    assert table.groupby("table").size().to_dict() == {
        "1": 24, "2a": 6, "2b": 6, "3": 8, "4": 18, "5": 18,
    }  # fmt: skip
    twice = table[table["metric"] == "kbet"].groupby("method")[["mean", "sd"]].nunique()
    assert (twice == 1).all(axis=None)


def test_accuracies_of_table_1_and_3_are_means_of_five_folds_and_of_2b_of_six():
    """A fold's accuracy has one decimal, so five folds give a grid of 0.02 and six of 1/60."""
    table = paper_tables.tables()
    main = table[table["table"].isin(["1", "3"]) & (table["metric"] != "kbet")]["mean"]
    assert len(main) == 24
    np.testing.assert_allclose(main * 50, (main * 50).round(), atol=1e-6)
    settings = table[table["table"] == "2b"]["mean"]
    assert (((settings * 60).round() / 60).round(2) - settings).abs().max() < 0.0051
    off = (main * 60).round() / 60 - main
    assert (off.abs() > 0.0051).mean() > 0.4  # which the others are not


def test_claims_name_metrics_and_methods_of_the_tables():
    table, asked = paper_tables.tables(), paper_tables.claims()
    assert asked["claim"].is_unique
    known = set(paper_tables.METHODS | paper_tables.BARLOW | paper_tables.BASELINES)
    for claim in asked.itertuples():
        assert claim.metric in {*table["metric"], "lift"}, claim.claim
        for name in (claim.better, claim.worse):
            method, margin = paper_tables._parsed(name)
            assert method in known or (not method and margin >= 0), claim.claim


def test_claims_hold_in_the_paper_itself():
    """All but those on random weights, for which the paper has no number."""
    table, asked = paper_tables.tables(), paper_tables.claims()
    for claim in asked.itertuples():
        more, less = (paper_tables.said(table, claim.metric, m) for m in claim[4:6])
        assert more > less or "random" in claim[4:6], claim.claim


def test_what_is_no_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "checkout", lambda: tmp_path)
    with pytest.raises(InputError, match=r"book/paper/cdcl_tables.csv holds the paper's"):
        paper_tables.tables()
    (tmp_path / "book" / "paper").mkdir(parents=True)
    (tmp_path / "book" / "paper" / "cdcl_tables.csv").write_text("table,metric\n1,knn\n")
    with pytest.raises(InputError, match=r"must have the columns table, metric, method"):
        paper_tables.tables()


# Ours beside them


def test_runs_in_a_setting_become_a_metric_and_other_variants_stay_out(found):
    setting = found[found["setting"] == "half-treatments"]
    assert len(found) == 13 and len(setting) == 6 and "norm-all" not in set(found["setting"])
    assert setting["knn_znorm"].isna().all() and setting["knn"].isna().all()
    values = setting[setting["method"] == "cdcl"]["knn_znorm_III"]
    np.testing.assert_allclose(sorted(values), [0.15, 0.155, 0.16])
    assert found.loc[found["setting"] == "", "knn_znorm_III"].isna().all()
    lift = found.loc[(found["setting"] == "") & (found["preset"] == "quick"), "lift"]
    np.testing.assert_allclose(lift, 0.05)
    assert set(found["experiment"]) == {"cdcl"} and set(found["variant"]) == {""}


def test_no_records_make_an_empty_table_that_every_function_takes(tmp_path):
    none = paper_tables.with_settings(records.load_records(tmp_path))
    assert none.empty
    paper, asked = paper_tables.tables(), paper_tables.claims()
    shown = paper_tables.beside(paper, none, "knn_znorm", paper_tables.METHODS, ["quick"])
    assert set(shown["quick"]) == {"not run"}
    judged = paper_tables.judge(asked, paper, none, ["quick", "full"])
    assert set(judged["verdict"]) == {"not run"} and set(judged["preset"]) == {""}
    assert paper_tables.strongest(none, "knn", ["quick"]) is None


def test_beside_has_the_paper_then_each_preset_with_spread_and_runs(found):
    paper = paper_tables.tables()
    names = {"cdcl": "CDCL", "random": "Random weights"}
    shown = paper_tables.beside(paper, found, "knn_znorm", names, ["quick", "standard"])
    assert shown.loc["CDCL"].tolist() == ["63.1 ± 6.33", "36.0 ± 1.0 (3)", "40.0 (1)"]
    assert shown.loc["Random weights"].tolist() == ["–", "not run", "not run"]
    grit = paper_tables.beside(paper, found, "grit", {"cdcl": "CDCL"}, ["quick"])
    assert grit.loc["CDCL"].tolist() == ["4.96 ± 1.05", "2.31 ± 0.01 (3)"]


def test_strongest_preset_is_the_last_with_two_runs_then_with_one(found):
    presets = ["quick", "standard", "full"]
    assert paper_tables.strongest(found, "knn", presets) == "quick"
    assert paper_tables.strongest(found, "knn", presets, ("cdcl", "dino")) == "quick"
    assert paper_tables.strongest(found, "knn", ["standard"]) == "standard"
    assert paper_tables.strongest(found, "knn", ["standard"], ("dino",)) is None
    assert paper_tables.strongest(found, "linear", presets) is None


# Claims


def ask(**claim):
    return pd.DataFrame([{"part": "a", "claim": "c", "metric": "knn_znorm"} | claim])


def judged(found, **claim):
    presets = ["quick", "standard"]
    return paper_tables.judge(ask(**claim), paper_tables.tables(), found, presets).iloc[0]


def test_a_claim_is_judged_where_both_methods_ran(found):
    row = judged(found, better="cdcl", worse="dino")
    assert (row["preset"], row["pairs"], row["verdict"]) == ("quick", 3, "reproduced")
    assert row["difference"] == pytest.approx(0.2) and row["factor"] == pytest.approx(0.36 / 0.16)
    assert (row["paper"], row["paper_worse"]) == (63.1, 25.04)


def test_not_higher_by_more_than_a_margin(found):
    """DINO is below CDCL by 0.2: a margin of 0.1 does not save it, one of 0.3 does."""
    assert judged(found, better="dino + 0.1", worse="cdcl")["verdict"] == "not"
    kept = judged(found, better="dino + 0.3", worse="cdcl")
    assert kept["verdict"] == "reproduced" and kept["difference"] == pytest.approx(0.1)
    assert kept["paper"] == 25.04  # the margin is ours


@pytest.mark.parametrize(
    ("level", "verdict"), [("0.05", "reproduced"), ("0.03", "partly"), ("0.015", "not")]
)
def test_a_level_is_judged_as_if_it_were_a_method(found, level, verdict):
    """kBET is 1, 2 and 3 %: the interval ends at 4.5 %."""
    row = judged(found, metric="kbet_train", better=level, worse="dino")
    assert row["verdict"] == verdict and row["pairs"] == 3
    assert row["difference"] == pytest.approx(float(level) - 0.02)
    assert row["paper"] == pytest.approx(100 * float(level)) and row["paper_worse"] == 0


def test_lift_is_judged_against_zero_and_read_from_two_columns_of_the_paper(found):
    row = judged(found, metric="lift", better="cdcl", worse="0")
    assert row["paper"] == pytest.approx(63.1 - 53.56) and row["paper_worse"] == 0
    assert row["difference"] == pytest.approx(0.05) and np.isnan(row["factor"])


def test_levels_leave_the_records_as_they_were(found):
    before = found.copy()
    more = paper_tables.with_levels(found, "knn", ("dino + 0.01", "0.05", "cdcl"))
    pd.testing.assert_frame_equal(found, before)
    added = more.iloc[len(found) :]
    assert set(added["method"]) == {"dino + 0.01", "0.05"}
    assert paper_tables.with_levels(found, "knn", ("cdcl", "dino")) is found


def test_verdicts_by_preset(found):
    table = paper_tables.by_preset(ask(better="cdcl", worse="dino"), found, ["quick", "standard"])
    assert table.loc["c"].tolist() == ["reproduced", "not run"]


@pytest.mark.parametrize("name", ["dino - 0.1", "", "Dino", "dino +"])
def test_names_of_no_kind_are_refused(found, name):
    with pytest.raises(InputError, match="is no method, level, or method with a margin"):
        judged(found, better=name, worse="cdcl")


def test_what_must_hold_together_is_as_weak_as_its_weakest():
    assert paper_tables.weakest(["reproduced", "reproduced"]) == "reproduced"
    assert paper_tables.weakest(["reproduced", "partly"]) == "partly"
    assert paper_tables.weakest(["partly", "not run"]) == "not run"
    assert paper_tables.weakest(["not run", "not"]) == "not"
    with pytest.raises(InputError, match="'maybe' is no verdict"):
        paper_tables.weakest(["maybe"])

"""The cross-modal paper's tables against the notes they were copied from; records beside them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcs_utils import crossmodal_tables, files, records
from hcs_utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PAPERS = ROOT.parent / "shared" / "papers"
PRESETS = ["quick", "standard"]


def save(root, method, seed=0, preset="quick", **metrics):
    records.save_record(
        experiment="crossmodal", screen="simulated-molecules-quick", method=method, preset=preset,
        parameters={}, fold=1, seed=seed, metrics=metrics, device="cpu", seconds=1.0,
        manifest_sha256="ab", peak_memory_mib=1.0, root=root,
    )  # fmt: skip


@pytest.fixture
def found(tmp_path):
    """Three seeds with quick: EMM above CLIP, IMM now above and now below; standard: CLIP alone."""
    for seed in range(3):
        for method, value in (("clip", 0.1), ("emm", 0.2), ("imm", [0.1, 0.2, 0.16][seed])):
            value += seed / 100
            save(tmp_path, method, seed, m2i_mrr=(value, value - 0.1, value + 0.1), i2m_mrr=value,
                 g_nss_logistic=1 - value)  # fmt: skip
    save(tmp_path, "clip", preset="standard", m2i_mrr=0.5)
    return records.load_records(tmp_path)


# The paper's numbers


@pytest.mark.skipif(not PAPERS.exists(), reason="the paper's text is not beside the checkout")
@pytest.mark.parametrize("source", ["crossmodal.txt", "facts.md"])
def test_table_2_is_that_of_the_text_and_of_the_notes(source):
    text = (PAPERS / source).read_text("utf-8").replace("|", "\t")
    table = crossmodal_tables.tables().set_index(["table", "metric", "method"])["mean"]
    columns = [f"m2i_{name}" for name in crossmodal_tables.HITS]
    for title in ("Random", "CLIP", "EMM", "IMM"):
        row = re.search(rf"^\t?{title}((?:\t0\.\d+){{5}})", text, re.MULTILINE)
        ours = [table["2", column, title.lower()] for column in columns]
        assert ours == [float(cell) for cell in row[1].split()]


@pytest.mark.skipif(not PAPERS.exists(), reason="the paper's text is not beside the checkout")
def test_of_table_3_the_text_gives_three_numbers_and_of_table_1_none():
    text = (PAPERS / "crossmodal.txt").read_text("utf-8")
    said = re.search(r"jumps from (0\.\d+) to (0\.\d+) for EMM and a striking (0\.\d+)", text)
    table = crossmodal_tables.tables()
    there = table.dropna(subset=["mean"])
    assert there.groupby("table").size().to_dict() == {"2": 20, "3": 3}
    three = there[there["table"] == "3"].set_index("method")["mean"]
    assert three.to_dict() == dict(zip(("clip", "emm", "imm"), map(float, said.groups()), strict=1))
    assert table.groupby("table").size().to_dict() == {"1": 20, "2": 20, "3": 12}
    assert not table.duplicated(["table", "metric", "method"]).any()


def test_random_is_what_guessing_gives():
    table = crossmodal_tables.tables()
    random = table[(table["table"] == "2") & (table["method"] == "random")]["mean"]
    chance = [0.01, 0.03, 0.05, 0.1, np.mean(1 / np.arange(1, 101))]
    np.testing.assert_allclose(random, chance, atol=0.0005)


def test_claims_name_metrics_and_methods_of_the_tables_and_hold_in_the_paper():
    table, asked = crossmodal_tables.tables(), crossmodal_tables.claims()
    assert asked["claim"].is_unique and set(asked["part"]) == {"retrieval", "sources", "neither"}
    means = table.set_index(["metric", "method"])["mean"]
    for claim in asked.itertuples():
        more, less = means[claim.metric, claim.better], means[claim.metric, claim.worse]
        assert more > less or (np.isnan(more) and np.isnan(less)), claim.claim


def test_what_is_no_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "checkout", lambda: tmp_path)
    with pytest.raises(InputError, match="is part of the project's checkout"):
        crossmodal_tables.tables()
    path = tmp_path / "book" / "paper" / "crossmodal_tables.csv"
    path.parent.mkdir(parents=True)
    path.write_text("table,metric\n1,m2i_mrr\n")
    with pytest.raises(InputError, match="must have the columns table, metric, method, value"):
        crossmodal_tables.tables()
    path.write_text("table,metric,method,value\n1,m2i_mrr,clip,lost\n")
    with pytest.raises(InputError, match="no number, nor 'missing'"):
        crossmodal_tables.tables()


# Ours beside them


def test_beside_has_the_paper_then_each_preset_with_spread_and_runs(found):
    metrics = {"i2m_mrr": "MRR back", "m2i_mrr": "MRR", "g_nss_logistic": "G_NSS"}
    names = {"clip": "CLIP", "emm": "EMM", "ecfp": "ECFP"}
    paper = crossmodal_tables.tables()
    shown = crossmodal_tables.beside(paper, found, metrics, names, PRESETS)
    assert shown.loc["paper", "CLIP"].tolist() == ["missing", "0.176", "0.72"]
    assert shown.loc["paper", "ECFP"].tolist() == ["–", "–", "–"]
    assert shown.loc["quick", "EMM"].tolist() == [
        "0.210 ± 0.010 (3)", "0.210 ± 0.010 (3)", "0.790 ± 0.010 (3)",
    ]  # fmt: skip
    assert shown.loc["standard", "CLIP"].tolist() == ["not run", "0.500 (1)", "not run"]
    assert list(shown.columns) == ["MRR back", "MRR", "G_NSS"] and len(shown) == 9


def test_no_records_make_tables_that_say_so(tmp_path):
    none = records.load_records(tmp_path)
    paper, names = crossmodal_tables.tables(), crossmodal_tables.METHODS
    shown = crossmodal_tables.beside(paper, none, {"m2i_mrr": "MRR"}, names, ["quick"])
    assert set(shown.loc["quick", "MRR"]) == {"not run"}
    judged = crossmodal_tables.judge(crossmodal_tables.claims(), paper, none, PRESETS)
    assert set(judged["verdict"]) == {"not run"}
    assert crossmodal_tables.ahead(none, ["m2i_mrr"]).empty


def test_claims_are_judged_by_the_one_rule_with_the_paper_s_numbers(found):
    paper, asked = crossmodal_tables.tables(), crossmodal_tables.claims()
    judged = crossmodal_tables.judge(asked, paper, found, PRESETS).set_index("claim")
    row = judged.loc["EMM beats CLIP: molecule → image"]
    assert (row["verdict"], row["pairs"], row["preset"]) == ("reproduced", 3, "quick")
    assert (row["paper"], row["paper_worse"]) == (0.225, 0.176)
    assert row["difference"] == pytest.approx(0.1)
    assert judged.loc["IMM beats CLIP: molecule → image", "verdict"] == "partly"
    assert judged.loc["EMM generalises over sources better than CLIP", "verdict"] == "not"
    assert judged.loc["IMM generalises better still than EMM", "verdict"] == "partly"


def test_neither_wins_where_each_is_ahead_somewhere(found):
    quick = found[found["preset"] == "quick"].copy()
    assert crossmodal_tables.neither(quick, PRESETS) == "partly"  # both by a mean only
    quick.loc[quick["method"] == "emm", "m2i_mrr"] = [0.5, 0.51, 0.52]
    quick.loc[quick["method"] == "imm", "i2m_mrr"] = [0.5, 0.51, 0.52]
    assert crossmodal_tables.neither(quick, PRESETS) == "reproduced"
    assert crossmodal_tables.neither(quick, PRESETS, ("m2i_mrr",)) == "not"
    assert crossmodal_tables.neither(quick[quick["method"] != "imm"], PRESETS) == "not run"


def test_ahead_names_the_best_of_the_paper_s_methods(found):
    quick = pd.concat([found[found["preset"] == "quick"].assign(method="random", m2i_mrr=0.9),
                       found[found["preset"] == "quick"]])  # fmt: skip
    table = crossmodal_tables.ahead(quick, ["m2i_mrr", "g_nss_logistic", "absent"])
    assert table.loc["m2i_mrr", ["best", "second"]].tolist() == ["emm", "imm"]
    assert table.loc["g_nss_logistic", "best"] == "clip" and "absent" not in table.index


def test_bars_have_means_of_values_and_of_their_own_intervals(found):
    quick = found[found["preset"] == "quick"].assign(chance_mrr=0.05)
    names = {"emm": "EMM", "ecfp": "ECFP"}
    metrics = {"m2i_mrr": "there", "i2m_mrr": "back"}
    lines = {"m2i_mrr": "chance_mrr", "i2m_mrr": 0.02}
    table = crossmodal_tables.for_bars(crossmodal_tables.tables(), quick, metrics, names, lines)
    first = table.iloc[0]
    np.testing.assert_allclose(first[["value", "low", "high"]].astype(float), [0.21, 0.11, 0.31])
    assert (first["paper"], first["line"], first["method"]) == (0.225, 0.05, "EMM")
    assert table.iloc[1][["value", "low", "paper"]].isna().all()
    assert np.isnan(table.iloc[2]["low"]) and table.iloc[2]["line"] == 0.02
    none = crossmodal_tables.for_bars(crossmodal_tables.tables(), quick[:0], metrics, names, lines)
    assert none["value"].isna().all()

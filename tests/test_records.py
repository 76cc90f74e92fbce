import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from hcs_utils import records
from hcs_utils.errors import InputError
from hcs_utils.records import Claim, load_records, save_record, summary, verdict

DESIGN_KEYS = [
    "experiment", "screen", "method", "preset", "parameters", "fold", "seed", "metrics", "device",
    "seconds", "peak_memory_mib", "versions", "git_revision", "manifest_sha256",
]  # fmt: skip


def save(root, method="cdcl", seed=0, **changed):
    given = {
        "experiment": "cdcl", "screen": "simulated", "method": method, "preset": "quick",
        "parameters": {"epochs": 3}, "fold": 1, "seed": seed, "metrics": {"knn_z": 0.4},
        "device": "cpu", "seconds": 12.345, "manifest_sha256": "ab" * 32,
    }  # fmt: skip
    return save_record(**given | changed, root=root)


def table(**values):
    """Records of methods: each a list of one metric over seeds."""
    rows = [
        {"method": m, "screen": "s", "preset": "quick", "experiment": "cdcl",
         "variant": "", "fold": 1, "seed": seed, "knn": value}
        for m, series in values.items()
        for seed, value in enumerate(series)
    ]  # fmt: skip
    return pd.DataFrame(rows)


# records


def test_record_has_the_keys_of_the_design_and_its_place(tmp_path):
    path = save(tmp_path)
    assert path == tmp_path / "quick" / "cdcl" / "cdcl-f1-s0.json"
    record = json.loads(path.read_text())
    assert list(record) == DESIGN_KEYS
    assert record["metrics"] == {"knn_z": {"value": 0.4, "low": None, "high": None}}
    assert record["versions"]["numpy"] == np.__version__
    assert record["seconds"] == pytest.approx(12.345, abs=0.01)
    assert 20 < record["peak_memory_mib"] < 100_000
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_records_come_back_as_a_table(tmp_path):
    save(tmp_path, seed=0, metrics={"knn_z": (0.4, 0.3, 0.5), "kbet": np.float32(0.25)})
    save(tmp_path, seed=1, metrics={"knn_z": {"value": 0.6, "low": 0.5, "high": 0.7}})
    save(tmp_path, preset="smoke", metrics={"knn_z": float("nan")})
    loaded = load_records(tmp_path, "quick").set_index("seed")
    assert loaded.loc[0, ["knn_z", "knn_z_low", "knn_z_high"]].tolist() == [0.4, 0.3, 0.5]
    assert loaded.loc[1, "knn_z_high"] == 0.7
    assert loaded["kbet"].isna().tolist() == [False, True]
    assert loaded.loc[0, "parameters"] == {"epochs": 3}
    assert len(load_records(tmp_path)) == 3
    assert np.isnan(load_records(tmp_path, "smoke")["knn_z"].item())
    assert load_records(tmp_path, experiment="qc").empty


def test_same_run_replaces_its_record_and_another_screen_does_not(tmp_path):
    save(tmp_path, metrics={"knn_z": 0.1})
    save(tmp_path, metrics={"knn_z": 0.2})
    own = save(tmp_path, screen="bbbc021", metrics={"knn_z": 0.9})
    assert own == tmp_path / "quick" / "cdcl" / "bbbc021" / "cdcl-f1-s0.json"
    loaded = load_records(tmp_path, "quick", "cdcl").set_index("screen")["knn_z"]
    assert loaded.to_dict() == {"simulated": 0.2, "bbbc021": 0.9}


def test_a_variant_has_a_folder_and_a_column_and_stands_among_the_parameters(tmp_path):
    changed = {"experiment": "ledger", "variant": "losses-paper"}
    path = save(tmp_path, **changed, parameters={"form": "paper"})
    assert path == tmp_path / "quick" / "ledger" / "losses-paper" / "cdcl-f1-s0.json"
    own = save(tmp_path, **changed, screen="rxrx1")
    assert own == path.parents[1] / "rxrx1" / "losses-paper" / path.name
    plain = save(tmp_path, parameters={"variant": ""})
    assert plain == tmp_path / "quick" / "cdcl" / path.name
    old = save(tmp_path, seed=1)  # a record from before there were variants
    assert "variant" not in json.loads(old.read_text())["parameters"]
    loaded = load_records(tmp_path)
    assert loaded["variant"].tolist() == ["", "", "losses-paper", "losses-paper"]
    written = json.loads(path.read_text())["parameters"]
    assert written == {"form": "paper", "variant": "losses-paper"}
    assert load_records(tmp_path, experiment="cdcl")["variant"].tolist() == ["", ""]


def test_parameters_of_any_kind_can_be_written(tmp_path):
    odd = {"lr": np.float64(0.1), "out": Path("a"), "dose": float("inf"), "on": np.bool_(True)}
    odd |= {"sizes": (1, np.int64(2))}
    record = json.loads(save(tmp_path, parameters=odd).read_text())
    wanted = {"lr": 0.1, "out": "a", "dose": None, "on": True, "sizes": [1, 2]}
    assert record["parameters"] == wanted


@pytest.mark.parametrize(
    "changed", [{"method": "../x"}, {"preset": ""}, {"experiment": ".."}, {"variant": "a/b"}]
)
def test_names_cannot_leave_the_folder(tmp_path, changed):
    with pytest.raises(InputError, match=r"cannot name a part of a record"):
        save(tmp_path / "root", **changed)
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize(
    "screen, folder",
    [("bbbc021", "bbbc021"), ("../my screens/a.yaml", "my-screens-a"), ("..", "own")],
)
def test_path_of_a_screen_becomes_a_folder_below(tmp_path, screen, folder):
    path = save(tmp_path, screen=screen)
    assert path == tmp_path / "quick" / "cdcl" / folder / "cdcl-f1-s0.json"
    assert load_records(tmp_path)["screen"].item() == screen


def test_metric_cannot_take_the_name_of_a_field(tmp_path):
    with pytest.raises(InputError, match=r"'seed' is a field"):
        save(tmp_path, metrics={"seed": 1.0})
    with pytest.raises(InputError, match=r"'variant' is a field"):
        save(tmp_path, metrics={"variant": 1.0})


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"metrics": {"a": 1}}'])
def test_a_file_that_is_no_record_is_named(tmp_path, content):
    path = save(tmp_path)
    path.write_text(content)
    with pytest.raises(InputError, match=r"cdcl-f1-s0.json is no record .*; delete it"):
        load_records(tmp_path)


def test_results_go_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_RESULTS", str(tmp_path / "here"))
    assert save(None).is_relative_to(tmp_path / "here")
    assert len(load_records()) == 1
    monkeypatch.delenv("HCS_RESULTS")
    assert records.results_root().parts[-2:] == ("build", "results")


def test_git_revision_tells_a_changed_tree(tmp_path, monkeypatch):
    def git(*command):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *who, *command], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nname = "hcs-utils"\n')
    monkeypatch.chdir(tmp_path)
    assert records.git_revision() is None
    git("init", "-q")
    git("add", "pyproject.toml")
    git("commit", "-qm", "first")
    assert records.git_revision() == git("rev-parse", "HEAD")
    file.write_text(file.read_text() + "# changed\n")
    assert records.git_revision() == git("rev-parse", "HEAD") + "+dirty"


def test_records_need_no_torch():
    code = "import sys, hcs_utils.runs, hcs_utils.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# summaries and verdicts


def test_summary_is_mean_sd_and_count_best_first():
    rows = summary(table(dino=[0.1, 0.3], cdcl=[0.4, 0.5, 0.6], random=[0.1]), "knn")
    assert rows.index.tolist() == ["cdcl", "dino", "random"]
    assert rows.loc["cdcl"].tolist() == pytest.approx([0.5, 0.1, 3])
    assert rows.loc["dino", "sd"] == pytest.approx(0.2 / 2**0.5)
    assert np.isnan(rows.loc["random", "sd"])
    assert summary(table(dino=[0.1]), "grit").empty


@pytest.mark.parametrize(
    "values, word",
    [
        ({"cdcl": [0.40, 0.45, 0.42], "dino": [0.10, 0.14, 0.11]}, "reproduced"),
        ({"cdcl": [0.40, 0.10, 0.30], "dino": [0.20, 0.20, 0.20]}, "partly"),
        ({"cdcl": [0.40], "dino": [0.1]}, "partly"),
        ({"cdcl": [0.10, 0.14, 0.11], "dino": [0.40, 0.45, 0.42]}, "not"),
        ({"cdcl": [0.2, 0.2], "dino": [0.2, 0.2]}, "not"),
        ({"cdcl": [0.40, 0.45]}, "not run"),
        ({"random": [0.1]}, "not run"),
    ],
)
def test_verdict_by_rule(values, word):
    judged = verdict([Claim("CDCL above DINO", "knn", "cdcl", "dino")], table(**values)).iloc[0]
    assert judged["verdict"] == word
    assert judged["claim"] == "CDCL above DINO"


def test_verdict_pairs_runs_so_that_shared_difficulty_cancels():
    fold = np.array([0.1, 0.5, 0.9])  # hard and easy folds, far wider than the gain
    paired = table(cdcl=list(fold + [0.020, 0.021, 0.019]), dino=list(fold))
    claim = Claim("c", "knn", "cdcl", "dino")
    assert verdict([claim], paired)["verdict"].item() == "reproduced"
    other = paired.copy()
    other.loc[other["method"] == "dino", "seed"] += 10  # no run in common
    assert verdict([claim], other)["verdict"].item() == "not run"


def test_verdict_pairs_a_variant_with_itself_only():
    dino, cdcl = table(dino=[0.3, 0.2, 0.1]), table(cdcl=[0.31, 0.21, 0.12])
    other = table(cdcl=[0.1, 0.2, 0.0]).assign(variant="centers-one")
    claim = Claim("c", "knn", "cdcl", "dino")
    plain = verdict([claim], pd.concat([dino, cdcl]))
    pd.testing.assert_frame_equal(plain, verdict([claim], pd.concat([dino, cdcl, other])))
    assert verdict([claim], pd.concat([dino, other]))["verdict"].item() == "not run"


def test_interval_is_that_of_the_paired_t_test():
    values = table(cdcl=[0.40, 0.35, 0.42, 0.5], dino=[0.30, 0.20, 0.41, 0.2])
    judged = verdict([Claim("c", "knn", "cdcl", "dino")], values, level=0.9).iloc[0]
    gain = np.array([0.10, 0.15, 0.01, 0.30])
    interval = ttest_1samp(gain, 0).confidence_interval(0.9)
    assert (judged["low"], judged["high"]) == pytest.approx((interval.low, interval.high))
    assert judged["difference"] == pytest.approx(gain.mean())
    assert judged["pairs"] == 4


def test_claim_on_a_metric_that_no_record_has_is_not_run():
    claim = Claim("c", "grit", "cdcl", "dino")
    assert verdict([claim], table(cdcl=[1.0], dino=[0.5]))["verdict"].item() == "not run"
    assert verdict([claim], load_records("nowhere"))["verdict"].item() == "not run"


# Rows of benchmarks


def test_a_benchmark_row_is_replaced_by_name_and_says_whether_its_goal_is_met(tmp_path):
    save = partial(records.save_benchmark, reference="the slow way", root=tmp_path)
    assert not save("reads", ratio=4.9, goal=5)["met"]
    assert save("drawing", ratio=7.0, goal=5, measured={"fields_per_sec": np.float32(3)})["met"]
    assert save("reads", ratio=5, goal=5)["met"]
    assert save("memory", ratio=3.5, goal=4, unit="at most, GiB")["met"]
    assert not save("seconds", ratio=31, goal=30, unit="at most, s")["met"]
    table = records.load_benchmarks(tmp_path)
    assert table["name"].tolist() == ["drawing", "memory", "reads", "seconds"]
    assert table.set_index("name").loc["reads", "ratio"] == 5
    assert table["measured"][0] == {"fields_per_sec": 3.0}
    assert table["device"].str.contains("core").all()


def test_no_benchmarks_are_an_empty_table(tmp_path):
    table = records.load_benchmarks(tmp_path)
    assert table.empty and "ratio" in table

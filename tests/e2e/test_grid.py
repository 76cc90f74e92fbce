"""The grid: what it plans; killed in the middle, it ends with the records of an undisturbed run."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from hcs_utils import cdcl_ledger, experiments, runs
from hcs_utils.settings import METHODS, from_parameters

ROOT = Path(__file__).resolve().parents[2]
GRID = [str(Path(sys.executable).with_name("snakemake")), "--snakefile", "workflow/Snakefile"]
GRID += ["--profile", "workflow/profiles/local"]
RUNS = {  # place of the record below its preset → what its settings have that the preset has not
    "cdcl/random-f2-s1": {"method": "random"},
    "cdcl/dino-f2-s1": {"method": "dino"},
    "ledger/norm-all/cdcl-f2-s1": {
        "method": "cdcl", "variant": "norm-all", "image_norm": "all", "precision": "bf16-mixed",
    },
}  # fmt: skip


def planned(tmp_path, *config):
    """Files that a dry run would make, and its whole text."""
    command = [*GRID, "--dry-run", "--printshellcmds", "--config", f"results={tmp_path}", *config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = done.stdout + done.stderr
    records = re.findall(rf"^ +output: {re.escape(str(tmp_path))}/(\S+\.json)$", told, re.MULTILINE)
    return {path.removesuffix(".json") for path in records}, told, done.returncode


def test_the_whole_grid_is_eight_methods_and_three_baselines_and_every_variant(tmp_path):
    places, told, code = planned(tmp_path, "preset=quick", "variants=all", "folds=all")
    assert code == 0, told
    folds, seeds = range(1, 7), range(3)
    wanted = {f"quick/cdcl/{m}" for m in METHODS}
    for variant, of in cdcl_ledger.variants().items():
        wanted |= {f"quick/ledger/{variant}/{m}" for m in of["methods"]}
    assert places == {f"{w}-f{f}-s{s}" for w in wanted for f in folds for s in seeds}
    assert "gpu=1" not in told


def test_paper_preset_is_ready_for_both_screens_of_the_paper(tmp_path):
    config = ["preset=paper", "methods=cdcl", "seeds=0", "folds=all", "variants=norm-all"]
    places, told, code = planned(tmp_path, *config)
    assert code == 0, told
    assert len(places) == 2 * 6 and "paper/cdcl/rxrx1/cdcl-f6-s0" in places
    assert told.count("gpu=1") == 12 and told.count("job.py prepare rxrx1 full 256") == 1
    places, told, code = planned(tmp_path, *config, "screen=cpg0004")
    assert code == 0, told
    assert len(places) == 2 * 5 and "paper/ledger/cpg0004/norm-all/cdcl-f5-s0" in places
    assert told.count(" screen=cpg0004 folds=5 crops=cpg0004 method=cdcl ") == 10
    assert told.count(" image_norm=all ") == 5


def test_a_misspelt_setting_is_told_before_anything_runs(tmp_path):
    places, told, code = planned(tmp_path, "preset=smoke", "variants=best_val")
    assert code == 1 and not places
    assert "Unknown variants: best_val; there are: bf16, " in told


@pytest.fixture
def grid(places, tmp_path):
    results = tmp_path / "results"
    command = [*GRID, "--cores", "2", "--config", "preset=smoke", "methods=random,dino"]
    command += ["folds=2", "seeds=1", "variants=norm-all", f"results={results}"]
    log = tmp_path / "grid.log"

    def start():
        with log.open("ab") as file:
            return subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=file, env=dict(os.environ)
            )

    return start, log, results / "smoke"


def test_kill_9_in_mid_grid_then_the_same_command_ends_with_the_same_metrics(grid, smoke, tmp_path):
    start, log, records = grid
    process, until = start(), time.monotonic() + 300
    while not list(records.glob("cdcl/random-*.json")) and time.monotonic() < until:
        assert process.poll() is None, log.read_text("utf-8")
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start().wait(timeout=600) == 0, log.read_text("utf-8")
    for place, changed in RUNS.items():
        found = json.loads((records / f"{place}.json").read_text("utf-8"))
        settings = from_parameters(runs.preset("smoke") | changed | {"fold": 2, "seed": 1})
        assert found["parameters"] == asdict(settings)
        alone = experiments.run(settings, smoke, progress=False)
        assert found["metrics"] == json.loads(alone.record.read_text("utf-8"))["metrics"]
    before = {path: path.stat().st_mtime_ns for path in records.rglob("*.json")}
    assert start().wait(timeout=120) == 0  # done already: nothing is made again
    assert before == {path: path.stat().st_mtime_ns for path in records.rglob("*.json")}

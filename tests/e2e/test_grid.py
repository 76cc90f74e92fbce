"""The grid, killed in the middle: the same command ends with the records of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hcs_utils import experiments, runs

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1)


@pytest.fixture
def grid(places, tmp_path):
    results = tmp_path / "results"
    command = [str(Path(sys.executable).with_name("snakemake"))]
    command += ["--snakefile", "workflow/Snakefile", "--profile", "workflow/profiles/local"]
    command += ["--cores", "2", "--config", "preset=smoke", "methods=random", "folds=2"]
    command += [f"seeds={','.join(map(str, SEEDS))}", f"results={results}"]
    log = tmp_path / "grid.log"

    def start():
        with log.open("ab") as file:
            return subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=file, env=dict(os.environ)
            )

    return start, log, results / "smoke" / "cdcl"


def test_kill_9_in_mid_grid_then_the_same_command_ends_with_the_same_metrics(grid, smoke, tmp_path):
    start, log, records = grid
    process, until = start(), time.monotonic() + 150
    while not list(records.glob("random-*.json")) and time.monotonic() < until:
        assert process.poll() is None, log.read_text("utf-8")
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start().wait(timeout=280) == 0, log.read_text("utf-8")
    settings = runs.preset("smoke") | {"method": "random", "fold": 2}
    for seed in SEEDS:
        found = json.loads((records / f"random-f2-s{seed}.json").read_text("utf-8"))
        alone = experiments.run(
            experiments.Settings(**(settings | {"seed": seed})), smoke, progress=False
        )
        assert found["metrics"] == json.loads(alone.record.read_text("utf-8"))["metrics"]
    before = {path: path.stat().st_mtime_ns for path in records.iterdir()}
    assert start().wait(timeout=60) == 0  # done already: nothing is made again
    assert before == {path: path.stat().st_mtime_ns for path in records.iterdir()}

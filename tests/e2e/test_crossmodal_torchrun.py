"""A cross-modal run by two processes under `torchrun`: one record, the parameters of a preset."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from hcs_utils import runs
from hcs_utils.crossmodal_settings import from_parameters

CHECKOUT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
COMMAND = ["workflow/train.py", "--crossmodal", "-f", "workflow/presets/smoke.yaml"]


def started(*words, command=(), results):
    own = {"HCS_RESULTS": str(results / "results"), "HCS_RUNS": str(results / "runs")}
    return subprocess.run(
        [*command, *COMMAND, *words], cwd=CHECKOUT, capture_output=True, text=True,
        env=os.environ | own | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_two_processes_leave_one_record_and_one_space(places, tmp_path):
    chosen = {"crossmodal_method": "imm", "crossmodal_steps": 3}
    words = [word for pair in chosen.items() for word in ("-p", *map(str, pair))]
    done = started(*words, command=TORCHRUN, results=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("m2i_mrr") == 1
    (path,) = (tmp_path / "results").rglob("*.json")
    record = json.loads(path.read_text("utf-8"))
    assert record["parameters"] == asdict(from_parameters(runs.preset("smoke") | chosen))
    assert record["device"].startswith("2 × ")
    assert len(list((tmp_path / "runs").rglob("model.safetensors"))) == 1


def test_a_misspelt_parameter_is_told(tmp_path):
    done = started("-p", "crossmodal_methd", "emm", command=[sys.executable], results=tmp_path)
    assert done.returncode == 2
    assert "'crossmodal_methd'; did you mean crossmodal_method" in done.stderr

"""Training by several processes, as `torchrun` starts them: two on this machine's CPUs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hcs_utils.learning import ranks
from hcs_utils.learning.methods.barlow_only import BarlowConfig, BYOLBarlow, DINOBarlow
from hcs_utils.learning.methods.supervised import Supervised
from hcs_utils.learning.train import TrainConfig, fit
from tests.learning import test_train as small

CHECKOUT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


class Plain(torch.nn.Module):
    """An encoder with layer norm: a field's features do not depend on the others."""

    channels, num_features = small.CHANNELS, 8

    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Conv2d(2, 8, 3, 2), torch.nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(torch.relu(self.first(x)).mean((2, 3)))


def plain():
    torch.manual_seed(0)
    return Supervised(Plain(), 3)


def barlow_of(method, config):
    torch.manual_seed(0)
    return method(small.encoder("tiny", small.CHANNELS), config, BarlowConfig(0.5))


METHODS = {
    "plain": plain, "supervised": small.supervised, "cdcl": small.cdcl, "byol": small.byol,
    "dino_bl": lambda: barlow_of(DINOBarlow, small.HEAD),
    "byol_bl": lambda: barlow_of(BYOLBarlow, small.BYOLConfig(hidden=16, width=8)),
}  # fmt: skip


def trained(name, run):
    """A few steps on fields of one value each, whose crops are all alike, however they are cut."""
    s = small.stream("self" if name in ("plain", "supervised") else "other_batch")
    s.images = s.images[:, :, :1, :1].expand(-1, -1, 16, 16)
    s.views = small.ViewsConfig(12, 8, 1, colour_probability=0.0)
    method, config = METHODS[name](), TrainConfig(steps=3, accelerator="cpu", checkpoint_every=2)
    log = fit(method, s, config, run, lambda step, m: {"says": small_doctor(m)}, progress=False)
    return method, log


def small_doctor(method):
    """As the collapse doctor: a number of a method whose loss gathers the rows of all processes."""
    return float(getattr(method, "trivial_loss", 0.0))


def work(folder):
    """Be one of two processes: train each method, leave its weights and its log."""
    torch.set_num_threads(1)
    with ranks.joined():
        for name in METHODS:
            method, log = trained(name, folder / name)
            learned = {k: p.detach() for k, p in method.named_parameters()}
            save_file(learned, folder / f"{name}-{ranks.this()}.safetensors")
            (folder / f"{name}-{ranks.this()}.json").write_text(json.dumps(log))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [*TORCHRUN, "-m", "tests.e2e.test_torchrun", str(folder)],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize("name", METHODS)
def test_both_processes_end_with_the_same_weights_and_the_first_alone_writes(two, name):
    folder, said = two
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first)
    before = dict(METHODS[name]().named_parameters())
    assert any(not torch.equal(first[k], before[k]) for k in first)
    logs = [(folder / f"{name}-{rank}.json").read_text() for rank in (0, 1)]
    assert logs[0] == logs[1]
    left = {"log.csv", "model.safetensors", "resume.safetensors", "run.json"}
    assert {path.name for path in (folder / name).iterdir()} == left
    assert "batch norm over all of them needs GPUs" in said


def test_two_processes_are_one_with_the_joined_minibatch(two, tmp_path, one_thread):
    method, log = trained("plain", tmp_path)
    found = load_file(two[0] / "plain-0.safetensors")
    for name, value in method.named_parameters():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-5, atol=1e-6)
    shared = json.loads((two[0] / "plain-0.json").read_text())
    assert [row["loss"] for row in shared] == pytest.approx([row["loss"] for row in log], rel=1e-5)


def alive(pid):
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_one_process_killed_ends_the_other_and_the_same_command_finishes(smoke, tmp_path):
    words = dict(method="cdcl", epochs=18, minibatch=8, select="best")  # 108 steps
    parameters = [w for name, value in words.items() for w in ("-p", name, str(value))]
    script = ["workflow/train.py", "-f", "workflow/presets/smoke.yaml", *parameters]
    places = {f"HCS_{name}": str(tmp_path / name) for name in ("RUNS", "RESULTS")}
    log = tmp_path / "log"

    def start():
        with log.open("ab") as file:
            return subprocess.Popen(
                [*TORCHRUN, *script], cwd=CHECKOUT, stdout=file, stderr=file,
                env=os.environ | places,
            )  # fmt: skip

    process, until = start(), time.monotonic() + 240
    while not list(tmp_path.glob("RUNS/*/*/resume.safetensors")) and time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    both = children(process.pid)
    assert len(both) == 2
    os.kill(both[1], signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    assert not any(alive(pid) for pid in both)
    assert not (tmp_path / "RESULTS").exists()
    assert start().wait(timeout=240) == 0, log.read_text()
    (record,) = tmp_path.glob("RESULTS/**/*.json")
    content = json.loads(record.read_text())
    assert content["device"].startswith("2 × ") and content["parameters"]["epochs"] == 18
    (table,) = tmp_path.glob("RUNS/*/*/log.csv")
    steps = [line.split(",")[0] for line in table.read_text().splitlines()[1:]]
    assert steps == ["20", "40", "60", "80", "100", "108"]
    assert "val_score" in table.read_text() and str(record) in log.read_text()


def test_mistakes_are_told_once(tmp_path):
    def refused(*words, **env):
        done = subprocess.run(
            [sys.executable, "workflow/train.py", *words], cwd=CHECKOUT, capture_output=True,
            text=True, check=False, env=os.environ | env,
        )  # fmt: skip
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    said = refused("-f", "workflow/presets/smoke.yaml", "-p", "metod", "dino")
    assert said == "Error: Unknown parameter 'metod'; did you mean method or encoder?\n"
    (tmp_path / "own.yaml").write_text("method: dino\nminibach: 8\n")
    assert "'minibach'; did you mean minibatch" in refused("-f", str(tmp_path / "own.yaml"))
    assert refused("-p", "metod", "dino", RANK="1") == ""


if __name__ == "__main__":
    work(Path(sys.argv[1]))

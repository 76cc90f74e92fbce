"""The loop: killed and resumed to the bit, stopped by a loss that is no number, never confused."""

import csv
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hcs_utils.errors import InputError
from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import embed, features
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig
from hcs_utils.learning.methods.dino import DINOConfig
from hcs_utils.learning.methods.supervised import Supervised
from hcs_utils.learning.minibatches import Minibatches
from hcs_utils.learning.train import TrainConfig, fit, learning_rate
from hcs_utils.learning.views import Normaliser, ViewsConfig

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS = ("DNA", "ER")
HEAD = DINOConfig(hidden=16, bottleneck=8, width=16)


def stream(partner="other_batch", seed=0, rows=range(24)):
    """Noise [24 2 16 16], brighter by treatment, in four batches; ``rows`` of them train."""
    rows = np.asarray(rows)
    g = torch.Generator().manual_seed(7)
    images = torch.randint(0, 150, (24, 2, 16, 16), generator=g, dtype=torch.uint8)
    images += (torch.arange(24, dtype=torch.uint8) % 3 * 40).view(-1, 1, 1, 1)
    norm = Normaliser(torch.full((1, 2), 127.0), torch.full((1, 2), 70.0))
    label, domain = np.arange(24) % 3, np.arange(24) % 4
    return Minibatches(
        images, rows, label[rows], domain[rows], np.zeros(len(rows), int), norm,
        ViewsConfig(12, 8, 1), size=8, partner=partner, seed=seed,
    )  # fmt: skip


def cdcl(**changes):
    torch.manual_seed(0)
    backbone = encoder("tiny", CHANNELS)
    return CDCL(backbone, [6, 6, 6, 6], HEAD, CDCLConfig(off_diagonal=0.5, **changes))


def supervised():
    torch.manual_seed(0)
    return Supervised(encoder("tiny", CHANNELS), 3)


def config(**changes):
    options = dict(steps=30, checkpoint_every=10, accelerator="cpu", learning_rate=0.01)
    return TrainConfig(**(options | changes))


def trained(method, run, monitor=None, partner="other_batch", **changes):
    return fit(method, stream(partner), config(**changes), run, monitor, progress=False)


def same_tensors(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# What a run leaves


def test_a_run_leaves_weights_log_and_a_resume_point(tmp_path):
    method = cdcl()
    log = trained(method, tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        "log.csv", "model.safetensors", "resume.safetensors", "run.json",
    ]  # fmt: skip
    assert [row["step"] for row in log] == [10, 20, 30]
    with open(tmp_path / "log.csv") as file:
        written = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in written] == [row["loss"] for row in log]
    assert {"step", "loss", "learning_rate", "teacher_entropy"} <= set(written[0])
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["channels"]) == list(CHANNELS)
    assert 0 < train.seconds(tmp_path) < 60
    weights = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(v, weights[k]) for k, v in method.encoder.state_dict().items())
    assert not method.training


def test_the_weights_of_a_run_give_the_same_embedding_when_loaded_back(tmp_path):
    method, s = cdcl(), stream()
    trained(method, tmp_path)
    again = encoder("tiny", CHANNELS, str(tmp_path / "model.safetensors"))
    tables = [
        embed(e, s.images, range(24), np.zeros(24, int), s.normaliser, 12, CHANNELS)
        for e in (method.encoder, again)
    ]
    np.testing.assert_array_equal(features(tables[0]), features(tables[1]))


def test_supervision_learns_its_training_images(tmp_path):
    log = trained(supervised(), tmp_path, partner="self", steps=80, checkpoint_every=40)
    assert log[-1]["loss"] < 0.3 * math.log(3) and log[-1]["accuracy"] == 1


def test_the_monitor_is_called_at_each_checkpoint_and_logged_at_its_step(tmp_path):
    """Also where checkpoints come off the beat of the log, and before its first row."""
    calls = []

    def monitor(step, method):
        calls.append(step)
        return {"watched": 2.0 * step}

    log = trained(supervised(), tmp_path, monitor, steps=25, checkpoint_every=7)
    assert calls == [7, 14, 21, 25]
    assert {row["step"]: row["watched"] for row in log if "watched" in row} == {
        step: 2.0 * step for step in calls
    }
    assert [row["step"] for row in log] == [7, 14, 20, 21, 25]


def test_a_finished_run_is_not_trained_again(tmp_path):
    trained(cdcl(), tmp_path)
    before = (tmp_path / "resume.safetensors").read_bytes()
    fresh = cdcl()
    fresh.loss = lambda *words: pytest.fail("trained again")
    log = trained(fresh, tmp_path)
    assert [row["step"] for row in log] == [10, 20, 30]
    assert (tmp_path / "resume.safetensors").read_bytes() == before
    weights = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(v, weights[k]) for k, v in fresh.encoder.state_dict().items())


# Learning rate


def test_learning_rate_warms_up_and_falls_along_a_cosine():
    c = TrainConfig(steps=200, learning_rate=0.5, warmup_share=0.1, final_share=0.02)
    rates = [learning_rate(c, step) for step in range(200)]
    assert rates[:20] == pytest.approx([0.5 * (k + 1) / 20 for k in range(20)])
    assert rates[20] == pytest.approx(0.5) and rates[-1] == pytest.approx(0.01)
    for step in range(20, 200):
        share = (step - 20) / 179
        expected = 0.01 + (0.5 - 0.01) * (1 + math.cos(math.pi * share)) / 2
        assert rates[step] == pytest.approx(expected, rel=1e-6)


def test_biases_and_norms_do_not_decay(tmp_path):
    """Without gradients, weights shrink by lr · decay at each step and nothing else moves."""
    method = supervised()
    method.loss = lambda minibatch, progress: (
        0 * sum(p.sum() for p in method.parameters()), {}
    )  # fmt: skip
    before = {k: v.clone() for k, v in method.named_parameters()}
    trained(method, tmp_path, steps=3, weight_decay=0.1, warmup_share=0.0, final_share=1.0)
    for name, value in method.named_parameters():
        factor = (1 - 0.01 * 0.1) ** 3 if value.ndim > 1 else 1
        torch.testing.assert_close(value, before[name] * factor, rtol=1e-5, atol=1e-7)


# Killed and resumed

SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from tests.learning import test_train as t
t.trained(t.cdcl(), {run!r}, lambda step, method: time.sleep(0.4) or {{"watched": step}})
"""


def test_kill_9_in_mid_training_then_the_same_command_gives_the_same_bits(tmp_path, pytestconfig):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    script = SCRIPT.format(root=str(pytestconfig.rootpath), run=str(killed))
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        until = time.monotonic() + 120
        while not (killed / "resume.safetensors").exists() and time.monotonic() < until:
            assert process.poll() is None, "training ended before it was killed"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (killed / "model.safetensors").exists()
    with safe_open(killed / "resume.safetensors", "pt") as file:
        assert file.metadata()["step"] in ("10", "20")

    def monitor(step, method):
        return {"watched": step}

    logs = [trained(cdcl(), run, monitor) for run in (whole, killed)]
    assert logs[0] == logs[1]  # the log is complete, from the first step
    assert (whole / "log.csv").read_bytes() == (killed / "log.csv").read_bytes()
    for name in ("model.safetensors", "resume.safetensors"):
        assert same_tensors(whole / name, killed / name), name
    assert sorted(os.listdir(whole)) == sorted(os.listdir(killed))


@pytest.mark.parametrize("make", [cdcl, supervised])
@pytest.mark.parametrize("stop", [3, 10, 29])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(tmp_path, make, stop):
    class Stop(Exception):
        pass

    whole = trained(make(), tmp_path / "whole", checkpoint_every=5)
    method, calls = make(), []
    loss = method.loss

    def until(minibatch, progress):
        calls.append(progress)
        if len(calls) > stop:
            raise Stop
        return loss(minibatch, progress)

    method.loss = until
    with pytest.raises(Stop):
        trained(method, tmp_path / "run", checkpoint_every=5)
    assert trained(make(), tmp_path / "run", checkpoint_every=5) == whole
    for name in ("model.safetensors", "resume.safetensors"):
        assert same_tensors(tmp_path / "whole" / name, tmp_path / "run" / name), name


# Faults


@pytest.mark.parametrize(("at", "kept"), [(17, True), (4, False)])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path, at, kept):
    method, calls = supervised(), []
    loss = method.loss

    def spoilt(minibatch, progress):
        calls.append(progress)
        value, extra = loss(minibatch, progress)
        return (value * math.nan if len(calls) >= at else value), extra

    method.loss = spoilt
    with pytest.raises(InputError, match=f"loss is nan at step {at} of") as caught:
        trained(method, tmp_path)
    said = str(caught.value)
    assert "smaller learning_rate" in said and "precision" in said
    assert ("last good checkpoint is kept" in said) == kept
    assert not (tmp_path / "model.safetensors").exists()
    if kept:
        saved = load_file(tmp_path / "resume.safetensors")
        assert all(torch.isfinite(v).all() for v in saved.values() if v.is_floating_point())
        trained(supervised(), tmp_path)  # without the fault the run goes on from there
        whole = tmp_path / "whole"
        trained(supervised(), whole)
        assert same_tensors(whole / "model.safetensors", tmp_path / "model.safetensors")


def test_one_step_without_a_finite_gradient_is_passed_over(tmp_path):
    method, calls = supervised(), []
    loss = method.loss

    def spoilt(minibatch, progress):
        calls.append(progress)
        value, extra = loss(minibatch, progress)
        return (value * math.inf if len(calls) == 5 else value), extra

    method.loss = spoilt
    log = trained(method, tmp_path)
    assert math.isfinite(log[-1]["loss"])
    assert all(torch.isfinite(p).all() for p in method.parameters())


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (supervised, {}, "method"),
        (cdcl, {"learning_rate": 0.02}, "train"),
        (cdcl, {"steps": 40}, "train"),
        (lambda: cdcl(weight_dino=0.5), {}, "config"),
    ],
    ids=["method", "learning rate", "steps", "the method's own settings"],
)
def test_a_folder_holds_one_run_only(tmp_path, make, options, words):
    trained(cdcl(), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=rf"other settings \(.*{words}.* differ\)") as caught:
        trained(make(), tmp_path, **options)
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_as_many_images_of_another_fold_are_another_run(tmp_path):
    """Else a run would go on, unseen, on images that it is to be judged by."""
    fit(cdcl(), stream(rows=range(12)), config(), tmp_path, progress=False)
    with pytest.raises(InputError, match=r"other settings \(sites differ\)"):
        fit(cdcl(), stream(rows=range(12, 24)), config(), tmp_path, progress=False)


@pytest.fixture
def full_disk(tmp_path):
    """A real file system of 100 KiB: a checkpoint of the tiny encoder needs several times that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only, where the system allows it")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_message_and_no_half_checkpoint(full_disk):
    with pytest.raises(InputError, match=r"resume\.safetensors: no space is left on the disk"):
        trained(cdcl(), full_disk / "run")
    assert os.listdir(full_disk / "run") == ["run.json"]
    remount = ["mount", "-o", "remount,size=50m", str(full_disk)]
    subprocess.run(remount, check=True)
    assert trained(cdcl(), full_disk / "run")[-1]["step"] == 30


def test_how_often_to_save_may_change_between_restarts(tmp_path):
    trained(cdcl(), tmp_path, checkpoint_every=10)
    assert trained(cdcl(), tmp_path, checkpoint_every=15)[-1]["step"] == 30


@pytest.mark.parametrize("damage", ["cut", "zeros", "pickle", "no step"])
def test_a_damaged_checkpoint_is_named_and_no_pickle_is_opened(tmp_path, damage, monkeypatch):
    trained(cdcl(), tmp_path)
    path = tmp_path / "resume.safetensors"
    whole = path.read_bytes()
    if damage == "no step":
        save_file(load_file(path), path)
    else:
        broken = {"cut": whole[:-100], "zeros": b"\0" * 2000, "pickle": pickle.dumps({"a": 1})}
        path.write_bytes(broken[damage])
    for module in (pickle, torch):
        monkeypatch.setattr(module, "load", lambda *a, **k: pytest.fail("unpickled"))
    with pytest.raises(InputError, match="cannot be read") as caught:
        trained(cdcl(), tmp_path)
    assert str(path) in str(caught.value) and "Remove it" in str(caught.value)
    path.unlink()
    assert trained(cdcl(), tmp_path)[-1]["step"] == 30


def test_a_damaged_description_of_the_run_is_named(tmp_path):
    trained(cdcl(), tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        trained(cdcl(), tmp_path)

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
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.plugins.precision import MixedPrecision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hcs_utils.errors import InputError
from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import embed, features
from hcs_utils.learning.methods.byol import BYOLConfig, BYOLCrossBatch
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig
from hcs_utils.learning.methods.dino import DINOConfig
from hcs_utils.learning.methods.supervised import Supervised
from hcs_utils.learning.minibatches import Minibatches
from hcs_utils.learning.train import TrainConfig, fit, learning_rate, weight_decay
from hcs_utils.learning.views import Normaliser, ViewsConfig

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS = ("DNA", "ER")
HEAD = DINOConfig(hidden=16, bottleneck=8, width=16)


def stream(partner="other_batch", seed=0, rows=range(24), local_px=8):
    """Noise [24 2 16 16], brighter by treatment, in four batches; ``rows`` of them train."""
    rows = np.asarray(rows)
    g = torch.Generator().manual_seed(7)
    images = torch.randint(0, 150, (24, 2, 16, 16), generator=g, dtype=torch.uint8)
    images += (torch.arange(24, dtype=torch.uint8) % 3 * 40).view(-1, 1, 1, 1)
    norm = Normaliser(torch.full((1, 2), 127.0), torch.full((1, 2), 70.0))
    label, domain = np.arange(24) % 3, np.arange(24) % 4
    return Minibatches(
        images, rows, label[rows], domain[rows], np.zeros(len(rows), int), norm,
        ViewsConfig(12, local_px, 1), size=8, partner=partner, seed=seed,
    )  # fmt: skip


def cdcl(**changes):
    torch.manual_seed(0)
    backbone = encoder("tiny", CHANNELS)
    return CDCL(backbone, [6, 6, 6, 6], HEAD, CDCLConfig(off_diagonal=0.5, **changes))


def supervised():
    torch.manual_seed(0)
    return Supervised(encoder("tiny", CHANNELS), 3)


def byol():
    torch.manual_seed(0)
    return BYOLCrossBatch(encoder("tiny", CHANNELS), BYOLConfig(hidden=16, width=8))


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


def test_weight_decay_goes_from_start_to_end_along_a_cosine_and_touches_weights_only(tmp_path):
    c = config(steps=6, weight_decay=0.1, weight_decay_end=0.3, warmup_share=0.0, final_share=1.0)
    decays = [weight_decay(c, step) for step in range(6)]
    assert decays == pytest.approx([0.2 - 0.1 * math.cos(math.pi * k / 5) for k in range(6)])
    assert weight_decay(config(weight_decay=0.1), 17) == 0.1  # no end: constant
    method = supervised()
    method.loss = lambda minibatch, progress: (
        0 * sum(p.sum() for p in method.parameters()), {}
    )  # fmt: skip
    before = {k: v.clone() for k, v in method.named_parameters()}
    fit(method, stream("self"), c, tmp_path, progress=False)
    for name, value in method.named_parameters():
        factor = math.prod(1 - 0.01 * decay for decay in decays) if value.ndim > 1 else 1
        torch.testing.assert_close(value, before[name] * factor, rtol=1e-5, atol=1e-7)


# Precision and compilation


def test_bf16_is_resumed_to_the_same_bits_and_says_nothing(tmp_path, capfd, caplog):
    """Local views of 10 px: of a field of 1 px oneDNN's bf16 gradient is not defined."""
    caplog.set_level("INFO")

    def run(name, method, steps_until=99):
        loss, calls = method.loss, []

        def until(minibatch, progress):
            calls.append(progress)
            return 1 / (len(calls) <= steps_until) and loss(minibatch, progress)

        method.loss = until
        half = config(steps=12, checkpoint_every=4, precision="bf16-mixed")
        return fit(method, stream(local_px=10), half, tmp_path / name, progress=False)

    whole = run("whole", cdcl())
    with pytest.raises(ZeroDivisionError):
        run("run", cdcl(), 6)
    assert run("run", cdcl()) == whole
    for name in ("model.safetensors", "resume.safetensors"):
        assert same_tensors(tmp_path / "whole" / name, tmp_path / "run" / name), name
    full = fit(
        cdcl(), stream(local_px=10), config(steps=12, checkpoint_every=4), tmp_path / "32",
        progress=False,
    )  # fmt: skip
    assert full[-1]["loss"] != whole[-1]["loss"]
    assert full[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.2)
    assert "Precision" not in capfd.readouterr().err + caplog.text


def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(InputError, match=r"16-mixed.* needs a GPU.*bf16-mixed"):
        trained(supervised(), tmp_path, precision="16-mixed")


def test_gradients_of_fp16_are_scaled_back_before_they_are_clipped_and_used(tmp_path, monkeypatch):
    """Plain descent from the same weights: a scale that stayed would multiply every step."""
    plugins = [LightningEnvironment(), MixedPrecision("16-mixed", "cpu")]
    half = Fabric(accelerator="cpu", devices=1, plugins=plugins)

    def moved(name):
        method = supervised()
        before = {k: v.clone() for k, v in method.named_parameters()}
        s = stream("self", local_px=10)
        log = fit(method, s, config(steps=4, clip_norm=1e9), tmp_path / name, progress=False)
        return log, {k: v.detach() - before[k] for k, v in method.named_parameters()}

    monkeypatch.setattr(
        torch.optim, "AdamW", lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.5)
    )
    log, expected = moved("32")
    monkeypatch.setattr(train.devices, "fabric", lambda *words: half)
    log16, found = moved("16")
    assert log16[-1]["loss"] == pytest.approx(log[-1]["loss"], rel=0.05)
    for name, step in expected.items():
        assert (found[name] - step).norm() < 0.2 * step.norm() + 1e-6, name
    with safe_open(tmp_path / "16" / "resume.safetensors", "pt") as file:
        assert json.loads(file.metadata()["precision"])["_growth_tracker"] == 4


def test_compiled_encoders_give_the_same_run_under_the_same_names(tmp_path, monkeypatch):
    real, graphs = torch.compile, []

    def compile(function, **options):
        def seen(graph, examples):
            graphs.append(graph)
            return graph.forward

        return real(function, backend=seen, **options)

    monkeypatch.setattr(torch, "compile", compile)
    whole = trained(cdcl(), tmp_path / "whole", steps=2, checkpoint_every=1)
    method = cdcl()

    def monitor(step, method):  # odd minibatches run as written, not compiled anew
        before = len(graphs)
        method.encoder.eval()(torch.zeros(5 + step, 2, 20, 20))
        method.encoder.train()
        assert len(graphs) == before
        return {}

    log = trained(method, tmp_path / "c", monitor, steps=2, checkpoint_every=1, compile=True)
    assert len(graphs) == 3  # the student's two sizes of views, and the teacher's one
    assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in whole], rel=1e-5)
    weights, known = (load_file(tmp_path / n / "model.safetensors") for n in ("c", "whole"))
    assert weights.keys() == known.keys()
    for name, value in known.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)
    assert "forward" not in vars(method.student)


def test_a_compiler_that_fails_is_one_message(tmp_path, monkeypatch):
    def broken(graph, examples):
        raise RuntimeError("no C++ compiler")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: real(f, backend=broken, **options))
    with pytest.raises(InputError, match=r"torch.compile failed.*set compile to false"):
        trained(supervised(), tmp_path, partner="self", compile=True)


# The best of the checkpoints


def scored(run, method, scores, stop=None, **options):
    """Trained with these scores, one a checkpoint, by the step."""

    def score(method):
        step = int(method.steps_seen)
        if step == stop:
            raise KeyboardInterrupt
        return scores[step]

    loss = method.loss
    method.register_buffer("steps_seen", torch.tensor(0))

    def counted(minibatch, progress):
        method.steps_seen += 1
        return loss(minibatch, progress)

    method.loss = counted
    c = config(steps=12, checkpoint_every=3)
    return fit(method, stream(), c, run, progress=False, score=score, **options)


def test_the_checkpoint_of_the_best_score_is_kept(tmp_path):
    method = cdcl()
    log = scored(tmp_path / "best", method, {3: 0.1, 6: 0.4, 9: 0.4, 12: 0.2})
    assert [row["val_score"] for row in log] == [0.1, 0.4, 0.4, 0.2]
    assert [row["best_step"] for row in log] == [3, 6, 6, 6]  # of equals the first
    weights = load_file(tmp_path / "best" / "model.safetensors")
    assert all(torch.equal(v, weights[k]) for k, v in method.encoder.state_dict().items())
    with safe_open(tmp_path / "best" / "model.safetensors", "pt") as file:
        assert file.metadata()["step"] == "6"
    six = {}

    def keep(step, method):  # what the encoder is after six steps, without any score
        if step == 6:
            six.update({k: v.clone() for k, v in method.encoder.state_dict().items()})
        return {}

    last = trained(cdcl(), tmp_path / "last", keep, steps=12, checkpoint_every=3)
    assert [row["loss"] for row in last] == [row["loss"] for row in log]
    assert all(torch.equal(six[k], weights[k]) for k in weights)
    ended = load_file(tmp_path / "last" / "model.safetensors")
    assert not all(torch.equal(six[k], ended[k]) for k in ended)


def test_a_score_is_asked_at_every_second_checkpoint_and_at_the_end(tmp_path):
    log = scored(tmp_path, cdcl(), {6: 0.1, 12: 0.0}, score_every=2)
    assert [row["step"] for row in log if "val_score" in row] == [6, 12]


@pytest.mark.parametrize("stop", [6, 9, 12])
def test_the_best_is_remembered_over_a_restart(tmp_path, stop):
    scores = {3: 0.1, 6: 0.4, 9: 0.3, 12: 0.2}
    whole = scored(tmp_path / "whole", cdcl(), scores)
    with pytest.raises(KeyboardInterrupt):
        scored(tmp_path / "run", cdcl(), scores, stop)
    again = cdcl()
    assert scored(tmp_path / "run", again, scores) == whole
    for name in ("model.safetensors", "resume.safetensors"):
        assert same_tensors(tmp_path / "whole" / name, tmp_path / "run" / name), name
    done = cdcl()  # finished: the best again, without training
    scored(tmp_path / "run", done, {})
    assert all(
        torch.equal(v, done.encoder.state_dict()[k]) for k, v in again.encoder.state_dict().items()
    )


def test_a_run_that_chose_the_best_is_not_one_that_took_the_last(tmp_path):
    scored(tmp_path, cdcl(), {3: 0, 6: 0, 9: 0, 12: 0})
    with pytest.raises(InputError, match=r"select.* differ"):
        method = cdcl()
        method.register_buffer("steps_seen", torch.tensor(0))
        trained(method, tmp_path, steps=12, checkpoint_every=3)


# Killed and resumed

SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from tests.learning import test_train as t
t.trained(t.{make}(), {run!r}, lambda step, method: time.sleep(0.4) or {{"watched": step}})
"""


@pytest.mark.parametrize("make", [cdcl, byol])
def test_kill_9_in_mid_training_then_the_same_command_gives_the_same_bits(
    make, tmp_path, pytestconfig
):
    """Weights, moving averages, centres and the statistics of batch norm."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    names = dict(root=str(pytestconfig.rootpath), run=str(killed), make=make.__name__)
    script = SCRIPT.format(**names)
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

    logs = [trained(make(), run, monitor) for run in (whole, killed)]
    assert logs[0] == logs[1]  # the log is complete, from the first step
    assert (whole / "log.csv").read_bytes() == (killed / "log.csv").read_bytes()
    for name in ("model.safetensors", "resume.safetensors"):
        assert same_tensors(whole / name, killed / name), name
    assert sorted(os.listdir(whole)) == sorted(os.listdir(killed))


@pytest.mark.parametrize("make", [cdcl, byol, supervised])
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


def test_gradients_that_are_never_finite_stop_a_run_that_would_learn_nothing(tmp_path):
    method, calls = supervised(), []
    loss = method.loss

    def spoilt(minibatch, progress):
        calls.append(progress)
        value, extra = loss(minibatch, progress)
        value.register_hook(lambda gradient: gradient * math.inf)  # the loss itself is finite
        return value, extra

    method.loss = spoilt
    with pytest.raises(InputError, match=r"No gradient was finite in 30 steps.*smaller learning_r"):
        trained(method, tmp_path, steps=60)
    assert len(calls) == 30


def test_statistics_that_are_not_finite_are_never_a_checkpoint(tmp_path):
    """A loss in training mode does not see them, an embedding does."""
    method = supervised()
    before = method.before_step

    def spoil(progress):
        before(progress)
        if progress >= 14 / 30:
            method.backbone.stages[0][0].conv_kxk.bn.running_var[0] = math.nan

    method.before_step = spoil
    with pytest.raises(InputError, match=r"running_var holds numbers.* not finite at step 20 "):
        trained(method, tmp_path)
    saved = load_file(tmp_path / "resume.safetensors")
    assert all(v.isfinite().all() for v in saved.values())
    with safe_open(tmp_path / "resume.safetensors", "pt") as file:
        assert file.metadata()["step"] == "10"


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

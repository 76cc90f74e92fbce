"""The doctor at work: it sees what it should, changes nothing, and reads runs it never watched."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hcs_utils.errors import InputError
from hcs_utils.learning import diagnose, signs, views
from hcs_utils.learning.methods.barlow import barlow_loss
from hcs_utils.learning.methods.barlow_only import BarlowConfig, BYOLBarlow, DINOBarlow
from hcs_utils.learning.methods.byol import BYOLConfig
from hcs_utils.learning.methods.dino import DINO, DINOConfig
from hcs_utils.learning.train import fit
from tests.learning.test_train import (
    CHANNELS,
    byol,
    cdcl,
    config,
    encoder,
    same_tensors,
    stream,
    supervised,
    trained,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def dino(**changes):
    torch.manual_seed(0)
    return DINO(encoder("tiny", CHANNELS), DINOConfig(hidden=16, bottleneck=8, width=16, **changes))


def doctor(partner="other_batch", **options):
    return diagnose.Doctor(stream(partner), k=3, say=False, **options)


def dino_bl(form="released"):
    torch.manual_seed(0)
    head = DINOConfig(hidden=16, bottleneck=8, width=16)
    return DINOBarlow(encoder("tiny", CHANNELS), head, BarlowConfig(0.6, form))


def byol_bl(form="released"):
    torch.manual_seed(0)
    sizes = BYOLConfig(hidden=16, width=8)
    return BYOLBarlow(encoder("tiny", CHANNELS), sizes, BarlowConfig(0.6, form))


METHODS = {"supervised": supervised, "dino": dino, "cdcl": cdcl}
each_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


# What it must not change


@each_method
def test_weights_with_and_without_a_doctor_are_equal_to_the_bit(tmp_path, make):
    bare = trained(make(), tmp_path / "bare")
    watched = trained(make(), tmp_path / "watched", doctor(labels=True))
    for name in ("model.safetensors", "resume.safetensors"):
        assert same_tensors(tmp_path / "bare" / name, tmp_path / "watched" / name), name
    for before, after in zip(bare, watched, strict=True):
        assert before.items() <= after.items()
    assert (tmp_path / "bare" / "run.json").read_text() == (
        tmp_path / "watched" / "run.json"
    ).read_text()


def test_a_doctor_draws_no_random_number_of_the_run():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    seen = doctor()
    seen(0, cdcl_without_seed())
    assert torch.equal(torch.rand(4), expected)


def cdcl_without_seed():
    with torch.random.fork_rng():
        return cdcl()


@pytest.mark.parametrize("make", [cdcl, supervised])
def test_a_stopped_run_goes_on_to_the_same_bits_and_the_same_log(tmp_path, make):
    class Stop(Exception):
        pass

    whole = trained(make(), tmp_path / "whole", doctor(labels=True))
    seen = doctor(labels=True)

    def until(step, method):
        if step == 20:
            raise Stop
        return seen(step, method)

    with pytest.raises(Stop):
        trained(make(), tmp_path / "run", until)
    assert trained(make(), tmp_path / "run", doctor(labels=True)) == whole
    assert (tmp_path / "run" / "log.csv").read_text() == (tmp_path / "whole/log.csv").read_text()
    assert same_tensors(tmp_path / "whole/model.safetensors", tmp_path / "run/model.safetensors")


def test_modes_and_running_means_are_left_as_they_were():
    method = dino()
    method.train()
    method.student.eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    modes = [m.training for m in method.modules()]
    doctor()(0, method)
    assert [m.training for m in method.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


# What it sees


@each_method
def test_signs_of_every_method_are_finite_and_in_range(make):
    found = doctor(labels=True)(0, make())
    assert all(math.isfinite(value) for value in found.values())
    assert 0 <= found["effective_rank"] <= 23
    for name in ("rank_share", "spread", "dead_share"):
        assert 0 <= found[name] <= 1.01, name
    assert ("sample_entropy" in found) == (make is not supervised)
    expected = math.log(3) if make is supervised else make().trivial_loss
    if make is not cdcl:
        assert found["trivial_loss"] == pytest.approx(expected)


def test_without_labels_it_says_nothing_of_them():
    assert {"batch_shared", "treatment_shared"} & set(doctor()(0, dino())) == set()


def test_features_are_those_of_two_crops_of_training_fields_alone():
    s = stream(rows=range(12))
    s.images[12:] = 255  # what is not trained on would show
    d = diagnose.Doctor(s, fields=8, k=3)
    assert len(d.crops) == 2 and d.crops[0].shape == (8, 2, 12, 12)
    assert max(int(c.max()) for c in d.crops) < 255
    assert not torch.equal(*d.crops)
    again = diagnose.Doctor(s, fields=8, k=3)
    assert all(torch.equal(a, b) for a, b in zip(d.crops, again.crops, strict=True))
    method = dino()
    method.eval()
    x = views.colour(d.crops[0].float(), d.plate, s.normaliser)
    with torch.no_grad():
        expected = method.teacher(x).numpy()
    first, second, said = d.look(method)
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)
    assert second.shape == first.shape and said.shape == (16, 16)


def test_the_teacher_is_heard_centred_and_sharpened():
    method = dino(teacher_temperature=0.07)
    method.criterion.center += torch.randn(16)
    d = doctor()
    first, second, said = d.look(method)
    with torch.no_grad():
        out = method.teacher_head(torch.from_numpy(np.concatenate([first, second])))
    expected = torch.softmax((out - method.criterion.center[0]) / 0.07, -1)
    np.testing.assert_allclose(said, expected, rtol=1e-4)
    found = d(0, method)
    assert found["sample_entropy"] == pytest.approx(signs.entropies(said)[0])
    assert found["centre_norm"] == pytest.approx(float(method.criterion.center.norm()))


def test_each_field_is_centred_by_its_own_batch():
    method = cdcl()
    method.centers.centers.copy_(torch.randn(4, 16, generator=torch.manual_seed(1)))
    d = doctor()
    first, second, said = d.look(method)
    with torch.no_grad():
        out = method.teacher_head(torch.from_numpy(np.concatenate([first, second])))
    domain = np.tile(d.batch, 2)
    for i in (0, 5, 30):
        row = (out[i] - method.centers.centers[domain[i]]) / method.cdcl.teacher_temperature
        np.testing.assert_allclose(said[i], torch.softmax(row, -1), rtol=1e-4)


def test_centres_by_hand_and_batches_without_one_do_not_count():
    method = cdcl()
    rows = torch.zeros(4, 16)
    rows[0, 0], rows[1, 0], rows[2, 1] = 3.0, 5.0, 4.0
    method.centers.centers.copy_(rows)
    found = doctor()(0, method)
    assert found["centre_norm"] == pytest.approx(4)
    mean = rows[:3].mean(0)
    expected = np.sqrt(np.mean([float((r - mean).square().sum()) for r in rows[:3]]))
    assert found["centre_spread"] == pytest.approx(expected)


# Real runs, broken on purpose


def test_a_teacher_without_centre_or_without_sharpness_is_told(tmp_path):
    broken = {
        "one prototype": {"center_momentum": 1.0},
        "uniform teacher": {"teacher_temperature": 2.0},
    }
    for name, change in broken.items():
        log = fit(
            dino(**change), stream("self"), config(steps=60, checkpoint_every=30),
            tmp_path / name, doctor("self"), progress=False,
        )  # fmt: skip
        assert diagnose.verdict(log)[0] == name


# The live line


def test_the_live_line_names_loss_rank_teacher_and_verdict(tmp_path):
    d = doctor()
    assert d.line({"step": 1, "loss": 2.0}) == "loss 2.000"
    log = trained(dino(), tmp_path, d)
    row = log[-1]
    said = d.line(row)
    assert said.startswith(f"loss {row['loss'] / math.log(16):.2f} of trivial, rank ")
    assert f"says {row['sample_entropy']:.2f}/{row['marginal_entropy']:.2f}" in said
    assert said.endswith("too early")


def test_the_bar_shows_the_line_and_a_plain_monitor_needs_none(tmp_path, capsys):
    run = (dino(), stream(), config(), tmp_path / "a")
    fit(*run, doctor(), progress=True)
    shown = capsys.readouterr().err
    assert "of trivial, rank" in shown
    fit(dino(), stream(), config(), tmp_path / "b", lambda step, method: {}, progress=True)
    assert "loss=" in capsys.readouterr().err


def test_a_bad_verdict_is_said_once(capsys):
    d = diagnose.Doctor(stream(), k=3)
    d.signs = {"spread": 0.5, "rank_share": 0.5, "effective_rank": 9.0}
    bad = {"step": 60, "loss": 1.0, "spread": 0.001}
    for step in (60, 80, 100):
        d.line(bad | {"step": step})
    d.line({"step": 120, "loss": 1.0, "spread": 0.5})
    d.line(bad)
    told = capsys.readouterr().out
    assert told.count("constant: all fields get the same features") == 1
    assert told.startswith("Step 60: ")
    quiet = doctor()
    quiet.signs = dict(d.signs)
    quiet.line(bad)
    assert capsys.readouterr().out == ""


# Runs that no doctor watched


@each_method
def test_a_run_is_read_from_its_folder(tmp_path, make):
    log = trained(make(), tmp_path, steps=60)
    found = diagnose.read(tmp_path)
    fresh = doctor()(0, make())
    assert found["trivial_loss"] == pytest.approx(fresh["trivial_loss"])
    assert found["step"] == 60
    assert found["loss"] == pytest.approx(np.mean([row["loss"] for row in log[-5:]]))
    assert ("centre_norm" in found) == (make is not supervised)
    assert "effective_rank" not in found


def test_with_its_images_a_run_is_examined_as_the_doctor_would(tmp_path):
    trained(supervised(), tmp_path)
    found = diagnose.read(tmp_path, stream(), "tiny")
    method = supervised()
    method.encoder.load_state_dict(load_file(tmp_path / "model.safetensors"))
    watched = diagnose.Doctor(stream(), labels=True, say=False)(30, method)
    for name in ("effective_rank", "rank_share", "spread", "agreement", "batch_shared"):
        assert found[name] == pytest.approx(watched[name], rel=1e-5), name


@pytest.mark.parametrize("damage", ["run.json", "log.csv", "resume.safetensors", "other json"])
def test_a_folder_that_is_no_finished_run_is_named(tmp_path, damage):
    trained(supervised(), tmp_path, steps=10)
    if damage == "other json":
        (tmp_path / "run.json").write_text(json.dumps({"a": 1}))
    else:
        (tmp_path / damage).unlink()
    with pytest.raises(InputError, match="is not the folder of a finished run") as caught:
        diagnose.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("make", [dino_bl, byol_bl, byol], ids=lambda make: make.__name__)
def test_trivial_losses_are_those_of_constant_outputs_whatever_the_views(tmp_path, make, form):
    """The stream has one local crop of each image, four views; BYOL looks at two."""
    method = make() if make is byol else make(form)
    trained(method, tmp_path, steps=10)
    found = diagnose.read(tmp_path)["trivial_loss"]
    assert doctor()(0, method)["trivial_loss"] == pytest.approx(found)
    if make is byol:
        assert found == 4
        return
    pairs = {"dino_bl": 6, "byol_bl": 2}[make.__name__] if form == "paper" else 1
    nothing = torch.ones(8, method.config.width)
    assert found == pytest.approx(pairs * float(barlow_loss(nothing, nothing, 0.6, form)))


def test_with_one_centre_for_all_every_field_is_centred_by_it():
    method = cdcl(centers="one")
    method.centers.centers.copy_(torch.randn(1, 16, generator=torch.manual_seed(1)))
    first, second, said = doctor().look(method)
    with torch.no_grad():
        out = method.teacher_head(torch.from_numpy(np.concatenate([first, second])))
    expected = torch.softmax((out - method.centers.centers) / 0.04, -1)
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-7)


def test_the_teacher_is_heard_at_the_temperature_it_rises_to():
    method = dino(teacher_temperature_end=0.5)
    first, second, said = doctor().look(method)
    with torch.no_grad():
        out = method.teacher_head(torch.from_numpy(np.concatenate([first, second])))
    np.testing.assert_allclose(said, torch.softmax(out / 0.5, -1), rtol=1e-4, atol=1e-7)

"""Weights from drawings: made once, found again, told apart by their settings, and useful."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from hcs_utils.errors import InputError
from hcs_utils.learning import procedural
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.procedural import ProceduralConfig

RGB = ("red", "green", "blue")
SHORT = ProceduralConfig(steps=30, px=24, minibatch=32, held_out=200)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_DATA", str(tmp_path))


def made(config=SHORT, channels=RGB):
    build = lambda: encoder("tiny", channels)  # noqa: E731
    return procedural.weights("tiny", len(channels), build, config, progress=False)


def test_weights_are_made_once_and_say_what_they_are(tmp_path):
    few = replace(SHORT, steps=150, classes=8, px=32)
    path = made(few)
    assert path.parent == tmp_path / "weights"
    assert path.name == "procedural-tiny-3ch-8x32px-150x32-lr0.002-wd0.0001-s0.safetensors"
    told = procedural.about(path)
    assert told["encoder"] == "tiny" and told["steps"] == 150 and told["seed"] == 0
    assert told["accuracy"] > 2 * told["chance"] == 0.25 and told["seconds"] > 0
    before = path.stat()
    refuse = lambda: pytest.fail("made again")  # noqa: E731
    assert procedural.weights("tiny", 3, refuse, few) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_same_settings_make_the_same_weights_whatever_came_before(tmp_path, monkeypatch):
    torch.manual_seed(1)
    first = load_file(made())
    drawn = torch.rand(1)
    monkeypatch.setenv("HCS_DATA", str(tmp_path / "other"))
    torch.manual_seed(1)
    again = load_file(made())
    assert all(torch.equal(again[k], v) for k, v in first.items())
    assert torch.equal(drawn, torch.rand(1))  # the caller's numbers go on as they were


def test_other_settings_are_other_files():
    changes = ({}, {"seed": 1}, {"steps": 20}, {"learning_rate": 1e-3}, {"classes": 40})
    paths = {
        made(ProceduralConfig(**(vars(SHORT) | change | {"held_out": 9}))) for change in changes
    }
    assert len(paths) == 5


def test_an_encoder_takes_them_by_name_for_channels_of_any_names(capfd):
    net = encoder("tiny", ("actin", "tubulin", "DNA"), "procedural:3")
    (path,) = Path(net_folder()).iterdir()
    assert "-3x64-" in path.name and net.channels == ("actin", "tubulin", "DNA")
    kept = load_file(path)
    assert all(torch.equal(v, kept[k]) for k, v in net.state_dict().items())
    same = encoder("tiny", RGB, str(path))
    assert all(torch.equal(v, kept[k]) for k, v in same.state_dict().items())
    with pytest.raises(InputError, match="does not fit the encoder 'tiny' with 5 channels"):
        encoder("tiny", tuple("abcde"), str(path))


def net_folder():
    return Path(os.environ["HCS_DATA"]) / "weights"


@pytest.mark.parametrize("asked", ["procedural:", "procedural:0", "procedural:many"])
def test_a_number_of_steps_that_is_none_is_refused(asked):
    with pytest.raises(InputError, match="write procedural, or procedural:100"):
        encoder("tiny", RGB, asked)


def test_other_files_hold_none(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    for name in ("plain.safetensors", "absent.safetensors"):
        with pytest.raises(InputError, match="holds no weights learned from drawings"):
            procedural.about(tmp_path / name)
    with pytest.raises(InputError, match="0 steps of 32 drawings"):
        made(ProceduralConfig(steps=0, minibatch=32))


def test_a_timm_encoder_learns_from_drawings_too():
    config = ProceduralConfig(steps=2, px=32, minibatch=4, held_out=8)
    build = lambda: encoder("resnet18", RGB)  # noqa: E731
    path = procedural.weights("resnet18", 3, build, config, progress=False)
    assert encoder("resnet18", RGB, str(path)).num_features == 512
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["procedural"])["learning_rate"] == 2e-3
    assert procedural.RATES["vgg"] == 2e-4

"""Parameters of a cross-modal run: words, bounds, names in notebooks and presets."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from hcs_utils.crossmodal_settings import (
    METHODS,
    CrossmodalSettings,
    from_parameters,
    parameters,
)
from hcs_utils.errors import InputError

PRESETS = sorted((Path(__file__).parents[1] / "workflow" / "presets").glob("*.yaml"))
COUNTS = ("fold", "views", "compounds", "steps", "width", "bits")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"method": "emmm"}, r"Unknown method 'emmm'.*; there are: clip, emm, imm"),
        ({"split": "plate"}, "Unknown split 'plate'.* there are: compound, scaffold, given"),
        ({"form": "code"}, "Unknown form 'code'"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"temperature": -0.1}, "temperature is -0.1; it must be above 0"),
        ({"temperature_min": 2.0}, r"temperature_min \(2.0\) must be below temperature_max"),
        ({"pool": 1}, "pool is 1: a pool that holds one pair has nothing to find in"),
        ({"pool": 0}, "pool is 0"),
        ({"val_share": 0.5, "test_share": 0.5}, "must leave compounds to train on"),
        ({"crop_share": 1.2}, r"crop_share \(1.2\) is at most 1"),
        ({"gamma": -1.0}, "gamma is -1.0; it must not be below 0"),
        *(({name: 0}, f"{name} is 0; it must be above 0") for name in COUNTS),
    ],
)
def test_what_cannot_be_is_refused(changed, told):
    with pytest.raises(InputError, match=told):
        CrossmodalSettings(**changed)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"views": "3"}, "views is '3'; it must be a whole number"),
        ({"freeze_image": 1}, "freeze_image is 1; it must be true or false"),
        ({"steps": True}, "steps is True; it must be a whole number"),
    ],
)
def test_parameters_of_the_wrong_kind_are_told(changed, told):
    """Made as outside the tests, whose type checker would speak first."""
    settings = object.__new__(CrossmodalSettings)
    for name, value in (dataclasses.asdict(CrossmodalSettings()) | changed).items():
        object.__setattr__(settings, name, value)
    with pytest.raises(InputError, match=told):
        settings.__post_init__()


def test_what_views_differ_in_is_a_list_of_words():
    assert CrossmodalSettings(prefer="source, batch").preferred == ("source", "batch")
    assert CrossmodalSettings(prefer="").preferred == ()


def test_methods_are_three_losses_fingerprints_and_four_baselines():
    assert METHODS == ("clip", "emm", "imm", "ecfp", "random", "position", "intensity", "cdcl")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_holds_every_parameter_and_no_other_of_that_prefix(path):
    preset = yaml.safe_load(path.read_text("utf-8"))
    assert {name for name in preset if name.startswith("crossmodal_")} == {
        name for name in parameters() if name.startswith("crossmodal_")
    }
    settings = from_parameters(preset)
    assert settings.preset == path.stem
    for name, of in parameters().items():
        if of not in ("screen", "image_px"):
            assert getattr(settings, of) == preset[name]


def test_a_preset_may_send_this_and_cdcl_to_different_screens():
    given = {"screen": "rxrx1", "image_px": 256, "other": 1}
    assert from_parameters(given).screen == "rxrx1"
    filled = from_parameters(given | {"crossmodal_screen": "jump", "crossmodal_image_px": 768})
    assert (filled.screen, filled.image_px) == ("jump", 768)
    empty = from_parameters(given | {"crossmodal_screen": "", "crossmodal_image_px": 0})
    assert (empty.screen, empty.image_px) == ("rxrx1", 256)


def test_the_paper_s_preset_is_the_paper_s():
    paper = next(path for path in PRESETS if path.stem == "paper")
    settings = from_parameters(yaml.safe_load(paper.read_text("utf-8")))
    wanted = {
        "screen": "jump", "image_px": 768, "image_encoder": "resnet34", "image_weights": "imagenet",
        "molecule_encoder": "pna", "width": 1024, "compounds": 384, "views": 3, "pool": 100,
        "learning_rate": 1e-4, "gamma": 0.5,
    }  # fmt: skip
    assert {name: getattr(settings, name) for name in wanted} == wanted
    assert round(768 * settings.crop_share) == 512


def test_settings_are_flat():
    for field in dataclasses.fields(CrossmodalSettings):
        assert type(field.default) in (str, int, float, bool)

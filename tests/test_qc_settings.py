"""Parameters of a run of quality control: words, bounds, names in notebooks and presets."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from hcs_utils.errors import InputError
from hcs_utils.qc_settings import METHODS, QCSettings, from_parameters, parameters

PRESETS = sorted((Path(__file__).parents[1] / "workflow" / "presets").glob("*.yaml"))
COUNTS = ("fold", "crop_px", "minibatch", "draws", "test_crops", "prototypes", "linear_epochs")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"method": "simclear"}, "Unknown method 'simclear'"),
        ({"scale": "well"}, "Unknown scale 'well'.* there are: plate, plane"),
        ({"optimizer": "adam"}, "Unknown optimizer 'adam'"),
        ({"first_epoch": "none"}, "Unknown first_epoch 'none'"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"queue": -1}, "queue is -1; it must not be below 0"),
        ({"val_share": 0.5, "test_share": 0.5}, "must leave plates to train on"),
        ({"least": 1.5}, r"least \(1.5\) is a share"),
        ({"composite": "DNA,AGP"}, "composite is 'DNA,AGP'; name the three channels"),
        ({"budgets": "ten"}, "budgets is 'ten'; give whole numbers with commas"),
        ({"budgets": ""}, "budgets is ''; give whole numbers"),
        ({"budgets": "10,1"}, "a budget counts labels of both classes, so 2 is the least"),
        *(({name: 0}, f"{name} is 0; it must be above 0") for name in COUNTS),
    ],
)
def test_what_cannot_be_is_refused(changed, told):
    with pytest.raises(InputError, match=told):
        QCSettings(**changed)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"draws": "20"}, "draws is '20'; it must be a whole number"),
        ({"compile": 1}, "compile is 1; it must be true or false"),
    ],
)
def test_parameters_of_the_wrong_kind_are_told(changed, told):
    """Made as outside the tests, whose type checker would speak first."""
    settings = object.__new__(QCSettings)
    for name, value in (dataclasses.asdict(QCSettings()) | changed).items():
        object.__setattr__(settings, name, value)
    with pytest.raises(InputError, match=told):
        settings.__post_init__()


def test_lists_of_words_and_numbers():
    settings = QCSettings(budgets="10, 350,25", composite="AGP, Mito ,DNA")
    assert settings.label_budgets == (350, 25, 10)
    assert settings.channels == ("AGP", "Mito", "DNA")


def test_methods_are_the_paper_s_eight_a_stand_in_and_two_baselines():
    assert METHODS == (
        "vgg16", "resnet18", "convnext", "procedural", "simclr", "barlow_twins", "vicreg", "swav",
        "deepcluster", "classical", "random",
    )  # fmt: skip


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_holds_every_parameter_of_quality_control(path):
    preset = yaml.safe_load(path.read_text("utf-8"))
    assert {name for name in preset if name.startswith("qc_")} == {
        name for name in parameters() if name.startswith("qc_")
    }
    settings = from_parameters(preset)
    assert settings.preset == path.stem
    for name, of in parameters().items():
        if of != "screen":
            assert getattr(settings, of) == preset[name]


def test_a_preset_may_send_this_and_cdcl_to_different_screens():
    given = {"screen": "rxrx1", "other": 1}
    assert from_parameters(given).screen == "rxrx1"
    assert from_parameters(given | {"qc_screen": "bbbc022"}).screen == "bbbc022"
    assert from_parameters(given | {"qc_screen": ""}).screen == "rxrx1"


def test_the_paper_s_preset_is_the_paper_s():
    paper = next(path for path in PRESETS if path.stem == "paper")
    settings = from_parameters(yaml.safe_load(paper.read_text("utf-8")))
    wanted = {
        "screen": "bbbc022", "shift_screen": "bbbc021", "crop_px": 128, "weights": "imagenet",
        "encoder": "resnet18", "epochs": 5, "minibatch": 128, "optimizer": "sgd",
        "learning_rate": 1e-3, "momentum": 0.9, "warmup_epochs": 1.0, "temperature": 0.07,
        "hidden": 2048, "prototypes": 500, "queue": 2560, "kmeans_iterations": 10,
        "linear_epochs": 150, "linear_rate": 1e-3, "finetune_epochs": 50, "finetune_steps": 0,
        "finetune_rate": 1e-3, "test_crops": 130, "shift_crops": 200,
    }  # fmt: skip
    assert {name: getattr(settings, name) for name in wanted} == wanted
    assert settings.label_budgets == (350, 100, 50, 25, 10)


def test_settings_are_flat():
    for field in dataclasses.fields(QCSettings):
        assert type(field.default) in (str, int, float, bool)

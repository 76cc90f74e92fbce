"""From flat parameters to learning objects: every one arrives, and the defaults change nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from timm.layers import DropPath

from hcs_utils import assemble
from hcs_utils.errors import InputError
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig, off_diagonal_for
from hcs_utils.learning.methods.dino import DINO, DINOConfig, DINOCrossBatch
from hcs_utils.learning.minibatches import Minibatch
from hcs_utils.learning.train import TrainConfig
from hcs_utils.learning.views import ViewsConfig
from hcs_utils.settings import TRAINED, Settings, from_parameters

TWO = ("one", "two")
SETTINGS = Settings(encoder="tiny", head_width=24, head_hidden=16, head_bottleneck=12)
each_method = pytest.mark.parametrize("name", TRAINED)
PRESETS = Path(__file__).parents[1] / "workflow" / "presets"


def made(name="cdcl", channels=TWO, **changes):
    settings = replace(SETTINGS, method=name, **changes)
    return assemble.method(settings, channels, 5, np.array([3, 4, 0]))


def minibatch(local, channels=2, n=4, sizes=(32, 16)):
    g = torch.Generator().manual_seed(0)
    return Minibatch(
        torch.randn(2 * n, channels, sizes[0], sizes[0], generator=g),
        torch.randn(2 * local * n, channels, sizes[1], sizes[1], generator=g),
        torch.arange(n),
        torch.arange(2 * n).view(2, n) % 3,
    )


# Every method


@each_method
@pytest.mark.parametrize("form", ["released", "paper"])
def test_every_method_takes_a_step_of_its_views(name, form):
    method = made(name, form=form)
    views = assemble.views(replace(SETTINGS, method=name), 48)
    local = 0 if "byol" in name or name == "supervised" else 3
    assert views.locals_per_image == local and views.global_size == 40
    assert method.partner == ("other_batch" if name in ("dino_cb", "byol_cb", "cdcl") else "self")
    assert method.encoder.channels == TWO
    loss, extra = method.loss(minibatch(local), 0.5)
    assert 0 < loss.item() < 3 * method.trivial_loss
    assert all(np.isfinite(float(v)) for v in extra.values())
    before = [p.clone() for p in method.encoder.parameters()]
    loss.backward()
    method.before_step(0.5)
    torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1).step()
    method.after_step(0.5)
    moved = zip(before, method.encoder.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)


@each_method
def test_weights_follow_the_seed(name):
    one, same, other = (made(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_with_the_defaults_methods_are_as_they_were_by_hand():
    """Draws and losses of the records that are there: heads, temperatures, weights, centres."""
    settings, counts = Settings(), np.array([3, 4, 0])
    head = DINOConfig(width=256)
    barlow = CDCLConfig(off_diagonal=off_diagonal_for(256), form="released")
    by_hand = {
        "dino": lambda network: DINO(network, head),
        "dino_cb": lambda network: DINOCrossBatch(network, head),
        "cdcl": lambda network: CDCL(network, np.maximum(counts, 1), head, barlow),
    }
    for name, make in by_hand.items():
        ours = assemble.method(replace(settings, method=name), TWO, 5, counts)
        torch.manual_seed(0)
        other = make(encoder("small", TWO))
        for key, value in other.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
        for progress in (0.0, 0.02, 0.5):
            losses = [m.loss(minibatch(3), progress)[0] for m in (ours, other)]
            assert losses[0] == losses[1]


# Every setting


@pytest.mark.parametrize(
    ("name", "changes", "read", "expected"),
    [
        ("dino", {"head_hidden": 20}, lambda m: m.student_head.layers[0].out_features, 20),
        ("dino", {"head_bottleneck": 9}, lambda m: m.student_head.last_layer.in_features, 9),
        ("dino_bl", {"head_width": 30}, lambda m: m.student_head.last_layer.out_features, 30),
        ("byol", {"head_hidden": 20}, lambda m: m.student_head.layers[0].out_features, 80),
        ("byol_cb", {"head_hidden": 20}, lambda m: m.predictor.layers[0].out_features, 80),
        ("byol", {"head_width": 30}, lambda m: m.predictor.layers[3].out_features, 256),
        ("byol", {"byol_momentum_start": 0.9}, lambda m: m.config.momentum_start, 0.9),
        ("dino", {"momentum_start": 0.9}, lambda m: m.config.momentum_start, 0.9),
        ("dino", {"teacher_temperature": 0.05}, lambda m: m.config.teacher_temperature, 0.05),
        ("cdcl", {"teacher_temperature": 0.05}, lambda m: m.cdcl.teacher_temperature, 0.05),
        ("dino_cb", {"view_pairs": "cross"}, lambda m: m.config.view_pairs, "cross"),
        ("cdcl", {"view_pairs": "cross"}, lambda m: m.cdcl.view_pairs, "cross"),
        ("cdcl", {"form": "paper"}, lambda m: (m.cdcl.form, m.rule), ("paper", "released")),
        ("cdcl", {"centers": "paper"}, lambda m: (m.cdcl.form, m.rule), ("released", "paper")),
        ("cdcl", {"centers": "one"}, lambda m: len(m.centers.centers), 1),
        ("cdcl", {}, lambda m: len(m.centers.centers), 3),
        ("dino_bl", {"form": "paper"}, lambda m: m.barlow.form, "paper"),
        ("byol_bl", {"form": "paper"}, lambda m: m.barlow.form, "paper"),
        ("dino_bl", {}, lambda m: m.barlow.off_diagonal, off_diagonal_for(24)),
        ("byol_bl", {}, lambda m: m.barlow.off_diagonal, off_diagonal_for(256)),
    ],
)
def test_a_setting_reaches_its_method(name, changes, read, expected):
    assert read(made(name, **changes)) == expected


@pytest.mark.parametrize("name", ["dino", "dino_cb", "cdcl", "dino_bl"])
def test_a_rising_teacher_temperature_changes_what_the_teacher_says(name):
    views = minibatch(3)
    said = []
    for end in (0.04, 0.4):
        method = made(name, teacher_temperature_end=end)
        said.append([method.loss(views, p)[1]["teacher_entropy"].item() for p in (0.0, 1.0)])
    assert said[0][0] == said[1][0] and said[0][1] < said[1][1]


@each_method
def test_paths_are_dropped_by_the_student_alone(name):
    method = made(name, encoder="test_vit", drop_path=0.2)
    networks = {k: getattr(method, k, None) for k in ("student", "teacher", "backbone")}
    most = {
        k: max(m.drop_prob for m in network.modules() if isinstance(m, DropPath))
        for k, network in networks.items()
        if network is not None
    }
    expected = {"backbone": 0.2} if name == "supervised" else {"student": 0.2, "teacher": 0.0}
    assert most == pytest.approx(expected)


def test_first_weights_come_from_a_file(tmp_path):
    rgb = timm.create_model("test_vit", num_classes=4)
    save_file({k: v.contiguous() for k, v in rgb.state_dict().items()}, tmp_path / "w.safetensors")
    method = made("byol", encoder="test_vit", weights=str(tmp_path / "w.safetensors"))
    for network in (method.student, method.teacher):
        stem = network.patch_embed.proj.weight
        assert torch.equal(stem, rgb.patch_embed.proj.weight[:, :2])
        assert torch.equal(network.pos_embed, rgb.pos_embed)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("dino", {"view_pairs": "cross"}, "view_pairs is 'cross'"),
        ("dino_bl", {"view_pairs": "cross"}, "view_pairs is 'cross'"),
        ("cdcl", {"drop_path": 0.1}, "drop_path is 0.1, but the encoder 'tiny'"),
        ("cdcl", {"weights": "imagenet"}, "no ImageNet weights for the encoder 'tiny'"),
        ("cdcl", {"weights": "/nowhere.safetensors"}, "no weights at /nowhere.safetensors"),
    ],
)
def test_what_cannot_be_is_told(name, changes, words):
    with pytest.raises(InputError, match=words):
        made(name, **changes)


# Views and optimisation


def test_views_of_the_defaults_cut_and_do_not_shift():
    assert assemble.views(Settings(), 48) == ViewsConfig()


@pytest.mark.parametrize(
    ("name", "crops", "global_scale", "local_scale"),
    [
        ("cdcl", "rxrx1", (0.9, 1.1), (0.3, 0.5)),
        ("byol", "rxrx1", (0.9, 1.1), None),
        ("supervised", "rxrx1", (0.8, 1.2), None),
        ("dino", "cpg0004", (0.75, 0.9), (0.3, 0.5)),
        ("cdcl", "cpg0004_large", (0.3, 0.5), (0.15, 0.25)),
    ],
)
def test_released_crops_and_colours(name, crops, global_scale, local_scale):
    settings = Settings(method=name, crops=crops, colour_offset=0.3, colour_probability=0.7)
    views = assemble.views(settings, 256)
    assert (views.global_size, views.local_size, views.global_scale) == (224, 112, global_scale)
    assert views.locals_per_image == (3 if local_scale else 0)
    assert local_scale is None or views.local_scale == local_scale
    assert (views.colour_offset, views.colour_probability) == (0.3, 0.7)


def test_optimisation_is_as_asked():
    settings = Settings(
        learning_rate=0.1, precision="bf16-mixed", warmup_steps=7, weight_decay=0.2,
        weight_decay_end=0.3, compile=True, seed=4,
    )  # fmt: skip
    assert assemble.train_config(settings, 50) == TrainConfig(
        steps=50, learning_rate=0.1, precision="bf16-mixed", warmup_steps=7, weight_decay=0.2,
        weight_decay_end=0.3, compile=True, seed=4,
    )  # fmt: skip


# The paper's preset


def test_the_papers_preset_gives_the_released_sizes():
    """facts of the released code: heads, temperatures, teacher, crops, optimisation."""
    preset = yaml.safe_load((PRESETS / "paper.yaml").read_text()) | {"weights": ""}
    settings = from_parameters(preset)
    with torch.device("meta"):
        dino = assemble.method(replace(settings, method="dino"), TWO * 3, 5, np.ones(16))
        byol = assemble.method(replace(settings, method="byol"), TWO * 3, 5, np.ones(16))
    layers = [m for m in dino.student_head.layers if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [
        (384, 1024), (1024, 1024), (1024, 512),
    ]  # fmt: skip
    assert dino.student_head.last_layer.out_features == 4096
    for head, inside in ((byol.student_head, 384), (byol.predictor, 256)):
        layers = [m for m in head.layers if isinstance(m, torch.nn.Linear)]
        assert [(m.in_features, m.out_features) for m in layers] == [(inside, 4096), (4096, 256)]
    assert isinstance(byol.student_head.layers[-1], torch.nn.BatchNorm1d)
    assert isinstance(byol.predictor.layers[-1], torch.nn.Linear)
    config = dino.config
    assert (config.teacher_temperature, config.teacher_temperature_end) == (0.04, 0.07)
    assert (config.momentum_start, config.momentum_end) == (0.995, 0.9996)
    assert (byol.config.momentum_start, byol.config.momentum_end) == (0.99, 1.0)
    assert byol.config.momentum_end == 1
    views = assemble.views(settings, 256)
    assert (views.global_size, views.local_size, views.locals_per_image) == (224, 112, 3)
    assert off_diagonal_for(4096) == pytest.approx(0.95)
    deepest = max(m.drop_prob for m in dino.student.modules() if isinstance(m, DropPath))
    assert deepest == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["dino", "cdcl", "byol"])
def test_a_vit_takes_the_papers_crops_of_224_and_112(name):
    """Two pairs of six-channel images through a step of DEiT-Ti/16, the smallest there is."""
    six = tuple("abcdef")
    method = made(name, six, encoder="deit_tiny_patch16_224", drop_path=0.1)
    views = minibatch(0 if name == "byol" else 3, 6, 2, (224, 112))
    loss, _ = method.loss(views, 0.5)
    assert torch.isfinite(loss)
    loss.backward()
    stem = method.student.patch_embed.proj
    assert stem.weight.grad.abs().sum((0, 2, 3)).min() > 0  # of every channel
    assert stem.bias.grad.abs().sum() > 0 and method.student.pos_embed.grad.abs().sum() > 0

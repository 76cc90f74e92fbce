"""Encoders with any number of named channels; nothing is replaced silently."""

import json
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from hcs_utils.errors import InputError
from hcs_utils.learning.backbones import encoder

FIVE = ("DNA", "ER", "RNA", "AGP", "Mito")


@pytest.mark.parametrize(
    "name", ["tiny", "small", "test_vit", "test_resnet", "mobilenetv3_small_050"]
)
@pytest.mark.parametrize("channels", [("one",), FIVE])
def test_any_number_of_named_channels(name, channels):
    model = encoder(name, channels).eval()
    assert model.channels == channels
    images = torch.randn(2, len(channels), 48, 48)
    features = model(images)
    assert features.shape == (2, model.num_features)
    assert torch.isfinite(features).all()
    blank = images.clone()
    blank[:, -1] = 0  # the last channel is looked at too
    assert not torch.allclose(model(blank), features)


@pytest.mark.parametrize("size", [16, 17, 80])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_first_1x1_convolution_is_that_of_stride_2(channels, size):
    """Values and gradients, without the call that writes past its memory (oneDNN issue 6035)."""
    conv = encoder("tiny", FIVE[:channels]).stem.conv_1x1.conv
    images = torch.randn(8, channels, size, size)
    weight = conv.weight.detach().clone().requires_grad_()
    expected = torch.einsum("oc,ncyx->noyx", weight[:, :, 0, 0], images[:, :, ::2, ::2])
    expected.square().sum().backward()
    got = conv(images.contiguous(memory_format=torch.channels_last))
    got.square().sum().backward()
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(conv.weight.grad, weight.grad, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_no_other_convolution_strides_over_few_channels(name):
    few = [
        m
        for m in encoder(name, FIVE).modules()
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1) and m.in_channels < 16
    ]
    assert [m.stride for m in few] == [(1, 1)]


def test_small_encoders_take_fields_of_any_size():
    model = encoder("tiny", FIVE).eval()
    for size in (28, 40, 96):
        assert model(torch.randn(1, 5, size, size)).shape == (1, 64)


def test_weights_start_from_the_seed_of_torch():
    def first(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in encoder("tiny", FIVE).parameters()])

    assert torch.equal(first(0), first(0)) and not torch.equal(first(0), first(1))


# Weights of ImageNet


def test_without_network_imagenet_weights_are_not_replaced_by_random_ones(monkeypatch):
    asked = []

    def offline(name, pretrained=False, **options):
        asked.append((name, pretrained))
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"ImageNet weights of test_resnet.*OSError") as caught:
        encoder("test_resnet", FIVE, "imagenet")
    assert asked == [("test_resnet", True)]
    assert "network" in str(caught.value) and "weights=None" in str(caught.value)


def test_errors_of_an_untrained_encoder_are_not_blamed_on_the_network(monkeypatch):
    def broken(name, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        encoder("test_resnet", FIVE)


def test_there_are_no_imagenet_weights_for_the_projects_own_encoders():
    with pytest.raises(InputError, match="no ImageNet weights for the encoder 'small'"):
        encoder("small", FIVE, "imagenet")


def test_rgb_kernels_are_repeated_over_the_channels(monkeypatch, tmp_path):
    """A local checkpoint in the place of timm's own: kernel c of five is RGB kernel c mod 3."""
    torch.manual_seed(0)
    rgb = timm.create_model("test_resnet", num_classes=1000)
    weights = {k: v.contiguous() for k, v in rgb.state_dict().items()}
    save_file(weights, tmp_path / "imagenet.safetensors")
    create = timm.create_model

    def local(name, **options):
        overlay = {"file": str(tmp_path / "imagenet.safetensors"), "hf_hub_id": None}
        return create(name, pretrained_cfg_overlay=overlay, **options)

    monkeypatch.setattr(timm, "create_model", local)
    model = encoder("test_resnet", FIVE, "imagenet")
    name, kernel = next((k, v) for k, v in model.state_dict().items() if v.ndim == 4)
    for c in range(5):
        torch.testing.assert_close(kernel[:, c], rgb.state_dict()[name][:, c % 3] * 3 / 5)
    deep = [k for k, v in weights.items() if v.ndim == 4][1:]
    assert all(torch.equal(model.state_dict()[k], weights[k]) for k in deep)


# Weights of a file


def test_weights_of_a_file_come_back(tmp_path):
    model = encoder("tiny", FIVE)
    weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors", metadata={"channels": json.dumps(FIVE)})
    again = encoder("tiny", FIVE, str(tmp_path / "w.safetensors"))
    assert again.channels == FIVE
    for name, value in again.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize(
    ("name", "channels", "words"),
    [
        ("small", FIVE, "does not fit the encoder 'small'"),
        ("tiny", FIVE[:3], r"trained on \[.*Mito.*not on \[.*RNA"),
        ("tiny", FIVE[::-1], "not on .*Mito.*DNA"),
        ("test_resnet", FIVE, "does not fit the encoder 'test_resnet'"),
    ],
    ids=["wider", "fewer channels", "other order", "other encoder"],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, name, channels, words):
    weights = {k: v.contiguous() for k, v in encoder("tiny", FIVE).state_dict().items()}
    path = tmp_path / "w.safetensors"
    save_file(weights, path, metadata={"channels": json.dumps(FIVE)})
    with pytest.raises(InputError, match=words) as caught:
        encoder(name, channels, str(path))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400  # not the list of every key


class Trap:
    def __reduce__(self):
        return (open, ("/nonexistent/trap", "w"))


def test_a_pickle_is_never_opened(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    for module in (pickle, torch):
        monkeypatch.setattr(module, "load", lambda *a, **k: pytest.fail("unpickled"))
    with pytest.raises(InputError, match="no safetensors file"):
        encoder("tiny", FIVE, str(path))
    torch.save(encoder("tiny", FIVE).state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt is no safetensors file.*can hold code"):
        encoder("tiny", FIVE, str(tmp_path / "w.pt"))


def test_missing_weights_and_unknown_encoders_are_told(tmp_path):
    with pytest.raises(InputError, match=r"no weights at .*none\.safetensors"):
        encoder("tiny", FIVE, str(tmp_path / "none.safetensors"))
    with pytest.raises(InputError, match=r"unknown encoder 'resnet_18'.*resnet"):
        encoder("resnet_18", FIVE)
    with pytest.raises(InputError, match="unknown encoder 'Tiny'; small, tiny"):
        encoder("Tiny", FIVE)

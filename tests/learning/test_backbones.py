"""Encoders with any number of named channels; nothing is replaced silently."""

import copy
import json
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers import DropPath
from timm.models import adapt_input_conv

from hcs_utils.errors import InputError
from hcs_utils.learning.backbones import encoder, tiled, without_drop_path

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


@pytest.mark.parametrize(
    ("count", "rgb"),
    [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (5, [0, 1, 2, 0, 1]), (6, [0, 1, 2, 0, 1, 2])],
)
def test_rgb_kernels_are_tiled_as_they_are_where_timm_rescales_them(count, rgb):
    kernel = torch.randn(4, 3, 2, 2, generator=torch.manual_seed(0))
    ours = tiled(kernel, count)
    assert torch.equal(ours, torch.stack([kernel[:, c] for c in rgb], 1))
    timms = adapt_input_conv(count, kernel)
    if count == 1:
        torch.testing.assert_close(timms[:, 0], kernel.sum(1))
    else:
        torch.testing.assert_close(timms, ours * 3 / count)


def checkpoint(path, name):
    """An encoder of RGB images and its weights in a file, as timm's hub has them: with a head."""
    torch.manual_seed(0)
    rgb = timm.create_model(name, num_classes=10)
    for p in rgb.parameters():  # biases and norms too
        torch.nn.init.normal_(p, 0.1, 0.2)
    save_file({k: v.contiguous() for k, v in rgb.state_dict().items()}, path)
    return rgb.eval()


@pytest.mark.parametrize("way", ["hub", "file"])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "deit_tiny_distilled_patch16_224"])
def test_imagenet_weights_are_all_there_and_give_an_rgb_image_its_features(
    monkeypatch, tmp_path, name, way
):
    """Of five channels three are red, green and blue and two empty: the features stay the same."""
    path, weights = tmp_path / "rgb.safetensors", "imagenet"
    rgb, create = checkpoint(path, name), timm.create_model

    def local(name, **options):  # a local file in the place of timm's own
        overlay = {"file": str(path), "hf_hub_id": None, "num_classes": 10}
        return create(name, pretrained_cfg_overlay=overlay, **options)

    if way == "hub":
        monkeypatch.setattr(timm, "create_model", local)
    else:
        weights = str(path)
    model = encoder(name, FIVE, weights).eval()
    images = torch.randn(2, 5, *rgb.pretrained_cfg["input_size"][1:])
    images[:, 3:] = 0
    with torch.no_grad():
        expected = rgb.forward_head(rgb.forward_features(images[:, :3]), pre_logits=True)
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    first = rgb.pretrained_cfg["first_conv"] + ".weight"
    for key, value in model.state_dict().items():
        given = rgb.state_dict()[key]
        assert torch.equal(value, tiled(given, 5) if key == first else given), key


def test_three_channels_take_the_kernels_unchanged(tmp_path):
    rgb = checkpoint(tmp_path / "rgb.safetensors", "test_vit")
    model = encoder("test_vit", FIVE[:3], str(tmp_path / "rgb.safetensors"))
    name = "patch_embed.proj.weight"
    assert torch.equal(model.state_dict()[name], rgb.state_dict()[name])


# DEiT-S, the paper's


def test_deit_small_is_the_papers():
    """DEiT-S/16: 384 dimensions, 12 blocks, 6 heads, layer norm of eps 1e-6; five-channel stem."""
    with torch.device("meta"):
        model = encoder("deit_small_patch16_224", FIVE)
    assert (model.num_features, len(model.blocks), model.blocks[0].attn.num_heads) == (384, 12, 6)
    assert model.norm.eps == 1e-6 and model.blocks[0].attn.qkv.bias.shape == (3 * 384,)
    assert model.patch_embed.proj.weight.shape == (384, 5, 16, 16)
    assert model.patch_embed.proj.bias is not None and model.pos_embed.shape == (1, 197, 384)
    assert model.blocks[0].mlp.fc1.weight.shape == (4 * 384, 384) and model.global_pool == "token"


@torch.no_grad()
def test_position_embeddings_of_smaller_crops_are_resampled():
    model = encoder("test_vit", FIVE).eval()
    patch, seen = model.patch_embed.proj, []
    assert (patch.stride, model.patch_embed.img_size) == ((16, 16), (160, 160))
    torch.nn.init.normal_(model.pos_embed)
    torch.nn.init.zeros_(patch.weight)
    torch.nn.init.zeros_(patch.bias)
    model.norm_pre.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(torch.zeros(1, 5, 80, 80))
    cls, grid = model.pos_embed[:, :1], model.pos_embed[:, 1:].view(1, 10, 10, -1).movedim(3, 1)
    grid = F.interpolate(grid, (5, 5), mode="bicubic", antialias=True).flatten(2).mT
    torch.testing.assert_close(seen[0], torch.cat([model.cls_token + cls, grid], 1))


@torch.no_grad()
def test_a_crop_that_is_no_multiple_of_the_patch_is_padded_with_zeros():
    model, images = encoder("test_vit", FIVE).eval(), torch.randn(2, 5, 40, 40)
    torch.testing.assert_close(model(images), model(F.pad(images, (0, 8, 0, 8))))


# Stochastic depth


def dropped(model):
    return [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]


def test_paths_are_dropped_linearly_in_depth_and_never_by_default():
    model = encoder("test_vit", FIVE, drop_path=0.1)
    depth = len(model.blocks)
    expected = [0.1 * k / (depth - 1) for k in range(1, depth) for _ in range(2)]  # block 0: none
    assert dropped(model) == pytest.approx(expected)
    assert dropped(encoder("test_vit", FIVE)) == []


def test_without_drop_path_a_copy_in_training_says_the_same_each_time():
    student, images = encoder("test_vit", FIVE, drop_path=0.5), torch.randn(8, 5, 32, 32)
    teacher = without_drop_path(copy.deepcopy(student))
    assert torch.equal(teacher(images), teacher(images))
    assert not torch.equal(student(images), student(images))
    torch.testing.assert_close(student.eval()(images), teacher(images))


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_the_projects_own_encoders_have_no_paths_to_drop(name):
    with pytest.raises(InputError, match=rf"drop_path is 0.1, but the encoder '{name}'.*deit"):
        encoder(name, FIVE, drop_path=0.1)


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


@pytest.mark.parametrize(("name", "width"), [("vgg16", 512), ("resnet18", 512), ("convnext", 768)])
def test_quality_controls_encoders_by_the_papers_names(name, width):
    """A VGG's features are its last maps, averaged, not timm's 4,096 of a hidden layer."""
    with torch.device("meta"):  # shapes alone
        model = encoder(name, ("red", "green", "blue")).eval()
        assert model(torch.empty(2, 3, 48, 48)).shape == (2, width)
    assert model.num_features == width


def test_a_vgg_is_loaded_without_its_hidden_layers(tmp_path):
    """timm's file has them, and its classifier; features are averages of its last maps."""
    torch.manual_seed(0)
    source = encoder("vgg11", ("r", "g", "b"))
    hidden = {"pre_logits.fc1.weight": torch.zeros(3), "head.fc.weight": torch.zeros(3)}
    save_file(source.state_dict() | hidden, tmp_path / "vgg.safetensors")
    model = encoder("vgg11", ("r", "g", "b"), str(tmp_path / "vgg.safetensors")).eval()
    images = torch.randn(1, 3, 48, 48)
    maps = source.eval().features(images)
    torch.testing.assert_close(model(images), maps.mean((2, 3)))

"""timm encoders for images with any number of named channels."""

import json
from pathlib import Path

import timm
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.layers import DropPath
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.vgg import VGG
from torch import Tensor, nn

from hcs_utils.errors import InputError
from hcs_utils.learning import procedural

SHORT = {"convnext": "convnext_tiny"}  # names of the paper on quality control
SMALL = {"small": (32, 64, 128, 128), "tiny": (16, 32, 64, 64)}  # channels of each stage


def encoder(
    name: str, channels: tuple[str, ...], weights: str | None = None, drop_path: float | int = 0.0
) -> nn.Module:
    """An encoder that maps [n c y x] to features [n d]; ``.channels`` records what it was made for.

    ``name`` is ``small`` or ``tiny`` (a RepVGG of four blocks, for fields of 28–96 px on a CPU) or
    any timm model, such as ``deit_small_patch16_224``, whose feature is the class token after the
    last layer norm. A ViT takes crops of any size: position embeddings are resampled bicubically
    (timm smooths when it shrinks them, CDCL's released code does not), and sides that are no
    multiple of the patch are padded with zeros.

    ``convnext`` is timm's ``convnext_tiny``; the features of a VGG are its last maps, averaged
    (512 of ``vgg16``, as the paper on quality control has it; timm's are 4,096 of a hidden layer).

    ``weights`` is None (random), ``"imagenet"`` (timm's own), ``"procedural"`` (learned once from
    drawings: `procedural.weights`; ``"procedural:100"`` in 100 steps) or a local ``.safetensors``
    file: what training left here, or a timm checkpoint of RGB images with its classifier, which is
    left out. RGB kernels are tiled over the channels (`tiled`). ``drop_path`` is timm's stochastic
    depth, rising linearly from 0 to this rate at the last block. Nothing is ever replaced silently.
    """
    count, known = len(channels), name
    if weights and weights.partition(":")[0] == "procedural":
        weights = str(_procedural(name, tuple(channels), weights))
    name = SHORT.get(name, name)
    if name in SMALL:
        if weights == "imagenet":
            raise InputError(f"there are no ImageNet weights for the encoder {name!r}")
        if drop_path:
            raise InputError(
                f"drop_path is {drop_path}, but the encoder {name!r} has no residual paths to "
                "drop. Give drop_path=0, or a timm encoder such as deit_small_patch16_224."
            )
        model = _repvgg(SMALL[name], count)
    elif timm.is_model(name):
        options = {"drop_path_rate": float(drop_path)} if drop_path else {}
        if name.startswith(("vit_", "deit", "test_vit")):
            options |= {"dynamic_img_size": True, "dynamic_img_pad": True}
        model = _from_timm(name, count, weights == "imagenet", options)
    else:
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise InputError(f"unknown encoder {known!r}; small, tiny or a timm model such as {near}")
    if weights not in (None, "imagenet"):
        _load(model, name, tuple(channels), Path(weights))
    model.channels = tuple(channels)
    model.num_features = getattr(model, "head_hidden_size", model.num_features)  # what comes out
    return model


def _procedural(name: str, channels: tuple[str, ...], asked: str) -> Path:
    """The file of weights that drawings teach: "procedural", or after so many steps."""
    _, colon, steps = asked.partition(":")
    if colon and not (steps.isdecimal() and int(steps)):
        raise InputError(
            f"weights is {asked!r}: write procedural, or procedural:100 for 100 steps."
        )
    config = procedural.ProceduralConfig(**({"steps": int(steps)} if colon else {}))
    return procedural.weights(name, len(channels), lambda: encoder(name, channels), config)


def without_drop_path(network: nn.Module) -> nn.Module:
    """The same network, no path of which is dropped in training: a teacher's (CDCL's code)."""
    for module in network.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    return network


def tiled(kernel: Float[Tensor, "o 3 y x"], count: int) -> Float[Tensor, "o {count} y x"]:
    """RGB kernels over any number of channels: RGBRGB…, as they are (CDCL's released code).

    timm's `adapt_input_conv` repeats them too, but scales them by 3 / count, and of one channel
    takes the sum; here one channel gets the red kernel, as there.
    """
    return kernel.repeat(1, -(-count // 3), 1, 1)[:, :count].contiguous()


def _load(model: nn.Module, name: str, channels: tuple[str, ...], path: Path) -> None:
    """Weights that training left (``model.safetensors``), or timm's of RGB images."""
    if not path.exists():
        raise InputError(f"no weights at {path}: give a .safetensors file of encoder {name!r}")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            known, drawn = about.get("channels"), "procedural" in about
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is no safetensors file ({error}). Files of other kinds are not opened: they "
            "can hold code. Convert it with safetensors.torch.save_file."
        ) from error
    if known and tuple(json.loads(known)) != channels:
        raise InputError(f"{path} was trained on {known}, not on {json.dumps(channels)}.")
    try:
        model.load_state_dict(weights if known or drawn else _of_rgb(weights, model, len(channels)))
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise InputError(
            f"{path} does not fit the encoder {name!r} with {len(channels)} channels: "
            f"{reason[0].strip()[:200]}"
        ) from error


def _of_rgb(weights: dict[str, Tensor], model: nn.Module, count: int) -> dict[str, Tensor]:
    """A timm checkpoint without its classifier, its first kernels tiled over the channels."""
    about = getattr(model, "pretrained_cfg", None) or {}
    first, last = (about.get(part) or () for part in ("first_conv", "classifier"))
    first, last = ((x,) if isinstance(x, str) else x for x in (first, last))
    kept = {k: v for k, v in weights.items() if k.rpartition(".")[0] not in last}
    if isinstance(model, VGG):
        kept = {k: v for k, v in kept.items() if not k.startswith("pre_logits.")}
    for key in (f"{part}.weight" for part in first):
        if key in kept and kept[key].ndim == 4 and kept[key].shape[1] == 3 != count:
            kept[key] = tiled(kept[key], count)
    return kept


def _repvgg(widths: tuple[int, ...], in_channels: int) -> nn.Module:
    """One block a stage, each halving the image; no max-pooling, which loses fine texture."""
    first, *rest = widths
    blocks = tuple(ByoBlockCfg("rep", d=1, c=c, s=2, gs=0, br=1.0) for c in rest)
    config = ByoModelCfg(blocks=blocks, stem_type="rep", stem_chs=first)
    model = ByobNet(config, num_classes=0, in_chans=in_channels)
    conv = _EverySecond(in_channels, first, 1, bias=False, device="meta")
    conv.weight = model.stem.conv_1x1.conv.weight
    model.stem.conv_1x1.conv = conv
    return model


class _EverySecond(nn.Conv2d):
    """A 1×1 convolution of stride 2, as one of stride 1 on every second pixel: the same numbers.

    On a CPU oneDNN's backward of the former, for few channels stored last, writes past its
    memory: it crashes, hangs or gives wrong gradients (uxlfoundation/oneDNN#6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x[:, :, ::2, ::2], self.weight)


def _from_timm(name, count, pretrained, options):
    if not pretrained:
        return _pooled(timm.create_model(name, in_chans=count, num_classes=0, **options))
    try:
        rgb = timm.create_model(name, pretrained=True, num_classes=0, **options)
    except Exception as error:
        raise InputError(
            f"the ImageNet weights of {name} could not be had ({type(error).__name__}). Connect to "
            "the network once, give a local .safetensors file, or train from weights=None."
        ) from error
    model = _pooled(timm.create_model(name, in_chans=count, num_classes=0, **options))
    model.load_state_dict(_of_rgb(rgb.state_dict(), model, count))
    return model


def _pooled(model):
    """A VGG without the hidden layers of its classifier: 512 averages of its last maps."""
    if isinstance(model, VGG):
        model.pre_logits = nn.Identity()
        model.head_hidden_size = model.num_features
    return model

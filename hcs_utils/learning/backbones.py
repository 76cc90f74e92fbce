"""timm encoders for images with any number of named channels."""

import json
from pathlib import Path

import timm
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor, nn

from hcs_utils.errors import InputError

SMALL = {"small": (32, 64, 128, 128), "tiny": (16, 32, 64, 64)}  # channels of each stage


def encoder(name: str, channels: tuple[str, ...], weights: str | None = None) -> nn.Module:
    """An encoder that maps [n c y x] to features [n d]; ``.channels`` records what it was made for.

    ``name`` is ``small`` or ``tiny`` (a RepVGG of four blocks, for fields of 28–96 px on a CPU) or
    any timm model, such as ``deit_small_patch16_224``. ``weights`` is None (random),
    ``"imagenet"`` (timm's own; RGB kernels are repeated over the channels, as CDCL does) or a
    local ``.safetensors`` file. Nothing is ever replaced silently.
    """
    count = len(channels)
    if name in SMALL:
        if weights == "imagenet":
            raise InputError(f"there are no ImageNet weights for the encoder {name!r}")
        model = _repvgg(SMALL[name], count)
    elif timm.is_model(name):
        options = {"dynamic_img_size": True} if name.startswith(("vit_", "deit")) else {}
        model = _from_timm(name, count, weights == "imagenet", options)
    else:
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise InputError(f"unknown encoder {name!r}; small, tiny or a timm model such as {near}")
    if weights not in (None, "imagenet"):
        _load(model, name, tuple(channels), Path(weights))
    model.channels = tuple(channels)
    model.num_features = getattr(model, "head_hidden_size", model.num_features)  # what comes out
    return model


def _load(model: nn.Module, name: str, channels: tuple[str, ...], path: Path) -> None:
    """Weights that training left (``model.safetensors``), of the same encoder and channels."""
    if not path.exists():
        raise InputError(f"no weights at {path}: give a .safetensors file of encoder {name!r}")
    try:
        with safe_open(path, "pt") as file:
            known = (file.metadata() or {}).get("channels")
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is no safetensors file ({error}). Files of other kinds are not opened: they "
            "can hold code. Convert it with safetensors.torch.save_file."
        ) from error
    if known and tuple(json.loads(known)) != channels:
        raise InputError(f"{path} was trained on {known}, not on {json.dumps(channels)}.")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise InputError(
            f"{path} does not fit the encoder {name!r} with {len(channels)} channels: "
            f"{reason[0].strip()[:200]}"
        ) from error


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
    try:
        return timm.create_model(
            name, pretrained=pretrained, in_chans=count, num_classes=0, **options
        )
    except Exception as error:
        if not pretrained:
            raise
        raise InputError(
            f"the ImageNet weights of {name} could not be had ({type(error).__name__}). Connect to "
            "the network once, give a local .safetensors file, or train from weights=None."
        ) from error

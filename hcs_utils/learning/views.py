"""Views: random crops, turns and colour shifts of many fields at once, on their own device."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hcs_utils.errors import InputError


@dataclass(frozen=True)
class ViewsConfig:
    """Crops a method asks for. Sizes in px of the stored field; CDCL paper: 224, 112 and 3."""

    global_size: int = 40
    local_size: int = 28
    locals_per_image: int = 3  # CDCL, appendix C: one global and three local crops of each image
    global_scale: tuple[float, float] | None = None  # area share; None cuts without resizing
    local_scale: tuple[float, float] | None = None
    colour_gain: float = 0.1  # sd of the factor on each channel
    colour_offset: float = 0.0  # sd of the shift of each channel, in units of the 8-bit range
    colour_probability: float = 0.5

    @classmethod
    def for_fields(cls, size: int, **changes) -> "ViewsConfig":
        """Crops in the proportion of the defaults to fields of 48 px, cut without resizing."""
        return cls(global_size=round(size * 5 / 6), local_size=round(size * 7 / 12), **changes)


ASPECT = (3 / 4, 4 / 3)  # width over height of a resized crop
TRIES = 10  # at a rectangle that fits into the field
RELEASED = {  # area shares of CDCL's files augmentation_strategy-*.json: global, local
    "rxrx1": ((0.9, 1.1), (0.3, 0.5)),
    "cpg0004": ((0.75, 0.9), (0.3, 0.5)),
    "cpg0004_large": ((0.3, 0.5), (0.15, 0.25)),
}


def released(name: str, size: int, supervised: bool = False, **changes) -> ViewsConfig:
    """Crops and colours of CDCL's released settings, ``name`` one of ``RELEASED``.

    Sizes are in its proportion to fields of 256 px: 224 and 112. Its supervised training on
    RxRx1 draws the area from 0.8–1.2. Colours shift in half of the images, by a factor
    N(1, 0.1) and an offset N(0, 0.1) of the 8-bit range for each channel.
    """
    if name not in RELEASED:
        raise InputError(f"unknown crops {name!r}; released are {', '.join(RELEASED)}")
    global_, local = RELEASED[name]
    if supervised and name == "rxrx1":
        global_ = (0.8, 1.2)
    side = round(size * 224 / 256)
    return ViewsConfig(**{
        "global_size": side, "local_size": round(side / 2), "global_scale": global_,
        "local_scale": local, "colour_gain": 0.1, "colour_offset": 0.1, "colour_probability": 0.5,
    } | changes)  # fmt: skip


@dataclass
class Normaliser:
    """Channel statistics by plate, in grey levels 0…255: x → (x − mean) / sd of its own plate."""

    mean: Float[Tensor, "plates c"]
    std: Float[Tensor, "plates c"]

    def to(self, device) -> "Normaliser":
        return Normaliser(self.mean.to(device), self.std.to(device))


def crop(
    images: UInt8[Tensor, "n c y x"], size: int, scale: tuple[float, float] | None = None
) -> Float[Tensor, "n c size size"]:
    """One random square of each image, flipped and turned by quarter circles at random.

    Without ``scale`` the square is cut by integer indexing: no pixel is interpolated. With it, a
    rectangle is resized bilinearly to ``size``, as torchvision's RandomResizedCrop and CDCL's
    code do: a share of the area drawn from ``scale``, an aspect ratio from 3/4–4/3, ten tries at
    one that fits into the field, then the whole field. Shares near or above 1 seldom fit.
    """
    height, width = images.shape[-2:]
    if size > min(height, width) and scale is None:
        raise ValueError(f"crop of {size} px asked from fields of {height}×{width} px")
    return _cut(images, size) if scale is None else _resized(images, size, scale)


def _cut(images, size):
    n, _, height, width = images.shape
    device, span = images.device, torch.arange(size, device=images.device)
    top = torch.randint(height - size + 1, (n, 1), device=device)
    left = torch.randint(width - size + 1, (n, 1), device=device)
    flip = torch.rand(3, n, 1, device=device) < 0.5
    rows = top + torch.where(flip[0], span.flip(0), span)
    cols = left + torch.where(flip[1], span.flip(0), span)
    turn = flip[2][:, :, None]
    row = torch.where(turn, rows[:, None, :], rows[:, :, None]).expand(n, size, size)
    col = torch.where(turn, cols[:, :, None], cols[:, None, :]).expand(n, size, size)
    picked = images[torch.arange(n, device=device)[:, None, None], :, row, col]  # n y x c
    return picked.permute(0, 3, 1, 2).float()


def _resized(images, size, scale):
    n, device, extent = len(images), images.device, images.shape[-2:]
    start, length = _rectangles(n, extent, scale, device)
    flip = torch.rand(3, n, 1, device=device) < 0.5
    span = (torch.arange(size, device=device) + 0.5) / size
    at = []  # of each output pixel in the field, 0…1: rows, then columns
    for k in range(2):
        first, count = start[k, :, None], length[k, :, None]
        place = torch.where(flip[k], span.flip(0), span) * count - 0.5
        at.append((2 * (first + place.clamp(min=0).minimum(count - 1)) + 1) / extent[k] - 1)
    rows, cols, turn = at[0], at[1], flip[2][:, :, None]
    y = torch.where(turn, rows[:, None, :], rows[:, :, None]).expand(n, size, size)
    x = torch.where(turn, cols[:, :, None], cols[:, None, :]).expand(n, size, size)
    grid = torch.stack([x, y], -1)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _rectangles(n, extent, scale, device):
    """Starts and lengths [2 n] in px, rows before columns, of n random rectangles that fit."""
    low, high = (math.log(ratio) for ratio in ASPECT)
    ratio = torch.empty(TRIES, n, device=device).uniform_(low, high).exp()
    area = torch.empty(TRIES, n, device=device).uniform_(*scale) * math.prod(extent)
    tried = torch.stack([area / ratio, area * ratio]).sqrt().round()  # 2 tries n
    whole = torch.tensor(extent, device=device).view(2, 1)
    fits = ((tried <= whole[:, None]) & (tried > 0)).all(0)
    first = fits.int().argmax(0).expand(2, 1, n)  # the first try that fits, if any does
    rows = min(extent[0], round(extent[1] / ASPECT[0]))  # else the field, or its middle if it
    cols = min(extent[1], round(extent[0] * ASPECT[1]))  # is longer than the aspect ratio allows
    most = torch.tensor([rows, cols], device=device).view(2, 1)
    length = torch.where(fits.any(0), tried.gather(1, first)[:, 0], most)
    drawn = (torch.rand(2, n, device=device) * (whole - length + 1)).floor()
    middle = (whole - length).div(2, rounding_mode="floor")
    start = torch.where(fits.any(0), drawn.minimum(whole - length), middle)
    return start, length


def centre(images: UInt8[Tensor, "n c y x"], size: int) -> Float[Tensor, "n c size size"]:
    """The middle square of each field: what embeddings are computed from."""
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    if min(top, left) < 0:
        raise ValueError(f"crop of {size} px asked from fields of {tuple(images.shape[-2:])} px")
    return images[..., top : top + size, left : left + size].float()


def colour(
    crops: Float[Tensor, "n c y x"],
    plate: Int[Tensor, " n"],
    normaliser: Normaliser,
    config: ViewsConfig | None = None,
) -> Float[Tensor, "n c y x"]:
    """Shift the colours (training only, when ``config`` is given), then normalise by plate.

    x → ((gain · x + 255 · offset) − mean[plate]) / sd[plate], with gain ~ N(1, colour_gain) and
    offset ~ N(0, colour_offset) for each image and channel, in ``colour_probability`` of images.
    """
    mean, std = normaliser.mean[plate], normaliser.std[plate]
    slope, shift = 1 / std, -mean / std
    if config is not None:
        gain, offset = torch.randn(2, *mean.shape, device=crops.device)
        on = (torch.rand(len(mean), 1, device=crops.device) < config.colour_probability).float()
        shift = shift + on * 255 * config.colour_offset * offset / std
        slope = slope * (1 + on * config.colour_gain * gain)
    out = crops * slope[:, :, None, None] + shift[:, :, None, None]
    return out.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU


def multi_crop(
    first: UInt8[Tensor, "n c y x"],
    second: UInt8[Tensor, "n c y x"],
    plates: Int[Tensor, "2 n"],
    normaliser: Normaliser,
    config: ViewsConfig,
) -> tuple[Float[Tensor, "2*n c g g"], Float[Tensor, "l c s s"]]:
    """Global and local crops of a pair of images, as CDCL's appendix C counts them.

    Views are ordered v0 = G(first), v1 = G(second), then the local crops of ``first``, then
    those of ``second``; the two tensors hold the views one after the other, n rows each. A pair
    of one image with itself is plain DINO: two global and six local crops of that image.
    """
    pair, k = (first, second), config.locals_per_image
    global_ = [crop(x, config.global_size, config.global_scale) for x in pair]
    local = [crop(x, config.local_size, config.local_scale) for x in pair for _ in range(k)]
    owners = [plates[0]] * k + [plates[1]] * k
    out = colour(torch.cat(global_), plates.flatten(), normaliser, config)
    if not local:
        return out, out[:0]
    return out, colour(torch.cat(local), torch.cat(owners), normaliser, config)

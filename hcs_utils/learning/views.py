"""Views: random crops, turns and colour shifts of many fields at once, on their own device."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor


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

    Without ``scale`` the square is cut by integer indexing: no pixel is interpolated. With it,
    a share of the area drawn from ``scale`` is resized bilinearly to ``size`` (a share above 1
    takes the whole field).
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
    n, device = len(images), images.device
    share = torch.empty(n, device=device).uniform_(*scale).clamp(max=1).sqrt()
    sign = torch.randint(0, 2, (2, n), device=device) * 2.0 - 1
    centre = (torch.rand(2, n, device=device) * 2 - 1) * (1 - share)
    theta = torch.zeros(n, 2, 3, device=device)
    turn = torch.rand(n, device=device) < 0.5
    for k in range(2):
        theta[:, k, k] = torch.where(turn, 0, share * sign[k])
        theta[:, k, 1 - k] = torch.where(turn, share * sign[k], 0)
        theta[:, k, 2] = centre[k]
    grid = F.affine_grid(theta, [n, images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)


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

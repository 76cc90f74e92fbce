"""Views for quality control: crops turned, shifted and scaled, their grey levels untouched."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from hcs_utils.errors import InputError


@dataclass(frozen=True)
class QCViews:
    """What a view does to a crop; the paper names the changes, but gives no magnitudes.

    The defaults are those of albumentations, which has the five under the paper's names
    (RandomRotate90, Flip, Transpose, and ShiftScaleRotate for the last two).
    """

    turn: bool = True  # one of the 8 turns and flips, each with equal chance
    shift: float | int = 0.0625  # at most this share of the side, along each axis, in whole px
    scale: float | int = 0.1  # the side is enlarged by a factor of 1 − scale … 1 + scale
    probability: float | int = 0.5  # that a view is shifted and scaled at all

    def __post_init__(self):
        wrong = {
            "shift": not 0 <= self.shift < 1,
            "scale": not 0 <= self.scale < 1,
            "probability": not 0 <= self.probability <= 1,
        }
        if any(wrong.values()):
            name = next(name for name in wrong if wrong[name])
            raise InputError(f"{name} is {getattr(self, name)}: it must lie between 0 and 1.")


def qc_view(
    crops: UInt8[Tensor, "n c size size"], views: QCViews
) -> Float[Tensor, "n c size size"]:
    """One random view of each crop, in its own grey levels 0…255.

    Turns, flips and transposition move whole pixels, and so does a shift; beyond the border the
    picture is mirrored. Only a scaled view is interpolated (bilinearly), which blurs a little.
    """
    n, size, device = len(crops), crops.shape[-1], crops.device
    out = _turned(crops) if views.turn else crops
    out = out.float()
    if not views.probability or not (views.shift or views.scale):
        return out
    on = (torch.rand(n, device=device) < views.probability).float()
    most = int(views.shift * size)
    shift = torch.randint(-most, most + 1, (2, n), device=device) * on
    factor = 1 + (2 * torch.rand(n, device=device) - 1) * views.scale * on
    centre = torch.arange(size, device=device) - (size - 1) / 2
    at = centre / factor[:, None] - shift[..., None]  # 2 n size: where each px is taken from, in px
    at = (at / (size / 2)).view(2, n, size)
    grid = torch.stack(
        [at[1][:, None, :].expand(n, size, size), at[0][:, :, None].expand(n, size, size)], -1
    )
    return F.grid_sample(out, grid, padding_mode="reflection", align_corners=False)


def _turned(crops):
    """Each crop as one of the eight images that turning and flipping a square gives."""
    n, size, device = len(crops), crops.shape[-1], crops.device
    span, flip = torch.arange(size, device=device), torch.rand(3, n, 1, device=device) < 0.5
    rows, cols = (torch.where(f, span.flip(0), span) for f in flip[:2])
    turn = flip[2][:, :, None]
    row = torch.where(turn, rows[:, None, :], rows[:, :, None]).expand(n, size, size)
    col = torch.where(turn, cols[:, :, None], cols[:, None, :]).expand(n, size, size)
    picked = crops[torch.arange(n, device=device)[:, None, None], :, row, col]  # n y x c
    return picked.permute(0, 3, 1, 2)

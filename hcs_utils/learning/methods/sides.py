"""Molecules on one side, images on the other: what is refused, and how many find each other."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hcs_utils.errors import InputError


def check(temperature: float | int | Tensor, *sides: Tensor) -> None:
    """Refuse what has no loss: one compound, sides of different compounds, τ ≤ 0, no numbers.

    Numbers are looked at on CPUs only: an accelerator would have to be waited for. There the loss
    is NaN, and `train.fit` stops.
    """
    here = isinstance(temperature, float | int) or temperature.device.type == "cpu"
    if here and not temperature > 0:
        raise InputError(f"temperature is {float(temperature)}: it must be above 0, such as 0.1.")
    if len({len(x) for x in sides}) > 1:
        raise InputError(f"{len(sides[0])} molecules, and images of {len(sides[1])} compounds.")
    if len(sides[0]) < 2:
        raise InputError(
            f"A minibatch of {len(sides[0])} compound(s) has no others to tell it from. Give two "
            "compounds or more."
        )
    for name, x in zip(("molecules", "images"), sides, strict=True):
        if x.device.type == "cpu" and not x.isfinite().all():
            row = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
            raise InputError(
                f"The projections of {name} hold numbers that are not finite, first in compound "
                f"{row} of the minibatch. Lower learning_rate; look for empty images."
            )


def check_settings(c) -> None:
    """Refuse temperatures that are none, and words that name no form."""
    low, high = c.temperature_min, c.temperature_max
    if not 0 < c.temperature < math.inf or not 0 < low <= high < math.inf:
        raise InputError(
            f"temperature is {c.temperature}, its bounds {low} and {high}: all must be above 0, "
            "and temperature_min not above temperature_max."
        )
    if c.learn_temperature and not low <= c.temperature <= high:
        raise InputError(f"temperature {c.temperature} lies outside its bounds {low} to {high}.")
    if c.form not in ("paper", "released"):
        raise InputError(f"form is {c.form!r}; there are 'paper' and 'released'.")


@torch.no_grad()
def found_first(mol: Float[Tensor, "n d"], img: Float[Tensor, "n d"]) -> dict[str, Tensor]:
    """Share of molecules whose own image is the nearest of N (m2i), and of images (i2m)."""
    scores = F.normalize(mol, dim=-1) @ F.normalize(img, dim=-1).mT
    right = torch.arange(len(scores), device=scores.device)
    ways = {"m2i_first": 1, "i2m_first": 0}
    return {way: (scores.argmax(d) == right).to(scores).mean() for way, d in ways.items()}

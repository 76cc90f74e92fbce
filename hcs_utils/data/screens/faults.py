"""Faults that quality control has to find, put into raw fields, real or drawn."""

import numpy as np
from jaxtyping import Bool, UInt16
from scipy.ndimage import convolve, gaussian_filter

from hcs_utils.errors import InputError

LOCAL = ("saturation", "debris", "autofluorescence")  # those whose mask is part of the field


def apply(
    image: UInt16[np.ndarray, "c y x"],
    fault: str,
    severity: float | int,
    rng: np.random.Generator,
    nucleus_px: float | int = 4,
) -> tuple[UInt16[np.ndarray, "c y x"], Bool[np.ndarray, "y x"]]:
    """The field with a fault, and where it lies: clipped or added light, else the whole field.

    ``severity`` runs from 0 (just visible) to 1; ``nucleus_px``, the radius of a nucleus, sets the
    scale of blur and particles. The first channel is that of DNA.
    """
    if fault not in _DRAWN:
        raise InputError(f"Unknown fault {fault!r}; there are: {', '.join(_DRAWN)}.")
    if not 0 <= severity <= 1:
        raise InputError(f"severity is {severity}; give a number from 0 to 1.")
    changed, mask = _DRAWN[fault](image.astype(np.float32), severity, rng, nucleus_px)
    changed = np.clip(np.rint(changed), 0, np.iinfo(image.dtype).max).astype(image.dtype)
    if mask is None:
        mask = np.ones(image.shape[1:], bool)
    return changed, mask


def _out_of_focus(image, severity, rng, nucleus_px):
    sigma = (0.4 + 0.8 * severity) * nucleus_px
    blurred = gaussian_filter(image, (0, sigma, sigma))
    return blurred + _grain(image) * rng.standard_normal(image.shape, dtype=np.float32), None


def _noise(image, severity, rng, nucleus_px):
    sd = (0.5 + 1.5 * severity) * image.std((1, 2), keepdims=True)
    return image + sd * rng.standard_normal(image.shape, dtype=np.float32), None


def _saturation(image, severity, rng, nucleus_px):
    """Too long an exposure: 2 to 20 % of each channel's pixels reach the largest value."""
    top = np.float32(np.iinfo(np.uint16).max)
    brightest = np.quantile(image, 0.98 - 0.18 * severity, axis=(1, 2), keepdims=True)
    exposed = image * (top / np.maximum(brightest, 1))
    return exposed, (np.rint(exposed) >= top).any(0)


def _debris(image, severity, rng, nucleus_px):
    """Bright grains and fibres with sharp edges, each in some of the channels."""
    added = np.zeros_like(image)
    for _ in range(1 + round(4 * severity)):
        long = nucleus_px * rng.uniform(0.5, 1 + 2 * severity)
        shape = _ellipse(image.shape[1:], long, nucleus_px * rng.uniform(0.25, 0.7), rng)
        channels = np.maximum(rng.uniform(-0.5, 1, len(image)), 0)
        channels[rng.integers(len(image))] = 1
        light = rng.uniform(1, 2.5) * channels[:, None, None] * _range(image)
        added = np.maximum(added, light * (shape < 1) * (1 - 0.4 * np.minimum(shape, 1)))
    return _with_light(image, added)


def _autofluorescence(image, severity, rng, nucleus_px):
    """One broad cloud of light in all channels, most in those of short wavelength."""
    width = nucleus_px * rng.uniform(2, 3 + 3 * severity)
    shape = _ellipse(image.shape[1:], width, width * rng.uniform(0.4, 1), rng)
    cloud = np.exp(-0.5 * (shape * 1.2) ** 2)
    colour = np.geomspace(1, 0.4, len(image)) * rng.uniform(0.7, 1, len(image))
    light = (0.5 + 1.5 * severity) * colour[:, None, None] * _range(image)
    return _with_light(image, light * np.where(cloud > 0.05, cloud, 0))


def _empty(image, severity, rng, nucleus_px):
    """No cells: the background of each channel with its grain."""
    floor = np.quantile(image, 0.1, axis=(1, 2), keepdims=True).astype(np.float32)
    grain = _grain(image) * np.sqrt(floor / np.maximum(image.mean((1, 2), keepdims=True), 1))
    return floor + grain * rng.standard_normal(image.shape, dtype=np.float32), None


def _dead(image, severity, rng, nucleus_px):
    """No cell bodies, only small, round, bright nuclei in pieces; the fewer the more severe."""
    empty, _ = _empty(image, severity, rng, nucleus_px)
    area = image[0].size / (40 * nucleus_px**2)
    channels = np.concatenate([[1.5], rng.uniform(0.05, 0.3, len(image) - 1)])
    added = np.zeros_like(image)
    for _ in range(max(1, round(area * (1 - 0.7 * severity)))):
        radius = nucleus_px * rng.uniform(0.3, 0.6)
        shape = _ellipse(image.shape[1:], radius, radius * rng.uniform(0.7, 1), rng)
        light = channels[:, None, None] * _range(image) * rng.uniform(0.6, 1.2)
        added += light * np.exp(-(shape**2))
    return empty + added, None


def _ellipse(shape, long, short, rng) -> np.ndarray:
    """Distance from a random centre, 1 on the rim of an ellipse turned at random."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    y, x = y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.sqrt((along / long) ** 2 + (across / short) ** 2)


def _with_light(image, added):
    """Whole grey levels are added, so that the mask is where the picture changed."""
    added = np.rint(added)
    return image + added, (added > 0).any(0)


def _range(image) -> np.ndarray:
    low, high = np.quantile(image, (0.02, 0.995), axis=(1, 2), keepdims=True)
    return np.maximum(high - low, 1).astype(np.float32)


def _grain(image) -> np.ndarray:
    """Sd of the noise between neighbouring pixels, [c 1 1]; after Immerkær 1996, by medians."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)[None]
    return np.median(np.abs(convolve(image, kernel)), (1, 2), keepdims=True) / (6 * 0.6745)


_DRAWN = {
    "out_of_focus": _out_of_focus, "saturation": _saturation, "debris": _debris, "noise": _noise,
    "autofluorescence": _autofluorescence, "empty": _empty, "dead": _dead,
}  # fmt: skip
FAULTS = tuple(_DRAWN)

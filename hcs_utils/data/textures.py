"""Textures and shapes drawn at random, in classes: what an encoder can learn from no photograph."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float, Int, UInt8

from hcs_utils.errors import InputError

Rng = np.random.Generator
Range = tuple[float | int, float | int]
Planes = Float[np.ndarray, "n px px"]


def draw(
    n: int, classes: int = 32, px: int = 48, channels: int = 3, seed: int = 0
) -> tuple[UInt8[np.ndarray, "n channels px px"], Int[np.ndarray, " n"]]:
    """``n`` pictures and the class of each, the first ``classes`` of `CLASSES` equally often.

    Place, direction, count and size of what is drawn vary within a class, and so do contrast,
    brightness, polarity, colour, and whether channels show the same picture or two of a kind.
    The same seed draws the same pictures. Raises `InputError` for classes there are not.
    """
    if not 2 <= classes <= len(CLASSES):
        raise InputError(f"{classes} classes asked; there are 2 to {len(CLASSES)} to draw.")
    if px < 16 or channels < 1:
        raise InputError(f"{px} px in {channels} channels: draw 16 px and 1 channel or more.")
    rng = np.random.default_rng([seed, 40])
    label = rng.permutation(np.arange(n) % classes)
    images = np.empty((n, channels, px, px), np.uint8)
    for number, name in enumerate(list(CLASSES)[:classes]):
        rows = np.flatnonzero(label == number)
        kinds = np.stack([_unit(CLASSES[name](rng, len(rows), px)) for _ in range(2)])
        images[rows] = _coloured(rng, kinds, channels)
    return images, label


def _coloured(rng: Rng, kinds: Float[np.ndarray, "2 n px px"], channels: int):
    """Grey levels of two pictures of a kind, dealt out to channels at gains of their own."""
    n = kinds.shape[1]
    second = (rng.random((n, channels)) < 0.5) & (rng.random((n, 1)) < 0.5)
    picked = kinds[second.astype(int), np.arange(n)[:, None]]  # n channels px px
    gain = rng.uniform(0.1, 0.9, (n, 1)) * rng.uniform(0.15, 1, (n, channels))
    base = rng.uniform(0, 1, (n, channels)) * (1 - gain)
    picked = np.where((rng.random((n, 1)) < 0.25)[..., None, None], 1 - picked, picked)
    noise = rng.standard_normal(picked.shape, np.float32) * rng.uniform(0, 0.012, (n, 1, 1, 1))
    levels = base[..., None, None] + gain[..., None, None] * picked + noise
    return np.clip(255 * levels, 0, 255).round().astype(np.uint8)


def _unit(planes: Planes) -> Planes:
    """Each plane from 0 to 1; a constant one becomes 0."""
    low, high = (f(planes, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    return ((planes - low) / np.maximum(high - low, 1e-6)).astype(np.float32)


def _grid(px: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels, from −1/2 to 1/2."""
    return np.meshgrid(*[((np.arange(px) + 0.5) / px - 0.5).astype(np.float32)] * 2, indexing="ij")


def _each(values) -> Float[np.ndarray, "n 1 1"]:
    return np.asarray(values, np.float32)[:, None, None]


def _turned(rng: Rng, n: int, px: int):
    """Coordinates [n px px] along and across a direction of each picture's own."""
    y, x = _grid(px)
    angle = rng.uniform(0, 2 * np.pi, n)
    c, s = _each(np.cos(angle)), _each(np.sin(angle))
    return c * x + s * y, c * y - s * x


def grating(rng: Rng, n: int, px: int, cycles: Range, square=False) -> Planes:
    """Waves across the picture, or bars."""
    along, _ = _turned(rng, n, px)
    wave = np.sin(2 * np.pi * (_each(rng.uniform(*cycles, n)) * along + _each(rng.random(n))))
    return np.tanh(8 * wave) if square else wave


def checker(rng: Rng, n: int, px: int, cycles: Range) -> Planes:
    along, across = _turned(rng, n, px)
    f, a, b = (_each(v) for v in (rng.uniform(*cycles, n), rng.random(n), rng.random(n)))
    product = np.sin(2 * np.pi * (f * along + a)) * np.sin(2 * np.pi * (f * across + b))
    return np.tanh(8 * product)


def _filtered(rng: Rng, n: int, px: int, weight: np.ndarray) -> Planes:
    """White noise whose spectrum is multiplied by ``weight`` [px, px // 2 + 1]."""
    spectrum = np.fft.rfft2(rng.standard_normal((n, px, px), np.float32))
    return np.fft.irfft2(spectrum * weight, (px, px)).astype(np.float32)


def _frequency(px: int) -> np.ndarray:
    """Of a real spectrum, in cycles a picture."""
    return np.hypot(np.fft.fftfreq(px)[:, None], np.fft.rfftfreq(px)[None]) * px


def noise(rng: Rng, n: int, px: int, power: float) -> Planes:
    """Noise whose amplitude falls with frequency to this power: 0 is white, 2 is cloud."""
    return _filtered(rng, n, px, np.maximum(_frequency(px), 1) ** -power)


def band(rng: Rng, n: int, px: int, cycles: float) -> Planes:
    """Noise of about one frequency and every direction."""
    return _filtered(
        rng, n, px, np.exp(-((np.log(np.maximum(_frequency(px), 0.1) / cycles) * 4) ** 2))
    )


def blurred(planes: Planes, sigma: np.ndarray) -> Planes:
    """Each plane through a Gaussian of its own ``sigma`` [n] in px; borders wrap around."""
    px = planes.shape[-1]
    weight = np.exp(-2 * (np.pi * _each(sigma) * _frequency(px) / px) ** 2)
    return np.fft.irfft2(np.fft.rfft2(planes) * weight, (px, px)).astype(np.float32)


def objects(
    rng: Rng, n: int, px: int, count: tuple[int, int], radius: Range,
    profile: Callable, aspect: float = 1.0,
) -> Planes:  # fmt: skip
    """Things at random places; ``radius`` in shares of the side, ``profile`` of r, angle, edge."""
    y, x = _grid(px)
    out, many = np.zeros((n, px, px), np.float32), rng.integers(count[0], count[1] + 1, n)
    for k in range(count[1]):
        cy, cx, angle = _each(rng.uniform(-0.5, 0.5, n)), _each(rng.uniform(-0.5, 0.5, n)), None
        angle = rng.uniform(0, 2 * np.pi, n)
        size, long = (
            rng.uniform(*radius, n),
            rng.uniform(1, aspect, n) if aspect > 1 else np.ones(n),
        )
        c, s = _each(np.cos(angle)), _each(np.sin(angle))
        u, v = (c * (x - cx) + s * (y - cy)) / _each(long), c * (y - cy) - s * (x - cx)
        shape = profile(np.hypot(u, v) / _each(size), np.arctan2(v, u), _each(size * px))
        height = np.where(k < many, rng.uniform(0.5, 1, n), 0)
        out = np.maximum(out, _each(height) * shape)
    return out


def disc(r, angle, edge):
    return np.clip((1 - r) * edge + 0.5, 0, 1)


def spot(r, angle, edge):
    return np.exp(-2 * r**2)


def ring(r, angle, edge):
    return np.clip((0.25 - np.abs(r - 0.85)) * edge + 0.5, 0, 1)


def cross(r, angle, edge):
    u, v = np.abs(r * np.cos(angle)), np.abs(r * np.sin(angle))
    return np.clip((0.2 - np.minimum(u, v)) * edge + 0.5, 0, 1) * (np.maximum(u, v) < 1)


def polygon(r, angle, edge, corners: int = 3):
    step = 2 * np.pi / corners
    far = np.cos(np.pi / corners) / np.cos(angle % step - step / 2)
    return np.clip((far - r) * edge + 0.5, 0, 1)


def star(r, angle, edge):
    return np.clip((0.6 + 0.4 * np.cos(5 * angle) - r) * edge + 0.5, 0, 1)


def lines(rng: Rng, n: int, px: int, count: int) -> Planes:
    """Straight lines through the whole picture."""
    out = np.zeros((n, px, px), np.float32)
    for _ in range(count):
        along, _ = _turned(rng, n, px)
        away = np.abs(along - _each(rng.uniform(-0.4, 0.4, n))) * px
        out = np.maximum(out, np.clip(_each(rng.uniform(0.6, 1.6, n)) - away + 0.5, 0, 1))
    return out


def circles(rng: Rng, n: int, px: int, spokes: bool = False) -> Planes:
    """Circles about one point, or rays from it."""
    y, x = _grid(px)
    dy, dx = (v - _each(rng.uniform(-0.25, 0.25, n)) for v in (y, x))
    if spokes:
        return np.sin(
            _each(rng.integers(4, 9, n)) * np.arctan2(dy, dx) + _each(rng.uniform(0, 6, n))
        )
    return np.sin(
        2 * np.pi * (_each(rng.uniform(4, 8, n)) * np.hypot(dy, dx) + _each(rng.random(n)))
    )


def ramp(rng: Rng, n: int, px: int, radial: bool = False) -> Planes:
    """Uneven light: from one side to the other, or from a point outwards."""
    if not radial:
        return _turned(rng, n, px)[0]
    return objects(rng, n, px, (1, 1), (0.4, 0.8), spot)


CELLS = dict(count=(3, 7), radius=(0.08, 0.16), profile=disc, aspect=1.6)


def cells(rng: Rng, n: int, px: int, sigma=(0.3, 0.6), grain=0.0, clip=1.0, dirt=False) -> Planes:
    """Ellipses with some texture: blurred, grainy, clipped as by a full sensor, or soiled."""
    plain = objects(rng, n, px, **CELLS) * (0.8 + 0.2 * _unit(noise(rng, n, px, 1.0)))
    out = blurred(plain, rng.uniform(*sigma, n))
    if grain:
        out = out + rng.standard_normal(out.shape, np.float32) * grain
    if dirt:
        out = out + 2.5 * objects(rng, n, px, (1, 2), (0.08, 0.2), partial(polygon, corners=5))
    return np.minimum(out, clip)


def pepper(rng: Rng, n: int, px: int) -> Planes:
    """Single pixels, some bright and some dark."""
    u = rng.random((n, px, px), np.float32)
    share = _each(rng.uniform(0.01, 0.06, n))
    return (u > 1 - share).astype(np.float32) - (u < share)


GENERAL = 32  # the first classes: none is drawn after a fault of a screen, as the last 8 are
CLASSES: dict[str, Callable[[Rng, int, int], np.ndarray]] = {
    "waves, wide": partial(grating, cycles=(1.5, 3)),
    "waves": partial(grating, cycles=(4, 6)),
    "waves, narrow": partial(grating, cycles=(8, 12)),
    "bars": partial(grating, cycles=(3, 6), square=True),
    "checker, coarse": partial(checker, cycles=(1.5, 2.5)),
    "checker, fine": partial(checker, cycles=(4, 7)),
    "noise, white": partial(noise, power=0.0),
    "noise, pink": partial(noise, power=0.6),
    "noise, brown": partial(noise, power=1.2),
    "noise, cloud": partial(noise, power=2.2),
    "band, low": partial(band, cycles=3.0),
    "band": partial(band, cycles=7.0),
    "band, high": partial(band, cycles=14.0),
    "spots, large": partial(objects, count=(2, 4), radius=(0.15, 0.25), profile=spot),
    "spots, small": partial(objects, count=(10, 20), radius=(0.03, 0.06), profile=spot),
    "spots, few small": partial(objects, count=(1, 4), radius=(0.03, 0.06), profile=spot),
    "discs": partial(objects, count=(2, 4), radius=(0.12, 0.2), profile=disc),
    "discs, many": partial(objects, count=(10, 18), radius=(0.05, 0.08), profile=disc),
    "rings": partial(objects, count=(2, 4), radius=(0.12, 0.22), profile=ring),
    "rings, many": partial(objects, count=(8, 14), radius=(0.06, 0.09), profile=ring),
    "crosses": partial(objects, count=(2, 5), radius=(0.12, 0.2), profile=cross),
    "triangles": partial(objects, count=(1, 3), radius=(0.15, 0.3), profile=polygon),
    "squares": partial(
        objects, count=(1, 3), radius=(0.15, 0.3), profile=partial(polygon, corners=4)
    ),
    "stars": partial(objects, count=(1, 3), radius=(0.15, 0.3), profile=star),
    "ellipses, long": partial(objects, count=(3, 6), radius=(0.03, 0.06), profile=disc, aspect=6.0),
    "lines, few": partial(lines, count=2),
    "lines, many": partial(lines, count=8),
    "circles about a point": circles,
    "rays": partial(circles, spokes=True),
    "ramp": ramp,
    "glow": partial(ramp, radial=True),
    "cells": cells,
    "cells, soft": partial(cells, sigma=(1.3, 1.8)),
    "cells, blurred": partial(cells, sigma=(2.8, 4)),
    "cells, grainy": partial(cells, grain=0.12),
    "cells, very grainy": partial(cells, grain=0.35),
    "cells, clipped": partial(cells, clip=0.35),
    "cells, soiled": partial(cells, dirt=True),
    "cells, scattered light": partial(cells, sigma=(5, 8)),
    "pepper and salt": pepper,
}

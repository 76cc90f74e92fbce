"""Draws Cell-Painting-like fields from known traits; knows no plates, files or compounds."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
TRAITS = (
    "nucleus_elongation",  # round → elongated nucleus
    "cell_elongation",  # round → spindle-shaped cell
    "chromatin_texture",  # smooth → clumped DNA
    "nucleoli",  # one large → several small RNA spots
    "er_extent",  # perinuclear → peripheral ER
    "actin",  # cortical ring → stress fibres (AGP)
    "mito_grain",  # fine → coarse mitochondria
    "mito_polarity",  # even → one-sided mitochondria
)
_PATCH = 30  # px, side of the square that holds one cell
_BANK = 64  # noise patches to choose from, per grain


@dataclass(frozen=True)
class Nuisance:
    """What differs between fields and says nothing of the treatment; one row a field.

    ``gain`` and ``background`` are [n c]; ``crosstalk`` is [n c c]; the others are [n].
    """

    density: np.ndarray  # expected cells a field
    cell_size: np.ndarray  # factor on every radius
    gain: np.ndarray  # photons for each unit of stain
    background: np.ndarray  # photons
    defocus_px: np.ndarray  # sd of the Gaussian blur
    light: np.ndarray  # [n 5] coefficients of x, y, x², y², xy
    crosstalk: np.ndarray


def draw_fields(
    traits: np.ndarray, nuisance: Nuisance, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one field for each row of ``traits`` [n t], each trait in about [−1, 1].

    Every channel of every cell carries the same integrated intensity whatever its traits, so
    that phenotype lies in shape and texture and not in brightness. Returns the images
    [n c y x] as uint16 and the number of cells in each field [n].
    """
    cells = np.clip(rng.poisson(nuisance.density), 2, int(3 * size**2 / 400) + 2)
    field = np.repeat(np.arange(len(traits)), cells)
    slot = np.concatenate([np.arange(k) for k in cells])
    own = traits[field] + 0.2 * rng.standard_normal((len(field), traits.shape[1]))
    patches = _cells(own.astype(np.float32), nuisance.cell_size[field], rng)
    canvas = _place(patches, field, slot, len(traits), size, rng)
    return _photograph(canvas, nuisance, rng), cells


def _cells(traits: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patches [cells c p p], each channel normalised to unit sum."""
    n, t = len(traits), dict(zip(TRAITS, traits.T[:, :, None, None], strict=True))
    axis = np.arange(_PATCH, dtype=np.float32) - (_PATCH - 1) / 2
    angle = rng.uniform(0, 2 * np.pi, n).astype(np.float32)[:, None, None]
    cos, sin = np.cos(angle), np.sin(angle)
    along = cos * axis + sin * axis[:, None]
    across = -sin * axis + cos * axis[:, None]
    radius = (scale * rng.lognormal(0, 0.08, n)).astype(np.float32)[:, None, None]
    long = np.exp(0.24 * (t["cell_elongation"] + 0.6))
    r_cell = np.hypot(along / (8.0 * radius * long), across / (8.0 * radius / long))
    oval = np.exp(0.20 * (t["nucleus_elongation"] + 0.6))
    r_nucleus = np.hypot(along / (3.6 * radius * oval), across / (3.6 * radius / oval))
    cell = _inside(r_cell, 6.0)
    nucleus = _inside(r_nucleus, 6.0)
    fine, coarse = _noise(rng, n, 0.8), _noise(rng, n, 2.2)

    share = {name: np.clip(0.5 + 0.5 * t[name], 0, 1) for name in t}
    dna = nucleus * np.maximum(1 + (0.15 + 0.55 * share["chromatin_texture"]) * fine, 0.05)
    er = cell * np.exp(-(((r_cell - 0.35 - 0.4 * share["er_extent"]) / 0.3) ** 2))
    spots = _spots(along, across, radius, share["nucleoli"], rng)
    rna = 0.35 * cell * (1 - nucleus) / 40 + spots
    ring = cell * np.exp(-(((r_cell - 0.9) / 0.12) ** 2))
    phase = rng.uniform(0, 2 * np.pi, n).astype(np.float32)[:, None, None]
    fibres = cell * np.maximum(np.cos(across * 1.9 / radius + phase), 0) ** 2
    agp = (1 - share["actin"]) * _unit(ring) + share["actin"] * _unit(fibres) + 0.3 * _unit(cell)
    grain = np.exp(1.1 * ((1 - share["mito_grain"]) * fine + share["mito_grain"] * coarse))
    side = along / np.maximum(np.hypot(along, across), 1)
    mito = cell * (1 - nucleus) * grain * np.maximum(1 + 0.95 * share["mito_polarity"] * side, 0.02)
    patches = np.stack([_unit(c) for c in (dna, er, rna, agp, mito)], axis=1)
    return patches * rng.lognormal(0, 0.15, (n, 1, 1, 1)).astype(np.float32)


def _inside(r: np.ndarray, sharpness: float) -> np.ndarray:
    """A soft disc: 1 well inside the unit radius, 0 well outside."""
    return 1 / (1 + np.exp(np.clip(2 * sharpness * (r - 1), -30, 30)))


def _unit(image: np.ndarray) -> np.ndarray:
    return image / image.sum(axis=(-2, -1), keepdims=True)


def _spots(along, across, radius, several, rng) -> np.ndarray:
    """Nucleoli: one large Gaussian spot or four small ones, of equal sum."""
    one = _unit(np.exp(-(along**2 + across**2) / (2 * (1.6 * radius) ** 2)))
    turn = rng.uniform(0, np.pi / 2, (len(radius), 1, 1)).astype(np.float32)
    four = 0
    for k in range(4):
        x, y = (
            2.2 * radius * np.cos(turn + k * np.pi / 2),
            2.2 * radius * np.sin(turn + k * np.pi / 2),
        )
        four = four + np.exp(-((along - x) ** 2 + (across - y) ** 2) / (2 * (0.75 * radius) ** 2))
    return (1 - several) * one + several * _unit(four)


_banks: dict[float, np.ndarray] = {}


def _noise(rng: np.random.Generator, n: int, sigma_px: float) -> np.ndarray:
    """``n`` patches of smooth noise, mean 0 and sd 1, drawn and turned from a fixed bank."""
    if sigma_px not in _banks:
        white = np.random.default_rng(7).standard_normal((_BANK, _PATCH, _PATCH))
        smooth = gaussian_filter(white, (0, sigma_px, sigma_px), mode="wrap")
        _banks[sigma_px] = (smooth / smooth.std()).astype(np.float32)
    shift = rng.integers(0, _PATCH, 2)
    picked = np.roll(_banks[sigma_px], tuple(shift), axis=(1, 2))[rng.integers(0, _BANK, n)]
    return np.where(rng.random((n, 1, 1)) < 0.5, picked, picked.transpose(0, 2, 1))


def _place(patches, field, slot, fields, size, rng) -> np.ndarray:
    """Add the cells to their fields; one cell of each field at a time, so no two collide."""
    margin = _PATCH // 2
    canvas = np.zeros((fields, len(CHANNELS), size + _PATCH, size + _PATCH), np.float32)
    spot = _scatter(field, slot, fields, size, rng)
    window = np.arange(_PATCH)
    for k in range(slot.max() + 1):
        now = slot == k
        rows = (spot[now, 0][:, None] + window)[:, None, :, None]
        cols = (spot[now, 1][:, None] + window)[:, None, None, :]
        canvas[
            field[now][:, None, None, None], np.arange(len(CHANNELS))[:, None, None], rows, cols
        ] += patches[now]
    return canvas[:, :, margin : margin + size, margin : margin + size]


def _scatter(field, slot, fields, size, rng) -> np.ndarray:
    """Top-left corners [cells 2]: of five random places, the one farthest from earlier cells."""
    corner = np.zeros((len(field), 2), int)
    table = np.full((fields, slot.max() + 1, 2), 1e4)
    for k in range(slot.max() + 1):
        now = np.flatnonzero(slot == k)
        tries = rng.uniform(0, size, (len(now), 5, 2))
        gap = ((tries[:, :, None] - table[field[now], None]) ** 2).sum(-1).min(-1)
        best = tries[np.arange(len(now)), gap.argmax(1)]
        table[field[now], k] = best
        corner[now] = best.astype(int)
    return corner


def _photograph(canvas: np.ndarray, nuisance: Nuisance, rng: np.random.Generator) -> np.ndarray:
    """Stain cross-talk, uneven light, blur, background, photon and read noise, 16 bit."""
    size = canvas.shape[-1]
    stained = np.einsum("nij,njyx->niyx", nuisance.crosstalk.astype(np.float32), canvas)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))
    shape = np.stack([x, y, x**2 - 1 / 3, y**2 - 1 / 3, x * y])
    light = np.clip(1 + np.einsum("nk,kyx->nyx", nuisance.light.astype(np.float32), shape), 0.2, 3)
    kernel = _blur_matrices(nuisance.defocus_px, size)[:, None]
    signal = kernel @ stained @ kernel.transpose(0, 1, 3, 2)
    photons = signal * nuisance.gain[:, :, None, None] + nuisance.background[:, :, None, None]
    photons = (photons * light[:, None]).astype(np.float32)
    noise = rng.standard_normal(photons.shape, dtype=np.float32)
    photons += noise * np.sqrt(photons + 25)
    return np.clip(photons, 0, 65535).astype(np.uint16)


def _blur_matrices(sigma_px: np.ndarray, size: int) -> np.ndarray:
    """[n size size] row-stochastic Gaussian matrices: blur = matrix @ image @ matrix.T."""
    distance = np.subtract.outer(np.arange(size), np.arange(size)) ** 2
    weight = np.exp(-distance / (2 * np.maximum(sigma_px, 0.05)[:, None, None] ** 2))
    return (weight / weight.sum(-1, keepdims=True)).astype(np.float32)

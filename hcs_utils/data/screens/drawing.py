"""Draws Cell-Painting-like fields from known traits; knows no plates, files or compounds."""

from dataclasses import dataclass, fields

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
_TOGETHER = 8  # fields drawn at once: their cells stay in the processor's cache
_CELL_NOISE = 0.12  # sd of a trait from cell to cell


@dataclass(frozen=True)
class CellLine:
    """How the cells of a line look and stand, treated or not."""

    cell_px: float = 7.6  # radius of a disc of the cell's area, before factors of the field
    nucleus_px: float = 3.8
    elongation: float = 0.9  # 0 round; added to the traits of elongation
    density: float = 1.0  # factor on the expected cells of a field
    clumped: float = 0.0  # share of cells that settle beside another one


LINES = {
    "u2os": CellLine(),
    "mcf7": CellLine(cell_px=6.3, nucleus_px=4.1, elongation=0.2, density=0.75, clumped=0.85),
}


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
    read_noise: np.ndarray  # sd, photons

    def rows(self, rows: slice) -> "Nuisance":
        return Nuisance(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def draw_fields(
    traits: np.ndarray, nuisance: Nuisance, size: int, rng: np.random.Generator,
    line: CellLine = LINES["u2os"],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Draw one field for each row of ``traits`` [n t], each trait in about [−1, 1].

    Every channel of every cell carries the same integrated intensity whatever its traits, so
    that phenotype lies in shape and texture and not in brightness. Returns the images
    [n c y x] as uint16 and the number of cells in each field [n].
    """
    images = np.empty((len(traits), len(CHANNELS), size, size), np.uint16)
    expected = nuisance.density * line.density
    cells = np.clip(rng.poisson(expected), 2, int(3 * size**2 / 400) + 2)
    for start in range(0, len(traits), _TOGETHER):
        rows = slice(start, start + _TOGETHER)
        field = np.repeat(np.arange(len(cells[rows])), cells[rows])
        own = traits[rows][field] + _CELL_NOISE * rng.standard_normal((len(field), len(TRAITS)))
        part = nuisance.rows(rows)
        patches = _cells(own.astype(np.float32), part.cell_size[field], rng, line)
        canvas = _place(patches, cells[rows], size, line, rng)
        images[rows] = _photograph(canvas, part, rng)
    return images, cells


def _cells(traits: np.ndarray, scale: np.ndarray, rng, line=LINES["u2os"]) -> np.ndarray:
    """Patches [cells c p p], each channel normalised to unit sum."""
    n, t = len(traits), dict(zip(TRAITS, traits.T[:, :, None, None], strict=True))
    axis = np.arange(_PATCH, dtype=np.float32) - (_PATCH - 1) / 2
    angle = rng.uniform(0, 2 * np.pi, n).astype(np.float32)[:, None, None]
    along = np.cos(angle) * axis + np.sin(angle) * axis[:, None]
    across = np.cos(angle) * axis[:, None] - np.sin(angle) * axis
    radius = (scale * rng.lognormal(0, 0.08, n)).astype(np.float32)[:, None, None]
    spindle, oval = (t[name] + line.elongation for name in ("cell_elongation", TRAITS[0]))
    r_cell = _radius(along, across, line.cell_px * radius, 0.25 * spindle)
    r_cell *= 1 + 0.07 * _noise(rng, n, 4.0)  # no outline is quite an ellipse
    r_nucleus = _radius(along, across, line.nucleus_px * radius, 0.25 * oval)
    cell, nucleus = _inside(r_cell), _inside(r_nucleus)
    outside = cell * (1 - nucleus)
    share = {name: np.clip(0.5 + 0.5 * t[name], 0, 1) for name in t}

    clumps = (0.05 + 0.9 * share["chromatin_texture"]) * _noise(rng, n, 1.0)
    dna = nucleus * np.maximum(1 + clumps, 0.05)
    er = cell * np.exp(-(((r_cell - 0.3 - 0.55 * share["er_extent"]) / 0.25) ** 2))
    rna = _unit(outside) + 1.2 * _nucleoli(radius, share["nucleoli"], axis, rng)
    ring = cell * np.exp(-(((r_cell - 0.9) / 0.14) ** 2))
    phase = rng.uniform(0, 2 * np.pi, n).astype(np.float32)[:, None, None]
    fibres = cell * np.maximum(np.cos(across * 1.4 / radius + phase), 0)
    agp = (1 - share["actin"]) * _unit(ring) + share["actin"] * _unit(fibres) + 0.2 * _unit(cell)
    grain = _noise(rng, n, 0.9)
    grain += share["mito_grain"] * (_noise(rng, n, 2.4) - grain)
    side = along / np.maximum(np.sqrt(along**2 + across**2), 1)
    polar = np.maximum(1 + 0.98 * share["mito_polarity"] * side, 0.02)
    mito = outside * np.exp(1.1 * grain) * polar
    stain = rng.lognormal(0, 0.15, (n, 1, 1)).astype(np.float32)
    return np.stack([_unit(c) * stain for c in (dna, er, rna, agp, mito)], axis=1)


def _radius(along, across, radius, log_aspect) -> np.ndarray:
    """Distance from the centre in units of an ellipse of the area of a disc of ``radius``."""
    aspect = np.exp(log_aspect)
    return np.sqrt((along / (radius * aspect)) ** 2 + (across * aspect / radius) ** 2)


def _inside(r: np.ndarray) -> np.ndarray:
    """A soft disc: 1 well inside the unit radius, 0 well outside."""
    return 0.5 - 0.5 * np.tanh(6 * (r - 1))


def _unit(image: np.ndarray) -> np.ndarray:
    return image / image.sum(axis=(-2, -1), keepdims=True)


def _nucleoli(radius, several, axis, rng) -> np.ndarray:
    """One large Gaussian spot or four small ones, of equal sum."""
    turn = rng.uniform(0, np.pi / 2, (len(radius), 1, 1)).astype(np.float32)
    turn = turn + np.arange(4, dtype=np.float32)[:, None] * np.float32(np.pi / 2)
    turn = turn + rng.uniform(-0.35, 0.35, turn.shape).astype(np.float32)
    one = np.exp(-((axis / radius) ** 2) / (2 * 1.6**2))
    one = one.transpose(0, 2, 1) * one
    x, y = (
        np.exp(-(((axis - 2.3 * radius * centre) / radius) ** 2) / (2 * 0.75**2))
        for centre in (np.cos(turn), np.sin(turn))
    )  # n 4 p
    return (1 - several) * _unit(one) + several * _unit(y.transpose(0, 2, 1) @ x)


_banks: dict[float, np.ndarray] = {}


def _noise(rng: np.random.Generator, n: int, sigma_px: float) -> np.ndarray:
    """``n`` patches of smooth noise, mean 0 and sd 1, drawn and turned from a fixed bank."""
    if sigma_px not in _banks:
        white = np.random.default_rng(7).standard_normal((_BANK, _PATCH, _PATCH))
        smooth = gaussian_filter(white, (0, sigma_px, sigma_px), mode="wrap")
        smooth = (smooth / smooth.std()).astype(np.float32)
        _banks[sigma_px] = np.concatenate([smooth, smooth.transpose(0, 2, 1)])
    shift = tuple(rng.integers(0, _PATCH, 2))
    return np.roll(_banks[sigma_px][rng.integers(0, 2 * _BANK, n)], shift, axis=(1, 2))


def _place(patches, cells, size, line, rng) -> np.ndarray:
    """Fields [n c y x] with their cells added at places that keep away from one another."""
    margin = _PATCH // 2
    canvas = np.zeros((len(cells), len(CHANNELS), size + _PATCH, size + _PATCH), np.float32)
    places = _scatter(cells, size, line, rng)
    done = 0
    for field, count in enumerate(cells):
        for y, x in places[field, :count]:
            canvas[field, :, y : y + _PATCH, x : x + _PATCH] += patches[done]
            done += 1
    return canvas[:, :, margin : margin + size, margin : margin + size]


def _scatter(cells, size, line, rng) -> np.ndarray:
    """Corners [fields most 2]: of five random places, the one farthest from earlier cells.

    Lines that clump choose most of their places beside an earlier cell, so that islands grow.
    """
    places = np.full((len(cells), cells.max(), 2), 1e4)
    for k in range(cells.max()):
        tries = rng.uniform(0, size, (len(cells), 5, 2))
        if line.clumped and k:
            beside = places[np.arange(len(cells))[:, None], rng.integers(0, k, (len(cells), 5))]
            turn = rng.uniform(0, 2 * np.pi, (len(cells), 5))
            beside = beside + 1.7 * line.cell_px * np.stack([np.sin(turn), np.cos(turn)], -1)
            settles = rng.random((len(cells), 1, 1)) < line.clumped
            settles = settles & ((beside >= 0) & (beside < size)).all(-1, keepdims=True)
            tries = np.where(settles, beside, tries)
        gap = ((tries[:, :, None] - places[:, None, : max(k, 1)]) ** 2).sum(-1).min(-1)
        places[:, k] = tries[np.arange(len(cells)), gap.argmax(1)]
    return places.astype(int)


def _photograph(canvas: np.ndarray, nuisance: Nuisance, rng: np.random.Generator) -> np.ndarray:
    """Stain cross-talk, uneven light, blur, background, photon and read noise, 16 bit."""
    n, c, size = canvas.shape[:3]
    stained = nuisance.crosstalk.astype(np.float32) @ canvas.reshape(n, c, -1)
    stained = stained.reshape(n, c, size, size)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))
    shape = np.stack([x, y, x**2 - 1 / 3, y**2 - 1 / 3, x * y]).reshape(5, -1)
    light = np.clip(1 + nuisance.light.astype(np.float32) @ shape, 0.2, 3)
    kernel = _blur_matrices(nuisance.defocus_px, size)[:, None]
    photons = kernel @ stained @ kernel.transpose(0, 1, 3, 2)
    photons *= nuisance.gain[:, :, None, None].astype(np.float32)
    photons += nuisance.background[:, :, None, None].astype(np.float32)
    photons *= light.reshape(n, 1, size, size)
    noise = rng.standard_normal(photons.shape, dtype=np.float32)
    read = (nuisance.read_noise**2)[:, None, None, None].astype(np.float32)
    photons += noise * np.sqrt(photons + read)
    return np.clip(photons, 0, 65535).astype(np.uint16)


def _blur_matrices(sigma_px: np.ndarray, size: int) -> np.ndarray:
    """[n size size] row-stochastic Gaussian matrices: blur = matrix @ image @ matrix.T."""
    distance = np.subtract.outer(np.arange(size), np.arange(size)) ** 2
    weight = np.exp(-distance / (2 * np.maximum(sigma_px, 0.05)[:, None, None] ** 2))
    return (weight / weight.sum(-1, keepdims=True)).astype(np.float32)

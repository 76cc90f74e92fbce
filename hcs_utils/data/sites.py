"""One site on its way to 8 bits: read, corrected, cut, resized, scaled."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from hcs_utils.data.images import (
    center_crop,
    map_threads,
    percentiles,
    read_site,
    rescale,
    resize,
)
from hcs_utils.data.manifest import PATH
from hcs_utils.errors import InputError

T = TypeVar("T")
Levels = list[list[float]]  # [low, high], each with one grey level a channel
_SAMPLE_SITES = 200  # sites that set the grey levels of a screen or a plate
_SAMPLE_PIXELS = 10_000  # pixels of each of their planes
_SHAPE_SITES = 9  # sites that say how large the images are


@dataclass(frozen=True)
class Sites:
    """All that a worker needs to read a site by its row; nothing in it changes during a pass."""

    root: Path
    site_ids: Sequence[str]
    paths: Sequence[tuple[str, ...]]  # a file for each channel
    channels: tuple[str, ...]
    crop_px: int = 0  # side of the central square, in the files' pixels; 0: no cut
    size: int = 0  # side after resizing, of the central square; 0: as cut
    low: float | int = 1
    high: float | int = 99
    correct: Callable[[np.ndarray, int], np.ndarray] | None = None  # (image, row) → image

    def raw(self, row: int) -> np.ndarray:
        """One site [c y x] as its files have it."""
        path = dict(zip((PATH + name for name in self.channels), self.paths[row], strict=True))
        return read_site(self.root, path, self.channels)

    def cut(self, row: int) -> np.ndarray:
        """One site [c y x], its light corrected, cut to the central square if that is asked for."""
        image = self.raw(row)
        if self.correct is not None:
            image = self.correct(image, row)
        if self.crop_px:
            return center_crop(image, self.crop_px)
        return center_crop(image, min(image.shape[1:])) if self.size else image

    def image(self, row: int) -> np.ndarray:
        """One site [c y x] in its final size, still in the grey levels of its files."""
        return resize(self.cut(row), self.size) if self.size else self.cut(row)

    def scaled(
        self, row: int, shape: Sequence[int], scale: str, levels: Levels | None
    ) -> np.ndarray:
        """One site [c y x] of this `shape`, uint8: by `levels`, or with `scale` "image" its own."""
        image = self.image(row)
        if image.shape != tuple(shape):
            raise InputError(f"is {_size(image.shape)} pixels, the others are {_size(shape)}. "
                             "Give all one size.")  # fmt: skip
        if scale == "image":
            low, high = percentiles(image, self.low, self.high)
        elif levels is None:
            raise InputError("could not be read when the grey levels were taken. Run again.")
        else:
            low, high = np.array(levels)
        return rescale(image, low[:, None, None], high[:, None, None])

    def shape(self, read: Callable[[int], np.ndarray]) -> tuple[int, ...]:
        """The commonest shape among a few sites as `read` gives them, spread over all.

        Raises `InputError` with the reasons when no site can be read.
        """
        found, reasons = [], []
        for row in _spread(len(self.site_ids)):
            image = attempt(read, row)
            if isinstance(image, np.ndarray):
                found.append(image.shape)
            elif len(reasons) < 20:
                reasons.append(f"    {self.site_ids[row]}: {image}")
            if len(found) == _SHAPE_SITES:
                break
        if not found:
            listed = "\n".join(reasons)
            total = len(self.site_ids)
            raise InputError(f"None of {total} sites in {self.root} can be read:\n{listed}")
        return Counter(found).most_common(1)[0][0]

    def levels(self, rows: Sequence[int] | np.ndarray) -> Levels | None:
        """The percentiles of each channel over a seeded sample of sites; None: none is readable."""
        sample = []
        order = np.random.default_rng(0).permutation(rows).tolist()
        for image in map_threads(lambda row: attempt(self.image, row), order, ahead=8):
            if isinstance(image, np.ndarray):
                pixels = image.reshape(len(image), -1)
                sample.append(pixels[:, :: pixels.shape[1] // _SAMPLE_PIXELS + 1])
            if len(sample) == _SAMPLE_SITES:
                break
        if not sample:
            return None
        ends = [self.low, self.high]
        return np.percentile(np.concatenate(sample, axis=1), ends, axis=1).tolist()


def attempt(function: Callable[[int], T], row: int) -> T | str:
    """What the function gives for a row, or the reason why it gives nothing."""
    try:
        return function(row)
    except InputError as error:
        return str(error)


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square of every channel of uint8 images [n c y x]: both [n c]."""
    squares = np.arange(256, dtype=np.uint16) ** 2
    return images.mean((2, 3)), squares[images].mean((2, 3))


def _spread(total: int) -> list[int]:
    """All rows once, the first of them spread evenly."""
    first = np.unique(np.linspace(0, total - 1, min(total, _SHAPE_SITES)).astype(int))
    return [*first.tolist(), *np.setdiff1d(np.arange(total), first).tolist()]


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape[1:]))

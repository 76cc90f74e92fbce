"""Image files in, 8-bit planes out: reading, cropping, resizing, rescaling."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import tifffile

from hcs_utils.data.manifest import PATH, within
from hcs_utils.errors import InputError

Level = float | int | np.ndarray  # a grey level, or one for each channel
_JPEG_END = b"\xff\xd9"
_JXL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")  # a bare stream, a container
_CACHED_PIXELS = 1 << 16  # of a plane; beyond, plane after plane is three times as fast


def read_plane(root: str | Path, relpath: str) -> np.ndarray:
    """One plane [y x], uint8 or uint16, of a TIFF, PNG, JPEG, JPEG-XL or NumPy file inside `root`.

    `name.png#k` is plane k, from 0, of a file with several: of the last axis when that is at most
    four long (RGB), else of the first (a stack). The format is told by content, not by suffix.

    Raises `InputError` naming the file that is absent, outside, empty, truncated or no such plane.
    """
    file, plane = _split(relpath)
    return _plane(_read(root, file), relpath, plane)


def read_site(
    root: str | Path, row: Mapping[str, object] | pd.Series, channels: Sequence[str]
) -> np.ndarray:
    """All channels [c y x] of a site, from the `path_<channel>` entries of its manifest row."""
    opened: dict[str, np.ndarray] = {}
    planes = []
    for channel in channels:
        relpath = str(row[PATH + channel])
        file, plane = _split(relpath)
        if file not in opened:
            opened[file] = _read(root, file)
        planes.append(_plane(opened[file], relpath, plane))
        if planes[-1].shape != planes[0].shape:
            raise InputError(
                f"{relpath} is {_size(planes[-1])} pixels, but {row[PATH + channels[0]]} of the "
                f"same site is {_size(planes[0])}. All channels of a site need one size."
            )
    return np.stack(planes)


def _split(relpath: str) -> tuple[str, int | None]:
    file, mark, plane = relpath.rpartition("#")
    return (file, int(plane)) if mark and plane.isdecimal() else (relpath, None)


def _read(root: str | Path, file: str) -> np.ndarray:
    path = os.path.join(root, file)
    if not _stays(os.path.dirname(path), root) or (os.path.islink(path) and not _stays(path, root)):
        raise InputError(f"{file} leaves the screen's folder. Copy the file into it.")
    try:
        with open(path, "rb") as opened:
            content = opened.read()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    if not content:
        raise InputError(f"{file} is empty (0 bytes). Copy it again.")
    try:
        return _decode(content)
    except InputError as error:
        raise InputError(f"{file} {error}") from None
    except Exception as error:  # each decoder has its own kinds
        raise InputError(f"{file} is damaged or truncated ({error}). Copy it again.") from error


@lru_cache(maxsize=65536)  # following links costs as much as decoding a small plane
def _stays(path: str, root: str | Path) -> bool:
    return within(os.path.realpath(path), os.path.realpath(root))


def _decode(content: bytes) -> np.ndarray:
    if content.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        try:
            return imagecodecs.tiff_decode(content, index=None)  # five times as fast as tifffile
        except (imagecodecs.TiffError, ImportError):
            return tifffile.imread(io.BytesIO(content))  # knows more compressions
    if content.startswith(b"\x89PNG"):
        return imagecodecs.png_decode(content)
    if content.startswith(b"\xff\xd8\xff"):
        if _JPEG_END not in content[-64:]:  # the decoder would fill the rest with grey
            raise InputError("is truncated (no end mark). Copy it again.")
        return imagecodecs.jpeg_decode(content)
    if content.startswith(_JXL_STARTS):
        if not imagecodecs.JPEGXL.available:
            raise InputError("is JPEG-XL, which this imagecodecs cannot read. Install its wheel.")
        return imagecodecs.jpegxl_decode(content)
    if content.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(content), allow_pickle=False)
    raise InputError("is no TIFF, PNG, JPEG, JPEG-XL or NumPy file. Convert it to one of these.")


def _plane(image: np.ndarray, relpath: str, plane: int | None) -> np.ndarray:
    image = image.reshape([n for n in image.shape if n != 1] if image.ndim > 2 else image.shape)
    if image.dtype == bool:
        image = image.view(np.uint8) * np.uint8(255)
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{relpath} holds {image.dtype} values. Convert it to uint8 or uint16.")
    if image.ndim == 3 and plane is not None:
        axis = 2 if image.shape[2] <= 4 else 0
        if plane >= image.shape[axis]:
            raise InputError(f"{relpath}: the file has planes #0 to #{image.shape[axis] - 1} only.")
        return image.take(plane, axis)
    if image.ndim == 3:
        raise InputError(f"{relpath} has several planes {image.shape}. Name one, as in '#0'.")
    if image.ndim != 2 or 0 in image.shape:
        raise InputError(f"{relpath} has shape {image.shape}. One plane of y by x is needed.")
    if plane:
        raise InputError(f"{relpath}: the file has plane #0 only.")
    return image


def _size(image: np.ndarray) -> str:
    return "×".join(str(n) for n in image.shape[-2:])


def map_threads(function: Callable, items: Iterable, ahead: int) -> Iterator:
    """`map` in threads, in order and at most `ahead` items ahead (decoders run side by side)."""
    waiting: deque = deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def percentiles(
    image: np.ndarray, low: float | int, high: float | int
) -> tuple[np.ndarray, np.ndarray]:
    """Two percentiles, 0 … 100, of the pixels of each plane of an image [c y x] or [y x]: two [c].

    Exact: those of `np.percentile(method="linear")`. Grey levels of 8 or 16 bit are counted, which
    is eight times as fast as ordering them; others are ordered.
    """
    if not 0 <= low <= high <= 100:
        raise InputError(f"Percentiles must satisfy 0 ≤ low ≤ high ≤ 100, not {low} and {high}.")
    planes = image.reshape(-1, image.shape[-2] * image.shape[-1])
    if image.dtype in (np.uint8, np.uint16):
        found = np.array([_by_counting(plane, np.array([low, high]) / 100) for plane in planes]).T
    else:
        found = np.percentile(planes, [low, high], axis=1)
    return found[0], found[1]


def _by_counting(plane: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    ranks = np.cumsum(np.bincount(plane))
    at = quantiles * (plane.size - 1)
    before = np.floor(at).astype(np.int64)
    after = np.minimum(before + 1, plane.size - 1)
    lower, upper = np.searchsorted(ranks, [before, after], side="right")
    return lower + (upper - lower) * (at - before)


def to_uint8(image: np.ndarray, low: float | int = 1, high: float | int = 99) -> np.ndarray:
    """Rescale each plane so that its own `low` and `high` percentiles become 0 and 255."""
    low_values, high_values = percentiles(image, low, high)
    if image.ndim == 2:
        return rescale(image, low_values[0], high_values[0])
    return rescale(image, low_values[:, None, None], high_values[:, None, None])


def rescale(image: np.ndarray, low_value: Level, high_value: Level) -> np.ndarray:
    """Map [low_value, high_value] to 0 … 255, clip, round to uint8.

    The two values are numbers, or arrays that broadcast (`[c 1 1]` for an image [c y x]).
    Where they are equal there is no contrast to show: 0 up to the value, 255 above it.
    """
    low_value = np.asarray(low_value, np.float32)
    span = np.maximum(np.asarray(high_value, np.float32) - low_value, np.float32(1e-6))
    factor = np.asarray(np.float32(255) / span)
    if image.ndim == 2 or image[0].size < _CACHED_PIXELS:
        return _scale(image, low_value, factor)
    levels = (np.broadcast_to(value, (len(image), 1, 1)) for value in (low_value, factor))
    return np.stack([_scale(*parts) for parts in zip(image, *levels, strict=True)])


def _scale(image: np.ndarray, low_value: np.ndarray, factor: np.ndarray) -> np.ndarray:
    scaled = (image.astype(np.float32) - low_value) * factor
    return np.rint(np.clip(scaled, 0, 255, out=scaled)).astype(np.uint8)


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle `size` by `size` pixels of an image [… y x]; an odd rest stays right and below."""
    height, width = image.shape[-2:]
    if size > min(height, width) or size < 1:
        raise InputError(f"Cannot crop {size}×{size} pixels from an image of {height}×{width}.")
    top, left = (height - size) // 2, (width - size) // 2
    return image[..., top : top + size, left : left + size]


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a square image [… s s] to [… size size], float32: each pixel the mean of its area."""
    if image.shape[-1] == size:
        return image.astype(np.float32)
    narrow = _area_means(image, size)
    return _area_means(narrow.swapaxes(-1, -2), size).swapaxes(-1, -2).astype(np.float32)


def _area_means(image: np.ndarray, size: int) -> np.ndarray:
    """Means over `size` equal parts of the last axis, by running sums read between pixels."""
    side = image.shape[-1]
    edges = np.linspace(0, side, size + 1)
    left = np.minimum(edges.astype(int), side - 1)
    sums = np.zeros((*image.shape[:-1], side + 1))
    np.cumsum(image, axis=-1, dtype=np.float64, out=sums[..., 1:])
    at = sums[..., left] + (edges - left) * (sums[..., left + 1] - sums[..., left])
    return np.diff(at) * (size / side)

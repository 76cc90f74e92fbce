"""Uneven illumination: the function of a plate fitted from its fields, read from files, undone."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.filters.rank import median
from skimage.morphology import disk

from hcs_utils.errors import InputError

_ROBUST = 0.02  # share of the pixels that may lie below the minimum
_WIDTH = 2.35  # of a filter, in sd of the Gaussian that is as wide at half height


def fit(
    images: Iterable[np.ndarray], smooth_px: float | int, smoothing: str = "gaussian"
) -> np.ndarray:
    """The illumination function [c y x], float32, of a plate's fields [c y x]; its minimum is 1.

    As CellProfiler's CorrectIlluminationCalculate ("Regular", over all images, rescaled): the mean
    of the images; smoothed by a filter `smooth_px` wide, a "gaussian" of sd `smooth_px` / 2.35 or
    the "median" in a disc of that radius; divided by its robust minimum, the 2nd percentile of what
    is above 0; and no smaller than 1. Departure: the median is taken of 255 levels.

    One pass, one image held at a time.
    """
    if not smooth_px > 0:
        raise InputError(f"smooth_px is {smooth_px}; give a width in pixels above 0.")
    if smoothing not in ("gaussian", "median"):
        raise InputError(f"smoothing is {smoothing!r}; choose 'gaussian' or 'median'.")
    total, count = None, 0
    for image in images:
        if total is None:
            total = np.zeros(image.shape)
        elif image.shape != total.shape:
            raise InputError(
                f"Image {count + 1} is {image.shape}, those before {total.shape}. One "
                "illumination function fits images of one size."
            )
        total += image
        count += 1
    if total is None:
        raise InputError("There is no image to fit an illumination function to.")
    smooth = (_gaussian if smoothing == "gaussian" else _median)(total / count, smooth_px / _WIDTH)
    return np.stack([_rescaled(plane) for plane in smooth])


def _gaussian(image: np.ndarray, sd: float) -> np.ndarray:
    """Weighted means of the pixels there are: those beyond the edge do not count as dark."""
    blur = [
        ndimage.gaussian_filter1d(np.eye(n), sd, axis=0, mode="constant") for n in image.shape[1:]
    ]
    rows, columns = (matrix / matrix.sum(1, keepdims=True) for matrix in blur)
    return rows @ image @ columns.T


def _median(image: np.ndarray, sd: float) -> np.ndarray:
    """Medians of the pixels there are within a radius of `sd`."""
    disc = disk(max(1, int(sd + 0.5)))
    out = np.empty(image.shape)
    for plane, result in zip(image, out, strict=True):
        low, step = plane.min(), max(float(np.ptp(plane)) / 255, 1e-12)
        levels = np.rint((plane - low) / step).astype(np.uint8)
        result[...] = median(levels, disc) * step + low
    return out


def _rescaled(plane: np.ndarray) -> np.ndarray:
    lit = np.sort(plane[plane > 0])
    if not lit.size:
        return np.ones(plane.shape, np.float32)
    minimum = lit[int(lit.size * _ROBUST)]
    return (np.maximum(plane, minimum) / minimum).astype(np.float32)


def correct(image: np.ndarray, function: np.ndarray) -> np.ndarray:
    """Divide an image [c y x] by its illumination function; same type, rounded and clipped."""
    if image.shape != function.shape:
        raise InputError(
            f"The image is {image.shape}, its illumination function {function.shape}. Fit or "
            "read one of the same channels and size."
        )
    top = np.iinfo(image.dtype).max
    out = np.empty_like(image)
    for plane, light, result in zip(image, function, out, strict=True):
        even = plane / light.astype(np.float32)
        result[...] = np.clip(np.rint(even, out=even), 0, top, out=even)
    return out


def load(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """One channel's function [y x], float32, from a .npy file, checked to fit planes of `shape`.

    In the Cell Painting Gallery: `images/{batch}/illum/{plate}/{plate}_Illum{channel}.npy`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no illumination function at {path}.")
    try:
        function = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no readable .npy file ({error}). Copy it again.") from error
    if function.shape != tuple(shape):
        raise InputError(
            f"{path} is {function.shape}, the images are {tuple(shape)}. An illumination function "
            "fits images of the size that it was computed on: take it before any crop or resize."
        )
    if not np.issubdtype(function.dtype, np.floating):
        raise InputError(f"{path} holds {function.dtype} values; a function is floating point.")
    if not (np.isfinite(function) & (function > 0)).all():
        raise InputError(f"{path} holds values that are not above 0; images cannot be divided.")
    return function.astype(np.float32)

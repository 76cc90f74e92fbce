"""Measures of image quality, in the manner of CellProfiler's MeasureImageQuality."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8, UInt16
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from hcs_utils.errors import InputError

WINDOWS = (8, 16)  # px, sides of the tiles of LocalFocusScore
SCALES = (1, 2, 5)  # px, offsets of Correlation
_CHUNK = 256  # images at a time
_LEVELS = 256  # grey levels that Otsu's threshold is sought among
_LEAST_PX = 6  # area of an object that is counted
_NUCLEI = ("blue", "DNA", "Hoechst", "DAPI")  # the channel whose objects are counted


def measures(
    crops: UInt8[np.ndarray, "n c y x"] | UInt16[np.ndarray, "n c y x"],
    channels: Sequence[str],
    *,
    windows: Sequence[int] = WINDOWS,
    scales: Sequence[int] = SCALES,
) -> pd.DataFrame:
    r"""A row an image and a column `<measure>_<channel>` (`_<px>`) for each of these:

    - `FocusScore`: :math:`\sum (I - \bar I)^2 / (N \bar I)`, the variance over the mean;
    - `LocalFocusScore`: that of each tile of ``windows`` px, their variance over their median;
    - `PowerLogLogSlope`: the slope of log power on log frequency of the radial power spectrum;
    - `Correlation`: of pixels with those ``scales`` px to the right and below, over the image;
    - `Noise`: sd of the noise by Immerkær's mask, which sharp edges raise a little, too;
    - `PercentMaximal`, `PercentMinimal`: of the pixels, at the largest and least grey level there;
    - `MeanIntensity`, `MedianIntensity`, `StdIntensity`, `MADIntensity` (not scaled to an sd),
      `MinIntensity`, `MaxIntensity`, in grey levels;
    - `ThresholdOtsu`: the brightest grey level of the darker of two classes;
    - `ObjectCount`, `ObjectArea`, of the channel of nuclei alone: parts above Otsu's threshold of
      the image smoothed 3 × 3, of 6 px or more, and their mean area in px.

    What is undefined on a flat image (a slope, a correlation, a share of a mean of 0) is 0. Names
    and ideas: Bray and Carpenter (2018), reference 2 of the QC paper; Immerkær (1996). Where
    CellProfiler differs: its correlation is Haralick's, on grey levels in few bins and to the right
    only; its tiles are cut by number, ours hold exactly ``windows`` px and a rest is left out.
    """
    n, c, *shape = crops.shape
    if len(channels) != c:
        raise InputError(f"{c} channels need as many names, got {len(channels)}: {channels}.")
    if min(shape) < max(3, *windows, *(scale + 1 for scale in scales)):
        raise InputError(
            f"Images of {shape[0]}×{shape[1]} px are too small for windows {tuple(windows)} and "
            f"scales {tuple(scales)}; larger crops, or smaller windows, are needed."
        )
    if not n:
        return measures(
            np.zeros((1, *crops.shape[1:]), crops.dtype), channels, windows=windows, scales=scales
        ).head(0)
    tables = [
        _measured(crops[start : start + _CHUNK], tuple(channels), windows, scales)
        for start in range(0, n, _CHUNK)
    ]
    return pd.concat(tables, ignore_index=True)


def _measured(crops, channels, windows, scales) -> pd.DataFrame:
    image = crops.astype(np.float32)
    flat = image.reshape(*image.shape[:2], -1)
    mean, median = flat.mean(2), np.median(flat, axis=2)
    least, most = flat.min(2, keepdims=True), flat.max(2, keepdims=True)
    threshold = otsu(crops)
    by_channel = {
        "FocusScore": _over(flat.var(2), mean),
        **{f"LocalFocusScore|_{w}": _local_focus(image, w) for w in windows},
        "PowerLogLogSlope": power_slope(image),
        **{f"Correlation|_{s}": _correlation(image, s) for s in scales},
        "Noise": noise(image),
        "PercentMaximal": 100 * (flat == most).mean(2),
        "PercentMinimal": 100 * (flat == least).mean(2),
        "MeanIntensity": mean,
        "MedianIntensity": median,
        "StdIntensity": flat.std(2),
        "MADIntensity": np.median(np.abs(flat - median[..., None]), axis=2),
        "MinIntensity": least[..., 0],
        "MaxIntensity": most[..., 0],
        "ThresholdOtsu": threshold,
    }
    columns = {}
    for name, values in by_channel.items():
        kind, _, scale = name.partition("|")
        columns |= {f"{kind}_{ch}{scale}": values[:, k] for k, ch in enumerate(channels)}
    nuclei = next((k for k, name in enumerate(channels) if name in _NUCLEI), None)
    if nuclei is not None:
        name = channels[nuclei]
        count, area = _objects(image[:, nuclei])
        columns |= {f"ObjectCount_{name}": count, f"ObjectArea_{name}": area}
    return pd.DataFrame(columns).astype(np.float32)


def _over(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The ratio, 0 where the denominator is."""
    return np.divide(value, by, out=np.zeros_like(value), where=by > 0)


def _local_focus(image: np.ndarray, window: int) -> np.ndarray:
    rows, columns = (n // window for n in image.shape[2:])
    tiles = image[..., : rows * window, : columns * window]
    tiles = tiles.reshape(*image.shape[:2], rows, window, columns, window)
    score = _over(tiles.var((3, 5)), tiles.mean((3, 5))).reshape(*image.shape[:2], -1)
    return _over(score.var(2), np.median(score, axis=2))


def power_slope(image: Float[np.ndarray, "n c y x"]) -> Float[np.ndarray, "n c"]:
    """Slope of log mean power on log frequency over whole cycles an image, 1 to half its side."""
    height, width = image.shape[2:]
    side = min(height, width)
    power = np.abs(np.fft.rfft2(image - image.mean((2, 3), keepdims=True))) ** 2
    fy = np.fft.fftfreq(height, 1 / side)[:, None]  # cycles over the shorter side
    ring = np.rint(np.hypot(fy, np.fft.rfftfreq(width, 1 / side)))
    radius = np.arange(1, side // 2 + 1)
    rings = [power[..., ring == r].mean(-1) for r in radius]
    power = np.stack(rings, -1)
    x = np.log(radius) - np.log(radius).mean()
    slope = (np.log(np.maximum(power, 1e-12)) * x).sum(-1) / (x**2).sum()
    return np.where(power.sum(-1) > 1e-6, slope, 0).astype(image.dtype)


def _correlation(image: np.ndarray, offset: int) -> np.ndarray:
    right = _pearson(image[..., :-offset], image[..., offset:])
    return (right + _pearson(image[..., :-offset, :], image[..., offset:, :])) / 2


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x - x.mean((2, 3), keepdims=True) for x in (a, b))
    product = [np.einsum("ncyx,ncyx->nc", *pair) for pair in ((a, b), (a, a), (b, b))]
    return _over(product[0], np.sqrt(product[1] * product[2]))


def noise(image: Float[np.ndarray, "n c y x"]) -> Float[np.ndarray, "n c"]:
    r"""Sd of the noise, :math:`\sqrt{\pi/2} \sum |I * M| / (6 (W-2)(H-2))` after Immerkær."""
    rows = image[..., :-2, :] - 2 * image[..., 1:-1, :] + image[..., 2:, :]
    both = rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]
    return np.abs(both).mean((2, 3)) * np.float32(np.sqrt(np.pi / 2) / 6)


def otsu(crops: np.ndarray) -> np.ndarray:
    """Otsu's threshold [n c] of images [n c y x] of whole numbers: bright is what is above it.

    Sought among up to 256 classes of equal width between the least and the largest grey level; of
    8-bit images each level is one.
    """
    flat = crops.reshape(len(crops) * crops.shape[1], -1).astype(np.int64)
    least = flat.min(1, keepdims=True)
    width = (flat.max(1, keepdims=True) - least) // _LEVELS + 1
    code = (flat - least) // width
    code += _LEVELS * np.arange(len(flat))[:, None]
    count = np.bincount(code.ravel(), minlength=_LEVELS * len(flat)).reshape(-1, _LEVELS)
    total = np.cumsum(count * np.arange(_LEVELS), axis=1)
    below = np.cumsum(count, axis=1)
    above = flat.shape[1] - below
    gap = total * flat.shape[1] - total[:, -1:] * below  # between classes: gap² / (below above)
    between = np.divide(
        gap.astype(float) ** 2, below * above, out=np.zeros(gap.shape), where=below * above > 0
    )
    chosen = between.argmax(1)[:, None]
    return (least + width * (chosen + 1) - 1).reshape(crops.shape[:2]).astype(np.float32)


def _objects(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number and mean area of bright parts in each plane [n y x], all labelled at once."""
    smooth = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth = np.rint(sliding_window_view(smooth, (3, 3), (1, 2)).mean((3, 4))).astype(np.int64)
    bright = smooth > otsu(smooth[:, None]).reshape(-1, 1, 1)
    within = np.zeros((3, 3, 3), bool)
    within[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]  # parts of two images never join
    labels, count = ndimage.label(bright, within)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    of = np.zeros(count + 1, np.int64)
    of[labels] = np.arange(len(plane))[:, None, None]
    kept = area >= _LEAST_PX
    found = np.bincount(of[1:][kept], minlength=len(plane)).astype(float)
    return found, _over(np.bincount(of[1:][kept], area[kept], len(plane)).astype(float), found)

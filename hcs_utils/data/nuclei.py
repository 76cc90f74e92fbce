"""Nuclei found on the DNA channel."""

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from hcs_utils.errors import InputError

NUCLEUS_UM = 12.0  # across, of the cell lines in use
AREA_UM2 = (30, 800)
_WORKING_PX = 14  # across a nucleus while it is searched for
_CONTRAST = 5.0  # of nuclei over their background, in sd of the smoothed background


def find_nuclei(
    plane: np.ndarray,
    site_id: str = "",
    *,
    diameter_px: float | int = 0,
    pixel_size_um: float | int | None = None,
    area_um2: tuple[float | int, float | int] = AREA_UM2,
) -> pd.DataFrame:
    """Nuclei of a DNA plane [y x]: `site_id nucleus y x area_px touches_border`, a row each.

    The plane is shrunk to nuclei 14 px across, smoothed and freed of its background and the noise
    of that; what is above Otsu's threshold, in square roots, is split by a watershed from the
    maxima of brightness and depth (the root of the product). Parts outside `area_um2` are left
    out; without a pixel size, those below a quarter or above six times the area of a disc of
    `diameter_px`, which is then needed. `y`, `x` is the centroid in pixels. A plane without
    contrast has no nuclei.
    """
    diameter, limits = sizes(diameter_px, pixel_size_um, area_um2)
    shrink = max(1, int(diameter / _WORKING_PX))
    labels = _segment(_shrunk(plane, shrink), diameter / shrink)
    area, y, x, rim = _measure(labels, shrink)
    keep = (area >= limits[0]) & (area <= limits[1])
    found = {"y": y[keep], "x": x[keep], "area_px": area[keep], "touches_border": rim[keep]}
    return pd.DataFrame({"site_id": site_id, "nucleus": np.arange(keep.sum()), **found})


def sizes(
    diameter_px: float | int,
    pixel_size_um: float | int | None,
    area_um2: tuple[float | int, float | int] = AREA_UM2,
) -> tuple[float, tuple[float, float]]:
    """Diameter of a nucleus and limits of its area, in pixels; `InputError` when not known."""
    if pixel_size_um is not None and pixel_size_um > 0:
        diameter = diameter_px or NUCLEUS_UM / pixel_size_um
        return float(diameter), (area_um2[0] / pixel_size_um**2, area_um2[1] / pixel_size_um**2)
    if not diameter_px > 0:
        raise InputError(
            "How large nuclei are is not known. Give pixel_size_um, or diameter_px: their width."
        )
    disc = np.pi / 4 * diameter_px**2
    return float(diameter_px), (disc / 4, 6 * disc)


def _shrunk(plane: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of pixels; a rest at the right and below falls away."""
    height, width = (n // factor for n in plane.shape)
    blocks = plane[: height * factor, : width * factor].astype(np.float32)
    return blocks.reshape(height, factor, width, factor).mean((1, 3))


def _segment(plane: np.ndarray, diameter: float) -> np.ndarray:
    """Labels [y x], 0 is background."""
    smooth = ndimage.gaussian_filter(plane, diameter / 14)
    smooth -= _background(smooth, diameter)
    low, quarter = np.percentile(smooth, [5, 25])  # background, as long as it is a quarter
    sd = (quarter - low) / 0.97
    smooth = np.sqrt(np.maximum(smooth - (quarter + (0.67 + _CONTRAST) * sd), 0))
    if not smooth.any():
        return np.zeros(plane.shape, np.int32)
    nuclei = smooth > threshold_otsu(smooth)
    nuclei = ndimage.binary_fill_holes(ndimage.binary_opening(nuclei))
    depth = ndimage.distance_transform_edt(np.pad(nuclei, 1, mode="edge"))[1:-1, 1:-1]
    depth = ndimage.gaussian_filter(np.sqrt(depth.astype(np.float32)) * smooth, diameter / 10)
    return watershed(-depth, _markers(depth, nuclei, round(0.35 * diameter)), mask=nuclei)


def _markers(depth: np.ndarray, nuclei: np.ndarray, gap: int) -> np.ndarray:
    """A marker at each maximum of `depth` within `gap` px; a part that has none is its own."""
    peak = nuclei & (depth == ndimage.maximum_filter(depth, 2 * gap + 1))
    markers, count = ndimage.label(peak, np.ones((3, 3)))
    parts, _ = ndimage.label(nuclei)
    bare = np.setdiff1d(parts[nuclei], parts[peak])
    return np.where(np.isin(parts, bare), parts + count, markers)


def _measure(labels: np.ndarray, shrink: int) -> tuple[np.ndarray, ...]:
    """Area, centroid y and x in pixels of the plane, and whether it touches the edge."""
    flat = labels.ravel()
    count = np.bincount(flat)
    there = np.flatnonzero(count)
    there = there[there > 0]
    along = [np.bincount(flat, grid.ravel())[there] for grid in np.indices(labels.shape)]
    y, x = (total / count[there] * shrink + (shrink - 1) / 2 for total in along)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return count[there] * shrink**2, y, x, np.isin(there, edge)


def _background(smooth: np.ndarray, diameter: float) -> np.ndarray:
    """Slowly varying background: the lower quartile of coarse blocks, interpolated."""
    counts = [max(1, round(n / (4 * diameter))) for n in smooth.shape]
    side = [n // k for n, k in zip(smooth.shape, counts, strict=True)]
    blocks = smooth[: counts[0] * side[0], : counts[1] * side[1]]
    blocks = blocks.reshape(counts[0], side[0], counts[1], side[1])
    coarse = np.percentile(blocks[:, ::2, :, ::2], 25, axis=(1, 3))
    coarse = np.pad(coarse, 2, mode="reflect", reflect_type="odd")  # slopes go on beyond the edge
    coarse = ndimage.gaussian_filter(coarse, 0.7, mode="nearest")
    ys, xs = ((np.arange(n) + 0.5) / n * k + 1.5 for n, k in zip(smooth.shape, counts, strict=True))
    down = np.array([np.interp(ys, np.arange(len(coarse)), column) for column in coarse.T]).T
    across = [np.interp(xs, np.arange(coarse.shape[1]), row) for row in down]
    return np.array(across, dtype=np.float32)

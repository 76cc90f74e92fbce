"""What can be told without looking at cells: baselines that a trained encoder has to beat."""

import numpy as np
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError

STATISTICS = ("mean", "sd", "p1", "p99")

_CHUNK_BYTES = 32 * 2**20


def intensity_statistics(images: ArrayLike) -> np.ndarray:
    """Mean, standard deviation, 1st and 99th percentile of every channel, in grey levels.

    Images uint8 `[n c y x]`; returns float64 `[n, 4c]`: the four `STATISTICS` of the first
    channel, then of the second. k-NN on these tells how much of a result is brightness alone.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise InputError(
            f"Images must be filled uint8 [n c y x], got {images.dtype} of shape {images.shape}; "
            "read them from a store."
        )
    n, channels = images.shape[:2]
    out = np.empty((n, channels, len(STATISTICS)))
    step = max(1, _CHUNK_BYTES // images[0].size)
    for start in range(0, n, step):
        pixels = images[start : start + step].reshape(-1, channels, images[0, 0].size)
        rows = slice(start, start + step)
        out[rows, :, 0] = pixels.mean(axis=2)
        out[rows, :, 1] = pixels.std(axis=2)
        out[rows, :, 2:] = np.moveaxis(np.percentile(pixels, [1, 99], axis=2), 0, 2)
    return out.reshape(n, channels * len(STATISTICS))

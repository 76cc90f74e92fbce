"""What a manifest and a store tell of a site without looking at its cells."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.data.nuclei import find_nuclei
from hcs_utils.data.store import Store
from hcs_utils.errors import InputError

STATISTICS = ("mean", "sd", "p1", "p99")
DNA = ("dna", "hoechst", "dapi", "nuclei", "nucleus")  # how a channel that shows nuclei begins

_CHUNK_BYTES = 32 * 2**20
_PLATES = ((8, 12), (16, 24), (32, 48))  # rows and columns of 96, 384 and 1,536 wells


class Sources(dict):
    """Sources by name; `left_out` gives the reason for each that a screen does not offer."""

    def __init__(self):
        super().__init__()
        self.left_out: dict[str, str] = {}


def sources(table: pd.DataFrame, store: Store | None = None) -> Sources:
    """What a manifest and its store tell of each site without looking at cells, for `audit`.

    "well position": row, column and distance to the edge, in wells. "plate": its name. "cell
    count": nuclei in the DNA channel. "intensity statistics": of every channel. The last two need
    `store`; what is missing is left out and named in `.left_out` with its reason.

    On a split by batch, position reveals layouts that batches share, and effects of the edge. A
    plate lies in one batch, so its name reveals nothing: it stays at its null, and above it only
    where a split lets a plate on both sides. Counts and intensities reveal what toxicity and stain
    alone tell, and so does part of every real phenotype: they are what a score has to beat.
    """
    found = Sources()
    found["well position"] = _position(table["well"])
    found["plate"] = table["plate"].to_numpy(str)
    for name, measure in (("cell count", _nuclei), ("intensity statistics", _intensity)):
        why = "No store is given." if store is None else None
        if store is not None and name == "cell count":
            why = _uncountable(store)
        if why:
            found.left_out[name] = why
        else:
            found[name] = _over(store, table, measure)
    return found


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


def _position(wells: pd.Series) -> np.ndarray:
    """Row and column from 0, and distance to the edge of the smallest plate that holds all."""
    parts = wells.astype(str).str.extract(r"^([A-Z]{1,2})0*(\d+)$")
    bad = parts[0].isna().to_numpy()
    if bad.any():
        names = pd.unique(wells[bad])
        raise InputError(
            f"{len(names)} wells have no row and column: {', '.join(map(str, names[:20]))}"
            f"{' …' if len(names) > 20 else ''}. Write them as in B07."
        )
    row = parts[0].map(lambda s: sum((ord(c) - 64) * 26**p for p, c in enumerate(s[::-1]))) - 1
    at = np.stack([row.to_numpy(np.int64), parts[1].to_numpy(np.int64) - 1], axis=1)
    last = at.max(axis=0)
    shape = next((s for s in _PLATES if s[0] > last[0] and s[1] > last[1]), last + 1)
    edge = np.minimum(at, np.asarray(shape) - 1 - at).min(axis=1)
    return np.column_stack([at, edge]).astype(np.float64)


def _uncountable(store: Store) -> str | None:
    if _dna(store) is None:
        return (
            f"None of the channels {', '.join(store.channels)} is named DNA, so nuclei cannot be "
            "counted."
        )
    return None if store.pixel_size_um else "The store does not know how many µm a pixel has."


def _dna(store: Store) -> int | None:
    named = [k for k, c in enumerate(store.channels) if c.lower().startswith(DNA)]
    return named[0] if named else None


def _over(store: Store, table: pd.DataFrame, measure: Callable) -> np.ndarray:
    rows = store.rows(table["site_id"])
    step = max(1, 8 * _CHUNK_BYTES // int(np.prod(store.shape[1:])))
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    return np.concatenate([measure(store.read(part), store) for part in parts])


def _nuclei(images: np.ndarray, store: Store) -> np.ndarray:
    planes = images[:, _dna(store)]
    count = [len(find_nuclei(plane, pixel_size_um=store.pixel_size_um)) for plane in planes]
    return np.array(count, dtype=np.float64)[:, None]


def _intensity(images: np.ndarray, store: Store) -> np.ndarray:
    return intensity_statistics(images)

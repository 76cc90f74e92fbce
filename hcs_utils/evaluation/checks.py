"""What every correction asks of its tables: features, one entry a row, controls to measure by."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError

EPSILON = float(np.finfo(np.float32).eps)  # below this share of its mean, a spread is rounding


def features_and_batch(
    features: ArrayLike, batch: ArrayLike | None = None, name: str = "batch"
) -> tuple[np.ndarray, np.ndarray]:
    """Features as finite float64 `[n, d]`, and batch as `[n]` without a missing entry."""
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2:
        raise InputError(f"Features must be a table [n, d], got shape {features.shape}.")
    if not features.size:
        raise InputError(f"Features must be a filled table [n, d], got shape {features.shape}.")
    batch = np.zeros(len(features), dtype=int) if batch is None else np.asarray(batch)
    if batch.shape != (len(features),):
        raise InputError(
            f"There are {len(features)} rows of features but {name} has shape {batch.shape}; "
            "join both on site_id first."
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{(~finite).sum()} of {len(features)} rows hold NaN or infinite features, the first "
            f"is row {int(np.argmin(finite))}; a diverged training or a failed site leaves such "
            "rows: leave them out, or train again."
        )
    if (empty := missing(batch)).any():
        raise InputError(
            f"{name} is missing in {listed([f'row {r}' for r in np.flatnonzero(empty)])}; "
            "name it, or leave those rows out."
        )
    return features, batch


def controls(is_control: ArrayLike, rows: int) -> np.ndarray:
    """The mask of controls as bool `[rows]`."""
    control = np.asarray(is_control)
    if control.shape != (rows,) or control.dtype != bool:
        raise InputError(
            f"is_control must be one True or False for each of the {rows} rows of features, "
            f'got {control.dtype} of shape {control.shape}; for a manifest, give role == "negcon".'
        )
    return control


def enough_in_each(
    batch: np.ndarray, chosen: np.ndarray, what: str, noun: str, advice: str
) -> tuple[np.ndarray, np.ndarray]:
    """Names of the batches and the code of each row; `InputError` where < 2 rows are chosen."""
    names, code = np.unique(batch, return_inverse=True)
    count = np.bincount(code[chosen], minlength=len(names))
    if (count < 2).any():
        short = [f"{n} has {c}" for n, c in zip(names, count, strict=True) if c < 2]
        raise InputError(
            f"{what} needs at least two {noun} in every batch: {listed(short)}; {advice}."
        )
    return names, code


def missing(values: np.ndarray) -> np.ndarray:
    """Entries that are None or NaN."""
    return np.asarray(pd.isna(values), dtype=bool)


def listed(names: list[str]) -> str:
    """The first twenty, and how many more."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")

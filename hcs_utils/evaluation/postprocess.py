"""Corrections of embeddings after training: features in, features out, one row a site."""

import numpy as np
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError

_EPSILON = float(np.finfo(np.float32).eps)


def zscore_by_controls(features: ArrayLike, batch: ArrayLike, is_control: ArrayLike) -> np.ndarray:
    r"""Centre and scale each batch by the mean and standard deviation of its own controls.

    .. math:: Z_b = (X_b - \mu_b) / \sigma_b

    with the mean and the standard deviation (ddof 0) taken over the negative controls of batch
    b. A feature that is constant over those controls, up to the rounding of float32, has nothing
    to scale by and is only centred. Features `[n, d]`; returns float64.

    Raises `InputError` for a batch with fewer than two controls, naming it, and for NaN.
    Source: CDCL, appendix B. The released code takes all samples instead: `zscore_by_all`.
    """
    features, batch = _checked(features, batch)
    control = np.asarray(is_control)
    if control.shape != batch.shape or control.dtype != bool:
        raise InputError(
            f"is_control must be one True or False for each of the {len(batch)} rows of features, "
            f'got {control.dtype} of shape {control.shape}; for a manifest, give role == "negcon".'
        )
    return _zscore(features, batch, control, "controls", "use zscore_by_all, or leave them out")


def zscore_by_all(features: ArrayLike, batch: ArrayLike) -> np.ndarray:
    """Centre and scale each batch by the mean and standard deviation of all its samples.

    As `zscore_by_controls`, for screens without controls: if batches hold different treatments,
    it removes their difference too. Raises `InputError` for a batch with fewer than two samples.
    """
    features, batch = _checked(features, batch)
    everything = np.ones(len(batch), dtype=bool)
    return _zscore(features, batch, everything, "samples", "leave them out")


def _zscore(
    features: np.ndarray, batch: np.ndarray, reference: np.ndarray, noun: str, advice: str
) -> np.ndarray:
    names, code = np.unique(batch, return_inverse=True)
    count = np.bincount(code[reference], minlength=len(names))
    if (count < 2).any():
        short = [f"{n} has {c}" for n, c in zip(names, count, strict=True) if c < 2]
        listed = ", ".join(short[:20]) + (f" and {len(short) - 20} more" if len(short) > 20 else "")
        raise InputError(f"Z-norm needs at least two {noun} in every batch: {listed}; {advice}.")
    out = np.empty_like(features)
    for b in range(len(names)):
        rows = code == b
        chosen = features[rows & reference]
        mean, sd = chosen.mean(axis=0), chosen.std(axis=0)
        constant = sd <= _EPSILON * np.abs(mean)
        out[rows] = (features[rows] - mean) / np.where(constant, 1.0, sd)
    return out


def _checked(features: ArrayLike, batch: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    features, batch = np.asarray(features, dtype=np.float64), np.asarray(batch)
    if features.ndim != 2:
        raise InputError(f"Features must be a table [n, d], got shape {features.shape}.")
    if batch.shape != (len(features),):
        raise InputError(
            f"There are {len(features)} rows of features but batch has shape {batch.shape}; "
            "join both on site_id first."
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{(~finite).sum()} of {len(features)} rows hold NaN or infinite features, the first "
            f"is row {int(np.argmin(finite))}; a diverged training or a failed site leaves such "
            "rows: leave them out, or train again."
        )
    return features, batch

"""Corrections of embeddings after training: features in, features out, one row a site.

None reads a treatment. Those by controls are learned from controls alone; ComBat and Harmony see
every row, so they must be fitted anew for each set of rows, and never with labels of the test.
"""

import contextlib
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation import checks
from hcs_utils.evaluation.aggregation import aggregate
from hcs_utils.evaluation.neighbours import unit
from hcs_utils.evaluation.whitening import Sphering, fit_sphere, sphere, tvn

__all__ = [
    "Sphering", "aggregate", "combat", "fit_sphere", "harmony", "sphere", "tvn", "zscore_by_all",
    "zscore_by_controls", "zscore_by_minibatch",
]  # fmt: skip


def zscore_by_controls(features: ArrayLike, batch: ArrayLike, is_control: ArrayLike) -> np.ndarray:
    r"""Centre and scale each batch by the mean and standard deviation of its own controls.

    .. math:: Z_b = (X_b - \mu_b) / \sigma_b

    with the mean and the standard deviation (ddof 0) taken over the negative controls of batch
    b. A feature that is constant over those controls, up to the rounding of float32, has nothing
    to scale by and is only centred. Features `[n, d]`; returns float64.

    Raises `InputError` for a batch with fewer than two controls, naming it, and for NaN.
    Source: CDCL, appendix B. The released code takes all samples instead: `zscore_by_all`.
    """
    features, batch = checks.features_and_batch(features, batch)
    control = checks.controls(is_control, len(features))
    return _zscore(features, batch, control, "controls", "use zscore_by_all, or leave them out")


def zscore_by_all(features: ArrayLike, batch: ArrayLike) -> np.ndarray:
    """Centre and scale each batch by the mean and standard deviation of all its samples.

    As `zscore_by_controls`, for screens without controls: if batches hold different treatments,
    it removes their difference too. Raises `InputError` for a batch with fewer than two samples.
    """
    features, batch = checks.features_and_batch(features, batch)
    everything = np.ones(len(batch), dtype=bool)
    return _zscore(features, batch, everything, "samples", "leave them out")


def zscore_by_minibatch(
    features: ArrayLike, batch: ArrayLike, minibatch: int | None = 92, lone: str = "raise"
) -> np.ndarray:
    r"""Z-norm as CDCL's released code does it for test images; rows of length 1, float64 `[n, d]`.

    .. math:: z = \mathrm{L2}\!\left(\frac{\mathrm{L2}(x) - \mu_{mb}}{\sigma_{mb} + 10^{-8}}\right)

    The mean and the unbiased standard deviation are those of all rows of batch b within
    minibatch m: `minibatch` rows after one another, in the order given, the last one shorter. So
    the result depends on the order of the rows, which is the quirk; `minibatch=None` takes the
    whole table at once, as the code does for its bank.

    A row alone of its batch in a minibatch has no standard deviation. The released code makes it
    NaN without a word: `lone="nan"` does so too (count the rows with NaN); "raise" raises
    `InputError` with their number.
    """
    features, batch = checks.features_and_batch(features, batch)
    if minibatch is not None and minibatch < 2:
        raise InputError(f"minibatch must be 2 rows or more, or None for all, got {minibatch}.")
    if lone not in ("raise", "nan"):
        raise InputError(f'lone must be "raise" or "nan", got {lone!r}.')
    part = np.arange(len(batch)) // (minibatch or len(batch))
    code = np.unique(batch, return_inverse=True)[1]
    group = np.unique(part * (code.max() + 1) + code, return_inverse=True)[1]
    count = np.bincount(group)
    alone = np.flatnonzero(count[group] == 1)
    if len(alone) and lone == "raise":
        rows = checks.listed([f"row {r} of batch {batch[r]}" for r in alone])
        raise InputError(
            f"{len(alone)} rows are alone of their batch in a minibatch of {minibatch}, so they "
            f'have no standard deviation: {rows}. Give lone="nan" to have them as NaN, as the '
            "released code, or another order of rows."
        )
    out = unit(features)
    for g in range(len(count)):
        rows = group == g
        if count[g] == 1:
            out[rows] = np.nan
            continue
        sd = out[rows].std(axis=0, ddof=1) + 1e-8
        out[rows] = unit((out[rows] - out[rows].mean(axis=0)) / sd)
    return out


def combat(
    features: ArrayLike, batch: ArrayLike, covariates: Mapping[str, ArrayLike] | None = None
) -> np.ndarray:
    """ComBat: each batch's mean and variance shrunk towards those of all features, then removed.

    Parametric empirical Bayes over the features of a batch, by neuroCombat. `covariates`, by
    name, one entry a row, are regressed out before and put back, so that their effect stays:
    words are categories, numbers are continuous. Features `[n, d]`, d >= 2; returns float64.

    It sees every row at once (transductive). Fit it for the rows that are compared, and never
    protect a label that is to be predicted: the corrected features would carry it.

    A feature without spread within the batches has nothing to scale by: only its batches'
    offsets are removed. Raises `InputError` for one batch, a batch of one row, and covariates
    that the batches determine. Source: Johnson, Li and Rabinovic 2007.
    """
    features, batch = checks.features_and_batch(features, batch)
    everything = np.ones(len(batch), dtype=bool)
    names, code = checks.enough_in_each(batch, everything, "ComBat", "rows", "leave them out")
    if len(names) < 2:
        raise InputError(
            f"ComBat needs at least two batches, got only {names[0]}: there is nothing to align."
        )
    columns, table = _covariates(covariates or {}, code)
    design = np.hstack([np.eye(len(names))[code], *columns.values()])
    effect = np.linalg.lstsq(design, features, rcond=None)[0]
    offset = effect[: len(names)] - np.bincount(code) @ effect[: len(names)] / len(code)
    residual = np.sqrt(np.mean((features - design @ effect) ** 2, axis=0))
    varied = residual > checks.EPSILON * np.abs(features).max(axis=0)
    out = features - offset[code]
    if varied.sum() == 1:
        raise InputError(
            "ComBat shares what it learns of a batch among features, and only one of "
            f"{features.shape[1]} varies within batches; use zscore_by_controls."
        )
    if varied.any():
        out[:, varied] = _neuro_combat(features[:, varied], code, table)
    if not np.isfinite(out).all():
        raise InputError(
            "ComBat found no finite correction: in some batch the features vary exactly alike, so "
            "their prior has no spread. Look for copied rows or repeated columns."
        )
    return out


def harmony(
    features: ArrayLike,
    batch: ArrayLike,
    components: int | None = None,
    clusters: int | None = None,
    diversity: float | int = 2.0,
    seed: int = 0,
) -> np.ndarray:
    """Harmony: clusters that hold all batches, and each batch moved to its clusters' centres.

    By harmonypy, with soft clusters of cosines. With `components`, on that many principal
    components of the centred features, as its authors do, and the result is `[n, components]`;
    without, on the features as they are, `[n, d]`. `clusters`: one for 30 rows, 2 to 100, unless
    given. `diversity` (theta) 0 lets clusters hold single batches. Returns float64.

    It sees every row at once (transductive), and no label. Raises `InputError` for one batch.
    Source: Korsunsky et al. 2019.
    """
    features, batch = checks.features_and_batch(features, batch)
    names, code = np.unique(batch, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"Harmony needs at least two batches, got only {names[0]}: there is nothing to align."
        )
    n, d = features.shape
    if components is not None:
        if not 1 <= components <= min(n - 1, d):
            raise InputError(
                f"components = {components} of {n} rows with {d} features; choose 1 to "
                f"{min(n - 1, d)}."
            )
        centred = features - features.mean(axis=0)
        left, value, _ = np.linalg.svd(centred, full_matrices=False)
        features = left[:, :components] * value[:components]
    clusters = int(np.clip(round(n / 30), 2, 100)) if clusters is None else clusters
    if not 1 <= clusters < n:
        raise InputError(f"clusters = {clusters} of {n} rows; choose 1 to {n - 1}.")
    import pandas as pd
    from harmonypy import run_harmony

    found = run_harmony(
        features, pd.DataFrame({"batch": code}), "batch", theta=float(diversity), nclust=clusters,
        verbose=False, random_state=seed, ncores=1,
    )  # fmt: skip
    return np.asarray(found.Z_corr, dtype=np.float64).reshape(features.shape)


def _zscore(
    features: np.ndarray, batch: np.ndarray, reference: np.ndarray, noun: str, advice: str
) -> np.ndarray:
    names, code = checks.enough_in_each(batch, reference, "Z-norm", noun, advice)
    out = np.empty_like(features)
    for b in range(len(names)):
        rows = code == b
        chosen = features[rows & reference]
        mean, sd = chosen.mean(axis=0), chosen.std(axis=0)
        constant = sd <= checks.EPSILON * np.abs(mean)
        out[rows] = (features[rows] - mean) / np.where(constant, 1.0, sd)
    return out


def _covariates(
    covariates: Mapping[str, ArrayLike], code: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns of the design by covariate, and the covariates as neuroCombat takes them."""
    columns, table, known = {}, {}, np.eye(code.max() + 1)[code]
    for name, values in covariates.items():
        values = np.asarray(values)
        checks.features_and_batch(known, values, f"The covariate {name!r}")
        if np.issubdtype(values.dtype, np.number):
            values = values.astype(np.float64)
            spread = values.std()
            if not np.isfinite(spread) or spread == 0:
                raise InputError(
                    f"The covariate {name!r} must be finite and vary; leave it out otherwise."
                )
            table[name] = (values - values.mean()) / spread
            columns[name] = table[name][:, None]
        else:
            level = np.unique(values.astype(str), return_inverse=True)[1]
            table[name] = level.astype(str).astype(object)
            columns[name] = np.eye(level.max() + 1)[level][:, 1:]
        both = np.hstack([known, columns[name]])
        if np.linalg.matrix_rank(both) < both.shape[1]:
            raise InputError(
                f"The covariate {name!r} is confounded with the batches, or with covariates before "
                "it: what it does and what a batch does cannot be told apart. Leave it out, or "
                "give rows in which both occur together."
            )
        known = both
    return columns, table


def _neuro_combat(features: np.ndarray, code: np.ndarray, table: dict) -> np.ndarray:
    import pandas as pd
    from neuroCombat import neuroCombat

    words = [name for name, values in table.items() if values.dtype == object]
    numbers = [name for name in table if name not in words]
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        found = neuroCombat(
            features.T, pd.DataFrame({**table, " batch": code}), " batch",
            categorical_cols=words, continuous_cols=numbers,
        )  # fmt: skip
    return np.asarray(found["data"], dtype=np.float64).T

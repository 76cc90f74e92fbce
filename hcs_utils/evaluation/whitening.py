"""Sphering: a space in which the controls vary alike in every direction; and TVN upon it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation import checks

METHODS = ("ZCA", "PCA", "ZCA-cor", "PCA-cor")


@dataclass(frozen=True)
class Sphering:
    """A whitening that was learned: what to subtract, and what to multiply by."""

    mean: np.ndarray  # [d]
    matrix: np.ndarray  # [d, d]

    def apply(self, features: ArrayLike) -> np.ndarray:
        """The features `[n, d]` in the sphered space, float64."""
        features, _ = checks.features_and_batch(features)
        if features.shape[1] != len(self.mean):
            raise InputError(
                f"The sphering was learned on {len(self.mean)} features, these rows have "
                f"{features.shape[1]}; embed both with the same model."
            )
        return (features - self.mean) @ self.matrix


def fit_sphere(
    controls: ArrayLike, regularisation: float | int = 0.0, method: str = "ZCA"
) -> Sphering:
    r"""Learn the sphering of some controls `[m, d]`, to apply to other rows.

    .. math:: W = V\, (\Lambda + \lambda \bar\Lambda I)^{-1/2}\, V^\top, \qquad
              \mathrm{cov}(X_c) = V \Lambda V^\top

    with the covariance (ddof 1) about the controls' own mean, :math:`\bar\Lambda` its mean
    eigenvalue and :math:`\lambda` the `regularisation`: a share of the mean variance, so that the
    units of the features do not matter. "ZCA" turns back into the features, "PCA" leaves the axes
    (largest variance first) and drops the last :math:`V^\top`; "-cor" divides each feature by its
    standard deviation first (Kessy et al. 2018).

    Unregularised, cov(sphered controls) = I. That takes more controls than features and no
    feature that is constant or made of others; where it cannot be, the `InputError` names the
    smallest regularisation that can. Directions in which the controls hardly vary are stretched
    most: with few controls 0.01 to 1 is wiser than the smallest.
    """
    controls, _ = checks.features_and_batch(controls)
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    if not regularisation >= 0:
        raise InputError(f"regularisation must be 0 or more, got {regularisation}.")
    m, d = controls.shape
    if m < 2:
        raise InputError(f"Sphering needs at least two controls, got {m}.")
    mean = controls.mean(axis=0)
    scale = np.ones(d)
    if method.endswith("-cor"):
        sd = controls.std(axis=0, ddof=1)
        scale = np.where(sd > checks.EPSILON * np.abs(mean), sd, 1.0)
    centred = (controls - mean) / scale
    value, axes = np.linalg.eigh(centred.T @ centred / (m - 1))
    value, axes = np.maximum(value[::-1], 0), axes[:, ::-1]  # largest first
    if not value[0] > (checks.EPSILON * np.abs(mean / scale).max()) ** 2:
        raise InputError(
            f"All {m} controls are the same row, so there is no spread to sphere by; "
            "check that they are different wells."
        )
    _refuse_singular(value, m, d, float(regularisation))
    stretch = 1 / np.sqrt(value + regularisation * value.mean())
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(d)] < 0, -1, 1)  # sign: defined
    matrix = (axes * stretch) / scale[:, None]
    return Sphering(mean, matrix if method.startswith("PCA") else matrix @ axes.T)


def sphere(
    features: ArrayLike,
    is_control: ArrayLike,
    regularisation: float | int = 0.0,
    method: str = "ZCA",
) -> np.ndarray:
    """Whiten all features `[n, d]` by the covariance of the controls; returns float64.

    `fit_sphere` on the rows of `is_control`, applied to all. Give `is_control & training` to
    learn it from the training batches alone. Raises `InputError` as `fit_sphere` does.
    """
    features, _ = checks.features_and_batch(features)
    control = checks.controls(is_control, len(features))
    if control.sum() < 2:
        raise InputError(
            f"Sphering needs at least two controls, got {int(control.sum())} in {len(features)} "
            'rows; for a manifest, give role == "negcon".'
        )
    return fit_sphere(features[control], regularisation, method).apply(features)


def tvn(
    features: ArrayLike,
    batch: ArrayLike,
    is_control: ArrayLike,
    regularisation: float | int = 0.0,
    alignment: float | int = 1.0,
) -> np.ndarray:
    r"""Typical variation normalisation: sphere by all controls, then align each batch's to all.

    .. math:: Z_b = (S_b - \mu_b)\, (C_b + \eta I)^{-1/2}\, (C + \eta I)^{1/2}

    S is the table sphered (PCA axes, none dropped) by the controls of all batches; :math:`\mu_b`
    and :math:`C_b` are the mean and covariance (ddof 1) of batch b's controls there, C that of all
    controls about their batches' means, and :math:`\eta` is `alignment`, against the unit
    variance of the sphered controls. With `alignment` 0 every batch's controls have covariance C;
    a batch needs more controls than features for that. Features `[n, d]`; returns float64.

    Source: Ando et al. 2017 (PCA whitening on controls, then CORAL of each batch), with CORAL's
    own :math:`\eta = 1` (Sun et al. 2016); means are aligned too, which CORAL leaves as they are.
    Raises `InputError` as `sphere` does, and for a batch with fewer than two controls.
    """
    features, batch = checks.features_and_batch(features, batch)
    control = checks.controls(is_control, len(features))
    if not alignment >= 0:
        raise InputError(f"alignment must be 0 or more, got {alignment}.")
    names, code = checks.enough_in_each(
        batch, control, "TVN", "controls", "use sphere, or leave them out"
    )
    sphered = sphere(features, control, regularisation, "PCA")
    for b in range(len(names)):
        rows = code == b
        sphered[rows] -= sphered[rows & control].mean(axis=0)
    target = _root(np.cov(sphered[control].T).reshape(2 * features.shape[1:]), alignment, 0.5)
    for b, name in enumerate(names):
        rows = code == b
        own = np.cov(sphered[rows & control].T).reshape(target.shape)
        sphered[rows] = sphered[rows] @ _root(own, alignment, -0.5, name) @ target
    return sphered


def _root(
    covariance: np.ndarray, alignment: float | int, power: float, name: object = ""
) -> np.ndarray:
    value, axes = np.linalg.eigh(covariance)
    value = np.maximum(value, 0) + alignment
    if power < 0 and value[0] <= _rounding(value, len(value)):
        raise InputError(
            f"The controls of batch {name} do not vary in all {len(value)} directions, so their "
            "covariance cannot be aligned exactly; give alignment=1, or more than 0."
        )
    return (axes * value**power) @ axes.T


def _refuse_singular(value: np.ndarray, controls: int, d: int, regularisation: float) -> None:
    """Raise where a direction would be stretched by a variance that is rounding."""
    lost = _rounding(value, d) / value.mean()
    smallest = 10.0 ** np.ceil(np.log10(lost))
    if value[-1] / value.mean() + regularisation > lost:
        return
    why = (
        f"{controls} controls span at most {controls - 1} of the {d} directions"
        if controls <= d
        else f"a feature is constant over the {controls} controls, or made of others"
    )
    raise InputError(
        f"The controls cannot be sphered with regularisation={regularisation:g}: {why}. Give "
        f"regularisation={smallest:.0e} at the least; 0.01 to 1 stretches less what no control "
        "shows."
    )


def _rounding(value: np.ndarray, d: int) -> float:
    """Variance below which an eigenvalue is rounding: three digits are to be right."""
    return 1e3 * d * float(np.finfo(np.float64).eps) * float(value.max())

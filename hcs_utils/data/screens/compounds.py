"""The compounds of the simulated screen: structure, code of traits, MoA, and response to dose."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from hcs_utils.data.screens import molecules
from hcs_utils.data.screens.drawing import TRAITS
from hcs_utils.errors import InputError

CONTROL, CONTROL_SMILES = "DMSO", "CS(C)=O"
_STEEPNESS = 1.5  # Hill coefficient
_EC50_UM = 0.6  # median over compounds; they spread by a factor of 1.5 (one sd)


def compounds(
    n: int, seed: int = 0, levels: int = 2, structure_share: float | int = 0.5
) -> pd.DataFrame:
    """``n`` compounds with codes of traits in [−1, 1] that are far apart.

    The latent of each trait is √s · structure + √(1−s) · private, with s = ``structure_share``:
    the first is a sum over scaffold and two substituents, the second belongs to the compound
    alone; both have unit variance over the library. ``levels`` equally likely values are made of
    it (2: −1, 1; 3: −1, 0, 1; 0: no rounding). The smallest L1 distance between two codes starts
    at 8 (four flipped binary traits) and is lowered only when no further compound can be found.

    Columns: compound, smiles, scaffold, on_ring, on_nitrogen (numbers of the parts), moa,
    target, ec50_um, and for each trait ``code_``, ``structure_`` and ``private_``. A compound's
    MoA is that of the nearest of the first compounds; its target depends on its scaffold too.
    """
    smiles = np.array(molecules.library())
    if not 0 < n <= len(smiles):
        raise InputError(f"{n} compounds asked; the library has {len(smiles)}: choose 1 to that.")
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(smiles))
    parts = np.stack(molecules.parts(np.arange(len(smiles))), 1)
    structure = sum(rng.standard_normal((k.max() + 1, len(TRAITS)))[k] for k in parts.T)
    structure = (structure - structure.mean(0)) / structure.std(0)
    private = rng.standard_normal(structure.shape)
    latent = np.sqrt(structure_share) * structure + np.sqrt(1 - structure_share) * private
    potency = _EC50_UM * 1.5 ** rng.standard_normal(len(smiles))
    chosen = order[_far_apart(_levels(latent, levels)[order], n)]
    code = _levels(latent, levels)[chosen]
    typical = latent[chosen[: max(2, min(n // 4, 24))]]
    moa = ((latent[chosen, None] - typical) ** 2).sum(-1).argmin(1)
    columns = {
        "compound": [f"SIM-{k:04d}" for k in range(n)],
        "smiles": smiles[chosen],
        **dict(zip(("scaffold", "on_ring", "on_nitrogen"), parts[chosen].T, strict=True)),
        "moa": [f"moa_{k + 1:02d}" for k in moa],
        "target": [
            f"T{k + 1:02d}{'AB'[s % 2]}" for k, s in zip(moa, parts[chosen, 0], strict=True)
        ],
        "ec50_um": potency[chosen].round(3),
    }
    for name, values in (
        ("code", code),
        ("structure", structure[chosen]),
        ("private", private[chosen]),
    ):
        columns |= {f"{name}_{t}": values[:, k] for k, t in enumerate(TRAITS)}
    return pd.DataFrame(columns)


def codebook(
    treatments: int, levels: int, seed: int = 0, structure_share: float | int = 0.5
) -> np.ndarray:
    """Trait values [treatments t] in [−1, 1] of :func:`compounds`."""
    table = compounds(treatments, seed, levels, structure_share)
    return table[[f"code_{t}" for t in TRAITS]].to_numpy()


def effect(dose_um, ec50_um):
    """Share of the full phenotype at a dose: Hill's curve."""
    rise = np.asarray(dose_um, float) ** _STEEPNESS
    return rise / (rise + np.asarray(ec50_um, float) ** _STEEPNESS)


def _levels(latent: np.ndarray, levels: int) -> np.ndarray:
    share = norm.cdf(latent)
    if levels == 0:
        return 2 * share - 1
    return np.linspace(-1, 1, levels)[np.minimum((share * levels).astype(int), levels - 1)]


def _far_apart(codes: np.ndarray, n: int) -> np.ndarray:
    """Places of ``n`` codes, taken greedily in their order, as far apart as goes."""
    for apart in (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.01):
        gap, chosen = np.full(len(codes), np.inf), []
        while len(chosen) < n and (free := np.flatnonzero(gap >= apart)).size:
            chosen.append(free[0])
            gap = np.minimum(gap, np.abs(codes - codes[free[0]]).sum(1))
        if len(chosen) == n:
            return np.array(chosen)
    raise InputError(
        f"{n} compounds asked, but only {len(chosen)} distinct codes were found. Use more levels, "
        "or 0 for codes that are not rounded."
    )

"""The compounds of the simulated screen: real SMILES, and a code of traits for each."""

import numpy as np
import pandas as pd

from hcs_utils.data.screens.drawing import TRAITS
from hcs_utils.errors import InputError

_SCAFFOLDS = (
    "{a}c1ccc(cc1)C(=O)N{b}", "{a}c1ccc2c(c1)ncnc2N{b}", "{a}c1ccc2[nH]cc(c2c1)CC{b}",
    "{a}c1ccc(cc1)S(=O)(=O)N{b}", "{a}c1ccnc(c1)N{b}", "{a}C1CCN(CC1)C(=O){b}",
    "{a}c1ccc(cc1)-c1ccnc(n1)N{b}", "{a}c1csc(n1)N{b}",
)  # fmt: skip
_GROUPS_A = ("C", "CC", "F", "Cl", "OC", "N", "O", "FC(F)(F)", "N#C", "CC(C)")
_GROUPS_B = (
    "C", "CC", "C1CC1", "CCO", "CCOC", "c1ccccc1", "CC(C)C", "CCN(C)C", "Cc1ccccc1", "C1CCCC1",
)  # fmt: skip


def codebook(treatments: int, levels: int, seed: int = 0) -> np.ndarray:
    """Trait values [treatments t] in [−1, 1], far apart: drawn greedily at random.

    The smallest L1 distance between two codes starts at 8 (four flipped binary traits) and is
    lowered only when no further code can be found.
    """
    values = np.linspace(-1, 1, levels)
    grid = np.stack(np.meshgrid(*[values] * len(TRAITS), indexing="ij"), -1).reshape(
        -1, len(TRAITS)
    )
    grid = np.random.default_rng(seed).permutation(grid)
    if treatments > len(grid):
        raise InputError(
            f"{treatments} treatments asked, but {levels} levels give {len(grid)} codes"
        )
    for apart in np.arange(8, 0, -1):
        gap, chosen = np.full(len(grid), np.inf), []
        while len(chosen) < treatments and (free := np.flatnonzero(gap >= apart)).size:
            chosen.append(free[0])
            gap = np.minimum(gap, np.abs(grid - grid[free[0]]).sum(1))
            gap[free[0]] = -1
        if len(chosen) == treatments:
            return grid[chosen]
    raise InputError(f"no {treatments} distinct codes with {levels} levels")


def compound_table(treatments: int, levels: int, seed: int = 0) -> pd.DataFrame:
    """One row a compound: SMILES from scaffold and substituents, MoA and target by its code."""
    rng = np.random.default_rng([seed, 1])
    space = len(_SCAFFOLDS) * len(_GROUPS_A) * len(_GROUPS_B)
    picked = rng.choice(space, treatments, replace=False)
    codes = codebook(treatments, levels, seed)
    rows = [("DMSO", "CS(C)=O", "negcon", 0.0, "", "")]
    for k, (index, code) in enumerate(zip(picked, codes, strict=True)):
        scaffold, rest = divmod(int(index), len(_GROUPS_A) * len(_GROUPS_B))
        a, b = divmod(rest, len(_GROUPS_B))
        smiles = _SCAFFOLDS[scaffold].format(a=_GROUPS_A[a], b=_GROUPS_B[b])
        moa = TRAITS[int(np.argmax(np.abs(code)))] if levels > 2 else f"moa_{k % 4}"
        rows.append((f"SIM-{k:04d}", smiles, "trt", 5.0, moa, f"T{k % 8}"))
    return pd.DataFrame(rows, columns=["compound", "smiles", "role", "dose_um", "moa", "target"])

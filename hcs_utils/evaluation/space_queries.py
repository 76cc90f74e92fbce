"""Ask a space of molecules and images: a molecule for its nearest wells, a well for its molecules.

Nothing is learned here: vectors of one space in, tables out.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.data.manifest import nearest as nearest_name
from hcs_utils.errors import InputError
from hcs_utils.evaluation.neighbours import nearest, unit

_WELL = ["plate", "well"]
_TOLD = ["plate", "well", "batch", "source", "compound", "smiles", "split"]


def wells(z: ArrayLike, table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """The direction of every well `[w, d]`, and what is known of it, plates and wells in order.

    The mean of its fields' vectors, each scaled to length 1: `z` `[n, d]`, a row for each of
    `table` (plate, well, site_id; and of batch, source, compound, smiles, split what it has).
    `site_id` of the answer is the field nearest to the mean, the one to look at.
    """
    z = unit(np.asarray(z, dtype=np.float64))
    if len(z) != len(table):
        raise InputError(
            f"There are {len(z)} vectors for {len(table)} fields; join on site_id first."
        )
    code, names = pd.factorize(pd.MultiIndex.from_frame(table[_WELL]), sort=True)
    total = np.zeros((len(names), z.shape[1]))
    np.add.at(total, code, z)
    mean = unit(total)
    order = np.lexsort((-(z * mean[code]).sum(axis=1), code))
    first = order[np.unique(code[order], return_index=True)[1]]
    told = [name for name in [*_TOLD, "site_id"] if name in table]
    return mean, table.iloc[first][told].reset_index(drop=True)


def well_of(plate: str, well: str, known: pd.DataFrame) -> int:
    """The row of a well among those that `wells` tells of; `InputError` names what is near."""
    here = known["plate"].eq(plate)
    if not here.any():
        names = sorted(known["plate"].unique())
        raise InputError(
            f"No plate is called {plate!r}{nearest_name(plate, names)}; there are "
            f"{', '.join(map(str, names[:12]))}{' …' if len(names) > 12 else ''}."
        )
    found = np.flatnonzero(here & known["well"].eq(well))
    if not len(found):
        names = sorted(known.loc[here, "well"])
        raise InputError(
            f"Plate {plate} has no well {well!r}{nearest_name(well, names)}; its "
            f"{len(names)} wells go from {names[0]} to {names[-1]}."
        )
    return int(found[0])


def answer(z: ArrayLike, rows: ArrayLike, known: pd.DataFrame, k: int = 5) -> pd.DataFrame:
    """The k of `known` whose vectors `rows` `[n, d]` are most similar to `z` `[d]`, nearest first.

    A row each: `rank` from 1, `similarity` (cosine, −1 to 1), then what `known` says. The same for
    wells (from `wells`) asked with a molecule, and for molecules asked with a well.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if len(rows) != len(known):
        raise InputError(f"There are {len(rows)} vectors for {len(known)} names; give one each.")
    k = min(k, len(rows))
    similarity, at = nearest(np.asarray(z, dtype=np.float64)[None], rows, k)
    found = known.iloc[at[0]].reset_index(drop=True)
    found.insert(0, "similarity", similarity[0].round(3))
    found.insert(0, "rank", np.arange(1, k + 1))
    return found


def place(z: ArrayLike, rows: ArrayLike, own: ArrayLike) -> int:
    """Where the first of the rows that are its `own` (bool `[n]`) stands in the order, 1 nearest.

    Raises `InputError` where it has none.
    """
    own = np.asarray(own, dtype=bool)
    if not own.any():
        raise InputError("None of the rows is its own, so it has no place among them.")
    cosine = unit(np.asarray(rows, dtype=np.float64)) @ unit(np.asarray(z, dtype=float)[None])[0]
    return int((cosine > cosine[own].max()).sum()) + 1

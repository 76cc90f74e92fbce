"""Where the wells of a plate lie: controls, treatments, edges."""

import numpy as np
import pandas as pd

from hcs_utils.errors import InputError

_FORMATS = ((8, 12), (16, 24), (32, 48))


def layout(
    treatments: int, wells: int, negcon: int, poscon: int, columns: bool, rng: np.random.Generator
) -> pd.DataFrame:
    """Wells of the smallest plate that holds them, in the order of their names.

    Controls lie in the outermost ``columns``, as on plates of compound libraries, or scattered;
    treatments lie at random in other wells. ``treatment`` numbers them; −1 is the negative
    control, −2 the positive one. ``edge`` is 1 on the rim and falls inwards; ``across`` and
    ``down`` run from −1 to 1.
    """
    count = treatments * wells + negcon + poscon
    shape = next((f for f in _FORMATS if f[0] * f[1] >= count), None)
    if shape is None:
        raise InputError(f"{count} wells do not fit on a 1536-well plate")
    place = rng.permutation(shape[0] * shape[1])
    if columns:  # a stable sort keeps chance within each column
        from_rim = np.minimum(place % shape[1], shape[1] - 1 - place % shape[1])
        for_controls = place[np.argsort(from_rim, kind="stable")][: negcon + poscon]
        place = np.concatenate([for_controls, place[~np.isin(place, for_controls)]])
    content = [np.full(negcon, -1), np.full(poscon, -2), np.repeat(np.arange(treatments), wells)]
    table = pd.DataFrame({"place": place[:count], "treatment": np.concatenate(content)})
    table = table.sort_values("place", ignore_index=True)
    row, column = np.divmod(table.pop("place").to_numpy(), shape[1])
    letters = [chr(65 + r) if r < 26 else "A" + chr(65 + r - 26) for r in row]
    edge = np.minimum.reduce([row, column, shape[0] - 1 - row, shape[1] - 1 - column])
    return table.assign(
        well=[f"{letter}{c + 1:02d}" for letter, c in zip(letters, column, strict=True)],
        edge=np.exp(-edge / 1.5),
        across=2 * column / (shape[1] - 1) - 1,
        down=2 * row / (shape[0] - 1) - 1,
    )

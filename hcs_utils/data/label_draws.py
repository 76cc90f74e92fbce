"""Which few crops get a label, and on which plates they are judged."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from hcs_utils.data.splits import grouped_split
from hcs_utils.errors import InputError

BUDGETS = (350, 100, 50, 25, 10)  # labels to learn from: section 4.2 of the QC paper


def split(
    crops: pd.DataFrame,
    seed: int = 0,
    test_share: float | int = 0.35,
    val_share: float | int = 0.15,
) -> pd.Series:
    """Part of each crop, "train", "val" or "test", by the rows of the table; a plate has one part.

    Whole plates are dealt until the parts hold nearly their shares of the crops, whichever these
    are. ``crops`` needs `site_id` and `plate`. The paper splits single crops (section 3.1), so that
    crops of one plate, and of one field, may stand on both sides.
    """
    shares = {"train": 1 - test_share - val_share, "val": val_share, "test": test_share}
    plates = crops["plate"].nunique()
    if plates < len(shares):
        raise InputError(
            f"Crops of {plates} plates cannot be dealt to train, val and test without dividing a "
            f"plate; {len(shares)} or more are needed."
        )
    table = crops[["site_id", "plate"]].assign(well=crops["site_id"])  # whole plates hold wells
    part = grouped_split(table, "plate", shares, seed)
    return pd.Series(part.to_numpy(), crops.index, name="split", dtype="str")


def draw(
    abnormal: Bool[np.ndarray, "n"],
    field: Int[np.ndarray, "n"],
    rows: Int[np.ndarray, "pool"],
    budget: int,
    seed: int,
) -> Int[np.ndarray, "chosen"]:
    """``budget`` of ``rows``, sorted: half of them abnormal, one more normal where it is odd.

    By lot, but a second crop of a field only once every field of that class has given one.
    ``field`` numbers the field of every crop. Draws of one seed are nested: 10 labels are among
    the 25 and so on, so that budgets are compared on the same luck.

    Source: section 3.1 (350 labels, as many normal as abnormal) and 4.2 (smaller budgets); how
    the paper chose the subsets is not given.
    """
    if budget < 2:
        raise InputError(f"A budget of {budget} labels is fewer than the two classes; give 2 up.")
    pool = np.unique(rows)
    counts = np.array([np.count_nonzero(~abnormal[pool]), np.count_nonzero(abnormal[pool])])
    wanted = np.array([budget - budget // 2, budget // 2])
    held = f"there are {counts[0]} normal and {counts[1]} abnormal crops"
    if not counts.all():
        raise InputError(f"One class only: {held} to label. Widen the plates they are taken from.")
    if (counts < wanted).any():
        raise InputError(
            f"{budget} labels want {wanted[0]} normal and {wanted[1]} abnormal crops; {held}. "
            f"The largest budget is {_largest(*counts.tolist())}."
        )
    pool = np.random.default_rng([seed, 11]).permutation(pool)
    again = pd.Series(field[pool]).groupby(field[pool]).cumcount().to_numpy() > 0
    pool = pool[np.argsort(again, kind="stable")]
    chosen = [pool[abnormal[pool] == which][: wanted[int(which)]] for which in (False, True)]
    return np.sort(np.concatenate(chosen))


def _largest(normal: int, abnormal: int) -> int:
    return 2 * abnormal + 1 if normal > abnormal else 2 * normal

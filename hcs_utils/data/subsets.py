"""Which part of the training fields a run learns from: settings I to III of CDCL's table 2b."""

import numpy as np
import pandas as pd

from hcs_utils.errors import InputError

SUBSETS = ("all", "controls", "treatments", "half", "half_released")


def kept(manifest: pd.DataFrame, subset: str) -> np.ndarray:
    """Whether each row of a manifest belongs to a subset: `n` truth values.

    "controls": negative and positive controls (I). "treatments": all but them (II). "half": the
    controls and 50 % of the treatments, the second, fourth, … of their sorted names (III, as the
    text says; the code keeps odd numbers, counted from 0). "half_released": the controls and every
    treatment, but of its fields on a plate, sorted by well and site, only the second, fourth, …
    (the strategy that the README names for III).

    The choice depends on no seed, fold or order of rows. Source: CDCL, table 2b;
    `defaults/datasets.py: get_dataframe`. "half_released" there drops the first field of each
    treatment on a plate: the same on RxRx1, which has two.
    """
    if subset not in SUBSETS:
        raise InputError(f"Unknown subset {subset!r}; there are: {', '.join(SUBSETS)}.")
    treated = (manifest["role"] == "trt").to_numpy()
    if subset == "all":
        return np.ones(len(manifest), bool)
    if subset == "controls":
        return ~treated
    if subset == "treatments":
        return treated
    if subset == "half":
        names = np.unique(manifest["treatment"].to_numpy(str)[treated])
        return ~treated | np.isin(manifest["treatment"].to_numpy(str), names[1::2])
    ordered = manifest.reset_index(drop=True).sort_values(["well", "site", "site_id"])
    place = ordered.groupby(["plate", "treatment"]).cumcount().sort_index().to_numpy()
    return ~treated | (place % 2 == 1)


def training_rows(table: pd.DataFrame, subset: str) -> np.ndarray:
    """Row numbers, ascending, of the fields to learn from: part "train" of `split`, and `kept`.

    Raises `InputError` where they hold fewer than two treatments, so that nothing can be told
    apart. Bank, validation and test keep all fields (as in the released code); that is the
    caller's business.
    """
    rows = np.flatnonzero((table["split"] == "train").to_numpy() & kept(table, subset))
    left = table["treatment"].iloc[rows].unique()
    if len(left) < 2:
        what = f"one treatment only ({left[0]})" if len(left) else "no field"
        raise InputError(
            f"subset {subset!r} leaves {what} of the training part; two treatments or more are "
            "needed. Choose another subset, or mark the controls of the screen (role negcon, "
            "poscon)."
        )
    return rows

"""Fewer fields of each well, chosen by a seed: what the cross-modal paper kept of JUMP."""

import hashlib

import numpy as np
import pandas as pd

from hcs_utils.errors import InputError

_WELL = ["plate", "well", "role"]


def sample_fields(
    manifest: pd.DataFrame, treatment: int = 6, control: int = 3, seed: int = 0
) -> pd.DataFrame:
    """At most so many fields of each well: `treatment` where treated, else `control`; 0 keeps all.

    Each field draws a lot from its seed, plate, well and `site_id` (BLAKE2), and the smallest lots
    stay, in the order of the rows. So the choice in a well depends neither on other wells nor on
    the order of rows, and a field that was not chosen may go without changing it.

    The counts are the cross-modal paper's. The released code differs (gwatkinson/jump_download
    @304339a, sample_load_data.py: sample_load_data, sample_compound): the lists of positive and
    negative controls are passed swapped, so that DMSO keeps 4 fields, and on COMPOUND plates InChIs
    are compared with JCP ids, so that no control is recognised and each keeps 6 (`control=6`).
    """
    for name, value in (("treatment", treatment), ("control", control)):
        if value < 0 or value != int(value):
            raise InputError(f"{name} is {value!r}; give a number of fields, or 0 for all.")
    quota = np.where(manifest["role"] == "trt", treatment, control)
    quota[quota == 0] = len(manifest)
    return manifest[_rank(manifest, seed) < quota].reset_index(drop=True)


def lots(seed: int, *columns: pd.Series) -> np.ndarray:
    """A 64-bit lot for each row, from the seed and the row's text alone; the same everywhere."""
    rows = zip(*(column.astype(str).tolist() for column in columns), strict=True)
    start = hashlib.blake2b(f"{seed}".encode(), digest_size=8)
    digests = []
    for row in rows:
        own = start.copy()
        own.update("\0".join(("", *row)).encode())
        digests.append(own.digest())
    return np.frombuffer(b"".join(digests), "<u8")


def _rank(manifest: pd.DataFrame, seed: int) -> np.ndarray:
    """Place of each field's lot among those of its well, from 0."""
    lot = lots(seed, manifest["plate"], manifest["well"], manifest["site_id"])
    group = manifest.groupby(_WELL, sort=False).ngroup().to_numpy()
    order = np.lexsort((lot, group))
    ordered = group[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    rank = np.empty(len(manifest), np.int64)
    rank[order] = np.arange(len(manifest)) - np.repeat(first, np.diff([*first, len(manifest)]))
    return rank


def kept(manifest: pd.DataFrame, sampled: pd.DataFrame) -> pd.DataFrame:
    """Fields `there` and `kept` of each well (plate, well, role), in a row each."""
    counts = {
        "there": manifest.groupby(_WELL).size(),
        "kept": sampled.groupby(_WELL).size(),
    }
    return pd.DataFrame(counts).fillna(0).astype("int64").reset_index()

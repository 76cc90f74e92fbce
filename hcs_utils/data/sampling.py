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
    """
    for name, value in (("treatment", treatment), ("control", control)):
        if value < 0 or value != int(value):
            raise InputError(f"{name} is {value!r}; give a number of fields, or 0 for all.")
    quota = np.where(manifest["role"] == "trt", treatment, control)
    quota[quota == 0] = len(manifest)
    return manifest[_rank(manifest, seed) < quota].reset_index(drop=True)


def _rank(manifest: pd.DataFrame, seed: int) -> np.ndarray:
    """Place of each field's lot among those of its well, from 0."""
    names = [manifest[name].astype(str) for name in ("plate", "well", "site_id")]
    digests = [
        hashlib.blake2b(f"{seed}\0{plate}\0{well}\0{site}".encode(), digest_size=8).digest()
        for plate, well, site in zip(*names, strict=True)
    ]
    lot = np.frombuffer(b"".join(digests), "<u8")
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

"""How like molecules are, by the bits of their fingerprints."""

import numpy as np
from jaxtyping import Float, UInt8

from hcs_utils.errors import InputError

_CHUNK = 2048  # molecules compared at once with all others


def nearest_tanimoto(
    query: UInt8[np.ndarray, "n b"], bank: UInt8[np.ndarray, "m b"]
) -> Float[np.ndarray, " n"]:
    r"""Tanimoto similarity of each fingerprint to the nearest of a bank, from 0 to 1.

    .. math:: s(A, B) = \frac{|A \cap B|}{|A \cup B|}

    Both are packed, eight bits a byte. Two molecules without a bit are alike (1). Memory is that
    of 2,048 molecules beside the bank.
    """
    if not len(bank) or not len(query):
        raise InputError(
            f"{len(query)} molecules and {len(bank)} to compare them with: both must be 1 or more."
        )
    wide = np.unpackbits(bank, axis=1).astype(np.float32)
    count, best = wide.sum(1), []
    for k in range(0, len(query), _CHUNK):
        some = np.unpackbits(query[k : k + _CHUNK], axis=1).astype(np.float32)
        both = some @ wide.T
        either = some.sum(1)[:, None] + count - both
        best.append(np.where(either > 0, both / np.maximum(either, 1), 1.0).max(1))
    return np.concatenate(best).astype(np.float64)

"""Do replicates find each other, and do compounds of one mechanism stand together?"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import missing
from hcs_utils.evaluation.grit import grit, grit_by_treatment
from hcs_utils.evaluation.intervals import permutation_null
from hcs_utils.evaluation.neighbours import (
    checked_features,
    checked_labels,
    count,
    for_cosines,
    largest,
    over_blocks,
)  # fmt: skip
from hcs_utils.evaluation.precision import average_precision, coded

__all__ = [
    "average_precision", "grit", "grit_by_treatment", "nsc_moa_accuracy", "nsc_moa_chance",
    "nsc_moa_right", "replicate_map",
]  # fmt: skip

COPAIRS_DRAWS = 2**24  # ranks of one null that copairs may shuffle at once; above, only some drawn


def replicate_map(
    features: ArrayLike,
    treatment: ArrayLike,
    batch: ArrayLike | None = None,
    is_control: ArrayLike | None = None,
    null_size: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean `average_precision` of each treatment, with copairs' p-value: can replicates be found?

    Index `treatment`, columns `mean_average_precision`, `p_value`, `corrected_p_value`
    (Benjamini-Hochberg over treatments), `replicates`; NaN for a treatment whose rows have no
    positives, and controls are left out. The null are AP of random orders with as many positives
    and pairs as each row has, `null_size` of them. copairs gives rows with equal counts the same
    draws, as if replicates all rose or fell together: p-values are cautious, not uniform, under
    the null. Raises `InputError` when no row has a positive.
    Source: Kalinin et al. 2025 (copairs, which makes the p-values; its draws here do not depend
    on earlier calls, and long lists are never shuffled whole).
    """
    if null_size < 1:
        raise InputError(f"null_size must be 1 or more, got {null_size}.")
    scores = average_precision(features, treatment, batch, is_control)
    code, names = pd.factorize(np.asarray(treatment))
    scores["code"] = code
    some = scores[scores.n_pos_pairs > 0]
    if some.empty:
        where = "" if batch is None else " in different batches"
        raise InputError(
            f"No treatment has two replicates{where}, so no replicate could be found; give every "
            "well's profile" + (", or leave `batch` out." if where else ".")
        )
    from copairs.map import mean_average_precision  # slow to import

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"seed{seed}" / f"ns{null_size}"  # where copairs looks first
        place.mkdir(parents=True)
        counts = some[["n_pos_pairs", "n_total_pairs"]].drop_duplicates().to_numpy()
        for positives, total in counts[counts[:, 1] * null_size > COPAIRS_DRAWS].tolist():
            draws = _random_ap(positives, total, null_size, seed)
            np.save(place / f"n{total}_k{positives}.npy", draws)
        table = mean_average_precision(
            some, ["code"], null_size, 0.05, seed, progress_bar=False, max_workers=2,
            cache_dir=folder,
        )  # fmt: skip
    judged = np.ones(len(code), bool) if is_control is None else ~np.asarray(is_control)
    table = table.set_index("code").reindex(np.unique(code[judged]))
    table["replicates"] = np.bincount(code)[table.index]
    table.index = pd.Index(np.asarray(names)[table.index], name="treatment")
    columns = ["mean_average_precision", "p_value", "corrected_p_value", "replicates"]
    return table[columns].sort_index()


def nsc_moa_accuracy(
    features: ArrayLike,
    compound: ArrayLike,
    moa: ArrayLike,
    batch: ArrayLike | None = None,
    k: int = 1,
    unmatched: str = "excluded",
) -> float:
    """Share of rows whose mechanism is that of their nearest rows of other compounds, in [0, 1].

    The mean of `nsc_moa_right`, which see, over the rows that are asked. Raises `InputError` where
    no row could be right.
    Source: Ljosa et al. 2013; Ando et al. 2017 (NSCB); CDCL, table 2a.
    """
    return float(np.nanmean(nsc_moa_right(features, compound, moa, batch, k, unmatched)))


def nsc_moa_right(
    features: ArrayLike,
    compound: ArrayLike,
    moa: ArrayLike,
    batch: ArrayLike | None = None,
    k: int = 1,
    unmatched: str = "excluded",
) -> np.ndarray:
    """Whether each row has the mechanism of its nearest rows of other compounds: 1, 0 or NaN, `n`.

    Cosine neighbours; "not same compound" (NSC), and with `batch` "not same compound or batch"
    (NSCB): neither the row's compound nor its batch. One row is a treatment, or a well. With k > 1
    the k vote, and a tie goes to the mechanism of the nearest row. Rows without a mechanism
    (missing, or "") are neither asked (NaN) nor found. A row with no row of its mechanism among
    those allowed cannot be right: "excluded" does not ask it (as the field does for NSCB), "wrong"
    counts it (as CDCL's code). That code excludes the row's own *treatment* only, so another dose
    may answer: pass treatments as `compound` for its number.
    """
    features = checked_features(features, "features", varied=True)
    known = _known(moa)
    checked_labels(known, features, "moa")  # its length
    group, _ = coded(compound, features, "compound")
    place = None if batch is None else coded(batch, features, "batch")[0]
    if unmatched not in ("excluded", "wrong"):
        raise InputError(f'unmatched must be "excluded" or "wrong", got {unmatched!r}.')
    if k < 1:
        raise InputError(f"k must be 1 or more, got {k}.")
    points, group = features[known], group[known]
    code, names = pd.factorize(np.asarray(moa)[known])
    place = None if place is None else place[known]

    def of_block(rows: slice, cosine: np.ndarray) -> np.ndarray:
        barred = group[rows, None] == group
        if place is not None:
            barred |= place[rows, None] == place
        cosine[barred] = -np.inf
        near = largest(cosine, min(k, cosine.shape[1]))
        allowed = np.take_along_axis(cosine, near, axis=1) > -np.inf
        weight = allowed * (1 + 0.5 ** (np.arange(near.shape[1]) + 2.0))
        voted = count(code[near], len(names), weight).argmax(axis=1)
        right = (voted == code[rows]) & allowed[:, 0]
        possible = ((code[rows, None] == code) & ~barred).any(axis=1)
        return np.stack([right, possible], axis=1)

    tables = for_cosines(points, points)[:2] if known.any() else None
    answers = over_blocks(of_block, *tables) if tables else []
    right, possible = np.concatenate([np.empty((0, 2)), *answers]).T
    if not possible.any():
        raise InputError(
            f"Of {known.sum()} rows with a mechanism none shares it with another compound"
            f"{' in another batch' * (place is not None)}, so none could be right; give more "
            "compounds, or coarser mechanisms."
        )
    out = np.full(len(features), np.nan)
    out[known] = right if unmatched == "wrong" else np.where(possible > 0, right, np.nan)
    return out


def nsc_moa_chance(
    features: ArrayLike, compound: ArrayLike, moa: ArrayLike, draws: int = 200, seed: int = 0
) -> float:
    r"""`nsc_moa_accuracy` to be expected if mechanisms said nothing: mean of permuted labels.

    Mechanisms are shuffled among whole compounds, `draws` times; neighbours stay. With one row a
    compound and :math:`n_m` of C compounds of mechanism m, the draws scatter about

    .. math:: \sum_m n_m (n_m - 1) \Big/ (C - 1) \sum_{m:\, n_m > 1} n_m

    whatever the features are. Raises `InputError` for a compound with two mechanisms.
    """
    moa, compound = np.asarray(moa), np.asarray(compound)
    known = _known(moa)
    features, compound, moa = np.asarray(features)[known], compound[known], moa[known]

    def score(labels: np.ndarray) -> float:
        return nsc_moa_accuracy(features, compound, labels)

    return float(permutation_null(score, moa, draws, seed, unit=compound).mean())


def _known(moa: ArrayLike) -> np.ndarray:
    """Rows whose mechanism is neither missing nor ""."""
    moa = np.asarray(moa)
    return ~(missing(moa) | (moa.astype(str) == ""))


def _random_ap(positives: int, total: int, draws: int, seed: int) -> np.ndarray:
    """AP of random orders. copairs shuffles lists of `total`; here only ranks are drawn."""
    rng = np.random.default_rng([seed, positives, total])
    place = np.arange(1, positives + 1, dtype=np.float32)
    ap = [
        (place / (_ranks(rng, min(step, draws - done), positives, total) + 1)).mean(axis=1)
        for step in [max(1, COPAIRS_DRAWS // 4 // max(positives, total * (8 * positives > total)))]
        for done in range(0, draws, step)
    ]
    return np.concatenate(ap).astype(np.float32)


def _ranks(rng: np.random.Generator, draws: int, positives: int, total: int) -> np.ndarray:
    """Places of the positives in random orders of all, from 0, ascending: `[draws, positives]`."""
    if 8 * positives > total:
        order = np.tile(np.arange(total, dtype=np.int32), (draws, 1))
        return np.sort(rng.permuted(order, axis=1, out=order)[:, :positives], axis=1)
    ranks = np.sort(rng.integers(total, size=(draws, positives), dtype=np.int32), axis=1)
    while True:  # draw again what was drawn twice
        again = np.zeros(ranks.shape, dtype=bool)
        again[:, 1:] = ranks[:, 1:] == ranks[:, :-1]
        if not again.any():
            return ranks
        ranks[again] = rng.integers(total, size=int(again.sum()), dtype=np.int32)
        ranks.sort(axis=1)

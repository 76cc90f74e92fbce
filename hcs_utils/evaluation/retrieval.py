"""Is the molecule found among the images, or the image among the molecules?"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.intervals import bootstrap_interval
from hcs_utils.evaluation.neighbours import checked_features, checked_labels, chunks
from hcs_utils.evaluation.neighbours import unit as unit_rows

SAME = 1e-9  # cosines closer than this are tied


def retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    pool: int = 100,
    k: tuple[int, ...] = (1, 3, 5, 10),
    pools: int = 200,
    seed: int = 0,
    unit: ArrayLike | None = None,
    form: str = "pools",
    level: float = 0.95,
) -> pd.DataFrame:
    r"""How often each query's own partner is among the k most similar of a pool, and its rank.

    Rows of query and gallery are pairs, `[n, d]` each. Within pools of `pool` pairs, with r the
    rank of the partner by cosine,

    .. math:: \mathrm{HR@}k = \mathrm{mean}[r \le k], \qquad \mathrm{MRR} = \mathrm{mean}[1 / r]

    Partners that tie with others take the mean over all orders of the tie, so that an embedding
    of one point scores chance. Index `hr@k` for each k and `mrr`; columns `value`, the mean over
    pools, `low`, `high`, and `chance`: k / pool, and :math:`\sum_{r=1}^{pool} 1/(r \cdot pool)`.

    The interval holds `level` of the *pools*: what one draw of a pool may give, for these pairs
    and this embedding; it narrows neither with n nor with `pools`, and is nothing when a pool
    takes every pair. With `unit` (the compound of each pair) whole units are drawn anew instead,
    and the interval is that of the mean, had other compounds been held out.

    form "pools": `pools` random pools, without replacement within one. "blocks": as the authors
    evaluate, one block of `pool` rows after another in the order given (theirs sorts by InChI, so
    like stands by like), the last incomplete one dropped. Their MRR is torchmetrics', which (1.9)
    takes a partner of cosine 0 or less as never found; here its rank counts. Swap the arguments
    for the other direction.
    Source: EMM/IMM, table 2 (molecule to image, 1:100).
    """
    query, gallery = _paired(query, gallery)
    k = _checked_k(k, pool, len(query))
    drawn = _draw(len(query), pool, pools, seed, form)
    whose = None if unit is None else pd.factorize(checked_labels(unit, query, "unit"))[0]
    scores = np.concatenate([_scores(query, gallery, rows, k) for rows in drawn])
    value = scores.mean(axis=0)
    if whose is None:
        of_pools = scores.reshape(len(drawn), pool, -1).mean(axis=1)
        low, high = np.quantile(of_pools, [(1 - level) / 2, (1 + level) / 2], axis=0)
    else:
        whose = whose[np.concatenate(drawn)]
        ends = [bootstrap_interval(column, whose, seed=seed, level=level) for column in scores.T]
        low, high = np.transpose(ends)
    chance = [*(each / pool for each in k), float(_harmonic(pool)[-1] / pool)]
    return pd.DataFrame(
        {"value": value, "low": low, "high": high, "chance": chance},
        index=pd.Index([*(f"hr@{each}" for each in k), "mrr"], name="metric"),
    )


def ranks(query: ArrayLike, gallery: ArrayLike) -> np.ndarray:
    """Rank of each query's own partner in the whole gallery, from 1; ties share their mean rank."""
    query, gallery = _paired(query, gallery)
    rank = np.empty(len(query))
    for rows in chunks(len(query), 2 * len(gallery)):
        above, tied = _standing(query[rows], gallery, np.arange(rows.start, rows.stop))
        rank[rows] = above + (tied + 1) / 2
    return rank


def generalisation(separated: float | int, random: float | int) -> float:
    r"""Share of the accuracy that is left when train and test share no plate, batch or source.

    .. math:: G_\mathrm{NSX} = \mathrm{Acc}_\mathrm{NSX} / \mathrm{Acc}_\mathrm{random}

    with X the well (W), plate (P), batch (B) or source (S): 1 when nothing is lost; the random
    split shares wells and so flatters its denominator. Accuracies in [0, 1], not per cent.
    Source: EMM/IMM, table 3.
    """
    for name, accuracy in (("separated", separated), ("random", random)):
        if not 0 <= accuracy <= 1:
            raise InputError(
                f"The {name} accuracy must lie in [0, 1], got {accuracy}; divide per cent by 100."
            )
    if random == 0:
        raise InputError(
            "The accuracy of the random split is 0, so nothing is left to generalise; "
            "check the labels, or report both accuracies."
        )
    return float(separated / random)


def _paired(query: ArrayLike, gallery: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both tables as unit rows in float64, checked to be pairs."""
    given = query, gallery
    query, gallery = checked_features(query, "query"), checked_features(gallery, "gallery")
    if len(query) != len(gallery):
        raise InputError(
            f"Row i of query and gallery must be a pair; there are {len(query)} and "
            f"{len(gallery)} rows. Join both on the compound first."
        )
    if query.shape[1] != gallery.shape[1]:
        raise InputError(
            f"The query has {query.shape[1]} features and the gallery {gallery.shape[1]}; "
            "project both into one space."
        )
    return tuple(unit_rows(np.asarray(table, dtype=np.float64)) for table in given)


def _checked_k(k: tuple[int, ...], pool: int, pairs: int) -> tuple[int, ...]:
    if not 2 <= pool <= pairs:
        raise InputError(
            f"pool = {pool}, and there are {pairs} pairs; choose a pool of 2 to {pairs}."
        )
    if not k or not all(1 <= each <= pool for each in k):
        raise InputError(f"Every k must lie in 1 to pool = {pool}, got {tuple(k)}.")
    return tuple(k)


def _draw(pairs: int, pool: int, pools: int, seed: int, form: str) -> list[np.ndarray]:
    """Rows of each pool."""
    if form == "blocks":
        return list(np.arange(pairs)[: pairs // pool * pool].reshape(-1, pool))
    if form != "pools":
        raise InputError(f'form must be "pools" or "blocks", got {form!r}.')
    if pools < 1:
        raise InputError(f"pools must be 1 or more, got {pools}.")
    rng = np.random.default_rng(seed)
    return [rng.choice(pairs, pool, replace=False) for _ in range(pools)]


def _scores(
    query: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: tuple[int, ...]
) -> np.ndarray:
    """Hit at each k and reciprocal rank of each query of one pool, over the orders of its tie."""
    above, tied = _standing(query[rows], gallery[rows], np.arange(len(rows)))
    harmonic = np.r_[0, _harmonic(len(rows))]
    hits = [np.clip((each - above) / tied, 0, 1) for each in k]
    return np.stack([*hits, (harmonic[above + tied] - harmonic[above]) / tied], axis=1)


def _standing(
    query: np.ndarray, gallery: np.ndarray, partner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many of the gallery are more similar than the partner, and how many as similar."""
    cosine = query @ gallery.T
    own = cosine[np.arange(len(query)), partner][:, None]
    above = (cosine > own + SAME).sum(axis=1)
    return above, (cosine >= own - SAME).sum(axis=1) - above


def _harmonic(n: int) -> np.ndarray:
    """1, 1 + 1/2, ... up to n terms."""
    return np.cumsum(1 / np.arange(1, n + 1))

"""Is the molecule found among the images, or the image among the molecules?"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import listed
from hcs_utils.evaluation.intervals import bootstrap_interval
from hcs_utils.evaluation.neighbours import checked_features, checked_labels, chunks, largest
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
    names: tuple[ArrayLike, ArrayLike] | None = None,
    properties: ArrayLike | None = None,
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

    `names`, for a compound with several fields: the pair that each row of query and each row of
    gallery belongs to; pairs then stand in the sorted order of names. One row of each name is drawn
    anew for every pool, and the interval resamples names.

    form "pools": `pools` random pools, without replacement within one. "matched": the pool of each
    query is its partner and the `pool` - 1 pairs nearest to it in `properties` `[n, p]`, one row a
    pair, each column divided by its deviation (ties in the order of pairs), so that size and
    greasiness alone find nothing; `unit` is then by default the pair, and with `names` rows are
    drawn about as often as for `pools` pools. "blocks": as the authors evaluate, one block of
    `pool` rows after another in the order given (theirs sorts by InChI, so like stands by like),
    the last incomplete one dropped. Their MRR is torchmetrics', which (1.9) takes a partner of
    cosine 0 or less as never found; here its rank counts. Swap the arguments (and `names`) for the
    other direction.
    Source: EMM/IMM, table 2 (molecule to image, 1:100).
    """
    query, gallery, sides = _paired(query, gallery, names)
    pairs = len(sides[0].first)
    k = _checked_k(k, pool, pairs)
    if unit is not None and names is not None:
        raise InputError("With names the names are the units; leave unit out.")
    whose = None if unit is None else pd.factorize(checked_labels(unit, query, "unit"))[0]
    if whose is None and (names is not None or form == "matched"):
        whose = np.arange(pairs)
    drawn = _draw(pairs, pool, pools, seed, form, properties, names is not None)
    rng = np.random.default_rng([seed, 1])
    found = []
    for rows, others in drawn:
        at = [side.draw(rng) for side in sides]
        found.append(_scores(query[at[0][rows]], gallery, at[1][others], k))
    scores = np.concatenate(found)
    value = scores.mean(axis=0)
    if whose is None:
        of_pools = scores.reshape(len(drawn), pool, -1).mean(axis=1)
        low, high = np.quantile(of_pools, [(1 - level) / 2, (1 + level) / 2], axis=0)
    else:
        whose = whose[np.concatenate([rows for rows, _ in drawn])]
        ends = [bootstrap_interval(column, whose, seed=seed, level=level) for column in scores.T]
        low, high = np.transpose(ends)
    chance = [*(each / pool for each in k), float(_harmonic(pool)[-1] / pool)]
    return pd.DataFrame(
        {"value": value, "low": low, "high": high, "chance": chance},
        index=pd.Index([*(f"hr@{each}" for each in k), "mrr"], name="metric"),
    )


def ranks(query: ArrayLike, gallery: ArrayLike) -> np.ndarray:
    """Rank of each query's own partner in the whole gallery, from 1; ties share their mean rank."""
    query, gallery, _ = _paired(query, gallery, None)
    rank = np.empty(len(query))
    for rows in chunks(len(query), 2 * len(gallery)):
        above, tied = _standing(query[rows] @ gallery.T, np.arange(rows.start, rows.stop))
        rank[rows] = above + (tied + 1) / 2
    return rank


def alike(properties: ArrayLike, pool: int) -> np.ndarray:
    """For each row `[n, p]`, itself first and then its `pool` - 1 nearest: rows `[n, pool]`.

    Nearest by Euclidean distance of standardised columns, ties in the order of rows; exact, and
    no table of n x n is held. A column of equal values says nothing and is left out.
    """
    x = checked_features(properties, "properties").astype(np.float64)
    x = x - x.mean(axis=0)
    spread = x.std(axis=0)
    x = x[:, spread > 0] / spread[spread > 0]
    half, near = (x**2).sum(axis=1) / 2, np.empty((len(x), pool), dtype=np.intp)
    for rows in chunks(len(x), 2 * len(x)):
        block = x[rows] @ x.T - half  # the larger, the nearer
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
        near[rows] = largest(block, pool)
    return near


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


class _Side:
    """Rows of one table by the pair they belong to."""

    def __init__(self, code: np.ndarray):
        self.order = np.argsort(code, kind="stable")
        self.size = np.bincount(code)
        self.first = np.cumsum(self.size) - self.size

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One row a pair."""
        step = (rng.random(len(self.size)) * self.size).astype(np.intp)
        return self.order[self.first + step]


def _paired(
    query: ArrayLike, gallery: ArrayLike, names: tuple[ArrayLike, ArrayLike] | None
) -> tuple[np.ndarray, np.ndarray, tuple[_Side, _Side]]:
    """Both tables as unit rows in float64, checked to be pairs, and which rows are of which."""
    given = query, gallery
    query, gallery = checked_features(query, "query"), checked_features(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise InputError(
            f"The query has {query.shape[1]} features and the gallery {gallery.shape[1]}; "
            "project both into one space."
        )
    if names is not None:
        ours, theirs = (
            checked_labels(own, table, f"names of the {what}")
            for own, table, what in zip(names, (query, gallery), ("query", "gallery"), strict=True)
        )
        if alone := sorted({*ours.tolist()} ^ {*theirs.tolist()}, key=str):
            raise InputError(
                f"{len(alone)} names are in one table only: {listed([str(n) for n in alone])}; "
                "every pair needs a row in both."
            )
        code, known = pd.factorize(ours, sort=True)
        codes = code, pd.Index(known).get_indexer(theirs)
    elif len(query) != len(gallery):
        raise InputError(
            f"Row i of query and gallery must be a pair; there are {len(query)} and "
            f"{len(gallery)} rows. Join both on the compound first, or give names."
        )
    else:
        codes = np.arange(len(query)), np.arange(len(gallery))
    tables = (unit_rows(np.asarray(table, dtype=np.float64)) for table in given)
    return *tables, tuple(_Side(code) for code in codes)


def _checked_k(k: tuple[int, ...], pool: int, pairs: int) -> tuple[int, ...]:
    if not 2 <= pool <= pairs:
        raise InputError(
            f"pool = {pool}, and there are {pairs} pairs; choose a pool of 2 to {pairs}."
        )
    if not k or not all(1 <= each <= pool for each in k):
        raise InputError(f"Every k must lie in 1 to pool = {pool}, got {tuple(k)}.")
    return tuple(k)


def _draw(pairs, pool, pools, seed, form, properties, several) -> list[tuple]:
    """Of each pool, the pairs that ask `[q]`, and those they choose from `[q, pool]`, own first.

    Where all choose from the same, `[pool]`, in the order of those that ask.
    """
    if (form == "matched") != (properties is not None):
        raise InputError('form "matched" needs properties, and no other form does.')
    if form == "blocks":
        return [(b, b) for b in np.arange(pairs)[: pairs // pool * pool].reshape(-1, pool)]
    if pools < 1:
        raise InputError(f"pools must be 1 or more, got {pools}.")
    if form == "matched":
        near = alike(_checked_rows(properties, pairs), pool)
        return [(np.arange(pairs), near)] * (max(1, round(pools * pool / pairs)) if several else 1)
    if form != "pools":
        raise InputError(f'form must be "pools", "matched" or "blocks", got {form!r}.')
    rng = np.random.default_rng(seed)
    drawn = (rng.choice(pairs, pool, replace=False) for _ in range(pools))
    return [(rows, rows) for rows in drawn]


def _checked_rows(properties: ArrayLike, pairs: int) -> np.ndarray:
    """Properties with one row a pair."""
    properties = checked_features(properties, "properties")
    if len(properties) != pairs:
        raise InputError(
            f"properties have {len(properties)} rows for {pairs} pairs; give one row a pair."
        )
    return properties


def _scores(
    query: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: tuple[int, ...]
) -> np.ndarray:
    """Hit at each k and reciprocal rank of each query of one pool, over the orders of its tie.

    `rows` of the gallery: `[pool]` the same for all, partners in the queries' order, or a row for
    each query, `[q, pool]`, its partner first.
    """
    if rows.ndim == 1:
        above, tied = _standing(query @ gallery[rows].T, np.arange(len(rows)))
    else:
        parts = [
            _standing(np.einsum("qd,qpd->qp", query[part], gallery[rows[part]]), 0)
            for part in chunks(len(query), 2 * rows.shape[1] * gallery.shape[1])
        ]
        above, tied = (np.concatenate(each) for each in zip(*parts, strict=True))
    harmonic = np.r_[0, _harmonic(rows.shape[-1])]
    hits = [np.clip((each - above) / tied, 0, 1) for each in k]
    return np.stack([*hits, (harmonic[above + tied] - harmonic[above]) / tied], axis=1)


def _standing(cosine: np.ndarray, partner: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """How many of the gallery are more similar than the partner, and how many as similar."""
    own = cosine[np.arange(len(cosine)), partner][:, None]
    above = (cosine > own + SAME).sum(axis=1)
    return above, (cosine >= own - SAME).sum(axis=1) - above


def _harmonic(n: int) -> np.ndarray:
    """1, 1 + 1/2, ... up to n terms."""
    return np.cumsum(1 / np.arange(1, n + 1))

"""Normal or abnormal, learned from few labels: all draws of the labels at once, with intervals.

A *draw* is one choice of the labelled crops. Scores are `[r, m]`: of each of r draws and m judged
crops a number in [0, 1], the larger the more abnormal. A crop is called abnormal above 0.5.
"""

import math
import warnings

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from hcs_utils.errors import InputError
from hcs_utils.evaluation.neighbours import checked_pair, chunks, largest, unit

K = 5  # neighbours; QC paper, section 3.3
EPOCHS, MINIBATCH, RATE, MOMENTUM = 150, 32, 1e-3, 0.9  # of the linear layer; the same
STEPS_AT = (40, 70, 120)  # epochs of 150 after which the rate is 0.1 of what it was
LEVEL = 0.95


def knn_scores(
    bank: Float[np.ndarray, "n d"],
    rows: Int[np.ndarray, "r b"],
    labels: Bool[np.ndarray, "r b"],
    query: Float[np.ndarray, "m d"],
    k: int = K,
) -> Float[np.ndarray, "r m"]:
    """Share of abnormal crops among the k most similar (cosine) labelled ones, for each draw.

    `rows`: rows of the bank that each draw labels, `labels`: what it calls them (True: abnormal).
    All votes weigh the same; of equally similar crops the one drawn first is nearer. Fewer labels
    than k are all asked. Source: QC paper, section 3.3, which names neither distance nor weights.
    """
    query, bank = checked_pair(query, bank)
    rows, labels = _checked_draws(rows, labels, len(bank))
    query, bank = unit(query), unit(bank)
    k = min(k, rows.shape[1])
    found = np.empty((len(rows), len(query)))
    for part in chunks(len(query), len(bank)):
        cosine = query[part] @ bank.T
        for draw, (chosen, label) in enumerate(zip(rows, labels, strict=True)):
            near = largest(cosine[:, chosen], k)
            found[draw, part] = label[near].mean(axis=1)
    return found


def linear_scores(
    bank: Float[np.ndarray, "n d"],
    rows: Int[np.ndarray, "r b"],
    labels: Bool[np.ndarray, "r b"],
    query: Float[np.ndarray, "m d"],
    epochs: int = EPOCHS,
    rate: float | int = RATE,
    seed: int = 0,
) -> Float[np.ndarray, "r m"]:
    """Probability of abnormal by the paper's dense layer of two outputs, one for each draw.

    Cross-entropy by SGD with momentum 0.9, 32 labels a step, rate × 0.1 after 40, 70 and 120 of
    150 epochs (as shares of `epochs`). All draws are trained together. The layer begins at 0: the
    loss is convex, and its two outputs then stay opposite, so one of them is enough. Source: QC
    paper, section 3.3, item 2.
    """
    query, bank = (x.astype(np.float64) for x in checked_pair(query, bank))
    rows, labels = _checked_draws(rows, labels, len(bank))
    count, budget = rows.shape
    ones = np.ones((count, budget, 1))
    x, y = np.concatenate([bank[rows], ones], axis=2), labels.astype(float)
    weight, moved = np.zeros((2, count, x.shape[2]))
    at, parts = np.arange(count)[:, None], math.ceil(budget / MINIBATCH)
    milestones = [epochs * e / EPOCHS for e in STEPS_AT]
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        now = rate * 0.1 ** sum(epoch >= m for m in milestones)
        order = rng.permuted(np.tile(np.arange(budget), (count, 1)), axis=1)
        for step in np.array_split(order, parts, axis=1):
            seen = x[at, step]
            wrong = _sigmoid(2 * np.matmul(seen, weight[:, :, None])[..., 0]) - y[at, step]
            slope = np.matmul(wrong[:, None], seen)[:, 0] / step.shape[1]
            moved = MOMENTUM * moved + slope
            weight = weight - now * moved
    if not np.isfinite(weight).all():
        raise InputError(
            f"The linear layer diverged at a rate of {rate}: give a smaller one, or features that "
            "are scaled."
        )
    return _sigmoid(2 * (weight[:, :-1] @ query.T + weight[:, -1:]))


def logistic_scores(
    bank: Float[np.ndarray, "n d"],
    rows: Int[np.ndarray, "r b"],
    labels: Bool[np.ndarray, "r b"],
    query: Float[np.ndarray, "m d"],
) -> Float[np.ndarray, "r m"]:
    """Probability of abnormal by logistic regression (L2, C = 1) until it converges.

    Beside `linear_scores`, whose 150 epochs are as few as 150 steps where labels are few.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    query, bank = checked_pair(query, bank)
    rows, labels = _checked_draws(rows, labels, len(bank))
    found = np.empty((len(rows), len(query)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        for draw, (chosen, label) in enumerate(zip(rows, labels, strict=True)):
            model = LogisticRegression(max_iter=300).fit(bank[chosen], label)
            found[draw] = model.predict_proba(query)[:, 1]
    return found


def shuffled(labels: Bool[np.ndarray, "r b"], seed: int = 0) -> Bool[np.ndarray, "r b"]:
    """The labels of each draw in random order: the null of every score."""
    return np.random.default_rng([seed, 11]).permuted(labels, axis=1)


def measures(
    truth: Bool[np.ndarray, " m"], scores: Float[np.ndarray, "r m"]
) -> dict[str, Float[np.ndarray, " r"]]:
    """accuracy, f1 and auc of each draw, in [0, 1]; of the two classes weighted by their share.

    As `classification.scores` gives them (f1_weighted, auc_weighted) for a draw. Source: QC paper,
    section 3.4. Raises `InputError` where truth holds one class only.
    """
    truth, scores = _checked(truth, scores)
    weight = np.ones((1, len(truth)))
    found = {name: of(truth, scores, weight)[0] for name, of in _OF.items()}
    return {name: value.copy() for name, value in found.items()}


def intervals(
    truth: Bool[np.ndarray, " m"],
    scores: Float[np.ndarray, "r m"],
    field: np.ndarray,
    n: int = 300,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """accuracy, f1 and auc as means over draws, each with its interval (value, low, high).

    Draws of labels and the fields of the judged crops are both drawn anew (percentile bootstrap,
    95 %): the interval is of another choice of labels and other fields, by the same encoder.
    """
    truth, scores = _checked(truth, scores)
    field, rng = np.asarray(field), np.random.default_rng([seed, 12])
    by_draw, by_crop = _times(len(scores), n, rng), _field_times(field, n, rng)
    both = (by_crop[:, truth].sum(1) > 0) & (by_crop[:, ~truth].sum(1) > 0)
    by_draw, by_crop = by_draw[both] / len(scores), by_crop[both]
    found = {}
    for name, of in _OF.items():
        value = of(truth, scores, np.ones((1, len(truth)))).mean()
        again = (of(truth, scores, by_crop) * by_draw).sum(axis=1)
        found[name] = (float(value), *_ends(again))
    return found


def recalls(
    scores: Float[np.ndarray, "r m"],
    fault: np.ndarray,
    field: np.ndarray,
    n: int = 300,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Share of the crops of each fault that is called abnormal, mean over draws, with interval.

    `fault` `[m]`: the name of each crop's fault, "" of a normal one; the key "normal" has the share
    of those that is called normal, the specificity at the same threshold. As `intervals`.
    """
    scores, fault, field = np.asarray(scores), np.asarray(fault).astype(str), np.asarray(field)
    found = {}
    for name in np.unique(fault):
        rows = fault == name
        right = (scores[:, rows] > 0.5) == bool(name)
        rng = np.random.default_rng([seed, 13])
        by_draw, by_crop = _times(len(scores), n, rng), _field_times(field[rows], n, rng)
        again = ((by_crop @ right.T) / by_crop.sum(1, keepdims=True) * by_draw).sum(1)
        found[str(name) or "normal"] = (float(right.mean()), *_ends(again / len(scores)))
    return found


def by_minibatches(
    truth: Bool[np.ndarray, " m"],
    scores: Float[np.ndarray, "r m"],
    size: int = MINIBATCH,
    seed: int = 0,
) -> Float[np.ndarray, " r"]:
    """Accuracy of each draw as an unweighted mean of minibatches' accuracies, crops in any order.

    Of 200 crops the last 8 are a seventh minibatch of 32 and weigh four times as much as others.
    The accuracies of the QC paper's table 3 look like such means (ledger, 41).
    """
    truth, scores = _checked(truth, scores)
    order = np.random.default_rng([seed, 14]).permutation(len(truth))
    right = (scores[:, order] > 0.5) == truth[order]
    starts = np.arange(0, len(truth), size)
    each = np.add.reduceat(right, starts, axis=1, dtype=float) / np.diff(starts, append=len(truth))
    return each.mean(axis=1)


# Each takes truth [m], scores [r, m] and weights of crops [s, m], and gives [s, r]


def _accuracy(truth, scores, weight):
    right = ((scores > 0.5) == truth).astype(float)
    return weight @ right.T / weight.sum(1, keepdims=True)


def _f1(truth, scores, weight):
    called, total = scores > 0.5, weight.sum(1, keepdims=True)
    found = 0.0
    for here, there in ((truth, called), (~truth, ~called)):
        size = (weight @ here.astype(float))[:, None]
        both = weight @ (here & there).T.astype(float)
        sums = size + weight @ there.T.astype(float)
        found = found + size / total * np.divide(
            2 * both, sums, np.zeros_like(both), where=sums > 0
        )
    return found


def _auc(truth, scores, weight):
    found = np.empty((len(weight), len(scores)))
    ones = (weight == 1).all()
    for draw, score in enumerate(scores):
        if ones:  # by ranks: the same, at once
            found[:, draw] = _rank_auc(truth, score)
            continue
        order = np.argsort(score, kind="stable")
        ends = np.flatnonzero(np.r_[np.diff(score[order]) > 0, True])
        right, of = weight[:, order], truth[order]
        above = np.cumsum(right * of, axis=1)[:, ends]
        below = np.cumsum(right * ~of, axis=1)[:, ends]
        positive = np.diff(above, axis=1, prepend=0.0)
        before = np.c_[np.zeros(len(weight)), below[:, :-1]]
        area = (positive * (before + below) / 2).sum(1)
        found[:, draw] = area / (above[:, -1] * below[:, -1])
    return found


def _rank_auc(truth, score):
    many = truth.sum()
    return (rankdata(score)[truth].sum() - many * (many + 1) / 2) / (many * (~truth).sum())


_OF = {"accuracy": _accuracy, "f1": _f1, "auc": _auc}


def _times(count: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `count` is drawn, in `n` draws with return [n, count]."""
    return rng.multinomial(count, np.full(count, 1 / count), size=n).astype(float)


def _field_times(field: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    names, code = np.unique(field, return_inverse=True)
    return _times(len(names), n, rng)[:, code]


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _checked(truth, scores) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = np.asarray(truth, bool), np.asarray(scores, float)
    if not 0 < truth.sum() < len(truth):
        name = "abnormal" if truth.all() else "normal"
        raise InputError(f"All {len(truth)} crops to judge are {name}; give some of both classes.")
    if np.isnan(scores).any():
        raise InputError(f"{np.isnan(scores).sum()} scores are NaN; give one for each crop.")
    return truth, scores


def _checked_draws(rows, labels, count: int) -> tuple[np.ndarray, np.ndarray]:
    rows, labels = np.asarray(rows), np.asarray(labels, bool)
    if rows.shape != labels.shape or rows.min() < 0 or rows.max() >= count:
        raise InputError(
            f"rows {rows.shape} and labels {labels.shape} must agree, a row of each for each draw, "
            f"and rows be numbers from 0 to {count - 1}."
        )
    one = np.flatnonzero(labels.all(axis=1) | ~labels.any(axis=1))
    if len(one):
        name = "abnormal" if labels[one[0]].all() else "normal"
        raise InputError(
            f"All labels of {len(one)} of {len(labels)} draws are {name}; nothing can be learned "
            "from one class. Label some of both."
        )
    return rows, labels

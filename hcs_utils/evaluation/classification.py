"""Labels found in an embedding, and how many of them are right."""

import math

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import listed
from hcs_utils.evaluation.neighbours import (
    checked_features,
    checked_labels,
    checked_pair,
    chunks,
    count,
    nearest,
)  # fmt: skip

# how each source counts the votes: knn_predict(bank, labels, query, **KNN_CARON)
KNN_CDCL = {"k": 10, "temperature": 0.1}  # section 4 and the released code: our default
KNN_CARON = {"k": 20, "temperature": 0.07}  # DINO, which CDCL's text cites
KNN_QC = {"k": 5, "temperature": math.inf}  # section 3; weights not given, here all equal


def knn_predict(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    query: ArrayLike,
    k: int = 10,
    temperature: float | int = 0.1,
    exclude_self: bool = False,
) -> np.ndarray:
    r"""Label of each query by the weighted vote of its k most similar rows of the bank.

    .. math:: \hat y(q) = \arg\max_c \sum_{i \in \mathrm{NN}_k(q),\, y_i = c} e^{\cos(q, i) / \tau}

    A tie goes to the label that sorts first. Bank `[n, d]`, query `[m, d]`; returns `m` labels.
    `exclude_self`: the query is the bank, and each row is left out of its own vote.
    Source: CDCL, section 4 (`KNN_CDCL`) after Caron et al. 2021 (`KNN_CARON`).
    """
    classes, vote = _votes(bank, bank_labels, query, k, temperature, exclude_self)
    return classes[np.concatenate([weight.argmax(axis=1) for weight in vote])]


def knn_scores(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    query: ArrayLike,
    k: int = 10,
    temperature: float | int = 0.1,
    exclude_self: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The bank's labels `[c]`, sorted, and the share of the vote that each query gives each.

    Shares `[m, c]` float32, rows summing to 1; `knn_predict` takes the largest. Held whole: 4 m c
    bytes, 270 MB for RxRx1's 59,050 sites and 1,139 treatments.
    """
    classes, vote = _votes(bank, bank_labels, query, k, temperature, exclude_self)
    shares = [(w / w.sum(axis=1, keepdims=True)).astype(np.float32) for w in vote]
    return classes, np.concatenate(shares)


def linear_predict(bank: ArrayLike, bank_labels: ArrayLike, query: ArrayLike) -> np.ndarray:
    """Label of each query by the linear discriminants of the bank: what can be read off at once.

    Features are scaled by mean and deviation of the bank; covariance within labels is shrunk by
    1 %. In closed form, nothing to tune: the plain reading beside `knn_predict`, which
    `probes.linear_probe` does with care. Bank `[n, d]`, query `[m, d]`; returns `m` labels.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    query, bank = (x.astype(np.float64) for x in checked_pair(query, bank))
    bank_labels = checked_labels(bank_labels, bank, "bank_labels")
    if not 1 < len(np.unique(bank_labels)) < len(bank):
        raise InputError(
            f"The bank has {len(np.unique(bank_labels))} labels in {len(bank)} rows; lines between "
            "labels need two or more of them, and fewer than rows."
        )
    mean, sd = bank.mean(axis=0), bank.std(axis=0)
    varied = sd > 1e-9 * np.abs(mean)
    lines = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01)
    lines.fit((bank - mean)[:, varied] / sd[varied], bank_labels)
    return lines.predict((query - mean)[:, varied] / sd[varied])


def knn_accuracy(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    query: ArrayLike,
    query_labels: ArrayLike,
    k: int = 10,
    temperature: float | int = 0.1,
    exclude_self: bool = False,
) -> float:
    """Share of queries whose label `knn_predict` finds in the bank, in [0, 1].

    The bank is the training fold and the query the test fold, from other batches; a site present
    in both finds itself. Raises `InputError` when no label of the query occurs in the bank.
    """
    query_labels = checked_labels(query_labels, np.asarray(query), "query_labels")
    if not np.isin(query_labels, np.asarray(bank_labels)).any():
        raise InputError(
            "No label of the query occurs in the bank, so nothing could be found; "
            "check that both hold the same column and the same treatments."
        )
    predicted = knn_predict(bank, bank_labels, query, k, temperature, exclude_self)
    return float(np.mean(predicted == query_labels))


def scores(
    truth: ArrayLike,
    predicted: ArrayLike,
    vote: ArrayLike | None = None,
    classes: ArrayLike | None = None,
) -> dict[str, float]:
    """accuracy, balanced_accuracy, f1_macro, f1_weighted, auc_weighted of `n` labels, in [0, 1].

    Balanced accuracy is the mean recall of the classes in truth; F1 is 0 for a class that is never
    right; f1_weighted and auc_weighted weigh each class by its share of truth, as the QC paper
    does. AUC takes each class against the rest by its column of `vote` `[n, c]`, the shares or
    probabilities of `classes` `[c]` (as `knn_scores` gives both); it is NaN without them and where
    truth holds one class. Raises `InputError` for a label that is none of the classes.
    """
    truth = np.asarray(truth)
    if truth.ndim != 1 or not truth.size:
        raise InputError(f"truth must be one label a row, got shape {truth.shape}.")
    truth = checked_labels(truth, truth, "truth")
    predicted = checked_labels(predicted, truth, "predicted")
    if (vote is None) != (classes is None):
        raise InputError("vote and classes belong together: a column of vote for each class.")
    auc = math.nan
    if vote is not None:
        auc = _auc_weighted(truth, *_checked_vote(truth, predicted, vote, classes))
    names, code = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    t, p = code[: len(truth)], code[len(truth) :]
    present = np.unique(t)
    every = np.arange(len(names))
    return {
        "accuracy": float(np.mean(t == p)),
        "balanced_accuracy": float(
            recall_score(t, p, labels=present, average="macro", zero_division=0)
        ),
        "f1_macro": float(f1_score(t, p, labels=every, average="macro", zero_division=0)),
        "f1_weighted": float(f1_score(t, p, labels=every, average="weighted", zero_division=0)),
        "auc_weighted": auc,
    }


def _votes(bank, bank_labels, query, k, temperature, exclude_self):
    """The labels, and for some queries at a time the weight of each label's votes."""
    bank = checked_features(bank, "bank")
    bank_labels = checked_labels(bank_labels, bank, "bank_labels")
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, got {temperature}.")
    cosine, row = nearest(query, bank, k, exclude_self)
    weight = np.exp((cosine - cosine[:, :1]).astype(np.float64) / temperature)
    classes, code = np.unique(bank_labels, return_inverse=True)
    slices = chunks(len(row), 2 * len(classes))  # weights are float64
    return classes, (count(code[row[s]], len(classes), weight[s]) for s in slices)


def _checked_vote(truth, predicted, vote, classes) -> tuple[np.ndarray, np.ndarray]:
    vote, classes = checked_features(vote, "vote"), np.asarray(classes)
    if vote.shape != (len(truth), len(classes)):
        raise InputError(
            f"vote has shape {vote.shape} for {len(truth)} rows and {len(classes)} classes; "
            "give one row a label of truth and one column a class."
        )
    if len(np.unique(classes)) < len(classes):
        raise InputError("classes names a class twice; give each column of vote its own.")
    for name, labels in (("truth", truth), ("predicted", predicted)):
        unseen = np.unique(labels[~np.isin(labels, classes)]).astype(str).tolist()
        if len(unseen):
            raise InputError(
                f"{name} holds {len(unseen)} labels that are none of the {len(classes)} classes "
                f"and could not be found: {listed(unseen)}; leave their rows out, or put them in "
                "the bank."
            )
    wrong = (np.abs(vote.sum(axis=1) - 1) > 1e-3) | (vote < 0).any(axis=1)
    if wrong.any():
        rows = listed(np.flatnonzero(wrong).astype(str).tolist())
        raise InputError(
            f"{wrong.sum()} rows of vote are no shares, below 0 or not summing to 1: {rows}; "
            "divide each row by its sum (of logits, take the softmax first)."
        )
    return vote, classes


def _auc_weighted(truth: np.ndarray, vote: np.ndarray, classes: np.ndarray) -> float:
    present, size = np.unique(truth, return_counts=True)
    if len(present) < 2:
        return math.nan
    column = {label: j for j, label in enumerate(classes.tolist())}
    each = [roc_auc_score(truth == c, vote[:, column[c]]) for c in present.tolist()]
    return float(np.average(each, weights=size))

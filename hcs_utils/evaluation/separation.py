"""How much of an accuracy is lost when training and test share no well, plate, batch or source."""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.neighbours import checked_features, checked_labels

SYMBOLS = {"well": "G_NSW", "plate": "G_NSP", "batch": "G_NSB", "source": "G_NSS"}
TOP = (3, 5, 10)


def batch_effect_task(
    features: ArrayLike,
    target: ArrayLike,
    groups: Mapping[str, ArrayLike],
    classifier: str = "knn",
    repeats: int = 5,
    train_share: float = 0.8,
    seed: int = 0,
) -> pd.DataFrame:
    """Find `target` from features `[n, d]`, split at random and by each of `groups`.

    Split "random": rows are drawn, `train_share` of them to train. It puts fields of one well on
    both sides, as the released code does; with the group "well" (whose names must tell plates
    apart) there is an honest reference too. Split by a group: its names are drawn, whole.
    "knn": 3 neighbours, cosine. "logistic": C = 1, at most 1,000 iterations; features as given.

    A row for each repeat and split: accuracy, balanced_accuracy, precision, recall, f1, auc (of
    classes against the rest, all four unweighted means over classes), top_3, top_5, top_10, and
    train, test: rows of each side. A class may fall on one side only: `untrained` counts classes
    of the test that were not trained on, whose rows are wrong answers (precision, recall and f1
    hold them, auc leaves them out), `untested` the reverse. `converged`: of the logistic fit.
    Source: the cross-modal paper, section 5.1; its released code does not seed the splits.
    """
    features = checked_features(features, "features")
    target = checked_labels(target, features, "target")
    if len(np.unique(target)) < 2:
        raise InputError(f"All rows have the target {target[0]!r}; there is nothing to tell apart.")
    if classifier not in ("knn", "logistic"):
        raise InputError(f'classifier must be "knn" or "logistic", got {classifier!r}.')
    if repeats < 1 or not 0 < train_share < 1:
        raise InputError(
            f"repeats must be 1 or more and train_share between 0 and 1, got {repeats} and "
            f"{train_share}."
        )
    if "random" in groups:
        raise InputError('"random" is the split by rows; name the group otherwise.')
    ids = {"random": np.arange(len(target))}
    ids |= {name: checked_labels(g, features, f"groups[{name!r}]") for name, g in groups.items()}
    single = [name for name, of in ids.items() if len(np.unique(of)) < 2]
    if single:
        raise InputError(
            f"Only one {', one '.join(single)}: nothing can be held out; leave such groups out."
        )
    rows = []
    for repeat in range(repeats):
        for number, (split, of) in enumerate(ids.items()):
            train = training_rows(of, train_share, [seed, repeat, number])
            row = {"repeat": repeat, "split": split}
            rows.append(row | _judged(features, target, train, classifier))
    return pd.DataFrame(rows)


def training_rows(group: np.ndarray, train_share: float, seed: int | list[int]) -> np.ndarray:
    """Mask of the rows of a share of the groups, drawn at random; at least one on each side."""
    names, code = np.unique(group, return_inverse=True)
    count = min(max(round(train_share * len(names)), 1), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return np.isin(code, chosen)


def ratios(
    table: pd.DataFrame, reference: str = "random", metric: str = "accuracy"
) -> pd.DataFrame:
    r"""Generalisation of each split, from what `batch_effect_task` returns.

    .. math:: G_{NSX} = Acc_{NSX} / Acc_{reference}

    in each repeat; `mean`, `sd` (ddof 1, NaN for one repeat) and number over repeats. Index: G_NSW
    (well), G_NSP (plate), G_NSB (batch), G_NSS (source), G_name of any other. `reference` "well"
    divides by the random split of whole wells. Source: the cross-modal paper, section 5.1.
    """
    score = table.pivot(index="repeat", columns="split", values=metric)
    if reference not in score:
        known = ", ".join(score.columns)
        raise InputError(f"There is no split {reference!r}; the table has {known}.")
    if (score[reference] == 0).any():
        raise InputError(
            f"The {metric} of the split {reference!r} is 0 in a repeat, so nothing can be divided "
            "by it; check that features and target belong together."
        )
    names = [n for n in table["split"].unique() if n not in ("random", reference)]
    ratio = score[names].div(score[reference], axis=0)
    found = pd.DataFrame({"mean": ratio.mean(), "sd": ratio.std(), "n": ratio.count()})
    return found.rename(index=lambda n: SYMBOLS.get(n, f"G_{n}")).rename_axis("ratio")


def _judged(features: np.ndarray, target: np.ndarray, train: np.ndarray, classifier: str) -> dict:
    known, asked = np.unique(target[train]), np.unique(target[~train])
    about = {
        "train": int(train.sum()),
        "test": int((~train).sum()),
        "untrained": len(np.setdiff1d(asked, known)),
        "untested": len(np.setdiff1d(known, asked)),
    }
    if len(known) < 2:  # no classifier is needed to answer
        share, converged = np.ones((about["test"], 1)), True
    else:
        model, converged = _fitted(features[train], target[train], classifier)
        share = model.predict_proba(features[~train])
    return _scores(target[~train], known, share) | about | {"converged": converged}


def _fitted(features: np.ndarray, target: np.ndarray, classifier: str):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    if classifier == "knn":
        if len(features) < 3:
            raise InputError(f"{len(features)} training rows are fewer than the 3 neighbours.")
        return KNeighborsClassifier(3, metric="cosine").fit(features, target), True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = LogisticRegression(C=1.0, max_iter=1000).fit(features, target)
    return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _scores(truth: np.ndarray, classes: np.ndarray, share: np.ndarray) -> dict[str, float]:
    """`share` [m, classes] is the vote for each class that was trained on."""
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    predicted = classes[share.argmax(axis=1)]
    right = predicted == truth
    recall_of = [right[truth == c].mean() for c in np.unique(truth)]
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, average="macro", zero_division=0.0
    )
    there = [k for k, c in enumerate(classes) if 0 < (truth == c).sum() < len(truth)]
    auc = [roc_auc_score(truth == classes[k], share[:, k]) for k in there]
    found = classes[np.argsort(-share, axis=1, kind="stable")] == truth[:, None]
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(recall_of)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auc": float(np.mean(auc)) if auc else float("nan"),
        **{f"top_{k}": float(found[:, :k].any(axis=1).mean()) for k in TOP},
    }

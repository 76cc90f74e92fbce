"""Which crops to ask a person about, and what a few answers say of all the others."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from hcs_utils.errors import InputError

MODELS = ("logistic", "knn")
REACH = 5.0  # standardised features are cut off there, lest one odd crop sets the scale
NEIGHBOURS = 5
COMPONENTS = 5  # in which crops are far from one another or near
RIDGE = 0.3  # inverse strength of the penalty of logistic regression, for a few labels


def standardised(values: ArrayLike) -> Float[np.ndarray, "n d"]:
    """Features with median 0 and quartiles as far apart as a normal's of sd 1, cut off at ±5.

    By the standard deviation where both quartiles are one. What is not finite becomes the median; a
    feature that is the same everywhere is left out.
    """
    values = np.asarray(values, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    values = values[:, np.isfinite(values).any(0)]
    if not values.size:
        values = np.zeros((1, 1))
    low, middle, high = np.nanpercentile(values, (25, 50, 75), axis=0)
    floor = 1e-12 * np.maximum(np.abs(middle), 1e-12)  # what rounding makes of a constant
    spread = (high - low) / 1.349
    spread = np.where(spread > floor, spread, np.nanstd(values, axis=0))
    told = spread > floor
    if not told.any():
        raise InputError(
            "Every feature is the same for all rows, so none can be told from another."
        )
    x = (values[:, told] - middle[told]) / spread[told]
    return np.nan_to_num(np.clip(x, -REACH, REACH)).astype(np.float32)


def principal(x: Float[np.ndarray, "n d"], count: int = COMPONENTS) -> Float[np.ndarray, "n k"]:
    """The first `count` principal components of standardised features, not scaled; all of few.

    Distances in all features are mostly those of many measures of one thing, and noise; in five
    components, choosing did better on drawn faults and on real ones (MitoCheck).
    """
    centred = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    return (centred @ axes[:, :count]).astype(np.float32)


def farthest_first(
    x: Float[np.ndarray, "n d"],
    free: Int[np.ndarray, " f"],
    done: Int[np.ndarray, " k"],
    group: Int[np.ndarray, " n"],
    count: int,
) -> list[int]:
    """`count` of the rows `free`, each the farthest from the rows `done` and those chosen before.

    The first of all is nearest to the middle. A row of a `group` that has one among those comes
    only when every group has. No other choice of as many covers the rows
    more than twice as well (Gonzalez 1985, doi 10.1016/0304-3975(85)90224-5).
    """
    chosen: list[int] = []
    taken = np.isin(group[free], group[done])
    distance = np.full(len(free), np.inf)
    for row in done.tolist():
        distance = np.minimum(distance, _apart(x, free, row))
    for _ in range(min(count, len(free))):
        wish = distance if len(done) or chosen else -(x[free].astype(np.float64) ** 2).sum(1)
        wish = np.where(np.isin(free, chosen), -np.inf, np.where(taken, wish - 1e9, wish))
        row = int(free[np.argmax(wish)])
        chosen.append(row)
        distance = np.minimum(distance, _apart(x, free, row))
        taken |= group[free] == group[row]
    return chosen


def probability(
    x: Float[np.ndarray, "n d"],
    rows: Int[np.ndarray, " k"],
    abnormal: Bool[np.ndarray, " k"],
    model: str = "logistic",
) -> Float[np.ndarray, " n"]:
    """Of every row the probability that it is abnormal, from the labels of a few.

    "logistic": logistic regression, both classes weighing the same whatever their number. "knn":
    the share of abnormal ones among the 5 nearest labelled rows, of all where there are fewer.
    """
    if model not in MODELS:
        raise InputError(f"model is {model!r}; choose one of {', '.join(MODELS)}.")
    if model == "knn":
        made = KNeighborsClassifier(min(NEIGHBOURS, len(rows)))
    else:
        made = LogisticRegression(C=RIDGE, class_weight="balanced", max_iter=1000)
    return made.fit(x[rows], abnormal).predict_proba(x)[:, 1].astype(np.float64)


def _apart(x: np.ndarray, free: np.ndarray, row: int) -> np.ndarray:
    return ((x[free] - x[row]) ** 2).sum(1, dtype=np.float64)

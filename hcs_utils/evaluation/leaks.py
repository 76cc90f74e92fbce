"""What can be told without looking at cells: an audit that stands beside every accuracy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import listed
from hcs_utils.evaluation.classification import knn_predict, linear_predict
from hcs_utils.evaluation.intervals import bootstrap_interval
from hcs_utils.evaluation.leak_sources import STATISTICS, Sources, intensity_statistics, sources

__all__ = [
    "STATISTICS",
    "Sources",
    "as_metrics",
    "audit",
    "from_metrics",
    "from_records",
    "intensity_statistics",
    "sources",
]
SHUFFLES = 5
TREES = 40
CUTS = 32  # columns tried at each branch


def audit(
    label: ArrayLike,
    bank: ArrayLike,
    query: ArrayLike,
    sources: Mapping[str, ArrayLike],
    k: int = 10,
    temperature: float | int = 0.1,
    unit: ArrayLike | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The same task, bank to query, answered from each of `sources` alone: accuracy in [0, 1].

    `label` `[n]`; `bank`, `query`: masks `[n]` or row numbers, which share no row. A source is
    numbers `[n]` or `[n, d]`, or categories `[n]` (words). `unit` `[n]` names what was really
    repeated (the well), which the interval resamples; without it, each row.

    Categories are answered by the most frequent label of the same category in the bank, one that
    the bank has not by its most frequent label. Numbers, scaled by mean and deviation of the bank,
    are answered three times: by the vote of the score (`knn_predict`, cosine), by randomised trees
    (Geurts et al. 2006), which see what a cosine cannot, such as one column alone, and by linear
    discriminants, which see what lies under something louder; the highest accuracy stands. A
    source is thus never judged worse than an embedding would be.

    One row a source: `value`, `low`, `high`; `null`, the same with the labels of the bank
    shuffled, as a mean of 5 times, the highest of three each time; `leaks`: low > null; `judge`:
    lookup, vote, trees or linear. The row "shuffled labels" is the mean of all nulls.
    """
    task = _task(label, bank, query, unit)
    checked = {name: _checked(values, name, task) for name, values in sources.items()}
    if not checked:
        raise InputError("There is no source to audit; leaks.sources gives those of a table.")
    rng, rows, nulls = np.random.default_rng(seed), {}, []
    shuffles = [rng.permutation(task.code) for _ in range(SHUFFLES)]
    for name, values in checked.items():
        judges = _judges(values, task, k, temperature, seed)
        right = {kind: judge(task.code) == task.answer for kind, judge in judges.items()}
        best = max(right, key=lambda kind: right[kind].mean())
        low, high = bootstrap_interval(right[best], task.unit, seed=seed)
        null = [
            max((judge(code) == task.answer for judge in judges.values()), key=np.mean)
            for code in shuffles
        ]
        nulls += null
        expected = float(np.mean(null))
        rows[name] = (float(right[best].mean()), low, high, expected, low > expected, best)
    mean = np.mean(nulls, axis=0)
    low, high = bootstrap_interval(mean, task.unit, seed=seed)
    rows["shuffled labels"] = (float(mean.mean()), low, high, float(mean.mean()), False, "all")
    columns = ["value", "low", "high", "null", "leaks", "judge"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("source")
    table.attrs["left_out"] = dict(getattr(sources, "left_out", {}))
    return table


def as_metrics(table: pd.DataFrame) -> dict[str, tuple[float, float, float] | float]:
    """An audit as metrics of a record: `leak_<source>` with its interval, `leak_<source>_null`."""
    found: dict = {}
    for source, row in table.iterrows():
        name = "leak_" + str(source).replace(" ", "_")
        found[name] = (row["value"], row["low"], row["high"])
        found[name + "_null"] = row["null"]
    return found


def from_metrics(metrics: Mapping) -> pd.DataFrame:
    """The audit again, without `judge`, from what `as_metrics` made of it; other metrics are left.

    Empty where the run was not one of method "leaks".
    """
    rows = {}
    for name, metric in metrics.items():
        if name.startswith("leak_") and f"{name}_null" in metrics:
            value, low, high = (float(x) for x in np.ravel(metric))
            null = float(np.ravel(metrics[f"{name}_null"])[0])
            rows[name[5:].replace("_", " ")] = (value, low, high, null, low > null)
    columns = ["value", "low", "high", "null", "leaks"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("source")
    return table.astype({"leaks": bool})


def from_records(records: pd.DataFrame) -> pd.DataFrame:
    """The audit in what `records.load_records` gives, as means over the runs that hold one.

    Give the records of one preset and screen. `leaks` compares the means; `n`: how many runs.
    """
    metrics, runs = {}, {}
    for name in [c for c in records if c.startswith("leak_") and f"{c}_null" in records]:
        found = records[[name, f"{name}_low", f"{name}_high", f"{name}_null"]].dropna()
        if len(found):
            value, low, high, null = found.mean()
            metrics |= {name: (value, low, high), f"{name}_null": null}
            runs[name[5:].replace("_", " ")] = len(found)
    return from_metrics(metrics).assign(n=pd.Series(runs, dtype=int))


@dataclass
class _Task:
    """The question: codes of the bank's labels, and the code that each query should get."""

    rows: int
    bank: np.ndarray
    query: np.ndarray
    code: np.ndarray  # of each row of the bank
    answer: np.ndarray  # of each row of the query; -1 is a label that the bank has not
    unit: np.ndarray  # of each row of the query


def _task(label: ArrayLike, bank: ArrayLike, query: ArrayLike, unit: ArrayLike | None) -> _Task:
    label = np.asarray(label)
    if label.ndim != 1 or not len(label):
        raise InputError(f"label must be one a row, [n], got shape {label.shape}.")
    bank, query = (_rows(v, name, len(label)) for v, name in ((bank, "bank"), (query, "query")))
    both = np.intersect1d(bank, query)
    if len(both):
        raise InputError(
            f"{len(both)} rows are in bank and query: {_shown(both)}. They would find themselves. "
            "Split by whole wells, plates or batches."
        )
    used = np.concatenate([bank, query])
    missing = used[np.asarray(pd.isna(label[used]), dtype=bool)]
    if len(missing):
        raise InputError(f"{len(missing)} rows have no label: {_shown(missing)}; leave them out.")
    unit = np.arange(len(label)) if unit is None else np.asarray(unit)
    if unit.shape != label.shape:
        raise InputError(f"unit has shape {unit.shape} for {len(label)} labels; join on site_id.")
    classes, code = np.unique(label[bank], return_inverse=True)
    answer = pd.Index(classes).get_indexer(label[query])
    if (answer < 0).all():
        raise InputError(
            "No label of the query occurs in the bank, so nothing could be found; "
            "check that both hold the same treatments."
        )
    return _Task(len(label), bank, query, code, answer, unit[query])


def _rows(mask: ArrayLike, name: str, n: int) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.dtype == bool:
        if mask.shape != (n,):
            raise InputError(f"{name} is a mask of shape {mask.shape} for {n} labels.")
        mask = np.flatnonzero(mask)
    if mask.ndim != 1 or not mask.size or not np.issubdtype(mask.dtype, np.integer):
        raise InputError(f"{name} must be a mask or row numbers, and hold at least one row.")
    wrong = mask[(mask < 0) | (mask >= n)]
    if len(wrong):
        raise InputError(f"{name} names rows that are none of {n}: {_shown(wrong)}.")
    if len(np.unique(mask)) < len(mask):
        raise InputError(f"{name} names rows twice; give each once.")
    return mask


def _checked(values: ArrayLike, name: str, task: _Task) -> np.ndarray:
    """A source as float64 `[n, d]`, or as words `[n]`."""
    values = np.asarray(values)
    if values.shape[:1] != (task.rows,) or values.ndim > 2 or not values.size:
        raise InputError(
            f"The source {name!r} has shape {values.shape} for {task.rows} labels; give [n], "
            "[n, d] or words [n], one row a site, joined on site_id."
        )
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
        if values.ndim > 1:
            raise InputError(f"The source {name!r} has words in columns; give one word a row.")
        return values.astype(str)
    values = values.astype(np.float64).reshape(task.rows, -1)
    used = np.sort(np.concatenate([task.bank, task.query]))
    bad = used[~np.isfinite(values[used]).all(axis=1)]
    if len(bad):
        raise InputError(
            f"The source {name!r} holds NaN or infinite values in {len(bad)} rows of bank and "
            f"query: {_shown(bad)}; leave such sites out of both."
        )
    return values


def _judges(
    values: np.ndarray, task: _Task, k: int, temperature: float | int, seed: int
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name, functions from the codes of the bank to those of the query."""
    bank, query = values[task.bank], values[task.query]
    if values.ndim == 1:
        return {"lookup": lambda code: _lookup(bank, code, query)}
    mean, sd = bank.mean(axis=0), bank.std(axis=0)
    varied = sd > 1e-9 * np.abs(mean)
    if not varied.any():  # it says nothing: one category
        return {"lookup": lambda code: _lookup(bank[:, 0] * 0, code, query[:, 0] * 0)}
    bank, query = ((x - mean)[:, varied] / sd[varied] for x in (bank, query))
    judges = {
        "vote": lambda code: knn_predict(bank, code, query, k, temperature),
        "trees": lambda code: _trees(bank, code, query, seed),
    }
    if 1 < task.code.max() + 1 < len(bank):  # else there is nothing to draw a line between
        judges["linear"] = lambda code: linear_predict(bank, code, query)
    return judges


def _lookup(bank: np.ndarray, code: np.ndarray, query: np.ndarray) -> np.ndarray:
    classes = code.max() + 1
    names, category = np.unique(bank, return_inverse=True)
    count = np.bincount(category * classes + code, minlength=len(names) * classes)
    best = count.reshape(len(names), classes).argmax(axis=1)
    at = pd.Index(names).get_indexer(query)
    return np.where(at >= 0, best[at], np.bincount(code).argmax())


def _trees(bank: np.ndarray, code: np.ndarray, query: np.ndarray, seed: int) -> np.ndarray:
    """Vote of trees whose cuts are drawn at random; one at a time, as classes may be many."""
    from sklearn.tree import ExtraTreeClassifier

    vote, tried = np.zeros((len(query), code.max() + 1)), min(bank.shape[1], CUTS)
    for number in range(TREES):
        tree = ExtraTreeClassifier(max_features=tried, random_state=(seed * TREES + number) % 2**32)
        vote += tree.fit(bank, code).predict_proba(query)
    return vote.argmax(axis=1)


def _shown(rows: np.ndarray) -> str:
    return listed([str(row) for row in rows])

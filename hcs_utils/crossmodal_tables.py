"""The cross-modal paper's tables and claims (`book/paper/`), and our records beside them.

Tables 1 to 3 of the EMM/IMM paper. Shares are of 1, as in the paper; a metric has the name that it
has in our records. Of tables 1 and 3 the text that we have holds no numbers, but for G_NSS.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hcs_utils import files, paper_tables, records
from hcs_utils.errors import InputError

METHODS = {"clip": "CLIP", "emm": "EMM", "imm": "IMM"}
BASELINES = {  # ours; the paper has the first as numbers by chance
    "random": "Untrained space", "position": "Well position", "intensity": "Intensity statistics",
    "cdcl": "CDCL, ridge from ECFP", "ecfp": "CLIP on ECFP",
}  # fmt: skip
HITS = {"hr1": "HR@1", "hr3": "HR@3", "hr5": "HR@5", "hr10": "HR@10", "mrr": "MRR"}
WAYS = {"i2m": "image → molecule", "m2i": "molecule → image"}
GENERAL = {
    "g_nsw_logistic": "G_NSW", "g_nsp_logistic": "G_NSP", "g_nsb_logistic": "G_NSB",
    "g_nss_logistic": "G_NSS",
}  # fmt: skip
BOTH = ("m2i_mrr", "i2m_mrr", "g_nss_logistic")  # where the paper has a winner of the two
MISSING = "missing"
EXPERIMENT, VARIANTS = "crossmodal", "crossmodal-ledger"


def tables() -> pd.DataFrame:
    """Tables 1 to 3: `table`, `metric`, `method`, `mean`; NaN where the text lacks the number."""
    table = _read("crossmodal_tables.csv", ["table", "metric", "method", "value"])
    number = pd.to_numeric(table["value"].where(table["value"] != MISSING), errors="coerce")
    if (number.isna() & (table["value"] != MISSING)).any():
        raise InputError(f"A value of crossmodal_tables.csv is no number, nor {MISSING!r}.")
    return table.drop(columns="value").assign(mean=number)


def claims() -> pd.DataFrame:
    """The paper's claims as comparisons: `part`, `claim`, `metric`, `better`, `worse`."""
    return _read("crossmodal_claims.csv", ["part", "claim", "metric", "better", "worse"])


def _read(name: str, columns: list[str]) -> pd.DataFrame:
    home = files.checkout()
    path = home and home / "book" / "paper" / name
    if path is None or not path.exists():
        raise InputError(
            f"book/paper/{name} holds the paper's numbers and is part of the project's checkout; "
            "run from inside it."
        )
    table = pd.read_csv(path, dtype=str)
    if list(table.columns) != columns or table.isna().any(axis=None):
        raise InputError(f"{path} must have the columns {', '.join(columns)}, all of them filled.")
    return table


def beside(
    paper: pd.DataFrame,
    found: pd.DataFrame,
    metrics: Mapping[str, str],
    names: Mapping[str, str],
    presets: Sequence[str],
) -> pd.DataFrame:
    """The paper's table and ours below it, as text: a row a method and preset, a column a metric.

    `metrics` maps those of our records to the columns' titles, `names` methods to the rows'. The
    paper's has one number a cell, "missing" where the text that we have lacks it, "–" where the
    paper has no such row; ours mean ± standard deviation over runs, their number in brackets, or
    "not run". Index: whose numbers ("paper" or the preset), and the method.
    """
    rows = {}
    for method, title in names.items():
        rows["paper", title] = [_said(paper, metric, method) for metric in metrics]
    for preset in presets:
        of = found[found["preset"] == preset]
        summed = {metric: records.summary(of, metric) for metric in metrics}
        for method, title in names.items():
            rows[preset, title] = [told(summed[metric], method) for metric in metrics]
    index = pd.MultiIndex.from_tuples([*rows], names=["of", "method"])
    return pd.DataFrame([*rows.values()], index, columns=[*metrics.values()])


def _said(paper: pd.DataFrame, metric: str, method: str) -> str:
    here = paper[(paper["metric"] == metric) & (paper["method"] == method)]
    if here.empty:
        return "–"
    value = here["mean"].iloc[0]
    return MISSING if np.isnan(value) else f"{value:.{2 if here['table'].iloc[0] == '3' else 3}f}"


def told(ours: pd.DataFrame, method: str) -> str:
    """A method's mean ± sd (runs) of what `records.summary` gives, or "not run"."""
    if method not in ours.index:
        return "not run"
    mean, sd, n = ours.loc[method, ["mean", "sd", "n"]]
    return f"{mean:.3f}{'' if np.isnan(sd) else f' ± {sd:.3f}'} ({n:.0f})"


def for_bars(
    paper: pd.DataFrame,
    found: pd.DataFrame,
    metrics: Mapping[str, str],
    names: Mapping[str, str],
    lines: Mapping[str, str | float],
) -> pd.DataFrame:
    """What `figure_crossmodal.bars` draws: a row for each metric (panel) and method.

    `found`: records of one preset. Means over its runs of the value and of both ends of its own
    interval (over compounds, not over runs); NaN where it was not run. `lines` has for each metric
    the metric of what guessing gives, or its number.
    """
    rows = []
    for metric, title in metrics.items():
        at = lines[metric]
        if isinstance(at, str):
            at = found[at].mean() if at in found else np.nan
        for method, name in names.items():
            of = found[found["method"] == method]
            known = paper[(paper["metric"] == metric) & (paper["method"] == method)]["mean"]
            row = {"panel": title, "method": name, "line": float(at)}
            for part, column in zip(("value", "low", "high"), ("", "_low", "_high"), strict=True):
                row[part] = float(of[metric + column].mean()) if metric + column in of else np.nan
            rows.append(row | {"paper": float(known.iloc[0]) if len(known) else np.nan})
    return pd.DataFrame(rows)


def judge(
    asked: pd.DataFrame, paper: pd.DataFrame, found: pd.DataFrame, presets: Sequence[str]
) -> pd.DataFrame:
    """Each claim by the rule of `records.verdict`, as `paper_tables.judge` does."""
    return paper_tables.judge(asked, paper, found, presets)


def neither(found: pd.DataFrame, presets: Sequence[str], metrics: Sequence[str] = BOTH) -> str:
    """The verdict on "neither EMM nor IMM wins everywhere": each is ahead in one of the metrics.

    Of each order the best verdict over the metrics by the one rule, and of these two the weaker.
    """
    best = []
    for more, less in (("emm", "imm"), ("imm", "emm")):
        asked = [("neither", metric, metric, more, less) for metric in metrics]
        asked = pd.DataFrame(asked, columns=["part", "claim", "metric", "better", "worse"])
        judged = judge(asked, tables()[:0], found, presets)
        best.append(min(judged["verdict"], key=paper_tables.WORDS.index))
    return paper_tables.weakest(best)


def ahead(found: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Which of the paper's methods has the highest mean in each metric: `best`, `mean`, `second`.

    `found`: records of one preset. Metrics that fewer than two methods have are left out.
    """
    rows = {}
    for metric in metrics:
        of = records.summary(found[found["method"].isin([*METHODS])], metric)
        if len(of) > 1:
            rows[metric] = (of.index[0], of["mean"].iloc[0], of.index[1], of["mean"].iloc[1])
    columns = ["best", "mean", "second", "its mean"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

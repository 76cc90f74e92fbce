"""The quality-control paper's tables and claims (`book/paper/`), and our records beside them.

Masud et al. 2022, tables 1 to 3, in per cent; a metric has the name that it has in our records,
which hold shares of 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hcs_utils import files, paper_tables, records
from hcs_utils.errors import InputError
from hcs_utils.qc_settings import SELF_SUPERVISED, TRANSFER

METHODS = {
    "vgg16": "VGG16", "resnet18": "ResNet18", "convnext": "ConvNeXt", "simclr": "SimCLR",
    "barlow_twins": "Barlow Twins", "vicreg": "VICReg", "deepcluster": "DeepClusterV2",
    "swav": "SwAV",
}  # fmt: skip
STAND_IN = "procedural"  # of transfer, where ImageNet's weights are not at hand
BASELINES = {
    STAND_IN: "Procedural weights", "random": "Untrained encoder",
    "classical": "Classical measures",
}  # fmt: skip
DRAWN = {f"{method}_procedural": f"{METHODS[method]}, procedural weights" for method in TRANSFER}
NAMES = METHODS | DRAWN | BASELINES
BUDGETS = (350, 100, 50, 25, 10)
SCORES = {"accuracy": "Acc", "f1": "F1", "auc": "AUC"}
TABLES = {  # the columns of each of the paper's tables: our metrics, and what stands above them
    "1": {
        f"{task}_{score}_350": f"{title} {short}"
        for task, title in (("knn", "k-NN"), ("linear", "linear"))
        for score, short in SCORES.items()
    },
    "2": {
        f"finetuned_{score}_{budget}": f"{budget} {short}"
        for budget in BUDGETS
        for score, short in SCORES.items()
    },
    "3": {f"shift_finetuned_{score}_350": short for score, short in SCORES.items()},
}
FAULTS = {
    "out_of_focus": "out of focus", "saturation": "saturation", "debris": "debris",
    "noise": "noise", "autofluorescence": "autofluorescence", "empty": "empty", "dead": "dead",
}  # fmt: skip
EXPERIMENT, VARIANTS = "qc", "qc-ledger"
GAPS = {  # less the second: how much nearer to transfer the first setting brings a method
    "gap_linear_less_finetuned_350": ("linear_accuracy_350", "finetuned_accuracy_350"),
    "gap_finetuned_10_less_350": ("finetuned_accuracy_10", "finetuned_accuracy_350"),
}
LABELLED = 130, 200  # crops judged: of the same screen, of the other cell line; section 3.1
_RUN = ["screen", "preset", "experiment", "variant", "fold", "seed"]


def tables() -> pd.DataFrame:
    """Every number of tables 1 to 3, in per cent: `table`, `metric`, `method`, `mean`."""
    table = _read("qc_tables.csv", ["table", "metric", "method", "value"])
    return table.drop(columns="value").assign(mean=pd.to_numeric(table["value"]))


def claims() -> pd.DataFrame:
    """The paper's claims as comparisons: `part`, `claim`, `metric`, `better`, `worse`.

    Part "gap" compares with the level 0: see `with_gaps`.
    """
    return _read("qc_claims.csv", ["part", "claim", "metric", "better", "worse"])


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


def stand_in(asked: pd.DataFrame) -> pd.DataFrame:
    """The claims of transfer with procedural weights in ImageNet's place, each once."""
    of = asked[asked["better"].isin(TRANSFER)].copy()
    for method in TRANSFER:
        said, mine = f"{METHODS[method]} beats", f"{BASELINES[STAND_IN]} beat"
        of["claim"] = of["claim"].str.replace(said, mine)
    return of.assign(better=STAND_IN).drop_duplicates(ignore_index=True)


def named(method: str, weights: str) -> str:
    """Name of a method with its weights: a key of `NAMES`, and of `METHODS` only as in the paper.

    An encoder of transfer whose weights were learned from drawings is another method (`DRAWN`);
    weights of a file are taken for what the paper's are.
    """
    drawn = method in TRANSFER and weights.partition(":")[0] == "procedural"
    return f"{method}_procedural" if drawn else method


def with_weights(found: pd.DataFrame) -> pd.DataFrame:
    """Records of quality control with the weights of transfer in `method`; see `named`."""
    pairs = zip(found["method"], found["parameters"], strict=True)
    return found.assign(method=[named(method, of.get("weights", "")) for method, of in pairs])


def with_gaps(found: pd.DataFrame, transfer: Sequence[str] = TRANSFER) -> pd.DataFrame:
    r"""Records with the metrics of `GAPS`: does the gap to transfer shrink, and by how much?

    .. math:: g = (\bar t_1 - s_1) - (\bar t_2 - s_2)

    of a self-supervised run's accuracies s in both settings, and the means t of the transfer
    methods in the same fold and seed. Above 0 it shrinks from the first setting to the second.
    NaN where no transfer method was run.
    """
    found = found.copy()
    of = found[found["method"].isin(transfer)]
    for name, metrics in GAPS.items():
        found[name] = np.nan
        if not set(metrics) <= set(found.columns) or of.empty:
            continue
        means = of.groupby(_RUN)[list(metrics)].mean()
        joined = found[_RUN].merge(means, how="left", left_on=_RUN, right_index=True)
        gap = joined[list(metrics)].to_numpy() - found[list(metrics)].to_numpy()
        mine = found["method"].isin(SELF_SUPERVISED)
        found[name] = np.where(mine, gap[:, 0] - gap[:, 1], np.nan)
    return found


def paper_gaps(paper: pd.DataFrame) -> pd.DataFrame:
    """The paper's tables with the numbers of `GAPS` added, in points of per cent."""
    mean = paper.set_index(["metric", "method"])["mean"]
    rows = []
    for name, (first, second) in GAPS.items():
        lead = np.mean([mean[first, t] - mean[second, t] for t in TRANSFER])
        for method in SELF_SUPERVISED:
            rows.append(("2", name, method, lead - mean[first, method] + mean[second, method]))
    columns = ["table", "metric", "method", "mean"]
    return pd.concat([paper, pd.DataFrame(rows, columns=columns)], ignore_index=True)


def judge(
    asked: pd.DataFrame, paper: pd.DataFrame, found: pd.DataFrame, presets: Sequence[str]
) -> pd.DataFrame:
    """Each claim by the rule of `records.verdict`, as `paper_tables.judge` does.

    Gaps are added to both. `paper` and `paper_worse` are the paper's numbers, in per cent.
    """
    return paper_tables.judge(asked, paper_gaps(paper), found, presets)


def said_by(judged: pd.DataFrame) -> pd.DataFrame:
    """Of each part the number of comparisons by verdict, and `all`: the weakest that has run."""
    words = list(paper_tables.WORDS)
    table = pd.crosstab(judged["part"], judged["verdict"])
    table = table.reindex(columns=words, fill_value=0).loc[judged["part"].unique()]
    ran = judged[judged["verdict"] != "not run"].groupby("part")["verdict"].agg(list)
    table["all"] = [
        paper_tables.weakest(ran[part]) if part in ran else "not run" for part in table.index
    ]
    return table


def paper_order(paper: pd.DataFrame, asked: pd.DataFrame) -> pd.Series:
    """Whether the paper's own numbers are in the order that each claim states."""
    known = paper_gaps(paper).set_index(["metric", "method"])["mean"]
    known = {**known.to_dict(), **{(metric, "0"): 0.0 for metric in GAPS}}
    right = [known[c.metric, c.better] > known[c.metric, c.worse] for c in asked.itertuples()]
    return pd.Series(right, asked.index, dtype=bool)


def beside(
    paper: pd.DataFrame,
    found: pd.DataFrame,
    number: str,
    presets: Sequence[str],
    names: Mapping[str, str] = NAMES,
) -> pd.DataFrame:
    """One of the paper's tables in full, and ours below it, in per cent, as text.

    Index: whose numbers ("paper" or the preset), and the method, of ours with its number of runs.
    Ours are mean ± standard deviation over runs of means over draws, or "not run" (`DRAWN` stand
    only where they were run); a dash stands where a run has no such metric. Spaces do not break.
    """
    columns, rows = TABLES[number], {}
    said = paper[paper["table"] == number].set_index(["metric", "method"])["mean"]
    for method, title in METHODS.items():
        rows["paper", title] = [f"{said[metric, method]:.2f}" for metric in columns]
    for preset in presets:
        of = found[found["preset"] == preset]
        for method, title in names.items():
            count = int((of["method"] == method).sum())
            if count or method not in DRAWN:
                title = f"{title} ({count})" if count else title
                rows[preset, title] = [_told(of, method, metric) for metric in columns]
    index = pd.MultiIndex.from_tuples([*rows], names=["of", "method"])
    return pd.DataFrame([*rows.values()], index, columns=[*columns.values()])


def _told(found: pd.DataFrame, method: str, metric: str) -> str:
    if method not in set(found["method"]):
        return "not\u00a0run"
    ours = records.summary(found, metric)
    if method not in ours.index:
        return "–"
    return spread(*100 * ours.loc[method, ["mean", "sd"]])


def spread(mean: float, sd: float, digits: int = 1) -> str:
    """Mean ± standard deviation, the latter where there is one; its spaces do not break."""
    ends = "" if np.isnan(sd) else f"\u00a0±\u00a0{sd:.{digits}f}"
    return f"{mean:.{digits}f}{ends}"


def curves(found: pd.DataFrame, task: str, score: str = "accuracy") -> pd.DataFrame:
    """What `figure_qc.budgets` draws: `method`, `labels`, `value`, `low`, `high`, of one preset.

    Means over runs of the value and of both ends of its own interval, over draws and fields.
    """
    rows = []
    for method in NAMES:
        of = found[found["method"] == method]
        for budget in BUDGETS:
            ends = [f"{task}_{score}_{budget}{end}" for end in ("", "_low", "_high")]
            if len(of) and set(ends) <= set(of.columns):
                rows.append((method, budget, *of[ends].mean()))
    return pd.DataFrame(rows, columns=["method", "labels", "value", "low", "high"]).dropna()


def recalls(found: pd.DataFrame, task: str, budget: int) -> pd.DataFrame:
    """What `figure_qc.faults` draws: `method`, `fault`, `value`, `low`, `high`, of one preset."""
    rows = []
    for method in NAMES:
        of = found[found["method"] == method]
        for fault in ("normal", *FAULTS):
            ends = [f"recall_{fault}_{task}_{budget}{end}" for end in ("", "_low", "_high")]
            if len(of) and set(ends) <= set(of.columns):
                rows.append((method, fault, *of[ends].mean()))
    return pd.DataFrame(rows, columns=["method", "fault", "value", "low", "high"]).dropna()


# Denominators


def denominators(paper: pd.DataFrame) -> pd.DataFrame:
    """Accuracies that are n of so many crops: those that the text names, and others that fit.

    Columns: `fit` of `of` accuracies, and `by_chance`, how many of them any numbers would.
    """
    rows = {}
    for names, counts in (("12", (130, 128, 384)), ("3", (200, 224))):
        for count in counts:
            right, of = np.sum([fits(paper, name, count) for name in names], axis=0)
            title = "tables 1 and 2" if names == "12" else "table 3"
            rows[title, count] = (right, of, of * chance_fit(count))
    index = pd.MultiIndex.from_tuples([*rows], names=["of", "crops"])
    return pd.DataFrame([*rows.values()], index, columns=["fit", "of", "by_chance"])


def fits(paper: pd.DataFrame, table: str, count: int) -> tuple[int, int]:
    """How many accuracies of a table of the paper are n/`count` for a whole n, and of how many.

    To two decimals of per cent, rounded either way or cut, as the paper may have done.
    """
    of = paper[(paper["table"] == table) & paper["metric"].str.contains("accuracy")]
    return int(sum(fit(mean, count) for mean in of["mean"])), len(of)


def fit(per_cent: float, count: int) -> bool:
    """Whether a share in per cent with two decimals is n of `count`, rounded or cut."""
    grid = 100 * np.arange(count + 1) / count
    return bool((np.abs(grid - per_cent) < 0.005 + 1e-9).any() or _cut(grid, per_cent))


def _cut(grid: np.ndarray, per_cent: float) -> bool:
    over = grid - per_cent
    return bool(((over > -1e-9) & (over < 0.01 - 1e-9)).any())


def chance_fit(count: int) -> float:
    """Share of the 10,001 numbers from 0.00 to 100.00 that are n of `count`: a chance fit."""
    return float(np.mean([fit(k / 100, count) for k in range(10_001)]))

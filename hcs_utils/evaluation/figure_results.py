"""A paper's results beside ours: orders of methods, and differences with their intervals."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import kendalltau

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, PALETTE, colours, drawn

VERDICTS = {  # marker and colour of each
    "reproduced": ("o", PALETTE["green"]),
    "partly": ("D", PALETTE["orange"]),
    "not": ("X", PALETTE["vermillion"]),
    "not run": ("", INK),
}


@drawn
def orders(panels: Mapping[str, pd.DataFrame], digits: int = 1) -> Figure:
    """Methods from best to worst: the paper's order at the left of each panel, ours at the right.

    A panel is a table with an index of methods and the columns `paper` and `ours`, and where known
    `sd` of ours; NaN where there is no number. Only the order has a scale: sizes are written, and
    are not to be compared. Kendall's tau is of the methods that both have.
    """
    methods = list(dict.fromkeys(name for table in panels.values() for name in table.index))
    if not methods:
        raise InputError("There is no method to put in order.")
    looks = {
        name: {"color": colours(len(methods))[i], "marker": MARKERS[i % len(MARKERS)],
               "ls": LINES[i % len(LINES)]}
        for i, name in enumerate(methods)
    }  # fmt: skip
    tallest = max(len(table) for table in panels.values())
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 1.1 + 0.36 * tallest), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, (title, table) in zip(axes.flat, panels.items(), strict=True):
        _order(ax, table, looks, digits)
        ax.set(ylim=(tallest + 0.6, 0.4), title=title)
    return figure


def _order(ax: Axes, table: pd.DataFrame, looks: Mapping[str, dict], digits: int) -> None:
    missing = {"paper", "ours"} - set(table.columns)
    if missing or table.index.has_duplicates:
        raise InputError(
            "A panel of orders needs one row a method and the columns paper and ours; "
            f"it has {', '.join(map(str, table.columns))}."
        )
    table = table.reindex(columns=["paper", "ours", "sd"]).astype(float)
    rank = table[["paper", "ours"]].rank(ascending=False, method="first")
    for method, row in table.iterrows():
        look, at = looks[method], rank.loc[method]
        ax.plot([0, 1], at, ms=8, **look)  # where one end is NaN, only the other has a mark
        if not np.isnan(row["paper"]):
            ax.text(-0.11, at["paper"], f"{method} {row['paper']:.{digits}f}", ha="right",
                    va="center", color=look["color"], fontsize=11)  # fmt: skip
        if not np.isnan(row["ours"]):
            spread = "" if np.isnan(row["sd"]) else f" ± {row['sd']:.{digits}f}"
            name = f" {method}" if np.isnan(row["paper"]) else ""
            ax.text(1.11, at["ours"], f"{row['ours']:.{digits}f}{spread}{name}", va="center",
                    color=look["color"], fontsize=11)  # fmt: skip
    both = table.dropna(subset=["paper", "ours"])
    if len(both) > 2:
        tau = kendalltau(both["paper"], both["ours"]).statistic
        ax.set_xlabel(f"Kendall's τ {tau:.2f} ({len(both)} methods)")
    ax.set_xticks([0, 1], ["paper", "ours"])
    ax.set(xlim=(-1.75, 2.35), yticks=[])
    ax.tick_params(axis="x", length=0)
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)


@drawn
def gains(judged: pd.DataFrame, label: str = "difference, points") -> Figure:
    """Claims under each other: our difference with its interval, and the paper's as a tick.

    `judged` has the columns `claim`, `difference`, `low`, `high` (NaN where unknown), `paper` (the
    paper's difference, NaN where it gives none) and `verdict`, all in the unit of `label`. The
    axis holds every middle and every tick; an interval that is longer runs out of it.
    """
    wanted = ["claim", "difference", "low", "high", "paper", "verdict"]
    if missing := [name for name in wanted if name not in judged]:
        has = ", ".join(map(str, judged.columns))
        raise InputError(f"The claims lack the columns {', '.join(missing)}; they have {has}.")
    if judged.empty or not set(judged["verdict"]) <= set(VERDICTS):
        raise InputError(f"Each claim needs a verdict: {', '.join(VERDICTS)}.")
    figure, ax = plt.subplots(figsize=(9, 1.3 + 0.36 * len(judged)), layout="constrained")
    ax.axvline(0, color=INK, lw=1.2)
    for i, row in enumerate(judged[wanted].itertuples()):
        marker, hue = VERDICTS[row.verdict]
        ax.plot(row.paper, i, marker="|", ms=15, mew=2.5, color=INK, ls="")
        reach = np.nan_to_num([[row.difference - row.low], [row.high - row.difference]])
        ax.errorbar(row.difference, i, xerr=reach, marker=marker, color=hue, ms=8, lw=2)
        text = "" if np.isnan(row.difference) else f"{row.difference:+.1f} ".replace("-", "−")
        ax.text(1.02, i, text + row.verdict, transform=ax.get_yaxis_transform(), va="center",
                color=hue, fontsize=11)  # fmt: skip
    held = judged[["difference", "paper"]].to_numpy(float)
    held = np.append(held[np.isfinite(held)], 0)
    room = 0.12 * max(float(np.ptp(held)), 1e-6)
    ax.set(xlim=(held.min() - room, held.max() + room), ylim=(len(judged) - 0.4, -0.6))
    ax.set_yticks(range(len(judged)), judged["claim"])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_xlabel(label)
    marks = [Line2D([], [], marker="|", ls="", ms=12, mew=2.5, color=INK, label="paper")]
    marks += [
        Line2D([], [], marker=marker, ls="-", color=hue, label=f"ours: {word}")
        for word, (marker, hue) in VERDICTS.items()
        if marker
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=4)
    return figure

"""Scores to look at: with intervals, beside their nulls and what else might explain them."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, PALETTE, colours, drawn, names

_HERE, _ELSE = PALETTE["blue"], PALETTE["vermillion"]
_PLATES = ((8, 12), (16, 24), (32, 48))  # rows and columns of 96, 384 and 1,536 wells


@drawn
def audit(
    table: pd.DataFrame,
    score: Mapping[str, tuple[float | int, float | int, float | int]] | None = None,
    label: str = "",
    title: str = "",
) -> Figure:
    """A leak audit: what each source alone reaches, with interval and null, beside the scores.

    `table` as `leaks.audit` gives it (`value`, `low`, `high`, `null`; an index of sources).
    `score` names methods and gives value, low, high: each a line across, its interval a band.
    """
    _columns(table, ("value", "low", "high", "null"), "The audit")
    rows = table.sort_values("value")
    figure, ax = plt.subplots(figsize=(7.2, 1.5 + 0.42 * len(rows)), layout="constrained")
    for i, (source, row) in enumerate(rows.iterrows()):
        leaks = bool(row["low"] > row["null"]) and source != "shuffled labels"
        mark = {"marker": "o" if leaks else "D", "color": _ELSE if leaks else INK}
        reach = [[max(0, row["value"] - row["low"])], [max(0, row["high"] - row["value"])]]
        ax.errorbar(row["value"], i, xerr=reach, ms=8, lw=2, **mark)
        ax.plot(row["null"], i, marker="|", color=INK, ms=16, mew=2)
        said = f"{row['value']:.3f}" + (" above its null" if leaks else "")
        ax.text(1.02, i, said, transform=ax.get_yaxis_transform(), va="center",
                color=mark["color"], fontsize=11)  # fmt: skip
    hues = [c for c in colours(6) if c != _ELSE]
    for i, (name, (value, low, high)) in enumerate((score or {}).items()):
        hue, line = hues[i % len(hues)], LINES[i % len(LINES)]
        ax.axvspan(low, high, color=hue, alpha=0.18, lw=0)
        ax.axvline(value, color=hue, ls=line, lw=2, label=f"{name} {value:.3f}")
    ax.plot([], [], marker="|", color=INK, ms=12, mew=2, ls="", label="null of the source")
    figure.legend(loc="outside lower right", ncols=min(3, 1 + len(score or {})), handlelength=1.6)
    ax.set(yticks=range(len(rows)), yticklabels=rows.index, ylim=(-0.6, len(rows) - 0.4))
    ax.set(xlabel=label or "accuracy", title=title)
    ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return figure


@drawn
def panels(
    table: pd.DataFrame, metrics: Mapping[str, str] | None = None, order: Sequence[str] = ()
) -> Figure:
    """One panel a metric, one row a method: value, interval, and the null as a dashed line.

    `table` is long: `method`, `metric`, `value`, and, where known, `low`, `high`, `null`, NaN where
    not. `metrics` maps those to show to their titles; methods stand in `order`, first on top.
    """
    _columns(table, ("method", "metric", "value"), "The table of scores")
    metrics = dict(metrics or {m: m for m in dict.fromkeys(table["metric"])})
    order = list(order) or list(dict.fromkeys(table["method"]))
    table = table.reindex(columns=["method", "metric", "value", "low", "high", "null"])
    across = 2 if len(metrics) == 4 else min(3, len(metrics))
    down = -(-len(metrics) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(9, down * (0.9 + 0.3 * len(order))), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    figure.get_layout_engine().set(hspace=0.06, wspace=0.05)
    for ax in axes.flat[len(metrics) :]:
        ax.set_axis_off()
    for ax, (metric, title) in zip(axes.flat, metrics.items(), strict=False):
        own = table[table["metric"] == metric].set_index("method")
        _panel(ax, own, order)
        ax.set_title(title, fontsize=12)
    return figure


def _panel(ax: Axes, own: pd.DataFrame, order: Sequence[str]) -> None:
    if own["null"].notna().any():
        ax.axvline(own["null"].mean(), color=INK, ls=LINES[1], lw=1.4, zorder=0)
    values = own[["value", "low", "high", "null"]].to_numpy(float)
    room = np.nanmax(values) - min(0, np.nanmin(values))
    for i, (method, hue) in enumerate(zip(order, colours(len(order)), strict=True)):
        if method not in own.index or np.isnan(own.loc[method, "value"]):
            ax.text(0, i, "–", va="center", ha="center")
            continue
        value, low, high = own.loc[method, ["value", "low", "high"]].astype(float)
        reach = np.nan_to_num([[value - low], [high - value]]).clip(0)
        ax.errorbar(value, i, xerr=reach, marker=MARKERS[i % len(MARKERS)], color=hue, ms=7)
        ax.text(np.nanmax([value, high]) + 0.05 * room, i, f"{value:.2f}", va="center", color=hue,
                fontsize=10)  # fmt: skip
    ax.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.5, -0.5))
    ax.set_xlim(min(0, np.nanmin(values)) - 0.04 * room, np.nanmax(values) + 0.32 * room)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")


@drawn
def response(
    values: pd.DataFrame, worst: Mapping[str, float | int], best: Mapping[str, float | int]
) -> Figure:
    """What each metric (columns) says of each embedding (rows): the number, and a bar below it.

    The bar is empty at the metric's `worst` (its null) and full at its `best`; 1 and 0 where they
    do not say. A missing value stays blank.
    """
    figure, ax = plt.subplots(
        figsize=(min(10, 2.3 + 1.12 * values.shape[1]), 0.9 + 0.52 * len(values)),
        layout="constrained",
    )
    for column, metric in enumerate(values):
        low, high = worst.get(metric, 0), best.get(metric, 1)
        hue = colours(6)[column % 6]
        for row, value in enumerate(values[metric].astype(float)):
            if np.isnan(value):
                continue
            share = float(np.clip((value - low) / (high - low), 0, 1))
            ax.text(column, row - 0.12, f"{value:.2f}", ha="left", va="center", fontsize=11)
            frame = {"height": 0.16, "lw": 0.8, "edgecolor": INK}
            ax.add_patch(Rectangle((column, row + 0.18), 0.8, facecolor="none", **frame))
            ax.add_patch(Rectangle((column, row + 0.18), 0.8 * share, facecolor=hue, **frame))
    ax.set(xlim=(-0.1, values.shape[1]), ylim=(len(values) - 0.5, -0.5))
    ax.set_xticks(np.arange(values.shape[1]) + 0.4, values.columns)
    ax.set_yticks(range(len(values)), values.index)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


@drawn
def trade_off(
    table: pd.DataFrame,
    mixing: str = "batch mixing",
    biology: str = "biology",
    null: tuple[float | int | None, float | int | None] = (None, None),
    title: str = "",
) -> Figure:
    """Batch mixing (across) against biology (up): one labelled mark a row of `table`.

    `table` has an index of names and the columns `mixing` and `biology`, and may have
    `biology_low` and `biology_high`. `null`: what noise reaches in each, a dashed line.
    """
    _columns(table, ("mixing", "biology"), "The table")
    figure, ax = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    spread = table.reindex(columns=["biology", "biology_low", "biology_high"]).to_numpy(float)
    for i, (_, row) in enumerate(table.iterrows()):
        hue, (value, low, high) = colours(len(table))[i], spread[i]
        reach = np.nan_to_num([[value - low], [high - value]]).clip(0)
        ax.errorbar(row["mixing"], value, yerr=reach, marker=MARKERS[i % len(MARKERS)], color=hue,
                    ms=9, lw=1.6)  # fmt: skip
    ax.set(xlabel=mixing, ylabel=biology, title=title)
    ax.margins(0.16)
    if null[0] is not None:
        ax.axvline(null[0], color=INK, ls=LINES[1], lw=1.4, zorder=0)
    if null[1] is not None:
        ax.axhline(null[1], color=INK, ls=LINES[1], lw=1.4, zorder=0)
    figure.canvas.draw()
    _beside(ax, table, spread)
    ax.grid(alpha=0.15)
    return figure


def _beside(ax: Axes, table: pd.DataFrame, spread: np.ndarray) -> None:
    """Names beside their marks, each where it meets the fewest names, marks and intervals."""
    at = ax.transData.transform(table[["mixing", "biology"]].to_numpy(float))
    frame, scale, taken = ax.get_window_extent(), ax.figure.dpi / 72, []
    for i, (x, y) in enumerate(at):
        ends = np.where(np.isnan(spread[i, 1:]), spread[i, 0], spread[i, 1:])
        low, high = ax.transData.transform(np.c_[[0, 0], ends])[:, 1]
        taken.append((i, (x - 6 * scale, y - 6 * scale, x + 6 * scale, y + 6 * scale)))
        taken.append((-1, (x - 2, low, x + 2, high)))
    sides = [(9, 0, "left"), (-9, 0, "right"), (0, 14, "center"), (0, -14, "center"),
             (9, 13, "left"), (9, -13, "left"), (-9, 13, "right"), (-9, -13, "right")]  # fmt: skip
    for i, ((x, y), name) in enumerate(zip(at, table.index, strict=True)):
        wide, tall, found = 6.4 * len(str(name)) * scale, 13 * scale, []
        for dx, dy, ha in sides:
            left = x + dx * scale - {"left": 0, "right": wide, "center": wide / 2}[ha]
            box = (left, y + dy * scale - tall / 2, left + wide, y + dy * scale + tall / 2)
            met = sum(_meet(box, other) for owner, other in taken if owner != i)
            out = box[0] < frame.x0 or box[2] > frame.x1 or box[1] < frame.y0 or box[3] > frame.y1
            found.append((met + 3 * out, len(found), dx, dy, ha, box))
        _, _, dx, dy, ha, box = min(found)
        ax.annotate(str(name), (table["mixing"].iloc[i], table["biology"].iloc[i]), (dx, dy),
                    textcoords="offset points", ha=ha, va="center", fontsize=11,
                    color=colours(len(table))[i])  # fmt: skip
        taken.append((-1, box))


def _meet(a: tuple, b: tuple) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


@drawn
def scaling(
    table: pd.DataFrame, goals: Mapping[str, float | int] | None = None, mark: int | None = None
) -> Figure:
    """Time (above) and peak memory (below) against the number of rows, log axes, a column a metric.

    `table`: `metric`, `way` (such as ours and naive), `n`, and `seconds` and `gib`, NaN where not
    measured. `goals` gives a line in those units; `mark` a number of rows, such as RxRx1's.
    """
    _columns(table, ("metric", "way", "n", "seconds", "gib"), "The measurements")
    metrics, goals = list(dict.fromkeys(table["metric"])), dict(goals or {})
    units = {"seconds": "time (s)", "gib": "peak memory (GiB)"}
    figure, axes = plt.subplots(
        2, len(metrics), figsize=(min(10, 2.6 + 2.2 * len(metrics)), 5.4), squeeze=False,
        sharex=True, sharey="row", layout="constrained",
    )  # fmt: skip
    ways = list(dict.fromkeys(table["way"]))
    for (row, unit), (column, metric) in [(u, m) for u in enumerate(units) for m in
                                          enumerate(metrics)]:  # fmt: skip
        ax = axes[row, column]
        for i, way in enumerate(ways):
            own = table[(table["metric"] == metric) & (table["way"] == way)].dropna(subset=[unit])
            ax.plot(own["n"], own[unit], marker=MARKERS[i], ls=LINES[i], color=colours(6)[i], ms=5)
        if unit in goals:
            ax.axhline(goals[unit], color=INK, ls=":", lw=1.4)
            ax.annotate(f"goal {goals[unit]:g}", (0.02, goals[unit]), (0, 3),
                        xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                        fontsize=9)  # fmt: skip
        if mark:
            ax.axvline(mark, color=INK, ls=":", lw=1)
        ax.set(xscale="log", yscale="log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.2)
        if not row:
            ax.set_title(metric, fontsize=12)
        if not column:
            ax.set_ylabel(units[unit])
    figure.supxlabel("rows", fontsize=12, color=INK)
    handles = [Line2D([], [], marker=MARKERS[i], ls=LINES[i], color=colours(6)[i], label=way)
               for i, way in enumerate(ways)]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper right", ncols=len(ways))
    return figure


@drawn
def plates(
    plate: ArrayLike, wells: ArrayLike, values: ArrayLike, label: str = "", diverging: bool = False,
    columns: int = 4,
) -> Figure:  # fmt: skip
    """Heat maps of several plates on one scale, A01 at the top left; fields of a well averaged.

    `diverging`: a scale whose middle is 0, as wide as the 99th percentile of the sizes.
    """
    table = pd.DataFrame({"plate": np.asarray(plate), "well": np.asarray(wells, dtype=str)})
    if len(np.asarray(values)) != len(table):
        raise InputError(f"{len(np.asarray(values))} values for {len(table)} wells; one each.")
    place = table["well"].str.extract(r"^([A-Z]|A[A-F])(\d\d)$")
    if (bad := table.loc[place.isna().any(axis=1), "well"]).size:
        raise InputError(f"These are no wells; they read A01 to AF48: {', '.join(bad[:20])}.")
    table["row"] = place[0].map(lambda s: sum((ord(c) - 64) * 26**p for p, c in enumerate(s[::-1])))
    table["column"], table["value"] = place[1].astype(int), np.asarray(values, dtype=float)
    tall, wide = table["row"].max(), table["column"].max()
    shape = next((s for s in _PLATES if s[0] >= tall and s[1] >= wide), _PLATES[-1])
    shown = names(table["plate"])
    across = min(columns, len(shown))
    down = -(-len(shown) // across)
    figure, axes = plt.subplots(down, across, figsize=(9, 0.5 + down * (9 / across * 0.6 + 0.2)),
                                squeeze=False, layout="constrained")  # fmt: skip
    reach = np.nanpercentile(np.abs(table["value"]), 99) if diverging else None
    low, high = (-reach, reach) if diverging else np.nanpercentile(table["value"], [1, 99])
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, shown, strict=False):
        grid = np.full(shape, np.nan)
        mean = table[table["plate"] == name].groupby(["row", "column"])["value"].mean()
        grid[tuple(np.array(list(mean.index)).T - 1)] = mean
        picture = ax.pcolormesh(grid, cmap="RdBu_r" if diverging else "viridis", vmin=low,
                                vmax=high, edgecolors="face", linewidth=0.1)  # fmt: skip
        ax.set(ylim=(shape[0], 0), aspect="equal")
        ax.set_title(str(name), fontsize=11, fontweight="normal", loc="center", pad=4)
    bar = figure.colorbar(picture, ax=axes, label=label, shrink=0.7)
    bar.outline.set_visible(False)
    return figure


def _columns(table: pd.DataFrame, wanted: Sequence[str], what: str) -> None:
    if missing := [name for name in wanted if name not in table]:
        has = ", ".join(map(str, table.columns))
        raise InputError(f"{what} lacks the columns {', '.join(missing)}; it has {has}.")
    if table.empty:
        raise InputError(f"{what} has no row.")

"""Quality control: what more labels bring."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, colours, drawn


@drawn
def budgets(
    table: pd.DataFrame,
    label: str = "accuracy",
    line: float | int = 0.5,
    floors: tuple[str, ...] | list[str] = (),
    line_label: str = "a coin",
) -> Figure:
    """A line a method over the number of labels (log scale), its name at its right end.

    `table` has the columns `panel`, `method`, `labels`, `value`, `low`, `high` (NaN where unknown),
    in the unit of `label`; a panel for each of `panel`, in their order. Methods among `floors` are
    grey. `line` is drawn dashed and named by `line_label`.
    """
    wanted = ["panel", "method", "labels", "value", "low", "high"]
    if missing := [name for name in wanted if name not in table]:
        has = ", ".join(map(str, table.columns))
        raise InputError(f"The curves lack {', '.join(missing)}; they have {has}.")
    if table.empty or table.duplicated(["panel", "method", "labels"]).any():
        raise InputError("Curves need rows, and each panel each method and number of labels once.")
    panels, methods = (list(dict.fromkeys(table[name])) for name in ("panel", "method"))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(9.4, 0.9 + rows * max(3.4, 0.36 * len(methods))), squeeze=False,
        sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    hues = dict(zip(methods, colours(max(2, len(methods))), strict=False))
    hues |= dict.fromkeys(floors, INK)
    ends = table[["value", "low", "high"]].to_numpy(float)
    least, most = np.nanmin(np.append(ends, line)), np.nanmax(np.append(ends, line))
    for number, (ax, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        of = table[table["panel"] == panel]
        ax.axhline(line, color=INK, ls="--", lw=1.2)
        names = {line_label: (line, INK)}
        for i, method in enumerate(methods):
            one = of[of["method"] == method].sort_values("labels")
            if one.empty:
                continue
            x, hue = one["labels"] * 1.04 ** (i - len(methods) / 2), hues[method]
            ax.errorbar(
                x, one["value"],
                np.nan_to_num([one["value"] - one["low"], one["high"] - one["value"]]).clip(0),
                color=hue, marker=MARKERS[i % len(MARKERS)], ls=LINES[i // len(MARKERS)], ms=6,
                lw=1.6, elinewidth=1.1,
            )  # fmt: skip
            names[str(method)] = (float(one["value"].iloc[-1]), hue)
        ax.set_ylim(least - 0.03 * (most - least), most + 0.03 * (most - least))
        _name(ax, names)
        ax.set_title(str(panel), fontsize=12)
        labels = sorted(set(table["labels"]))
        ax.set_xscale("log")
        ax.set_xticks(labels, [f"{k:.0f}" for k in labels])
        ax.set_xticks([], minor=True)
        ax.grid(axis="y")
        if number + columns >= len(panels):
            ax.tick_params(axis="x", labelbottom=True)
            ax.set_xlabel("labels, half of them abnormal")
        if number % columns == 0:
            ax.set_ylabel(label)
    return figure


def _name(ax: Axes, names: dict[str, tuple[float, object]]) -> None:
    """Names at the right of the panel, each as near to its line's end as the others let it."""
    low, high = ax.get_ylim()
    room = 0.052 * (high - low)
    order = sorted(names, key=lambda name: names[name][0])
    places = spread(np.array([names[name][0] for name in order]), room, low, high)
    for name, place in zip(order, places, strict=True):
        value, hue = names[name]
        ax.annotate(
            name, (1.0, value), (1.05, place), xycoords=ax.get_yaxis_transform(), fontsize=9.5,
            textcoords=ax.get_yaxis_transform(), va="center", color=hue, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": hue, "lw": 0.7, "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def spread(values: np.ndarray, room: float, low: float, high: float) -> np.ndarray:
    """Places near `values` (ascending), `room` apart from each other, from `low` to `high`.

    Where there is too little room for all, they are evenly apart.
    """
    places = np.array(values, float)
    if room * (len(places) - 1) >= high - low:
        return np.linspace(low, high, len(places))
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + room)
    if len(places) and places[-1] > high:
        places[-1] = high
    for k in range(len(places) - 2, -1, -1):
        places[k] = min(places[k], places[k + 1] - room)
    return places

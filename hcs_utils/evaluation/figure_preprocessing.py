"""Figures of preprocessing: what each step leaves, maps of light, measured beside expected."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, colours, drawn


@drawn
def steps(sizes: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """What each step leaves, a bar for each; `sizes` maps a name to {step: size}, in order."""
    names, rows = list(sizes), list(next(iter(sizes.values())))
    figure, ax = plt.subplots(
        figsize=(7.2, 1.0 + 0.34 * len(rows) * len(names)), layout="constrained"
    )
    high = 0.8 / len(names)
    for k, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True)):
        at = np.arange(len(rows)) + (k - (len(names) - 1) / 2) * high
        values = [sizes[name].get(row, np.nan) for row in rows]
        ax.barh(at, values, height=0.9 * high, color=colour)
        for y, value in zip(at, values, strict=True):
            told = f" {value:.3g}" + (f"  {name}" if y == at[0] else "")
            if np.isfinite(value):
                ax.text(value, y, told, va="center", fontsize=11, color=colour)
    ax.set(yticks=range(len(rows)), yticklabels=rows, xlabel=label)
    ax.invert_yaxis()
    ax.margins(x=0.16)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return figure


@drawn
def maps(planes: ArrayLike, titles: Sequence[str], label: str) -> Figure:
    """Planes [n y x] beside each other on one scale of colour, whose bar is named `label`."""
    planes = np.asarray(planes, dtype=float)
    if planes.ndim != 3 or len(planes) != len(titles):
        raise InputError(f"Need a title for each of the planes [n y x], got {planes.shape}.")
    figure, axes = plt.subplots(
        1, len(planes), figsize=(2.3 * len(planes) + 1, 2.7), squeeze=False, layout="constrained"
    )
    low, high = planes.min(), planes.max()
    for ax, plane, title in zip(axes[0], planes, titles, strict=True):
        shown = ax.imshow(plane, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
        ax.set_axis_off()
        ax.set_title(title, fontsize=11, fontweight="normal", loc="center")
    bar = figure.colorbar(shown, ax=axes[0].tolist(), label=label, shrink=0.85)
    bar.outline.set_visible(False)
    return figure


@drawn
def beside_expected(
    x: ArrayLike, measured: ArrayLike, expected: ArrayLike, labels: Sequence[str], why: str
) -> Figure:
    """Measured points and an expected line; `labels` of the two axes, `why` names the line."""
    x, measured, expected = (np.asarray(v, dtype=float) for v in (x, measured, expected))
    blue, orange = colours(2)
    figure, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    ax.plot(x, expected, color=orange, ls=LINES[1], zorder=1)
    ax.plot(x, measured, ls="", marker=MARKERS[0], ms=8, color=blue)
    far = int(np.argmax(np.abs(measured - expected)))
    ax.annotate("measured", (x[far], measured[far]), (10, 0), textcoords="offset points",
                color=blue, va="center")  # fmt: skip
    end = (x[-2:].mean(), expected[-2:].mean())
    ax.annotate(why, end, (0, -14), textcoords="offset points", color=orange, va="top")
    ax.set(xlabel=labels[0], ylabel=labels[1])
    if (x == x.astype(int)).all():
        ax.set_xticks(x)
    ax.margins(x=0.08, y=0.15)
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    return figure


@drawn
def bytes_and_loss(table: pd.DataFrame, label: str) -> Figure:
    """Accuracy lost against bytes, a point a form; `factor`, `lost`, `low`, `high` by its name.

    `factor`: 8-bit bytes over stored bytes. Where the interval is a point, nothing can be lost.
    """
    figure, ax = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    blue, orange = colours(2)
    ax.axhline(0, color=INK, lw=1)
    exact = (table["low"] == 0) & (table["high"] == 0)
    for name, row in table.iterrows():
        colour, marker = (orange, MARKERS[1]) if exact[name] else (blue, MARKERS[0])
        reach = [[row["lost"] - row["low"]], [row["high"] - row["lost"]]]
        ax.errorbar(row["factor"], row["lost"], yerr=reach, marker=marker, ms=8, color=colour)
    for name, row in table.iterrows():
        if exact[name]:
            place = dict(rotation=40, ha="left", xytext=(2, 7), color=orange)
        else:
            place = dict(ha="center", xytext=(0, 4), color=blue)
        ax.annotate(name, (row["factor"], row["high"]), textcoords="offset points", va="bottom",
                    fontsize=11, **place)  # fmt: skip
    ax.set_xscale("log")
    ticks = [t for t in (0.5, 1, 2, 4, 8, 16, 32, 64) if t < 2 * table["factor"].max()]
    ticks = [t for t in ticks if t > table["factor"].min() / 2]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="times smaller than 8 bits a pixel", ylabel=label)
    ax.margins(x=0.12, y=0.2)
    ax.grid(axis="y")
    return figure

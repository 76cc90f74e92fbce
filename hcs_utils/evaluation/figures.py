"""Figures of the book: each takes data, returns a matplotlib Figure, and shows or saves nothing.

Every one is drawn on a transparent ground, for a light and a dark page. Colour is never alone:
a label or a shape says the same. A title is the caller's, who knows the finding.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_maps import (
    CHANNEL_COLOURS,
    composite,
    site_grid,
    umap,
    umap_panels,
)
from hcs_utils.evaluation.figure_style import (
    INK,
    LINES,
    MARKERS,
    PALETTE,
    colours,
    drawn,
    names,
    style,
)

__all__ = [
    "CHANNEL_COLOURS",
    "INK",
    "LINES",
    "MARKERS",
    "PALETTE",
    "colours",
    "compare",
    "composite",
    "loss_curve",
    "names",
    "plate_map",
    "site_grid",
    "style",
    "umap",
    "umap_panels",
]

_PLATES = {96: (8, 12), 384: (16, 24), 1536: (32, 48)}


@drawn
def compare(
    runs: pd.DataFrame,
    value: str | Mapping[str, str],
    label: str = "",
    null: float | None = None,
    baseline: float | None = None,
    order: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Methods beside each other: mean ± sd over runs, and every run as a small dot.

    `runs` has one row a run, as `runs.load_records` gives it: `method` and the metric's column.
    `value` names that column, or maps several to their names ({"knn": "raw", "knn_z":
    "after Z-norm"}). `null` and `baseline` are drawn as labelled lines. Methods stand in `order`,
    else by the mean of the last value, best on top.
    """
    series = {value: ""} if isinstance(value, str) else dict(value)
    missing = {"method", *series} - set(runs.columns)
    if missing or runs.empty:
        what = f"lack the columns {', '.join(sorted(missing))}" if missing else "are empty"
        raise InputError(
            f"The runs to compare {what}; they have {', '.join(map(str, runs.columns))}."
        )
    mean = runs.groupby("method")[list(series)].mean()
    sd = runs.groupby("method")[list(series)].std()
    order = list(mean.sort_values(list(series)[-1]).index if order is None else reversed(order))
    figure, ax = plt.subplots(
        figsize=(7.2, 1.3 + (0.24 + 0.3 * len(series)) * len(order)), layout="constrained"
    )
    for i, (column, name) in enumerate(series.items()):
        shift = 0.26 * ((len(series) - 1) / 2 - i)
        mark = {"color": colours(len(series))[i], "marker": MARKERS[i]}
        for row, method in enumerate(order):
            own = runs.loc[runs["method"] == method, column].dropna()
            below = np.full(len(own), row + shift - 0.14)
            ax.plot(own, below, ls="", ms=4, alpha=0.7, mew=0, **mark)
            here, spread = mean.loc[method, column], sd.loc[method, column]
            ax.errorbar(here, row + shift, xerr=np.nan_to_num(spread), ms=8, lw=2, **mark)
            said = f"{here:.3f}" + (f" ± {spread:.3f}" if len(own) > 1 else " (one run)")
            ax.text(1.02, row + shift, said, transform=ax.get_yaxis_transform(), va="center",
                    fontsize=11, color=mark["color"] if name else INK)  # fmt: skip
        if name:
            ax.plot([], [], ls="", ms=8, label=name, **mark)
    ax.set(yticks=range(len(order)), yticklabels=order, ylim=(-0.6, len(order) - 0.4))
    ax.set_xlabel(label or next(iter(series)))
    if (runs[list(series)] >= 0).all(axis=None):
        ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    if any(series.values()):
        figure.legend(loc="outside lower right", ncols=len(series), handletextpad=0.1)
    _reference_lines(ax, {"null": null, "baseline": baseline}, title)
    return figure


@drawn
def plate_map(wells: ArrayLike, values: ArrayLike, label: str = "", title: str = "") -> Figure:
    """A plate seen from above, A01 at the top left; several values in a well are averaged.

    Numbers become a heat map with a colour bar named `label`; text becomes one mark a group. The
    plate is the smallest of 96, 384 and 1536 wells that holds all. Wells without value stay empty.
    """
    row, column = (
        np.array([_place(well) for well in np.asarray(wells).tolist()], dtype=int).reshape(-1, 2).T
    )
    fitting = [s for s in _PLATES.values() if len(row) and row.max() < s[0] and column.max() < s[1]]
    if not fitting or len(row) != len(np.asarray(values)):
        raise InputError(
            f"A plate map needs a value for each well within A01..AF48, got {len(row)} wells "
            f"and {len(np.asarray(values))} values."
        )
    shape = fitting[0]
    table = pd.DataFrame({"row": row, "column": column, "value": np.asarray(values)})
    groups = None if pd.api.types.is_numeric_dtype(table["value"]) else names(table["value"])
    if groups is not None:
        table["value"] = table["value"].map({g: i for i, g in enumerate(groups)})
    grid = np.full(shape, np.nan)
    cells = table.groupby(["row", "column"])["value"].agg("mean" if groups is None else "first")
    grid[tuple(np.array(list(cells.index)).T)] = cells
    figure, ax = plt.subplots(figsize=(7.6, 5.2 if groups is None else 5.8), layout="constrained")
    if groups is None:
        picture = ax.pcolormesh(grid, cmap="viridis", edgecolors="face", linewidth=0.1)
        figure.colorbar(picture, ax=ax, label=label, shrink=0.75).outline.set_visible(False)
    else:
        size = (300 / shape[1]) ** 2  # of a mark, in square points
        for i, (group, colour) in enumerate(zip(groups, colours(len(groups)), strict=True)):
            y, x = np.nonzero(grid == i)
            mark = {"marker": MARKERS[i % len(MARKERS)], "color": colour, "label": group}
            ax.scatter(x + 0.5, y + 0.5, s=size, linewidths=0, **mark)
        figure.legend(loc="outside lower center", ncols=min(6, len(groups)), title=label,
                      markerscale=min(1, 9 / size**0.5), handletextpad=0.1)  # fmt: skip
    _plate_axes(ax, shape)
    ax.set_title(title, pad=26)
    return figure


@drawn
def loss_curve(
    log: pd.DataFrame,
    y: str | Sequence[str] = "loss",
    trivial: float | None = None,
    trivial_label: str = "trivial",
    title: str = "",
) -> Figure:
    """Loss against step: every value faint, their running mean strong, named at its end.

    `log` has the columns `step` and `y`. `trivial` is the loss of a network that has learned
    nothing (for K outputs, ln K), drawn as a line: a curve that stays on it has not started.
    """
    columns = [y] if isinstance(y, str) else list(y)
    missing = {"step", *columns} - set(log.columns)
    if missing or log.empty:
        what = f"lacks the columns {', '.join(sorted(missing))}" if missing else "is empty"
        raise InputError(f"The training log {what}; it has {', '.join(map(str, log.columns))}.")
    figure, ax = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    for i, (column, colour) in enumerate(zip(columns, colours(len(columns)), strict=True)):
        known = log[["step", column]].dropna()
        smooth = known[column].rolling(max(1, len(known) // 30), 1, center=True).mean()
        ax.plot(known["step"], known[column], color=colour, lw=0.8, alpha=0.35)
        ax.plot(known["step"], smooth, color=colour, ls=LINES[i % len(LINES)])
        ax.annotate(f"{column} {smooth.iloc[-1]:.3g}", (known["step"].iloc[-1], smooth.iloc[-1]),
                    (6, 0), textcoords="offset points", va="center", color=colour)  # fmt: skip
    if trivial is not None:
        ax.axhline(trivial, color=INK, ls="--", lw=1.2)
        ax.text(0.99, trivial, f"{trivial_label} = {trivial:.3g}", va="bottom", ha="right",
                transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set(xlabel="step", ylabel="loss", title=title)
    ax.grid(axis="y")
    return figure


def _reference_lines(ax: Axes, lines: Mapping[str, float | None], title: str) -> None:
    """Lines across the figure, named above: the left one to its left, so that names never meet."""
    given = sorted((at, name) for name, at in lines.items() if at is not None)
    above = ax.get_xaxis_transform()
    for i, (at, name) in enumerate(given):
        left = i < len(given) - 1
        ax.axvline(at, color=INK, ls=LINES[1] if name == "null" else LINES[3], lw=1.4, zorder=0)
        ax.plot([at, at], [1, 1.05], color=INK, lw=0.8, transform=above, clip_on=False)
        said = f"{name} {at:.3g} " if left else f" {name} {at:.3g}"
        ax.text(at, 1.05, said, transform=above, fontsize=11, va="center",
                ha="right" if left else "left")  # fmt: skip
    ax.set_title(title, pad=26 if given else 8)


def _place(well: str) -> tuple[int, int]:
    """Row and column, from 0, of a well such as A01 or AF48."""
    letters = str(well).rstrip("0123456789")
    digits = str(well)[len(letters) :]
    if not (letters.isascii() and letters.isalpha() and letters.isupper() and digits):
        raise InputError(f"{well!r} is no well; wells read A01 to AF48.")
    row = 0
    for letter in letters:
        row = 26 * row + ord(letter) - ord("A") + 1
    return row - 1, int(digits) - 1


def _plate_axes(ax: Axes, shape: tuple[int, int]) -> None:
    rows, columns = shape
    letters = [chr(65 + r) if r < 26 else "A" + chr(65 + r - 26) for r in range(rows)]
    step = 1 if rows <= 16 else 2
    ax.set_xticks(np.arange(0, columns, step * (1 if columns <= 12 else 2)) + 0.5)
    ax.set_xticklabels(np.arange(1, columns + 1, step * (1 if columns <= 12 else 2)))
    ax.set_yticks(np.arange(0, rows, step) + 0.5, letters[::step])
    ax.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(True)

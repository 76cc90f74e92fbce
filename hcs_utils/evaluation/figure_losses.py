"""Figures of the cross-modal losses: who attracts whom, cosines before and after, temperature."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, PALETTE, colours, drawn

SIGNS = {-1: "–", 0: "", 1: "+"}


@drawn
def masks(
    panels: Mapping[str, ArrayLike], rows: Sequence[str], columns: Sequence[str], views: int = 1
) -> Figure:
    """Which pairs of a minibatch a loss pulls together (+), apart (–), or does not compare.

    `panels`: title → signs 1, −1 and 0 `[rows columns]`. `views` neighbouring columns are of one
    compound.
    """
    given = {name: np.asarray(signs) for name, signs in panels.items()}
    _matrices(given, rows, columns)
    figure, axes = plt.subplots(
        1, len(given), figsize=(0.8 + 2.9 * len(given), 1.3 + 0.26 * len(rows)), squeeze=False,
        sharey=True, layout="constrained",
    )  # fmt: skip
    pull = ListedColormap([PALETTE["vermillion"], "none", PALETTE["green"]])
    for ax, (name, signs) in zip(axes[0], given.items(), strict=True):
        if not np.isin(signs, list(SIGNS)).all():
            raise InputError(f"{name}: signs are 1, −1 and 0.")
        ax.imshow(signs, cmap=pull, vmin=-1, vmax=1, aspect="auto")
        for (i, j), sign in np.ndenumerate(signs):
            ax.text(j, i, SIGNS[int(sign)], ha="center", va="center", color="#ffffff", fontsize=9,
                    fontweight="bold")  # fmt: skip
        _named(ax, name, rows, columns, views)
    return figure


@drawn
def cosines(
    panels: Mapping[str, ArrayLike], rows: Sequence[str], columns: Sequence[str], views: int = 1,
    label: str = "cosine", across: int = 4,
) -> Figure:  # fmt: skip
    """Cosines `[rows columns]` beside each other, from −1 to 1; `views` columns are one compound.

    A frame is around the pairs that belong together: row k and its `views` columns, where there
    are that many.
    """
    given = {name: np.asarray(values, dtype=float) for name, values in panels.items()}
    _matrices(given, rows, columns)
    across = min(across, len(given))
    down, wide = -(-len(given) // across), max(2.2, 0.18 * len(columns) if across < 3 else 0)
    figure, axes = plt.subplots(
        down, across, figsize=(1.2 + wide * across, down * (1.0 + 0.2 * len(rows))), squeeze=False,
        sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    for ax in axes.flat[len(given) :]:
        ax.set_axis_off()
    for ax, (name, values) in zip(axes.flat, given.items(), strict=False):
        if np.abs(values).max() > 1 + 1e-3:
            raise InputError(f"{name}: cosines lie in −1 to 1, got {np.abs(values).max():.3g}.")
        picture = ax.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        _named(ax, name, rows, columns, views)
        if len(rows) * views == len(columns):
            for k in range(len(rows)):
                ax.add_patch(plt.Rectangle((k * views - 0.5, k - 0.5), views, 1, fill=False,
                                           ec="#000000", lw=1.2))  # fmt: skip
    bar = figure.colorbar(picture, ax=list(axes.flat), label=label, shrink=0.8)
    bar.outline.set_visible(False)
    return figure


@drawn
def curves(table: pd.DataFrame, xlabel: str, ylabel: str, log: bool = False) -> Figure:
    """A line a column over the index; each has its own dash and marks."""
    if table.empty:
        raise InputError("Curves need a row or more and a column or more.")
    figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    few = max(1, len(table) // 8)
    for k, (name, colour) in enumerate(
        zip(table.columns, colours(len(table.columns)), strict=True)
    ):
        ax.plot(table.index, table[name], LINES[k % len(LINES)], color=colour, label=str(name),
                marker=MARKERS[k % len(MARKERS)], markevery=few, ms=6)  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale="log" if log else "linear")
    ax.grid()
    figure.legend(loc="outside right upper")
    return figure


def _matrices(given: Mapping[str, np.ndarray], rows, columns) -> None:
    shape = (len(rows), len(columns))
    for name, values in given.items():
        if values.shape != shape:
            raise InputError(f"{name} has the shape {values.shape}, its names ask for {shape}.")
    if not given:
        raise InputError("There is nothing to draw: give a panel or more.")


def _named(ax: Axes, name: str, rows, columns, views: int) -> None:
    """Titles, and a tick for each row and each compound among the columns."""
    middle = np.arange(0, len(columns), views) + (views - 1) / 2
    ax.set_title(name, fontsize=11)
    shown = [str(columns[int(at)]) for at in middle]
    turned = 90 if max(map(len, shown)) > 2 else 0
    ax.set_xticks(middle, shown, rotation=turned, fontsize=9)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    ax.tick_params(length=0)
    for edge in range(0, len(columns) + 1, views):
        ax.axvline(edge - 0.5, color=INK, lw=0.6)
    ax.spines[:].set_visible(True)

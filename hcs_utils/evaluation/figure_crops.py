"""Figures of faults and crops: pictures in rows and columns, measures moved, intervals by group."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, PALETTE, colours, drawn


@drawn
def grid(
    pictures: Sequence[Sequence[ArrayLike | None]], rows: Sequence[str], columns: Sequence[str],
    side: float | int = 1.15, masks: Sequence[Sequence[ArrayLike | None]] | None = None,
) -> Figure:  # fmt: skip
    """Composites [3 y x] uint8 in rows and columns, named at the left and above; None stays empty.

    ``masks`` [y x], where given, are drawn as outlines; ``side`` is that of a picture, in inches.
    """
    if len(pictures) != len(rows) or any(len(row) != len(columns) for row in pictures):
        raise InputError(
            f"Give {len(rows)} rows of {len(columns)} pictures, as many as there are names."
        )
    size = (side * len(columns) + 1.5, side * len(rows) + 0.4)
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=size, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for r, row in enumerate(pictures):
        for c, picture in enumerate(row):
            ax = axes[r, c]
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if picture is not None:
                ax.imshow(np.moveaxis(np.asarray(picture), 0, -1), interpolation="nearest")
            if masks is not None and masks[r][c] is not None and len(np.unique(masks[r][c])) > 1:
                ax.contour(np.asarray(masks[r][c], float), [0.5], colors="white", linewidths=2.4)
                ax.contour(
                    np.asarray(masks[r][c], float), [0.5], colors=PALETTE["orange"], linewidths=1.2
                )
            if r == 0:
                ax.set_title(columns[c], fontsize=11, fontweight="normal", loc="center")
        axes[r, 0].set_ylabel(rows[r], rotation=0, ha="right", va="center", fontsize=11)
    return figure


@drawn
def moved(table: pd.DataFrame, label: str, most: float | int = 8) -> Figure:
    """Numbers in cells, coloured from −``most`` to ``most`` about 0; beyond it the colour stays.

    Numbers beyond 99 are told as such.
    """
    values = table.to_numpy(float)
    figure, ax = plt.subplots(
        figsize=(2.6 + 0.86 * table.shape[1], 1.1 + 0.36 * len(table)), layout="constrained"
    )
    shown = ax.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = "#111111" if abs(value) < 0.6 * most else "#ffffff"
            text = (
                f"{round(value, 1) + 0.0:+.1f}"
                if abs(value) <= 99
                else "> 99"
                if value > 0
                else "< -99"
            )
            text = text.replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", fontsize=10, color=dark)
    ax.set_xticks(range(table.shape[1]), [str(c) for c in table], rotation=30, ha="left")
    ax.set_yticks(range(len(table)), [str(c) for c in table.index])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure.colorbar(shown, ax=ax, label=label, extend="both").outline.set_visible(False)
    return figure


@drawn
def curves(panels: Mapping[str, pd.DataFrame], label: str, columns: int = 4) -> Figure:
    """A small panel a measure: lines over the table's index, a column each; ``label`` names x.

    Lines are named once, below; they differ in colour, in dashes and in marks.
    """
    names = list(dict.fromkeys(name for table in panels.values() for name in table))
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(2.35 * across + 0.4, 2.2 * down + 0.7), squeeze=False,
        sharex=True, layout="constrained",
    )  # fmt: skip
    look = {
        name: {"color": colour, "ls": LINES[k % len(LINES)], "marker": MARKERS[k % len(MARKERS)]}
        for k, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True))
    }
    for ax, (title, table) in zip(axes.flat, panels.items(), strict=False):
        for name in table:
            ax.plot(table.index, table[name], **look[name], ms=5, lw=1.6)
        ax.set_title(title, fontsize=11, fontweight="normal")
        ax.grid(axis="y")
        ax.tick_params(labelsize=10)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    figure.supxlabel(label, fontsize=12, color=INK)
    handles = [plt.Line2D([], [], label=name, ms=5, **look[name]) for name in names]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(names)))
    return figure


@drawn
def intervals(
    groups: Mapping[str, pd.DataFrame], label: str, lines: Mapping[str, float] | None = None
) -> Figure:
    """Values with intervals, a row each: tables with `value`, `low`, `high` by the row's name.

    Groups share the rows and differ in colour and mark; ``lines`` are drawn across and named.
    """
    rows = list(dict.fromkeys(name for table in groups.values() for name in table.index))
    figure, ax = plt.subplots(
        figsize=(7.2, 1.2 + (0.2 + 0.19 * len(groups)) * len(rows)), layout="constrained"
    )
    hues = colours(len(groups))
    for k, (name, table) in enumerate(groups.items()):
        at = [rows.index(row) + 0.22 * (k - (len(groups) - 1) / 2) for row in table.index]
        value = table["value"].to_numpy(float)
        reach = np.abs(table[["low", "high"]].to_numpy(float).T - value)
        ax.errorbar(
            value, at, xerr=reach, ls="", marker=MARKERS[k % len(MARKERS)], ms=7, color=hues[k],
            lw=1.8, label=name,
        )  # fmt: skip
    for name, at in (lines or {}).items():
        ax.axvline(at, color=INK, ls=LINES[1], lw=1.4, zorder=0)
        ax.text(at, 1.0, f" {name}", transform=ax.get_xaxis_transform(), va="bottom", ha="center",
                fontsize=11)  # fmt: skip
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel(label)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=min(4, len(groups)))
    return figure

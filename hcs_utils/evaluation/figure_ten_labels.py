"""Figures of a screen judged from a few labels: crops to look at, plates, and what labels buy."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, PALETTE, drawn

COLOUR = {"normal": PALETTE["blue"], "abnormal": PALETTE["vermillion"]}
_EDGE = {"normal": "-", "abnormal": "--"}  # of a crop's frame, besides its colour and the word


@drawn
def sheet(
    pictures: Sequence[np.ndarray], labels: Sequence[str], columns: int = 6, title: str = ""
) -> Figure:
    """Crops [y x 3] side by side in the order they were asked about, each under its label.

    A label is "normal", "abnormal", or any other words, which then stand without a frame.
    """
    if not len(pictures) or len(pictures) != len(labels):
        raise InputError(f"{len(pictures)} pictures do not fit {len(labels)} labels; one each.")
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(7.2, 0.3 + 1.42 * rows), layout="constrained", squeeze=False
    )
    for ax in axes.flat[len(pictures) :]:
        ax.set_axis_off()
    for k, (ax, picture, label) in enumerate(zip(axes.flat, pictures, labels, strict=False)):
        ax.imshow(picture)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(label in COLOUR)
            spine.set(color=COLOUR.get(label, INK), linewidth=3, linestyle=_EDGE.get(label, "-"))
        ax.set_title(f"{k + 1} {label}", fontsize=10, color=COLOUR.get(label, INK))
    if title:
        figure.suptitle(title)
    return figure


@drawn
def plates(table: pd.DataFrame, columns: int = 0, title: str = "") -> Figure:
    """Every plate seen from above: of each well the share of its fields that is abnormal.

    `table`: `plate`, `well` (A01 … AF48), `abnormal` (0 to 1), as `ten_labels.plate_map` gives it.
    Only the rows and columns in use on any plate are drawn, the same for all; wells without a
    field stay empty. In a plate's title: its mean.
    """
    if table.empty:
        raise InputError("There is no well to draw: the table of plates is empty.")
    place = table["well"].str.extract(r"^([A-Z]+)(\d+)$")
    rows, wells = sorted(place[0].unique(), key=lambda r: (len(r), r)), sorted(place[1].unique())
    names = sorted(table["plate"].unique())
    columns = columns or min(len(names), 4 if len(wells) <= 12 else 2)
    down = -(-len(names) // columns)
    each = 7.2 / columns
    figure, axes = plt.subplots(
        down, columns, layout="constrained", squeeze=False,
        figsize=(7.2, max(2.4, down * (each * 0.75 * len(rows) / len(wells) + 0.38) + 0.2)),
    )  # fmt: skip
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    picture = None
    for ax, name in zip(axes.flat, names, strict=False):
        own = table["plate"].eq(name)
        grid = pd.DataFrame(
            {"row": place[0][own], "column": place[1][own], "share": table["abnormal"][own]}
        ).pivot_table("share", "row", "column")
        grid = grid.reindex(index=rows, columns=wells).to_numpy(float)
        picture = ax.pcolormesh(grid, cmap="viridis", vmin=0, vmax=1, edgecolors="face", lw=0.1)
        ax.set(aspect="equal", ylim=(len(rows), 0))
        _ticks(ax, rows, wells)
        ax.set_title(f"{name}: {np.nanmean(grid):.0%}", fontsize=10)
    bar = figure.colorbar(picture, ax=axes, shrink=0.7, pad=0.01)
    bar.set_label("fields abnormal, share", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title)
    return figure


def _ticks(ax, rows: list, wells: list) -> None:
    every = -(-len(wells) // 6)
    ax.set_xticks(np.arange(0, len(wells), every) + 0.5, [str(int(c)) for c in wells[::every]])
    step = -(-len(rows) // 8)
    ax.set_yticks(np.arange(0, len(rows), step) + 0.5, rows[::step])
    ax.tick_params(length=0, labelsize=8)
    for spine in ax.spines.values():  # the plate's rim
        spine.set(visible=True, color=INK, linewidth=0.6)


@drawn
def bought(
    found: pd.DataFrame, label: str = "AUC", chance: float | int = 0.5, title: str = ""
) -> Figure:
    """What a number of labels buys, for each way to choose them: mean, ± sd, and every session.

    `found`: a row a session, `labels` (how many), `how` (the way), `value`.
    """
    if found.empty or {"labels", "how", "value"} - set(found.columns):
        raise InputError(
            "The sessions to draw need the columns labels, how, value, and a row each."
        )
    figure, ax = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
    for k, (how, own) in enumerate(found.groupby("how", sort=False)):
        by = own.groupby("labels")["value"]
        mean, sd = by.mean(), by.std().fillna(0)
        colour = list(PALETTE.values())[k]
        ax.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        ax.plot(mean.index, mean, color=colour, marker=MARKERS[k], ls=LINES[k], ms=7, label=how)
        shift = 1.015 ** (1 if k else -1)
        ax.plot(own["labels"] * shift, own["value"], ls="", marker=MARKERS[k], ms=3, alpha=0.5,
                color=colour, mew=0)  # fmt: skip
    ax.axhline(chance, color=INK, lw=1, ls=":")
    place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    ax.annotate("chance", (0.99, chance), fontsize=10, color=INK, **place)
    ticks = sorted(found["labels"].unique())
    ax.set(xscale="log", xlabel="labels given", ylabel=label, title=title)
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.grid(axis="y")
    figure.legend(loc="outside lower right", ncols=2)
    return figure

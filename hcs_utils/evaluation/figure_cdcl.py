"""Figures of CDCL's idea and data: what views share, centres, folds, pairs and crops."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, MARKERS, PALETTE, colours, drawn, names

HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
PARTS = {"train": ("s", "blue"), "val": ("^", "orange"), "test": ("D", "vermillion")}
BOX_LINES = ("-", (0, (3, 1.5)))  # of the first and of the second kind of crop


@drawn
def stacked(table: pd.DataFrame, label: str, digits: int = 2) -> Figure:
    """A bar a row, made of the columns one after the other; the numbers stand beside it.

    `label` names the axis with its unit. A part below zero, which an estimate may be, has no width
    but stands among the numbers; NaN is "not there" and stands nowhere.
    """
    if table.empty or len(table.columns) > len(HATCHES):
        raise InputError(
            f"Bars need a row or more and 1 to {len(HATCHES)} parts, got {len(table)} rows of "
            f"{len(table.columns)}."
        )
    figure, ax = plt.subplots(figsize=(8.4, 1.2 + 0.42 * len(table)), layout="constrained")
    width = table.clip(lower=0).fillna(0.0).to_numpy(float)
    left = np.cumsum(width, axis=1) - width
    rows = np.arange(len(table))[::-1]
    styles = list(zip(colours(len(table.columns)), HATCHES, strict=False))
    for k, (colour, hatch) in enumerate(styles):
        ax.barh(rows, width[:, k], 0.66, left[:, k], color=colour, hatch=hatch, edgecolor="#ffffff",
                lw=0)  # fmt: skip
    for row, (_, values) in zip(rows, table.iterrows(), strict=True):
        said = " + ".join(f"{value:,.{digits}f}" for value in values.dropna())
        ax.text(1.01, row, said, transform=ax.get_yaxis_transform(), va="center", fontsize=10)
    ax.set(yticks=rows, yticklabels=[str(name) for name in table.index], xlabel=label)
    ax.set_xlim(0, max(float(width.sum(1).max()), 1e-9))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    if len(styles) > 1:
        marks = [
            Patch(facecolor=colour, hatch=hatch, edgecolor="#ffffff", lw=0, label=str(name))
            for name, (colour, hatch) in zip(table.columns, styles, strict=True)
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return figure


@drawn
def centred(
    panels: Mapping[str, Mapping[str, ArrayLike]], batch: Mapping[str, ArrayLike]
) -> Figure:
    """Outputs coloured by batch before and after centring: a row a case, a column a centre.

    `panels`: case → {centre: points [n 2]}, shown on one scale within a case. `batch`: case → the
    batch of each point. A large mark is a batch's mean; up to eight batches have marks of their
    own. For each case the axes are the caller's, such as directions in which the means differ.
    """
    columns = list(next(iter(panels.values())))
    figure, axes = plt.subplots(
        len(panels), len(columns), figsize=(0.6 + 2.7 * len(columns), 0.3 + 2.5 * len(panels)),
        squeeze=False, sharex="row", sharey="row", layout="constrained",
    )  # fmt: skip
    for line, (case, clouds) in zip(axes, panels.items(), strict=True):
        if list(clouds) != columns:
            raise InputError(f"{case} has the centres {list(clouds)}, others have {columns}.")
        for ax, (centre, points) in zip(line, clouds.items(), strict=True):
            _cloud(
                ax, np.asarray(points, dtype=float), np.asarray(batch[case]), f"{case}, {centre}"
            )
        line[0].set_ylabel(case)
    for ax, centre in zip(axes[0], columns, strict=True):
        ax.set_title(centre, fontsize=12)
    return figure


def _cloud(ax: Axes, xy: np.ndarray, batch: np.ndarray, what: str) -> None:
    if xy.shape != (len(batch), 2):
        raise InputError(f"{what}: need [{len(batch)}, 2] points, got shape {xy.shape}.")
    order = names(batch)
    for i, (name, colour) in enumerate(zip(order, colours(len(order)), strict=True)):
        own = xy[batch == name]
        ax.plot(*own.T, ls="", marker=".", ms=3, color=colour, alpha=0.35, mew=0, rasterized=True)
        ax.plot(*own.mean(0), ls="", marker=MARKERS[i % len(MARKERS)], ms=9, color=colour,
                mec=INK, mew=0.8, zorder=3)  # fmt: skip
    ax.axhline(0, color=INK, lw=0.6, zorder=0)
    ax.axvline(0, color=INK, lw=0.6, zorder=0)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)


@drawn
def correlations(matrices: Mapping[str, ArrayLike]) -> Figure:
    """Correlation matrices R `[k k]` beside each other on one scale from −1 to 1."""
    given = {name: np.asarray(matrix, dtype=float) for name, matrix in matrices.items()}
    for name, matrix in given.items():
        if matrix.ndim != 2 or np.abs(matrix).max() > 1 + 1e-3:
            raise InputError(
                f"{name}: correlations are a matrix of −1 to 1, got shape {matrix.shape} and "
                f"values of up to {np.abs(matrix).max():.3g}."
            )
    figure, axes = plt.subplots(
        1, len(given), figsize=(0.9 + 3.0 * len(given), 3.4), squeeze=False, layout="constrained"
    )
    for ax, (name, matrix) in zip(axes[0], given.items(), strict=True):
        picture = ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(name, fontsize=12)
        ax.set(xlabel="output of the student", xticks=[], yticks=[])
    axes[0, 0].set_ylabel("output of the teacher")
    bar = figure.colorbar(picture, ax=list(axes[0]), label="correlation", shrink=0.85)
    bar.outline.set_visible(False)
    return figure


@drawn
def folds(panels: Mapping[str, Sequence[Mapping[str, Sequence[str]]]]) -> Figure:
    """Which batches train, validate and test in each fold: a panel a screen, a row a fold.

    `panels`: screen → for each fold {"train": names, "val": names, "test": names}.
    """
    every = {
        name: names([batch for part in turns[0].values() for batch in part])
        for name, turns in panels.items()
    }
    count = {name: len(order) for name, order in every.items()}
    rows = max(len(turns) for turns in panels.values())
    wide = 1.2 + 0.21 * sum(count.values()) + 0.5 * len(panels)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(wide, 1.5 + 0.3 * rows),
        squeeze=False, width_ratios=[n + 1 for n in count.values()], layout="constrained",
    )  # fmt: skip
    marks = {}
    for ax, (name, turns) in zip(axes[0], panels.items(), strict=True):
        place = {batch: k for k, batch in enumerate(every[name])}
        for fold, parts in enumerate(turns):
            if sorted(b for part in parts.values() for b in part) != sorted(place):
                raise InputError(f"{name}, fold {fold + 1}: each batch must be in one part, once.")
            for part, batches in parts.items():
                marker, hue = PARTS[part]
                at = [place[b] for b in batches]
                (marks[part],) = ax.plot(at, [fold + 1] * len(at), ls="", marker=marker, ms=8,
                                         mew=0, color=PALETTE[hue], label=part)  # fmt: skip
        ax.set(xlim=(-0.7, count[name] - 0.3), ylim=(rows + 0.6, 0.4), xlabel="batch")
        ax.set(yticks=range(1, len(turns) + 1), title=name)
        shown = range(0, count[name], max(1, count[name] // 6))
        ax.set_xticks(list(shown), [every[name][k] for k in shown], rotation=90, fontsize=9)
        ax.title.set_fontsize(11)
        ax.tick_params(length=0)
    axes[0, 0].set_ylabel("fold")
    handles = [Line2D([], [], ls="", marker=m.get_marker(), ms=8, mew=0, color=m.get_color(),
                      label=part) for part, m in marks.items()]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.1)
    return figure


@drawn
def meetings(ratio: pd.DataFrame, label: str = "drawn / expected") -> Figure:
    """How often each pair of batches met, over what is expected; what cannot meet (NaN) is empty.

    Numbers stand in the cells where there are at most twelve batches.
    """
    values = ratio.to_numpy(float)
    if not np.isfinite(values).any():
        raise InputError("No pair of batches has a ratio; draw some pairs first.")
    far = max(np.nanmax(np.abs(values - 1)), 0.01)
    side = 1.6 + 0.46 * len(ratio)
    figure, ax = plt.subplots(figsize=(side + 1.4, side), layout="constrained")
    picture = ax.imshow(values, cmap="PuOr", vmin=1 - far, vmax=1 + far, interpolation="nearest")
    if len(ratio) <= 12:
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                pale = abs(value - 1) < 0.6 * far
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8,
                        color="#000000" if pale else "#ffffff")  # fmt: skip
    for axis, order in ((ax.xaxis, ratio.columns), (ax.yaxis, ratio.index)):
        axis.set_ticks(range(len(order)), [str(name) for name in order], fontsize=9)
        axis.set_tick_params(length=0)
    ax.set(xlabel="batch of the partner", ylabel="batch of the field")
    figure.colorbar(picture, ax=ax, label=label, shrink=0.75).outline.set_visible(False)
    return figure


@drawn
def crops(
    pictures: Sequence[ArrayLike], boxes: Sequence[Mapping[str, ArrayLike]],
    titles: Sequence[str], columns: int = 4,
) -> Figure:  # fmt: skip
    """Where crops were cut: rectangles on fields, of one kind or two.

    `pictures`: colour [y x 3]. `boxes`: for each picture {kind: [m 4]}, left, top, width and height
    in px, as `rectangles` gives them. The first kind is drawn in full lines, the second in dashes.
    """
    if not len(pictures) == len(boxes) == len(titles) or not len(pictures):
        raise InputError("Give as many pictures as sets of boxes and titles, one or more.")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.4 * columns, 2.7 * rows + 0.4), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    kinds = list(dict.fromkeys(kind for kinds in boxes for kind in kinds))
    style = {
        kind: (PALETTE[("orange", "sky")[k % 2]], BOX_LINES[k % 2]) for k, kind in enumerate(kinds)
    }
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture, of, title in zip(axes.flat, pictures, boxes, titles, strict=False):
        picture = np.asarray(picture)
        ax.imshow(
            picture, interpolation="nearest", extent=(0, picture.shape[1], picture.shape[0], 0)
        )
        for kind, several in of.items():
            colour, dash = style[kind]
            for x, y, wide, tall in np.asarray(several, dtype=float):
                ax.add_patch(Rectangle((x, y), wide, tall, fill=False, edgecolor=colour, ls=dash,
                                       lw=1.6, clip_on=False))  # fmt: skip
        ax.set_title(title, fontsize=10, fontweight="normal", loc="center")
    handles = [Line2D([], [], color=c, ls=dash, lw=1.6, label=k) for k, (c, dash) in style.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def rectangles(coordinates: ArrayLike) -> np.ndarray:
    """Left, top, width and height [m 4] in px of crops, from crops of a picture of coordinates.

    `coordinates` [m 2 s s]: of each pixel of a crop of s × s, the row and the column of the field
    it was read from, counted from 0 at the middle of the first pixel. Cut a picture whose two
    channels hold them with the function that cuts fields: what comes out says where it was cut,
    whatever it was flipped or turned. Exact where a crop is not enlarged.
    """
    c = np.asarray(coordinates, dtype=float)
    if c.ndim != 4 or c.shape[1] != 2 or c.shape[2] != c.shape[3] or c.shape[2] < 2:
        raise InputError(f"Need rows and columns [m 2 s s] of square crops, got shape {c.shape}.")
    s, low, high = c.shape[-1], c.min((2, 3)), c.max((2, 3))
    length = (high - low) * s / (s - 1)
    start = low + 0.5 - 0.5 * length / s
    return np.concatenate([start[:, ::-1], length[:, ::-1]], axis=1)

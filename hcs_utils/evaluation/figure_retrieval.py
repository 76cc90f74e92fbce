"""Galleries: a field, and the fields that an embedding places nearest to it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_maps import composite
from hcs_utils.evaluation.figure_style import INK, PALETTE, drawn

_RIGHT, _WRONG, _SAME = PALETTE["green"], PALETTE["vermillion"], PALETTE["orange"]


@drawn
def gallery(
    query: ArrayLike,
    ranked: ArrayLike,
    channels: Sequence[str],
    right: ArrayLike,
    same_batch: ArrayLike,
    captions: Sequence[str] | None = None,
    ranks: ArrayLike | None = None,
) -> Figure:
    """One row a query: the query at the left, then its nearest fields, the nearest first.

    `query` uint8 `[m c y x]`, `ranked` uint8 `[m r c y x]`; `right` and `same_batch` bool `[m r]`:
    whether a field has the query's treatment, and comes from its batch. A right one has a solid
    frame and a tick, a wrong one a dashed frame and a cross; one of the same batch a triangle in
    its corner. `captions` are those of the queries; `ranks` `[m]`, where the first right one
    stands in the whole order, 1 the nearest.
    """
    query, ranked = np.asarray(query), np.asarray(ranked)
    right, same_batch = np.asarray(right, dtype=bool), np.asarray(same_batch, dtype=bool)
    _check(query, ranked, right, same_batch, channels)
    m, r = right.shape
    captions = [""] * m if captions is None else list(captions)
    figure, axes = plt.subplots(
        m, r + 1, figsize=(9, 0.6 + m * (9 / (r + 1) + 0.3)), squeeze=False, layout="constrained",
        gridspec_kw={"width_ratios": [1.12] + [1] * r},
    )  # fmt: skip
    for row in range(m):
        _picture(axes[row, 0], composite(query[row], channels))
        axes[row, 0].set_title(captions[row], fontsize=10, fontweight="normal", pad=4)
        for column in range(r):
            ax = axes[row, column + 1]
            _picture(ax, composite(ranked[row, column], channels))
            _frame(ax, bool(right[row, column]), bool(same_batch[row, column]))
            if not row:
                ax.set_xlabel(str(column + 1), fontsize=11)
                ax.xaxis.set_label_position("top")
        if ranks is not None:
            axes[row, 0].set_xlabel(f"first right: {int(np.asarray(ranks)[row])}", fontsize=10)
    _legend(figure)
    return figure


def _check(query, ranked, right, same_batch, channels) -> None:
    wanted = (len(query), ranked.shape[1] if ranked.ndim == 5 else 0)
    fits = query.ndim == 4 and ranked.ndim == 5 and ranked.shape[2:] == query.shape[1:]
    if not fits or len(ranked) != len(query) or query.shape[1] != len(channels):
        raise InputError(
            f"Need queries [m {len(channels)} y x] and ranked fields [m r {len(channels)} y x], "
            f"got {query.shape} and {ranked.shape}."
        )
    if query.dtype != np.uint8 or ranked.dtype != np.uint8 or not ranked.size:
        raise InputError(f"Fields must be filled uint8, got {query.dtype} and {ranked.dtype}.")
    for name, values in (("right", right), ("same_batch", same_batch)):
        if values.shape != wanted:
            raise InputError(f"{name} must be bool {list(wanted)}, got shape {values.shape}.")


def _picture(ax: Axes, picture: np.ndarray) -> None:
    ax.imshow(picture, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _frame(ax: Axes, right: bool, same_batch: bool) -> None:
    hue = _RIGHT if right else _WRONG
    style = {"ls": "-" if right else (0, (2.2, 1.4)), "lw": 4, "edgecolor": hue}
    ax.add_patch(
        Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, clip_on=False, **style)
    )
    ax.text(0.93, 0.92, "✓" if right else "✗", transform=ax.transAxes, ha="right", va="top",
            fontsize=11, color="white", fontweight="bold",
            bbox={"facecolor": hue, "edgecolor": "none", "pad": 1.5})  # fmt: skip
    if same_batch:
        ax.plot(0.12, 0.13, marker="^", ms=10, color=_SAME, mec="white", mew=1,
                transform=ax.transAxes)  # fmt: skip


def _legend(figure: Figure) -> None:
    marks = [
        Line2D([], [], color=_RIGHT, lw=4, label="✓ same treatment"),
        Line2D([], [], color=_WRONG, lw=4, ls=(0, (1.2, 0.8)), label="✗ another treatment"),
        Line2D([], [], marker="^", ls="", ms=10, color=_SAME, label="of the query's batch"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, labelcolor=INK)

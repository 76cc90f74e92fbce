"""Figures of the collapse doctor: vital signs against step, and what a collapse looks like."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, colours, drawn


@dataclass(frozen=True)
class Panel:
    """One vital sign: its column, the panel's title, and lines of reference {value: name}."""

    column: str
    title: str
    lines: Mapping[float, str]
    top: float | None = None  # that the axis reaches at least; None as the data are


PANELS = (
    Panel("loss_share", "Loss / trivial loss", {1.0: "nothing learned"}),
    Panel("rank_share", "Effective rank, share", {0.05: "low rank"}, 1.0),
    Panel("spread", "Spread of features", {1.0: "fills the sphere", 0.01: "constant"}, 1.0),
    Panel("sample_entropy", "Teacher, of one field", {1.0: "uniform", 0.0: "one output"}, 1.0),
    Panel("marginal_entropy", "Teacher, of all fields", {1.0: "all used", 0.0: "one used"}, 1.0),
    Panel("agreement", "Two crops, same neighbours", {0.0: "chance"}, 1.0),
    Panel("batch_shared", "Neighbours share the batch", {0.0: "chance"}, 0.2),
    Panel("treatment_shared", "Neighbours share the treatment", {0.0: "chance"}, 0.2),
)


@drawn
def vital_signs(logs: Mapping[str, pd.DataFrame | Sequence[Mapping]], title: str = "") -> Figure:
    """Vital signs of one to six runs against step; dashed, named lines say what a value means.

    `logs`: name of a run → its log, with the signs that `diagnose.Doctor` writes beside the loss;
    a panel is drawn for each sign that any of them has. Lines are named at their ends.
    """
    tables = {name: _table(log, name) for name, log in logs.items()}
    if not 1 <= len(tables) <= 6:
        raise InputError(f"Vital signs can be told apart for 1 to 6 runs, got {len(tables)}.")
    panels = [p for p in PANELS if any(p.column in table for table in tables.values())]
    if not panels:
        raise InputError(
            "No log has a vital sign; train with `monitor=diagnose.Doctor(stream)`, whose values "
            "stand in the log."
        )
    columns = 2
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(9.0, 0.5 + 2.3 * rows), sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, panel in zip(axes.flat, panels, strict=False):
        _draw_panel(ax, panel, tables)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for below in range(columns):
        last = [ax for ax in axes[:, below] if ax.axison][-1]
        last.set_xlabel("step")
        last.tick_params(labelbottom=True)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


@drawn
def anatomy(
    spectra: Mapping[str, ArrayLike], said: Mapping[str, ArrayLike] | None = None
) -> Figure:
    """What collapse looks like: singular values above, what the teacher says below; a column a run.

    `spectra`: name → singular values, largest first, drawn over the largest on a log scale.
    `said`: name → probabilities [n K] of the teacher; bars are their mean, sorted, the line the
    mean of each field's own, sorted. One prototype: both a spike. Uniform: both flat. Health: a
    peaked line over level bars.
    """
    said = said or {}
    if not spectra or set(said) - set(spectra):
        raise InputError("Give singular values of one run or more, and of each run in `said`.")
    rows = 2 if said else 1
    figure, axes = plt.subplots(
        rows, len(spectra), figsize=(1.2 + 2.1 * len(spectra), 0.4 + 2.4 * rows), squeeze=False,
        sharey="row", layout="constrained",
    )  # fmt: skip
    blue, orange = colours(2)
    for column, (name, values) in enumerate(spectra.items()):
        _draw_spectrum(axes[0, column], np.asarray(values, dtype=float), blue)
        axes[0, column].set_title(name, fontsize=12)
        if said and name in said:
            _draw_said(axes[1, column], np.asarray(said[name], dtype=float), blue, orange)
        elif said:
            axes[1, column].text(0.5, 0.5, "no teacher", transform=axes[1, column].transAxes,
                                 ha="center", va="center")  # fmt: skip
            axes[1, column].set_xticks([])
    axes[0, 0].set_ylabel("singular value /\nthe largest")
    if said:
        axes[1, 0].set_ylabel("probability")
        first = next(i for i, name in enumerate(spectra) if name in said)
        ax = axes[1, first]
        ax.text(0.97, 0.95, "one field", color=orange, ha="right", va="top", transform=ax.transAxes)
        ax.text(0.97, 0.80, "all fields", color=blue, ha="right", va="top", transform=ax.transAxes)
    return figure


def _table(log: pd.DataFrame | Sequence[Mapping], name: str) -> pd.DataFrame:
    table = pd.DataFrame(log)
    if table.empty or "step" not in table:
        raise InputError(f"The log of {name!r} is empty or has no column `step`.")
    if {"loss", "trivial_loss"} <= set(table):
        share = table["loss"] / table["trivial_loss"].ffill().bfill()
        table = table.assign(loss_share=share)
    return table


def _draw_panel(ax: Axes, panel: Panel, tables: Mapping[str, pd.DataFrame]) -> None:
    for at, words in panel.lines.items():
        ax.axhline(at, color=INK, ls=LINES[1], lw=1.2)
        ax.annotate(words, (0, at), (3, -2 if at < 0.5 else 2), textcoords="offset points",
                    xycoords=ax.get_yaxis_transform(), va="top" if at < 0.5 else "bottom",
                    fontsize=10)  # fmt: skip
    ends = []
    for i, (name, colour) in enumerate(zip(tables, colours(len(tables)), strict=True)):
        if panel.column not in tables[name]:
            continue
        known = tables[name][["step", panel.column]].dropna()
        if known.empty:
            continue
        step, value = known["step"].to_numpy(float), known[panel.column].to_numpy(float)
        ax.plot(step, value, color=colour, ls=LINES[i % len(LINES)], marker=MARKERS[i], ms=4)
        ends.append((value[-1], step[-1], f"{name} {value[-1]:.2f}".lstrip(), colour))
    low, high = ax.get_ylim()
    high = max(high, panel.top or 0, *panel.lines)
    low, high = min(low, -0.16 * high), 1.16 * high  # the words of the lines stand outside
    ax.set_ylim(low, high)
    if ends:
        far = max(end[1] for end in ends)
        ends.sort(key=lambda end: end[0])
        heights = _apart([end[0] for end in ends], 0.13 * (high - low), high)
        for y, (_, _, words, colour) in zip(heights, ends, strict=True):
            ax.annotate(words, (far, y), (7, 0), textcoords="offset points", color=colour,
                        va="center", fontsize=10, annotation_clip=False)  # fmt: skip
    ax.set_title(panel.title, fontsize=12)
    ax.grid(axis="y")


def _apart(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Sorted heights of labels, moved until `gap` lies between any two and none is above `top`."""
    at = list(heights)
    for _ in range(100):
        for i in range(1, len(at)):
            short = gap - (at[i] - at[i - 1])
            if short > 0:
                at[i], at[i - 1] = at[i] + short / 2, at[i - 1] - short / 2
    return [min(y, top - gap * (len(at) - 1 - i)) for i, y in enumerate(at)]


def _draw_spectrum(ax: Axes, values: np.ndarray, colour: str) -> None:
    share = values / values.max() if values.max() > 0 else np.zeros_like(values)
    rank = 1 + np.arange(len(share))
    here = share > 1e-7
    ax.plot(rank[here], share[here], color=colour)
    ax.fill_between(rank[here], 1e-5, share[here], color=colour, alpha=0.2, lw=0)
    ax.set(yscale="log", ylim=(1e-5, 2), xlim=(0, len(share) + 1), xlabel="direction")
    ax.grid(axis="y")
    if not here.any():
        ax.text(0.5, 0.5, "constant", transform=ax.transAxes, ha="center")


def _draw_said(ax: Axes, p: np.ndarray, blue: str, orange: str) -> None:
    k = p.shape[1]
    rank = 1 + np.arange(k)
    ax.bar(rank, np.sort(p.mean(0))[::-1], width=1, color=blue, alpha=0.45, lw=0)
    ax.plot(rank, np.sort(p, axis=1)[:, ::-1].mean(0), color=orange, lw=1.8)
    ax.axhline(1 / k, color=INK, ls=LINES[3], lw=1)
    ax.set(yscale="log", ylim=(1e-4, 2), xlim=(0, k + 1), xlabel="output, sorted")
    ax.grid(axis="y")

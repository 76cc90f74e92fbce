"""What switches change: a forest of paired differences, each with its interval and its number."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_style import INK, MARKERS, colours, drawn

_WIDEST = 42  # characters of a name in one line: the rest of the width is the axis's


@drawn
def forest(
    table: pd.DataFrame,
    label: str = "difference, points",
    band: tuple[float | int, float | int] | None = None,
    band_label: str = "",
) -> Figure:
    """One row a difference, grouped by kind, first on top; hollow where the interval holds 0.

    `table`: `name`, `kind`, `difference`, `low`, `high` (NaN where unknown) and `pairs`, in the
    unit of `label`. `band` is a null: what a change that should change nothing does. The axis
    holds every middle, and intervals up to twice as far; a longer one runs out of it, and is
    written at the right like the others. Long names take two lines.
    """
    wanted = ["name", "kind", "difference", "low", "high", "pairs"]
    if missing := [name for name in wanted if name not in table]:
        has = ", ".join(map(str, table.columns))
        raise InputError(f"The differences lack {', '.join(missing)}; they have {has}.")
    rows = table.dropna(subset=["difference"])
    if rows.empty:
        raise InputError("There is no difference to draw.")
    kinds = list(dict.fromkeys(rows["kind"]))
    rows = pd.concat([rows[rows["kind"] == kind] for kind in kinds])
    names = [textwrap.fill(name, _WIDEST) for name in rows["name"]]
    height = 0.38 + 0.17 * max(name.count("\n") for name in names)
    figure, ax = plt.subplots(figsize=(9, 1.5 + height * len(rows)), layout="constrained")
    ax.axvline(0, color=INK, lw=1.2, zorder=0)
    if band is not None and np.isfinite(band).all():
        ax.axvspan(*band, color=INK, alpha=0.18, lw=0, label=band_label or None)
    for i, row in enumerate(rows[wanted].itertuples()):
        which = kinds.index(row.kind)
        hue, sure = colours(6)[which], bool(row.low > 0 or row.high < 0)
        reach = np.nan_to_num([[row.difference - row.low], [row.high - row.difference]])
        ax.errorbar(row.difference, i, xerr=reach, marker=MARKERS[which], color=hue, ms=8, lw=2,
                    mfc=hue if sure else "none", mew=1.8)  # fmt: skip
        ends = "" if np.isnan(row.low) else f" ({row.low:+.1f} to {row.high:+.1f})"
        ax.text(1.02, i, f"{row.difference:+.1f}{ends}, n = {row.pairs}", color=hue, fontsize=11,
                transform=ax.get_yaxis_transform(), va="center")  # fmt: skip
    for which, kind in enumerate(kinds):
        ax.plot([], [], marker=MARKERS[which], color=colours(6)[which], label=kind)
    ax.set_xlim(*_limits(rows, band))
    ax.set(yticks=range(len(rows)), yticklabels=names, ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlabel(label)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _limits(rows: pd.DataFrame, band: tuple | None) -> tuple[float, float]:
    held = np.append(rows["difference"].to_numpy(float), [0, *(band or ())])
    most = 2 * max(np.nanmax(np.abs(held)), 1e-6)
    ends = rows[["low", "high"]].to_numpy(float)
    held = np.append(held, ends[np.abs(ends) <= most])
    held = held[np.isfinite(held)]
    room = 0.06 * max(np.ptp(held), 1e-6)
    return float(held.min() - room), float(held.max() + room)

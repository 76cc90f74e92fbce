"""The look of every figure: one style, and colours that read on a light and on a dark page.

Backgrounds are transparent. `INK` has a contrast of at least 4.5 on white and 3.9 on the dark
page, the best that one grey can do on both; the colours have at least 3 on either, and differ
also to readers who see red, green or blue poorly. Shape repeats what colour says.
"""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

P = ParamSpec("P")

INK = "#767676"  # text, axes, lines of reference
PALETTE = {  # the hues of Okabe and Ito 2008, moved to a lightness that suits both pages
    "blue": "#386BB8",
    "orange": "#CB8413",
    "green": "#058757",
    "vermillion": "#B34B1C",
    "sky": "#109CC6",
    "pink": "#B76688",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
STYLE = {
    "figure.facecolor": "none",
    "figure.dpi": 144,
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=list(PALETTE.values())),
    "axes.axisbelow": True,
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
    "font.size": 12,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.facecolor": "none",
    "legend.edgecolor": "none",
    "legend.framealpha": 0,
    "legend.labelcolor": INK,
    "legend.fontsize": 11,
    "lines.linewidth": 2,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
}


def style() -> None:
    """Make this the look of every figure drawn from here on; `figures` uses it by itself."""
    plt.rcParams.update(STYLE)


def drawn(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in this style, and leave showing to the caller, so that a notebook shows it once."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = function(*args, **kwargs)
        plt.close(figure)
        return figure

    return inner


def colours(n: int) -> list:
    """n colours: those of `PALETTE`, or for more than six, steps around a wheel of hues."""
    if n <= len(PALETTE):
        return list(PALETTE.values())[:n]
    from skimage.color import lab2rgb

    angle = np.arange(n) * 2 * np.pi / n
    wheel = np.stack([np.full(n, 56.0), 52 * np.cos(angle), 52 * np.sin(angle)], axis=1)
    return [tuple(colour) for colour in np.clip(lab2rgb(wheel[None])[0], 0, 1)]


def names(values: ArrayLike) -> list:
    """Distinct values in the order people count: B2 before B10."""

    def key(value: object) -> list:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(value))]

    return sorted(set(np.asarray(values).tolist()), key=key)

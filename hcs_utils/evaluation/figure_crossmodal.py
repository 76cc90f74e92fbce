"""Molecules beside images: what is found of what, how much is lost between labs, and answers."""

from collections.abc import Sequence
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_maps import composite
from hcs_utils.evaluation.figure_style import INK, MARKERS, PALETTE, colours, drawn

_ATOMS = {7: "blue", 8: "vermillion", 9: "green", 17: "green", 35: "green", 16: "orange"}


@drawn
def bars(
    table: pd.DataFrame,
    label: str = "",
    line: str = "chance",
    columns: int = 3,
    floors: Sequence[str] = (),
    limit: float | int = 0,
) -> Figure:
    """A panel for each of `panel`, a bar for each of `method`, all in the order given.

    `table` has the columns `panel`, `method`, `value`, `low`, `high` (NaN where unknown), `paper`
    (a tick; NaN where it has none) and `line` (dashed, the same for a panel: what guessing gives),
    in the unit of `label`. What was not run has NaN as value, and says so. Methods among `floors`
    are grey. Axes end at `limit`, or (0) each where its panel does.
    """
    wanted = ["panel", "method", "value", "low", "high", "paper", "line"]
    if missing := [name for name in wanted if name not in table]:
        has = ", ".join(map(str, table.columns))
        raise InputError(f"The bars lack the columns {', '.join(missing)}; they have {has}.")
    if table.empty or table.duplicated(["panel", "method"]).any():
        raise InputError("Bars need rows, and each panel has each method once.")
    panels, methods = (list(dict.fromkeys(table[name])) for name in ("panel", "method"))
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(9.2, rows * (0.75 + 0.34 * len(methods)) + 0.6), squeeze=False,
        sharey=True, layout="constrained",
    )  # fmt: skip
    coloured = [method for method in methods if method not in floors]
    hues = dict(zip(coloured, colours(max(len(coloured), 1)), strict=False))
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        of = table[table["panel"] == panel].set_index("method").reindex(methods)
        _bars(ax, of, hues, limit)
        ax.set_title(str(panel), fontsize=12)
        ax.set_yticks(range(len(methods)), methods)
    axes[0, 0].set_ylim(len(methods) - 0.45, -0.55)
    axes[-1, (len(panels) - 1) % columns // 2].set_xlabel(label)
    marks = [Line2D([], [], color=INK, ls="--", lw=1.5, label=line)]
    if table["paper"].notna().any():
        marks += [Line2D([], [], color=INK, marker="|", ls="", ms=13, mew=2.5, label="paper")]
    if table["low"].notna().any():
        marks += [Line2D([], [], color=INK, lw=2.2, label="95 % interval")]
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
    return figure


def _bars(ax: Axes, of: pd.DataFrame, hues: dict, limit: float | int) -> None:
    for i, (method, row) in enumerate(of.iterrows()):
        if np.isnan(row["value"]):
            ax.text(0.02, i, "not run", transform=ax.get_yaxis_transform(), va="center",
                    fontsize=11)  # fmt: skip
        else:
            ax.barh(i, row["value"], height=0.62, color=hues.get(method, INK), alpha=0.55)
        if not np.isnan(row["low"]):
            ax.plot([row["low"], row["high"]], [i, i], color=INK, lw=2.2, solid_capstyle="butt")
        ax.plot(row["paper"], i, marker="|", ms=15, mew=2.5, color=INK, ls="")
    ax.axvline(of["line"].dropna().mean(), color=INK, ls="--", lw=1.5)
    most = limit or np.nanmax(of[["value", "high", "paper", "line"]].to_numpy(float))
    ax.set_xlim(0, 1.08 * max(most, 1e-6))
    ax.locator_params(axis="x", nbins=4)  # labels of neighbouring panels stand apart
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")


# Molecules, drawn


def molecule_picture(smiles: str, width: int = 320, height: int = 240) -> np.ndarray:
    """The formula of a molecule, RGBA uint8 `[height, width, 4]`, on no ground, for either page.

    Raises `InputError` naming SMILES that RDKit cannot read.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.Draw import rdMolDraw2D

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
    if molecule is None:
        raise InputError(f"{smiles!r} is no SMILES that RDKit can read; check brackets and rings.")
    canvas = rdMolDraw2D.MolDraw2DCairo(width, height)
    options = canvas.drawOptions()
    options.setBackgroundColour((1, 1, 1, 0))
    hue = {-1: to_rgb(INK)} | {n: to_rgb(PALETTE[name]) for n, name in _ATOMS.items()}
    options.setAtomPalette(hue)
    options.bondLineWidth, options.minFontSize = 2, 14
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    return np.uint8(255 * plt.imread(BytesIO(canvas.GetDrawingText())) + 0.5)


@drawn
def wells_of_molecule(
    smiles: str, images: ArrayLike, channels: Sequence[str], captions: Sequence[str],
    title: str = "",
) -> Figure:  # fmt: skip
    """A molecule, and fields of the wells nearest to it, the nearest first.

    `images` uint8 `[k c y x]`, with a caption each; six in a row.
    """
    images = _checked(images, channels, captions)
    pictures = [composite(image, channels) for image in images]
    return _asked(molecule_picture(smiles), pictures, captions, title)


@drawn
def molecules_of_well(
    image: ArrayLike, channels: Sequence[str], smiles: Sequence[str], captions: Sequence[str],
    title: str = "",
) -> Figure:  # fmt: skip
    """A field of a well, uint8 `[c y x]`, and the molecules nearest to it, the nearest first."""
    image = _checked(np.asarray(image)[None], channels, [title])[0]
    if len(smiles) != len(captions) or not len(smiles):
        raise InputError(f"{len(smiles)} molecules need a caption each; got {len(captions)}.")
    pictures = [molecule_picture(one) for one in smiles]
    return _asked(composite(image, channels), pictures, captions, title)


def _checked(images: ArrayLike, channels: Sequence[str], captions: Sequence[str]) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] != len(channels):
        raise InputError(
            f"Need uint8 fields [k {len(channels)} y x] for the channels {', '.join(channels)}, "
            f"got {images.dtype} of shape {images.shape}."
        )
    if len(images) != len(captions) or not len(images):
        raise InputError(f"{len(images)} fields need a caption each; got {len(captions)}.")
    return images


def _asked(question: np.ndarray, answers: list, captions: Sequence[str], title: str) -> Figure:
    """The question at the left, answers at the right, three in a row, numbered."""
    columns = min(3, len(answers))
    rows = -(-len(answers) // columns)
    figure = plt.figure(figsize=(9.2, 0.4 + 2.45 * rows), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.1, columns])
    ax = left.subplots()
    _picture(ax, question, title)
    ax.set_anchor("N")
    for number, (ax, picture) in enumerate(
        zip(right.subplots(rows, columns, squeeze=False).flat, [*answers, *[None] * columns],
            strict=False), start=1,
    ):  # fmt: skip
        if picture is None:
            ax.set_axis_off()
        else:
            _picture(ax, picture, f"{number}  {captions[number - 1]}")
    return figure


def _picture(ax: Axes, picture: np.ndarray, title: str) -> None:
    ax.imshow(picture, interpolation="nearest" if picture.shape[2] == 3 else "antialiased")
    ax.set_title(title, fontsize=10, fontweight="normal", pad=4)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


@drawn
def ways_apart(table: pd.DataFrame, label: str = "") -> Figure:
    """Accuracy of each method when training and test share less and less, from left to right.

    `table`: index of methods, a column a split in its order, as shares of 1; `table.attrs["line"]`,
    where given, is what the largest class alone gives.
    """
    if table.empty or table.shape[1] < 2:
        raise InputError("Two splits or more, and a method, are needed to see what is lost.")
    figure, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for i, (method, row) in enumerate(table.iterrows()):
        ax.plot(range(len(row)), row, marker=MARKERS[i % len(MARKERS)], ms=8, label=str(method),
                color=colours(len(table))[i])  # fmt: skip
    if "line" in table.attrs:
        ax.axhline(table.attrs["line"], color=INK, ls="--", lw=1.5, label="largest target")
    ax.set_xticks(range(table.shape[1]), table.columns)
    ax.set(ylabel=label, ylim=(0, None))
    ax.grid(axis="y")
    figure.legend(loc="outside right center")
    return figure

"""Figures of molecules: formula and graph, degrees and their scales, views, how near splits are."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hcs_utils.errors import InputError
from hcs_utils.evaluation.figure_crossmodal import molecule_picture
from hcs_utils.evaluation.figure_style import INK, LINES, MARKERS, PALETTE, colours, drawn, names

_ELEMENTS = {"C": INK, "N": "blue", "O": "vermillion", "S": "orange", "F": "green", "Cl": "green"}


@drawn
def as_graph(smiles: str, atoms: ArrayLike, columns: Sequence[str]) -> Figure:
    """A molecule as chemists draw it, as a graph of numbered atoms, and its atoms' features.

    `atoms` whole numbers `[a k]`, a row an atom in RDKit's order, with the names of its `columns`.
    In the graph a double bond has two lines, a triple one three, an aromatic one a dashed second.
    """
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles)
    atoms = np.asarray(atoms)
    if molecule is None or atoms.shape != (molecule.GetNumAtoms(), len(columns)):
        raise InputError(
            f"{smiles!r} must be readable, with a row an atom and a column each of "
            f"{', '.join(columns)}; got atoms of shape {atoms.shape}."
        )
    high = max(3.6, 0.27 * (len(atoms) + 2))
    figure, axes = plt.subplot_mosaic(
        [["formula", "table"], ["graph", "table"]], figsize=(9.2, max(high, 5.2)),
        width_ratios=[1, 1.25], layout="constrained",
    )  # fmt: skip
    axes["formula"].imshow(molecule_picture(smiles, 480, 330))
    axes["formula"].set_title("as drawn")
    _graph(axes["graph"], molecule)
    axes["graph"].set_title("as a graph")
    _table(axes["table"], atoms, columns, [atom.GetSymbol() for atom in molecule.GetAtoms()])
    for name in ("formula", "graph"):
        axes[name].set_axis_off()
    return figure


def _graph(ax: Axes, molecule) -> None:
    from rdkit.Chem import rdDepictor

    rdDepictor.Compute2DCoords(molecule)
    place = molecule.GetConformer().GetPositions()[:, :2]
    for bond in molecule.GetBonds():
        a, b = place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()]
        across = np.array([a[1] - b[1], b[0] - a[0]]) / max(float(np.hypot(*(a - b))), 1e-6)
        lines = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 2}
        count = lines.get(bond.GetBondType().name, 1)
        for k in range(count):
            shift = 0.12 * (k - (count - 1) / 2) * across
            dashed = bond.GetIsAromatic() and k
            ax.plot(*np.stack([a + shift, b + shift]).T, color=INK, lw=1.4,
                    ls=(0, (2, 1.5)) if dashed else "-", zorder=1)  # fmt: skip
    for k, atom in enumerate(molecule.GetAtoms()):
        hue = _ELEMENTS.get(atom.GetSymbol(), "pink")
        ax.plot(*place[k], marker="o", ms=13, color=PALETTE.get(hue, hue), zorder=2)
        ax.text(*place[k], str(k), color="white", ha="center", va="center_baseline", fontsize=9,
                fontweight="bold", zorder=3)  # fmt: skip
    ax.set_aspect("equal")
    ax.margins(0.08)


def _table(ax: Axes, atoms: np.ndarray, columns: Sequence[str], symbols: list[str]) -> None:
    for row, values in enumerate(atoms):
        for column, value in enumerate(values):
            ax.text(column, row, str(value), ha="center", va="center", fontsize=9)
    for column, values in enumerate(atoms.T):  # what most atoms have is plain, the rest is marked
        usual = np.bincount(values).argmax()
        for row in np.flatnonzero(values != usual):
            ax.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, color=PALETTE["orange"],
                                       alpha=0.17, lw=0))  # fmt: skip
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(atoms) - 0.5, -0.5))
    ax.set_xticks(range(len(columns)), columns, rotation=60, ha="left", fontsize=10)
    ax.set_yticks(range(len(atoms)), [f"{s} {k}" for k, s in enumerate(symbols)], fontsize=9)
    ax.tick_params(length=0, labelbottom=False, labeltop=True)
    ax.spines[:].set_visible(False)


@drawn
def formulas(smiles: Sequence[str], captions: Sequence[str], columns: int = 4) -> Figure:
    """Molecules as chemists draw them, each with its caption, in rows of `columns`."""
    if not len(smiles) or len(smiles) != len(captions):
        raise InputError(
            f"Each molecule needs a caption: {len(smiles)} molecules, {len(captions)} captions."
        )
    columns = min(columns, len(smiles))
    rows = -(-len(smiles) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(9.2, 2.5 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, one, caption in zip(axes.flat, smiles, captions, strict=False):
        ax.imshow(molecule_picture(one, 360, 250))
        ax.set_title(caption, fontsize=10.5, fontweight="normal", loc="center")
    return figure


@drawn
def degree_scales(counts: Mapping[str, ArrayLike], delta: Mapping[str, float]) -> Figure:
    """Atoms by number of bonds, and what PNA multiplies their aggregates by, for each δ.

    `counts`: name → atoms with 0, 1, 2, … bonds, shown as shares. `delta`: name → δ.
    """
    given = {name: np.asarray(count, float) for name, count in counts.items()}
    if not given or not delta or min(count.sum() for count in given.values()) <= 0:
        raise InputError("Degrees need a name or more with atoms, and a δ or more.")
    most = max(map(len, given.values()))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
    width = 0.8 / len(given)
    for k, (name, count) in enumerate(given.items()):
        at = np.arange(len(count)) + (k - (len(given) - 1) / 2) * width
        left.bar(at, 100 * count / count.sum(), width, color=colours(len(given))[k],
                 hatch=("", "///", "...")[k % 3], edgecolor="white", lw=0, label=name)  # fmt: skip
    left.set(xlabel="bonds of an atom", ylabel="atoms (%)", xticks=range(most))
    left.set_title("degrees")
    left.set_ylim(0, (1.1 + 0.13 * len(given)) * left.get_ylim()[1])  # room for the names
    degree = np.arange(most)
    hues = colours(len(delta))
    for k, (name, value) in enumerate(delta.items()):
        style = {"color": hues[k], "marker": MARKERS[k], "ms": 6}
        right.plot(degree, np.log(degree + 1) / value, "-", label=f"more, {name}", **style)
        less = value / np.log(np.maximum(degree, 1) + 1)
        right.plot(degree, less, "--", label=f"less, {name}", **style)
    right.axhline(1, color=INK, lw=1, ls=":")
    right.set(xlabel="bonds of an atom", ylabel="factor", xticks=range(most), ylim=(0, None))
    right.set_title("scales")
    left.legend(loc="upper right")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@drawn
def views_drawn(
    rows: Sequence[str], hue: ArrayLike, said: ArrayLike, label: str, columns: str = "view"
) -> Figure:
    """A row a compound, a column a view: the colour (and mark) is its `hue`, `said` its text.

    `hue` and `said` `[n m]` words; `label` names what the colour is.
    """
    hue, said = np.asarray(hue, str), np.asarray(said, str)
    if hue.shape != said.shape or hue.ndim != 2 or len(hue) != len(rows):
        raise InputError(
            f"Views need a colour and a text for each of {len(rows)} compounds and each view; got "
            f"shapes {hue.shape} and {said.shape}."
        )
    n, m = hue.shape
    figure, ax = plt.subplots(figsize=(2.6 + 1.9 * m, 1.3 + 0.36 * n), layout="constrained")
    order = names(hue.ravel())
    of = dict(zip(order, colours(len(order)), strict=True))
    for i in range(n):
        for j in range(m):
            ax.add_patch(plt.Rectangle((j - 0.48, i - 0.44), 0.96, 0.88, color=of[hue[i, j]],
                                       alpha=0.15, lw=0))  # fmt: skip
            ax.plot(j - 0.42, i, marker=MARKERS[order.index(hue[i, j]) % len(MARKERS)], ms=7,
                    color=of[hue[i, j]])  # fmt: skip
            ax.text(j - 0.35, i, said[i, j], va="center_baseline", fontsize=9.5)
    ax.set(xlim=(-0.55, m - 0.45), ylim=(n - 0.4, -0.6))
    ax.set_xticks(range(m), [f"{columns} {j + 1}" for j in range(m)])
    ax.set_yticks(range(n), rows)
    ax.tick_params(length=0, labelbottom=False, labeltop=True)
    ax.spines[:].set_visible(False)
    marks = [
        plt.Line2D([], [], ls="", marker=MARKERS[k % len(MARKERS)], color=of[name], label=name)
        for k, name in enumerate(order)
    ]
    figure.legend(handles=marks, title=label, loc="outside lower center", ncols=min(5, len(order)))
    return figure


@drawn
def nearest(similarity: Mapping[str, ArrayLike]) -> Figure:
    """How near held-out molecules are to training: for each split, the share at or above each s.

    `similarity`: split → Tanimoto of each held-out molecule to its nearest training molecule, from
    0 to 1. The mark is the median.
    """
    given = {name: np.sort(np.asarray(values, float)) for name, values in similarity.items()}
    for name, values in given.items():
        if not len(values) or values[0] < 0 or values[-1] > 1:
            raise InputError(f"{name}: similarities are one or more numbers from 0 to 1.")
    figure, ax = plt.subplots(figsize=(8.4, 4.1), layout="constrained")
    for k, (values, hue) in enumerate(zip(given.values(), colours(len(given)), strict=True)):
        share = 100 * (1 - np.arange(len(values)) / len(values))
        ax.step([0, *values, 1], [100, *share, 100 * (values == 1).mean()], where="pre", color=hue,
                ls=LINES[k % len(LINES)])  # fmt: skip
        ax.plot(np.median(values), 50, ls="", marker=MARKERS[k % len(MARKERS)], ms=10, color=hue)
    handles = [
        plt.Line2D([], [], color=hue, ls=LINES[k % len(LINES)], marker=MARKERS[k % len(MARKERS)],
                   label=name)
        for k, (name, hue) in enumerate(zip(given, colours(len(given)), strict=True))
    ]  # fmt: skip
    ax.set(xlim=(0, 1.01), ylim=(0, 103))
    ax.set_xlabel("Tanimoto similarity to the nearest training molecule")
    ax.set_ylabel("held-out molecules\nat least as near (%)")
    ax.grid()
    ax.legend(handles=handles)
    return figure

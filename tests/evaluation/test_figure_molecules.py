import matplotlib.pyplot as plt
import numpy as np
import pytest

from hcs_utils.data import molecule_graphs
from hcs_utils.data.screens.molecules import library
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_molecules as figures
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts

SMILES = library()[7]
ATOMS = molecule_graphs.read([SMILES]).atoms
COLUMNS = molecule_graphs.ATOM_COLUMNS
NEAR = {"well": np.ones(4), "scaffold": [0.2, 0.4, 0.4, 1.0]}


def everything():
    hue = [["source_2", "source_10", "source_2"]] * 2
    return [
        figures.as_graph(SMILES, ATOMS, COLUMNS),
        figures.formulas(["CC(=O)[O-].[Na+]", "[He]", "CCN.Cl"], ["salt", "atom", "salt"], 2),
        figures.degree_scales({"train": [1, 5, 9, 3, 0], "test": [0, 5, 8]}, {"a": 0.9, "b": 1.0}),
        figures.views_drawn(["one", "two"], hue, hue, "source"),
        figures.nearest(NEAR),
    ]


def test_every_figure_is_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    for figure in everything():
        image = pixels(figure, dpi=60)
        assert image[0, 0, 3] == 0 and (image[..., 3] > 0).mean() > 0.005
        for text in figure.findobj(plt.Text):
            grounds = ["#767676"] if str(text.get_color()) == "white" else PAGES.values()
            readable = min(contrast(text.get_color(), page) for page in grounds) >= 3
            assert readable or not text.get_text(), text.get_text()
    assert plt.get_fignums() == before


def test_a_graph_numbers_each_atom_and_lists_its_features():
    figure = figures.as_graph(SMILES, ATOMS, COLUMNS)
    formula, table, graph = figure.axes
    assert [t.get_text() for t in graph.texts] == [str(k) for k in range(len(ATOMS))]
    written = np.array([int(t.get_text()) for t in table.texts]).reshape(ATOMS.shape)
    assert np.array_equal(written, ATOMS)
    assert [t.get_text() for t in table.get_xticklabels()] == list(COLUMNS)
    usual = [np.bincount(column).argmax() for column in ATOMS.T]
    assert len(table.patches) == (np.array(usual) != ATOMS).sum()
    assert formula.get_images()


def test_bonds_have_as_many_lines_as_they_count():
    for smiles, lines in (("CC", 1), ("C=C", 2), ("C#N", 3), ("[He]", 0), ("c1ccccc1", 12)):
        graph = figures.as_graph(smiles, molecule_graphs.read([smiles]).atoms, COLUMNS).axes[2]
        assert sum(len(line.get_xdata()) == 2 for line in graph.lines) == lines
    dashed = [line.get_linestyle() for line in graph.lines if len(line.get_xdata()) == 2]
    assert dashed.count("--") == 6


def test_degrees_are_shares_and_scales_are_their_logarithms():
    figure = figures.degree_scales({"train": [1, 5, 9, 3, 2]}, {"mean": 0.9, "one": 1.0})
    left, right = figure.axes
    heights = [bar.get_height() for bar in left.patches]
    assert np.allclose(heights, [5, 25, 45, 15, 10])
    more, less = right.lines[:2]
    assert np.allclose(more.get_ydata(), np.log(np.arange(5) + 1) / 0.9)
    assert np.allclose(less.get_ydata()[1:], 0.9 / np.log(np.arange(1, 5) + 1))
    assert less.get_ydata()[0] == less.get_ydata()[1]


def test_views_are_coloured_by_what_is_named():
    hue = [["source_2", "source_10"], ["source_2", "source_2"]]
    said = [["a", "b"], ["c", "d"]]
    figure = figures.views_drawn(["one", "two"], hue, said, "source")
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.texts] == ["a", "b", "c", "d"]
    faces = [patch.get_facecolor()[:3] for patch in ax.patches]
    assert faces[0] == faces[2] == faces[3] != faces[1]
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend == ["source_2", "source_10"]


def test_nearest_falls_by_what_is_nearer_and_marks_the_median():
    figure = figures.nearest(NEAR)
    (ax,) = figure.axes
    x, y = [line for line in ax.lines if len(line.get_xdata()) > 1][1].get_data()
    assert list(x) == [0, 0.2, 0.4, 0.4, 1, 1]
    for at, share in ((0.1, 100), (0.3, 75), (0.9, 25)):  # of a step: what stands at its end
        assert y[np.searchsorted(x, at)] == share
    marks = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert marks == [1.0, 0.4]
    assert {"well", "scaffold"} <= set(texts(figure))


def test_what_does_not_fit_is_said():
    with pytest.raises(InputError, match="a row an atom"):
        figures.as_graph(SMILES, ATOMS[1:], COLUMNS)
    with pytest.raises(InputError, match="1 molecules, 2 captions"):
        figures.formulas(["C"], ["a", "b"])
    with pytest.raises(InputError, match="can read"):
        figures.formulas(["C1CC"], ["a"])
    with pytest.raises(InputError, match="with atoms"):
        figures.degree_scales({"a": [0, 0]}, {"b": 1.0})
    with pytest.raises(InputError, match="each of 1 compounds"):
        figures.views_drawn(["a"], [["s"], ["s"]], [["t"], ["t"]], "source")
    for bad in ([], [0.5, 1.2]):
        with pytest.raises(InputError, match="from 0 to 1"):
            figures.nearest({"x": bad})

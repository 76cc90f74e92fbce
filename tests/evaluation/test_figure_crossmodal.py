import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hcs_utils.data.screens import molecules
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_crossmodal as figures
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts

CHANNELS = ("DNA", "ER")
SMILES = molecules.library()[:400:100]


def found():
    rows = [
        {"panel": panel, "method": method, "value": value, "low": value - 0.1,
         "high": value + 0.1, "paper": paper, "line": 0.05 * (1 + (panel == "there"))}
        for panel, value, paper in (("there", 0.4, 0.5), ("back", 0.6, np.nan))
        for method in ("CLIP", "EMM")
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.loc[3, ["value", "low", "high"]] = np.nan
    return table


def shares():
    columns = ["random", "well", "source"]
    return pd.DataFrame([[0.9, 0.8, 0.5], [0.7, 0.7, 0.6]], ["CLIP", "EMM"], columns)


def fields(k=4):
    return np.random.default_rng(0).integers(0, 255, (k, 2, 20, 20), dtype=np.uint8)


def everything():
    captions = [f"P1 B0{k}" for k in range(4)]
    return [
        figures.bars(found(), "share found"),
        figures.ways_apart(shares(), "accuracy"),
        figures.wells_of_molecule(SMILES[0], fields(), CHANNELS, captions, "asked"),
        figures.molecules_of_well(fields()[0], CHANNELS, SMILES, captions, "asked"),
    ]


def test_every_figure_is_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    for figure in everything():
        image = pixels(figure, dpi=60)
        assert image[0, 0, 3] == 0 and (image[..., 3] > 0).mean() > 0.005
        for text in figure.findobj(plt.Text):
            readable = min(contrast(text.get_color(), page) for page in PAGES.values()) >= 3
            assert readable or not text.get_text(), text.get_text()
    assert plt.get_fignums() == before


def test_bars_show_value_interval_paper_and_chance_of_each_panel():
    figure = figures.bars(found(), "share found")
    there, back = figure.axes
    assert [bar.get_width() for bar in there.patches] == [0.4, 0.4]
    assert [bar.get_width() for bar in back.patches] == [0.6]
    spans = [line.get_xdata() for line in there.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(spans[0], [0.3, 0.5])
    ticks = [line.get_xdata()[0] for line in there.lines if line.get_marker() == "|"]
    assert ticks == [0.5, 0.5]
    dashed = [line.get_xdata()[0] for line in (there.lines[-1], back.lines[-1])]
    np.testing.assert_allclose(dashed, [0.1, 0.05])
    assert {"not run", "chance", "paper", "share found", "EMM"} <= set(texts(figure))
    assert there.get_ylim()[0] > there.get_ylim()[1]  # the first method on top


def test_lines_of_accuracy_follow_the_splits():
    table = shares()
    table.attrs["line"] = 0.2
    ax = figures.ways_apart(table, "accuracy").axes[0]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), table.loc["EMM"])
    assert ax.lines[-1].get_ydata()[0] == 0.2


def test_a_molecule_is_drawn_on_no_ground_and_differs_from_another():
    one, other = (figures.molecule_picture(s, 200, 120) for s in SMILES[:2])
    assert one.shape == (120, 200, 4) and one.dtype == np.uint8
    assert one[0, 0, 3] == 0 and 0.01 < (one[..., 3] > 0).mean() < 0.4
    assert (one != other).any()
    seen = one[one[..., 3] == 255][:, :3]
    for page in PAGES.values():
        hue = "#{:02x}{:02x}{:02x}".format(*np.median(seen, axis=0).astype(int))
        assert contrast(hue, page) > 3


def test_answers_are_numbered_and_captioned():
    said = texts(everything()[2])
    assert {"asked", "1  P1 B00", "4  P1 B03"} <= set(said)


def test_faulty_input_is_an_error():
    with pytest.raises(InputError, match=r"'C\(' is no SMILES that RDKit can read"):
        figures.molecule_picture("C(")
    with pytest.raises(InputError, match="is no SMILES"):
        figures.wells_of_molecule("", fields(), CHANNELS, list("abcd"))
    with pytest.raises(InputError, match="lack the columns paper"):
        figures.bars(found().drop(columns="paper"))
    with pytest.raises(InputError, match="each method once"):
        figures.bars(pd.concat([found(), found()]))
    with pytest.raises(InputError, match="4 fields need a caption each; got 2"):
        figures.wells_of_molecule("C", fields(), CHANNELS, ["a", "b"])
    with pytest.raises(InputError, match="Need uint8 fields"):
        figures.molecules_of_well(fields()[0, :1], CHANNELS, ["C"], ["a"])
    with pytest.raises(InputError, match="1 molecules need a caption each"):
        figures.molecules_of_well(fields()[0], CHANNELS, ["C"], [])
    with pytest.raises(InputError, match="Two splits or more"):
        figures.ways_apart(shares()[["random"]])

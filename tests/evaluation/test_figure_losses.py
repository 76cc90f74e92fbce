import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_losses
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts

ROWS, COLUMNS = ["m1", "m2"], ["v1", "v1", "v2", "v2"]
SIGN = np.array([[1, 1, -1, 0], [-1, 0, 1, 1]])


def all_figures():
    table = pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.1]}, index=[0.1, 1.0])
    return {
        "masks": figure_losses.masks({"one": SIGN}, ROWS, COLUMNS, 2),
        "cosines": figure_losses.cosines({"one": SIGN / 2, "two": SIGN}, ROWS, COLUMNS, 2),
        "curves": figure_losses.curves(table, "x", "y", log=True),
    }


def test_figures_are_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    for name, figure in all_figures().items():
        image = pixels(figure, dpi=60)
        assert image[0, 0, 3] == 0 and (image[..., 3] > 0).mean() > 0.005, name
        for text in figure.findobj(plt.Text):
            on_picture = str(text.get_color()) in ("#000000", "#ffffff")
            seen = on_picture or contrast(text.get_color(), PAGES["dark"]) >= 3
            assert seen or not text.get_text(), name
    assert plt.get_fignums() == before


def test_signs_are_written_and_pairs_that_belong_together_framed():
    found = all_figures()
    said = texts(found["masks"])
    assert said.count("+") == 4 and said.count("–") == 2
    frames = [p.get_bbox().bounds for p in found["cosines"].axes[0].patches]
    assert frames == [(-0.5, -0.5, 2, 1), (1.5, 0.5, 2, 1)]
    assert {"m1", "m2", "one", "two"} <= set(texts(found["cosines"]))
    lines = found["curves"].axes[0].get_lines()
    assert (
        len({line.get_linestyle() for line in lines}) == len({x.get_marker() for x in lines}) == 2
    )


def test_what_cannot_be_drawn_is_refused():
    for wrong in ({}, {"a": SIGN.T}):
        with pytest.raises(InputError):
            figure_losses.masks(wrong, ROWS, COLUMNS)
    with pytest.raises(InputError, match="signs"):
        figure_losses.masks({"a": SIGN * 2}, ROWS, COLUMNS)
    with pytest.raises(InputError, match="cosines"):
        figure_losses.cosines({"a": SIGN * 2}, ROWS, COLUMNS)
    with pytest.raises(InputError):
        figure_losses.curves(pd.DataFrame(), "x", "y")

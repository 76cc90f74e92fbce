"""Figures of the tool hold what they are given, and say so in words besides colours."""

import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_ten_labels as figures


def test_every_crop_stands_under_its_label():
    pictures = [np.full((8, 8, 3), 30 * k, np.uint8) for k in range(7)]
    labels = ["normal", "abnormal", "normal", "?", "abnormal", "normal", "normal"]
    figure = figures.sheet(pictures, labels, columns=4)
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title("left") for ax in shown] == [f"{k} {x}" for k, x in enumerate(labels, 1)]
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in shown] == [30 * k for k in range(7)]
    assert sum(not ax.axison for ax in figure.axes) == 1
    with pytest.raises(InputError, match="7 pictures do not fit 1 labels"):
        figures.sheet(pictures, ["normal"])


def test_every_plate_has_its_wells_where_they_are():
    table = pd.DataFrame(
        [("P1", "B02", 1.0), ("P1", "D11", 0.5), ("P2", "C02", 0.25)],
        columns=["plate", "well", "abnormal"],
    )
    figure = figures.plates(table)
    first, second = (ax for ax in figure.axes if ax.get_title("left"))
    assert [ax.get_title("left") for ax in (first, second)] == ["P1: 75%", "P2: 25%"]
    grid = first.collections[0].get_array()  # rows B C D, columns 2 11
    assert grid.shape == (3, 2) and grid[0, 0] == 1 and grid[2, 1] == 0.5
    assert np.ma.getmaskarray(np.ma.masked_invalid(grid)).sum() == 4
    assert [t.get_text() for t in first.get_yticklabels()] == ["B", "C", "D"]
    assert [t.get_text() for t in first.get_xticklabels()] == ["2", "11"]
    assert first.yaxis_inverted()  # row A at the top
    with pytest.raises(InputError, match="table of plates is empty"):
        figures.plates(table.iloc[:0])


def test_what_labels_buy_is_drawn_for_each_way():
    rows = [(n, how, v + s) for n in (10, 25) for how, v in (("asked", 0.8), ("lot", 0.6))
            for s in (0, 0.1)]  # fmt: skip
    found = pd.DataFrame(rows, columns=["labels", "how", "value"])
    (ax,) = figures.bought(found).axes
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["asked"].get_ydata(), 0.85)
    np.testing.assert_allclose(lines["lot"].get_ydata(), 0.65)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["10", "25"]
    with pytest.raises(InputError, match="need the columns labels, how, value"):
        figures.bought(found.drop(columns="how"))

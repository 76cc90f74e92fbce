"""Figures of faults and crops say what they are given, inside their canvas."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_crops as figures

PICTURE = np.zeros((3, 8, 8), np.uint8)


def test_pictures_stand_in_rows_and_columns_with_outlines_where_there_are_masks():
    mask = np.zeros((8, 8), bool)
    mask[2:5, 2:5] = True
    before = plt.get_fignums()
    figure = figures.grid(
        [[PICTURE, PICTURE], [PICTURE + 9, None]], ["a", "b"], ["0", "1"],
        masks=[[mask, None], [np.ones((8, 8), bool), None]],
    )  # fmt: skip
    axes = np.array(figure.axes).reshape(2, 2)
    assert [len(ax.images) for ax in axes.flat] == [1, 1, 1, 0]
    assert [len(ax.collections) for ax in axes.flat] == [2, 0, 0, 0]  # a full mask has no rim
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["a", "b"]
    assert [ax.get_title() for ax in axes[0]] == ["0", "1"]
    assert plt.get_fignums() == before
    with pytest.raises(InputError, match="Give 1 rows of 2 pictures"):
        figures.grid([[PICTURE]], ["a"], ["0", "1"])


def test_every_finite_number_stands_in_its_cell():
    table = pd.DataFrame({"blur": [-3.2, 0.5], "noise": [120.0, np.nan]}, index=["f", "g"])
    figure = figures.moved(table, "shift, sd")
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["−3.2", "> 99", "+0.5"]
    assert ax.images[0].get_clim() == (-8, 8)
    assert "shift, sd" in [a.get_ylabel() for a in figure.axes]


def test_a_panel_a_measure_and_every_line_named_once():
    table = pd.DataFrame({"blur": [1, 2.0], "noise": [3, 2.0]}, index=[0.0, 1.0])
    figure = figures.curves({"Focus": table, "Noise": table[["noise"]]}, "severity", columns=3)
    assert [len(ax.lines) for ax in figure.axes] == [2, 1]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["blur", "noise"]
    assert figure.get_supxlabel() == "severity"


def test_intervals_have_a_row_a_name_and_groups_share_it():
    table = pd.DataFrame({"value": [0.9, 0.5], "low": [0.8, 0.4], "high": [0.95, 0.7]}, ["x", "y"])
    figure = figures.intervals({"ours": table, "theirs": table.iloc[1:]}, "accuracy", {"null": 0.5})
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["x", "y"]
    assert [t.get_text().strip() for t in ax.texts] == ["null"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["ours", "theirs"]
    assert not figures.intervals({"ours": table}, "accuracy").legends

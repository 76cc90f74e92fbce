"""Curves over numbers of labels: what is drawn, where names stand, what is refused."""

import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_qc


@pytest.fixture
def table():
    rows = [
        (panel, method, labels, value, value - 0.02, value + 0.02)
        for panel in ("k-NN", "linear", "fine-tuned")
        for method, start in (("SimCLR", 0.6), ("SwAV", 0.61), ("classical", 0.9))
        for labels, value in ((10, start), (350, start + 0.05))
    ]
    return pd.DataFrame(rows, columns=["panel", "method", "labels", "value", "low", "high"])


def test_each_panel_names_its_lines_and_the_coin(table):
    figure = figure_qc.budgets(table, floors=["classical"])
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in axes] == ["k-NN", "linear", "fine-tuned"]
    for ax in axes:
        places = {text.get_text(): text.xyann[1] for text in ax.texts}
        assert {*places} == {"SimCLR", "SwAV", "classical", "a coin"}
        order = sorted(places, key=places.get)
        assert order == ["a coin", "SimCLR", "SwAV", "classical"]
        assert np.diff(sorted(places.values())).min() > 0.02  # stand apart, though lines do not


def test_a_panel_without_a_method_is_drawn_without_it(table):
    few = table[(table["panel"] != "fine-tuned") | (table["method"] != "classical")]
    figure = figure_qc.budgets(few)
    assert "classical" not in [text.get_text() for text in figure.axes[2].texts]


def test_unknown_intervals_are_left_out(table):
    assert figure_qc.budgets(table.assign(low=np.nan, high=np.nan)) is not None


def test_names_are_spread_and_stay_inside():
    places = figure_qc.spread(np.array([0.5, 0.5, 0.5, 0.9]), 0.1, 0.0, 1.0)
    assert np.diff(places).min() > 0.0999 and places.min() >= 0 and places.max() <= 1
    assert figure_qc.spread(np.array([0.2, 0.9]), 0.1, 0.0, 1.0).tolist() == [0.2, 0.9]
    full = figure_qc.spread(np.full(30, 0.5), 0.1, 0.0, 1.0)
    assert full[0] == 0 and full[-1] == 1 and np.allclose(np.diff(full), 1 / 29)


def test_what_is_no_table_of_curves_is_told(table):
    with pytest.raises(InputError, match="lack labels, value"):
        figure_qc.budgets(table.drop(columns=["labels", "value"]))
    with pytest.raises(InputError, match="each method and number of labels once"):
        figure_qc.budgets(pd.concat([table, table]))

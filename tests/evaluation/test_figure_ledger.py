import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_ledger
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts


def differences():
    return pd.DataFrame(
        [
            ("12 losses", "trained anew", 2.0, 0.5, 3.5, 3),
            ("2 Z-norm", "judged again", -4.0, -4.5, -3.5, 9),
            ("16 centres", "trained anew", 1.0, -40.0, 42.0, 2),
            ("5 mechanism", "judged again", 0.5, np.nan, np.nan, 1),
            ("10 warm-up", "trained anew", np.nan, np.nan, np.nan, 0),
        ],
        columns=["name", "kind", "difference", "low", "high", "pairs"],
    )


def test_forest_is_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    figure = figure_ledger.forest(differences(), band=(-0.2, 0.3), band_label="arithmetic")
    image = pixels(figure, dpi=60)
    assert image[0, 0, 3] == 0 and (image[..., 3] > 0).mean() > 0.005
    for text in figure.findobj(plt.Text):
        readable = min(contrast(text.get_color(), page) for page in PAGES.values()) >= 3
        assert readable or not text.get_text(), text.get_text()
    assert plt.get_fignums() == before


def test_forest_groups_by_kind_writes_each_number_and_leaves_out_what_has_none():
    figure = figure_ledger.forest(differences(), band=(-0.2, 0.3), band_label="arithmetic")
    ax = figure.axes[0]
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["12 losses", "16 centres", "2 Z-norm", "5 mechanism"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top
    said = texts(figure)
    assert "+2.0 (+0.5 to +3.5), n = 3" in said and "+0.5, n = 1" in said
    assert {"trained anew", "judged again", "arithmetic"} <= set(said)


def test_forest_marks_are_full_where_the_interval_leaves_0_out():
    ax = figure_ledger.forest(differences()).axes[0]
    drawn = [line for line in ax.lines if line.get_marker() in "os" and len(line.get_xdata()) == 1]
    full = {float(line.get_xdata()[0]): line.get_markerfacecolor() != "none" for line in drawn}
    assert full == {2.0: True, 1.0: False, -4.0: True, 0.5: False}


def test_forest_holds_every_middle_and_lets_a_long_interval_run_out():
    low, high = figure_ledger.forest(differences()).axes[0].get_xlim()
    assert low < -4.5 and 3.5 < high < 20


def test_long_names_take_lines_and_leave_room_for_the_marks():
    table = differences()
    table["name"] = "41 accuracy of the other cell line: mean of minibatches, " + table["name"]
    figure = figure_ledger.forest(table)
    figure.draw_without_rendering()
    assert all("\n" in label.get_text() for label in figure.axes[0].get_yticklabels())
    assert figure.axes[0].get_position().width > 0.25
    short = figure_ledger.forest(differences())
    assert figure.get_size_inches()[1] > short.get_size_inches()[1]


def test_forest_refuses_what_it_cannot_draw():
    with pytest.raises(InputError, match=r"lack pairs"):
        figure_ledger.forest(differences().drop(columns="pairs"))
    with pytest.raises(InputError, match=r"no difference"):
        figure_ledger.forest(differences().tail(1))

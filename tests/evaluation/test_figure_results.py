import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_results
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts


def ordered():
    return pd.DataFrame(
        {"paper": [53.5, 25.0, 15.1, 63.1], "ours": [60.0, 8.0, np.nan, 20.0], "sd": 1.5},
        index=["Supervised", "DINO", "BYOL", "CDCL"],
    )


def claimed():
    rows = [
        ("CDCL beats DINO", 12.0, 4.0, 20.0, 38.0, "reproduced"),
        ("Z-norm lifts it", 1.0, -500.0, 502.0, np.nan, "partly"),
        ("CDCL beats supervised", -30.0, np.nan, np.nan, 9.6, "not"),
        ("BYOL too", np.nan, np.nan, np.nan, 32.3, "not run"),
    ]
    columns = ["claim", "difference", "low", "high", "paper", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def test_every_figure_is_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    drawn = [
        figure_results.orders({"k-NN": ordered(), "kBET": ordered()}),
        figure_results.gains(claimed()),
    ]
    for figure in drawn:
        image = pixels(figure, dpi=60)
        assert image[0, 0, 3] == 0 and (image[..., 3] > 0).mean() > 0.005
        for text in figure.findobj(plt.Text):
            readable = min(contrast(text.get_color(), page) for page in PAGES.values()) >= 3
            assert readable or not text.get_text(), text.get_text()
    assert plt.get_fignums() == before


def test_orders_join_each_method_from_the_papers_rank_to_ours():
    ax = figure_results.orders({"k-NN": ordered()}).axes[0]
    ends = [line.get_ydata().tolist() for line in ax.lines]
    assert ends[0] == [2, 1] and ends[1] == [3, 3] and ends[3] == [1, 2]
    assert ends[2][0] == 4 and np.isnan(ends[2][1])  # not run: a mark at the left only
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the best on top


def test_orders_write_sizes_and_the_rank_correlation():
    figure = figure_results.orders({"k-NN": ordered()})
    assert {"Supervised 53.5", "BYOL 15.1", "60.0 ± 1.5", "8.0 ± 1.5"} <= set(texts(figure))
    tau = kendalltau([2, 3, 1], [1, 3, 2]).statistic
    assert f"Kendall's τ {tau:.2f} (3 methods)" in texts(figure)
    ours = ordered().assign(paper=np.nan).drop(columns="sd")
    assert "60.0 Supervised" in texts(figure_results.orders({"": ours}))


def test_a_method_looks_alike_in_every_panel():
    turned = ordered().iloc[::-1]
    figure = figure_results.orders({"a": ordered(), "b": turned})
    first, second = ([line.get_color() for line in ax.lines] for ax in figure.axes)
    assert first == second[::-1] and len(set(first)) == 4


def test_gains_show_ours_with_interval_and_the_paper_as_a_tick():
    figure = figure_results.gains(claimed())
    ax = figure.axes[0]
    ticks = [line for line in ax.lines if line.get_marker() == "|"]
    np.testing.assert_array_equal([t.get_xdata()[0] for t in ticks], claimed()["paper"])
    said = texts(figure)
    assert {"+12.0 reproduced", "+1.0 partly", "−30.0 not", "not run"} <= set(said)
    reach = [c.get_segments()[0][:, 0].tolist() for c in ax.collections[:3]]
    assert reach[0] == [4, 20] and reach[1] == [-500, 502] and reach[2] == [-30, -30]
    low, high = ax.get_xlim()
    assert -60 < low < -30 and 38 < high < 60  # not stretched by one long interval
    assert ax.get_yticklabels()[0].get_text() == "CDCL beats DINO"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_tables_that_lack_something_are_refused():
    with pytest.raises(InputError, match="columns paper and ours"):
        figure_results.orders({"a": ordered()[["ours"]]})
    with pytest.raises(InputError, match="columns paper and ours"):
        figure_results.orders({"a": pd.concat([ordered(), ordered()])})
    with pytest.raises(InputError, match="no method"):
        figure_results.orders({})
    with pytest.raises(InputError, match="lack the columns paper"):
        figure_results.gains(claimed().drop(columns="paper"))
    with pytest.raises(InputError, match="needs a verdict"):
        figure_results.gains(claimed().assign(verdict="yes"))
    with pytest.raises(InputError, match="needs a verdict"):
        figure_results.gains(claimed()[:0])

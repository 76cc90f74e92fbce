import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_metrics
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts


def audit_table():
    table = pd.DataFrame(
        {"value": [0.9, 0.07, 0.06], "low": [0.85, 0.05, 0.05], "high": [0.95, 0.09, 0.07]},
        index=["well position", "plate", "shuffled labels"],
    )
    return table.assign(null=0.06)


def scores():
    rows = [
        {"method": m, "metric": k, "value": i + j / 10, "low": i + j / 10 - 0.1, "null": 0.05}
        for i, m in enumerate(("raw", "Z-norm"))
        for j, k in enumerate(("mAP", "kBET", "grit", "LISI"))
    ]
    return pd.DataFrame(rows).assign(high=lambda t: t["value"] + 0.1)


def grown():
    n = [1000, 10_000, 100_000]
    return pd.DataFrame(
        [
            {"metric": m, "way": w, "n": k, "seconds": k / 1e4, "gib": np.nan if k > 1e4 else 1.0}
            for m in ("k-NN", "kBET")
            for w in ("ours", "naive")
            for k in n
        ]
    )


def moves():
    index = ["raw", "Z-norm", "Harmony"]
    return pd.DataFrame({"mixing": [0, 0.9, 0.95], "biology": [0.1, 0.7, 0.5]}, index=index)


def every_figure():
    wells = [f"{r}{c:02d}" for r in "ABCDEFGH" for c in range(1, 13)]
    names = ["noise", "truth"]
    said = pd.DataFrame({"k-NN": [0.1, 1.0], "grit": [0.0, np.nan]}, index=names)
    return {
        "audit": figure_metrics.audit(audit_table(), {"CDCL": (0.4, 0.3, 0.5)}),
        "panels": figure_metrics.panels(scores()),
        "response": figure_metrics.response(said, {"k-NN": 0.1}, {}),
        "trade_off": figure_metrics.trade_off(moves(), null=(0.95, 0.06)),
        "scaling": figure_metrics.scaling(grown(), {"seconds": 60, "gib": 3}, 59_050),
        "plates": figure_metrics.plates(["P2"] * 96 + ["P10"] * 96, wells * 2, np.arange(192.0)),
    }


def test_every_figure_is_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    for name, figure in every_figure().items():
        image = pixels(figure, dpi=60)
        assert image[0, 0, 3] == 0, f"{name} has a ground"
        assert (image[..., 3] > 0).mean() > 0.005, f"{name} is empty"
        for text in figure.findobj(plt.Text):
            readable = min(contrast(text.get_color(), page) for page in PAGES.values()) >= 3
            assert readable or not text.get_text(), f"{name}: {text.get_text()}"
    assert plt.get_fignums() == before


def test_audit_says_which_sources_stand_above_their_null():
    figure = figure_metrics.audit(audit_table(), {"CDCL": (0.4, 0.3, 0.5)}, "accuracy")
    said = texts(figure)
    assert [t for t in said if "above its null" in t] == ["0.900 above its null"]
    assert {"0.070", "0.060", "CDCL 0.400"} <= set(said)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "well position"  # highest on top
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose([band.x0, band.x1], [0.3, 0.5])


def test_audit_never_calls_shuffled_labels_a_leak():
    table = audit_table().assign(null=0.0)
    said = [t for t in texts(figure_metrics.audit(table)) if "above its null" in t]
    assert len(said) == 2


def test_panels_have_one_a_metric_and_methods_in_order():
    figure = figure_metrics.panels(scores(), {"kBET": "mixing", "mAP": "replicates"})
    assert [ax.get_title("left") for ax in figure.axes] == ["mixing", "replicates"]
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["raw", "Z-norm"] and figure.axes[0].get_ylim() == (1.5, -0.5)
    assert {"0.10", "1.10", "0.00", "1.00"} <= set(texts(figure))


def test_panels_show_a_dash_where_a_method_has_no_value():
    table = scores()
    table.loc[(table["method"] == "raw") & (table["metric"] == "mAP"), "value"] = np.nan
    assert texts(figure_metrics.panels(table)).count("–") == 1
    bare = scores()[["method", "metric", "value"]]  # no intervals, no null
    assert "1.10" in texts(figure_metrics.panels(bare))


def test_response_bars_run_from_worst_to_best():
    said = pd.DataFrame({"grit": [-1.0, 2.0, 9.0, np.nan]}, index=list("abcd"))
    bars = figure_metrics.response(said, {"grit": 1}, {"grit": 3}).axes[0].patches
    assert len(bars) == 6  # a frame and a bar each; none for NaN
    np.testing.assert_allclose([bar.get_width() for bar in bars[1::2]], [0, 0.4, 0.8])
    falling = figure_metrics.response(said, {"grit": 3}, {"grit": 1}).axes[0].patches
    np.testing.assert_allclose([bar.get_width() for bar in falling[1::2]], [0.8, 0.4, 0])


def test_trade_off_names_each_mark_once_and_apart():
    crowd = pd.DataFrame({"mixing": np.full(5, 0.5), "biology": 0.5 + np.arange(5) / 1000})
    crowd.index = [f"method {i}" for i in range(5)]
    figure = figure_metrics.trade_off(crowd)
    figure.canvas.draw()
    named = [t for t in figure.axes[0].texts if t.get_text().startswith("method")]
    assert sorted(t.get_text() for t in named) == list(crowd.index)
    boxes = [t.get_window_extent() for t in named]
    meeting = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert meeting <= 1


def test_scaling_draws_what_was_measured_on_log_axes():
    figure = figure_metrics.scaling(grown(), {"seconds": 60}, 59_050)
    assert len(figure.axes) == 4
    assert all(ax.get_xscale() == ax.get_yscale() == "log" for ax in figure.axes)
    drawn = [len(line.get_xdata()) for line in figure.axes[2].lines[:2]]
    assert drawn == [2, 2]  # no memory was measured for the largest
    assert texts(figure).count("goal 60") == 2 and {"ours", "naive"} <= set(texts(figure))


def test_plates_share_one_scale_and_stand_in_order():
    wells, values = ["A01", "H12", "A01", "B02", "B02"], [1.0, -2.0, 3.0, 4.0, 6.0]
    plate = ["P10", "P10", "P2", "P2", "P2"]
    figure = figure_metrics.plates(plate, wells, values, "z", diverging=True)
    first, second = figure.axes[:2]
    assert (first.get_title(), second.get_title()) == ("P2", "P10")
    pictures = [ax.collections[0] for ax in (first, second)]
    assert pictures[0].get_clim() == pictures[1].get_clim()
    assert sum(pictures[0].get_clim()) == 0
    grid = np.ma.filled(pictures[0].get_array().astype(float), np.nan).reshape(8, 12)
    assert grid[1, 1] == 5 and grid[0, 0] == 3 and np.isfinite(grid).sum() == 2


def test_errors_name_what_is_missing():
    with pytest.raises(InputError, match="lacks the columns null; it has value, low, high"):
        figure_metrics.audit(audit_table().drop(columns="null"))
    with pytest.raises(InputError, match="has no row"):
        figure_metrics.panels(scores().head(0))
    with pytest.raises(InputError, match="no wells; they read A01 to AF48: a1, Z99x"):
        figure_metrics.plates(["P"] * 3, ["a1", "A01", "Z99x"], [1, 2, 3])
    with pytest.raises(InputError, match="2 values for 1 wells"):
        figure_metrics.plates(["P"], ["A01"], [1, 2])

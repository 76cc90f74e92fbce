import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures
from tests.evaluation.test_figure_style import PAGES, contrast


def pixels(figure, **options):
    file = io.BytesIO()
    figure.savefig(file, format="png", **options)
    return np.asarray(Image.open(file).convert("RGBA"))


def texts(figure):
    return [t.get_text() for t in figure.findobj(plt.Text) if t.get_text()]


def runs_table():
    rng = np.random.default_rng(0)
    mean = {"random": 0.1, "cdcl": 0.4, "dino": 0.2}
    return pd.DataFrame(
        [
            {"method": m, "knn": v + rng.normal(0, 0.01), "knn_z": v + 0.1}
            for m, v in mean.items()
            for _ in range(3)
        ]
    )


def fields(n=3, c=2):
    return np.random.default_rng(0).integers(0, 256, (n, c, 24, 24), dtype=np.uint8)


# every figure


def every_figure():
    rng = np.random.default_rng(1)
    xy, batch, treatment = rng.normal(size=(90, 2)), np.arange(90) % 3, np.arange(90) % 9
    log = pd.DataFrame({"step": np.arange(50), "loss": np.linspace(5, 1, 50)})
    wells = [f"{r}{c:02d}" for r in "ABCDEFGH" for c in range(1, 13)]
    return {
        "umap_panels": figures.umap_panels({"DINO": xy, "CDCL": -xy}, batch, treatment),
        "site_grid": figures.site_grid(fields(), ["DNA", "ER"], pixel_size_um=0.5),
        "channels": figures.site_grid(fields(), ["DNA", "ER"], list("abc"), "channels"),
        "compare": figures.compare(runs_table(), {"knn": "raw", "knn_z": "Z"}, null=0.1),
        "plate_map": figures.plate_map(wells, np.arange(96.0), "cells"),
        "plate_roles": figures.plate_map(wells, ["trt", "negcon"] * 48, "role"),
        "loss_curve": figures.loss_curve(log, trivial=4.2, trivial_label="ln K"),
    }


def test_every_figure_is_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    for name, figure in every_figure().items():
        image = pixels(figure, dpi=60)
        assert image[0, 0, 3] == 0, f"{name} has a ground"
        assert (image[..., 3] > 0).mean() > 0.005, f"{name} is empty"
        for text in figure.findobj(plt.Text):
            readable = contrast(text.get_color(), PAGES["dark"]) >= 3
            assert readable or not text.get_text(), f"{name} has dark text: {text.get_text()}"
    assert plt.get_fignums() == before


def test_figures_leave_the_callers_style_alone_until_asked():
    with plt.rc_context():
        before = plt.rcParams.copy()
        every_figure()
        assert dict(plt.rcParams) == dict(before)
        figures.style()
        assert plt.rcParams["text.color"] == figures.INK
        assert plt.rcParams["figure.facecolor"] == "none"


# compare


def test_compare_orders_methods_and_prints_mean_and_spread():
    table = runs_table()
    figure = figures.compare(table, "knn", null=0.0625, baseline=0.15)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["random", "dino", "cdcl"]
    own = table.loc[table["method"] == "cdcl", "knn"]
    said = texts(figure)
    assert f"{own.mean():.3f} ± {own.std():.3f}" in said
    assert {"null 0.0625", "baseline 0.15"} <= {t.strip() for t in said}
    points = np.concatenate([line.get_xdata() for line in ax.lines])
    assert set(table["knn"]) <= set(points)


def test_compare_takes_the_callers_order_and_single_runs():
    single = runs_table().drop_duplicates("method")
    figure = figures.compare(single, "knn", order=["cdcl", "random", "dino"], label="k-NN")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["dino", "random", "cdcl"]
    assert sum("(one run)" in t for t in texts(figure)) == 3


def test_compare_errors():
    with pytest.raises(InputError, match="lack the columns kbet; they have method, knn"):
        figures.compare(runs_table(), "kbet")
    with pytest.raises(InputError, match="are empty"):
        figures.compare(runs_table().head(0), "knn")


# plates


def heat(figure):
    return np.ma.filled(figure.axes[0].collections[0].get_array().astype(float), np.nan)


@pytest.mark.parametrize(
    "well, shape, place",
    [("H12", (8, 12), (7, 11)), ("P24", (16, 24), (15, 23)), ("AF48", (32, 48), (31, 47))],
)
def test_plate_is_the_smallest_that_fits(well, shape, place):
    grid = heat(figures.plate_map(["A01", well], [1.0, 2.0])).reshape(shape)
    assert grid[0, 0] == 1 and grid[place] == 2
    assert np.isfinite(grid).sum() == 2


def test_plate_map_averages_the_fields_of_a_well():
    assert heat(figures.plate_map(["B03", "B03"], [1.0, 4.0])).reshape(8, 12)[1, 2] == 2.5


def test_plate_map_of_roles_names_each_and_shapes_differ():
    figure = figures.plate_map(["A01", "B01", "C02"], ["trt", "negcon", "trt"], "role")
    assert {"trt", "negcon", "role"} <= set(texts(figure))
    negcon, trt = figure.axes[0].collections
    assert len(negcon.get_offsets()) == 1 and len(trt.get_offsets()) == 2
    assert not np.array_equal(negcon.get_paths()[0].vertices, trt.get_paths()[0].vertices)


def test_plate_map_errors():
    with pytest.raises(InputError, match="'a1' is no well"):
        figures.plate_map(["a1"], [1])
    for wells, values in ((["Z99"], [1]), (["A01"], [1, 2]), ([], [])):
        with pytest.raises(InputError, match=r"within A01\.\.AF48"):
            figures.plate_map(wells, values)


# loss


def test_loss_curve_draws_raw_mean_and_trivial_loss():
    log = pd.DataFrame({"step": np.arange(300), "loss": 3 + np.tile([-1.0, 1.0], 150)})
    figure = figures.loss_curve(log, trivial=np.log(256), trivial_label="ln K")
    raw, smooth, line = figure.axes[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), log["loss"])
    np.testing.assert_allclose(smooth.get_ydata()[10:-10], 3, atol=0.2)
    assert set(line.get_ydata()) == {np.log(256)}
    assert "ln K = 5.55" in texts(figure)


def test_loss_curve_of_two_losses_differs_in_colour_and_line():
    log = pd.DataFrame({"step": [0, 1, 2], "a": [3.0, 2, 1], "b": [1.0, np.nan, 0.5]})
    lines = figures.loss_curve(log, ["a", "b"]).axes[0].lines
    assert lines[1].get_linestyle() != lines[3].get_linestyle()
    assert lines[1].get_color() != lines[3].get_color()
    assert len(lines[3].get_xdata()) == 2


def test_loss_curve_errors():
    with pytest.raises(InputError, match="lacks the columns loss; it has step"):
        figures.loss_curve(pd.DataFrame({"step": [1]}))
    with pytest.raises(InputError, match="is empty"):
        figures.loss_curve(pd.DataFrame({"step": [], "loss": []}))

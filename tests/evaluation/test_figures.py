import io
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures

PAGES = {"light": "#ffffff", "dark": "#14181e", "darker": "#121212"}
CVD = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "none": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """Contrast ratio of WCAG 2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def seen(colour, kind):
    rgb = np.clip(np.array(CVD[kind]) @ linear(colour), 0, 1)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return rgb2lab(encoded)


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


# colours


def test_ink_and_palette_have_contrast_on_light_and_dark_pages():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast(figures.INK, PAGES["light"]) >= 4.5
    for page in PAGES.values():
        assert contrast(figures.INK, page) >= 3.9
        assert min(contrast(colour, page) for colour in figures.PALETTE.values()) >= 3
        assert min(contrast(colour, page) for colour in figures.colours(24)) >= 3


@pytest.mark.parametrize("kind", CVD)
def test_palette_stays_apart_for_every_eye(kind):
    pairs = itertools.combinations(figures.PALETTE.values(), 2)
    assert min(deltaE_ciede2000(seen(a, kind), seen(b, kind)) for a, b in pairs) > 9


@pytest.mark.parametrize("n", [1, 6, 7, 24])
def test_as_many_distinct_colours_as_asked(n):
    assert len({to_rgb(colour) for colour in figures.colours(n)}) == n


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


# umap


def test_umap_separates_planted_groups_repeats_itself_and_warns_of_nothing():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 40)
    features = rng.normal(size=(80, 6)) + 12 * group[:, None]
    xy = figures.umap(features)
    assert xy.shape == (80, 2) and xy.dtype == np.float32
    np.testing.assert_array_equal(xy, figures.umap(features))
    centers = np.stack([xy[group == g].mean(axis=0) for g in (0, 1)])
    nearest = np.linalg.norm(xy[:, None] - centers, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, group)


def test_umap_of_few_rows_and_of_nan():
    assert figures.umap(np.random.default_rng(0).normal(size=(6, 3))).shape == (6, 2)
    with pytest.raises(InputError, match="at least four rows of finite"):
        figures.umap(np.full((9, 2), np.nan))


# panels


def test_panels_enlarge_the_spot_where_treatments_meet():
    rng = np.random.default_rng(0)
    alone = rng.normal(0, 0.1, (60, 2)) + [10, 10]
    meeting = rng.normal(0, 0.1, (30, 2))
    xy = np.concatenate([alone, meeting])
    treatment = np.array(["alone"] * 60 + ["x", "y", "z"] * 10)
    figure = figures.umap_panels({"CDCL": xy}, np.arange(90) % 2, treatment)
    (x0, x1), (y0, y1) = figure.axes[1].get_xlim(), figure.axes[1].get_ylim()
    inside = (xy[:, 0] > x0) & (xy[:, 0] < x1) & (xy[:, 1] > y0) & (xy[:, 1] < y1)
    assert set(treatment[inside]) == {"x", "y", "z"}
    assert inside.sum() == 30
    assert "by treatment (all)" in texts(figure)


def test_panels_name_embeddings_and_batches_in_order():
    xy, batch = np.random.default_rng(0).normal(size=(40, 2)), [f"B{i % 11}" for i in range(40)]
    labels = texts(figures.umap_panels({"DINO": xy}, batch))
    assert "DINO" in labels
    assert [t for t in labels if t.startswith("B")] == [f"B{i}" for i in range(11)]
    many = texts(figures.umap_panels({"DINO": xy}, np.arange(40) % 20))
    assert "Each of 20 batches has its colour." in many


def test_panels_refuse_other_lengths():
    with pytest.raises(InputError, match=r"DINO: need \[5, 2\] points"):
        figures.umap_panels({"DINO": np.zeros((4, 2))}, np.arange(5))


# fields


def test_composite_gives_each_channel_its_colour_wherever_it_stands():
    image = np.zeros((2, 1, 2), np.uint8)
    image[0, 0, 0], image[1, 0, 1] = 200, 200
    there = figures.composite(image, ["DNA", "Mito"])
    np.testing.assert_array_equal(there, figures.composite(image[::-1], ["Mito", "DNA"]))
    for pixel, name in ((there[0, 0], "dna"), (there[0, 1], "mito")):
        np.testing.assert_allclose(pixel, 200 * np.array(figures.CHANNEL_COLOURS[name]), atol=1)


def test_composite_knows_unnamed_channels_apart():
    image = np.zeros((2, 1, 2), np.uint8)
    image[0, 0, 0], image[1, 0, 1] = 200, 200
    left, right = figures.composite(image, ["ch1", "ch2"])[0]
    assert left.any() and right.any() and (left != right).any()


@pytest.mark.parametrize("um, said", [(0.5, "2 µm"), (2.0, "10 µm"), (10.0, "50 µm")])
def test_scale_bar_is_as_long_as_it_says(um, said):
    figure = figures.site_grid(fields(), ["DNA", "ER"], pixel_size_um=um)
    assert said in texts(figure)
    (bar,) = figure.axes[0].lines
    assert np.ptp(bar.get_xdata()) * um == pytest.approx(float(said.split()[0]))


def test_channels_mode_shows_the_pixels_as_they_are():
    images = fields()
    figure = figures.site_grid(images, ["DNA", "ER"], ["a", "b", "c"], mode="channels")
    shown = [ax.images[0].get_array() for ax in figure.axes]
    np.testing.assert_array_equal(np.stack(shown).reshape(images.shape), images)
    assert {"DNA", "ER", "a", "b", "c"} <= set(texts(figure))


def test_site_grid_errors():
    with pytest.raises(InputError, match=r"\[n 3 y x\] for the channels DNA, ER, RNA"):
        figures.site_grid(fields(), ["DNA", "ER", "RNA"])
    with pytest.raises(InputError, match='"composite" or "channels"'):
        figures.site_grid(fields(), ["DNA", "ER"], mode="rgb")


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

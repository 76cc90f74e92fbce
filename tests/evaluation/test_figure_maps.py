import numpy as np
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures
from tests.evaluation.test_figures import fields, texts

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

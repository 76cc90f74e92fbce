import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import Rectangle

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_cdcl
from hcs_utils.learning import views
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts

SHARES = pd.DataFrame({"field": [0.6, np.nan], "treatment": [0.1, -0.05]}, index=["one", "two"])
TURNS = [{"train": ["B1"], "val": ["B2"], "test": ["B3"]},
         {"train": ["B2"], "val": ["B3"], "test": ["B1"]}]  # fmt: skip
PICTURE = np.zeros((8, 8, 3), np.uint8)


def coordinates(size):
    y, x = np.mgrid[:size, :size].astype(np.uint8)
    return torch.from_numpy(np.stack([y, x]))


def all_figures():
    rng = np.random.default_rng(0)
    points, batch = rng.normal(size=(30, 2)), np.arange(30) % 3
    meet = pd.DataFrame([[np.nan, 1.1], [0.9, np.nan]], index=["B1", "B2"], columns=["B1", "B2"])
    return {
        "stacked": figure_cdcl.stacked(SHARES, "share"),
        "centred": figure_cdcl.centred({"a": {"none": points, "one": points}}, {"a": batch}),
        "correlations": figure_cdcl.correlations({"R": np.eye(4), "S": -np.eye(4)}),
        "folds": figure_cdcl.folds({"screen": TURNS}),
        "meetings": figure_cdcl.meetings(meet),
        "crops": figure_cdcl.crops([PICTURE], [{"global": [[0, 0, 6, 6]]}], ["x"]),
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


def test_bars_follow_each_other_and_numbers_stand_beside():
    figure = figure_cdcl.stacked(SHARES, "share")
    boxes = [(p.get_x(), p.get_y() > 0.5, p.get_width()) for p in figure.axes[0].patches]
    np.testing.assert_allclose(
        np.array(boxes, float), [[0, 1, 0.6], [0, 0, 0], [0.6, 1, 0.1], [0, 0, 0]], atol=1e-12
    )
    assert {"0.60 + 0.10", "-0.05", "one", "two", "share"} <= set(texts(figure))
    assert len({p.get_hatch() for p in figure.legends[0].get_patches()}) == 2


def test_means_of_batches_are_marked_on_one_scale():
    points, batch = np.array([[0.0, 0], [2, 0], [9, 9]]), np.array(["a", "a", "b"])
    figure = figure_cdcl.centred({"c": {"none": points, "own": points / 10}}, {"c": batch})
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    np.testing.assert_allclose([line.get_data()[0][0] for line in left.lines[1:4:2]], [1, 9])
    assert left.lines[1].get_marker() != left.lines[3].get_marker()


def test_every_batch_has_its_mark_in_its_fold():
    ax = figure_cdcl.folds({"screen": TURNS}).axes[0]
    found = {(float(x), float(y), line.get_marker()) for line in ax.lines
             for x, y in zip(*line.get_data(), strict=True)}  # fmt: skip
    assert found == {(0, 1, "s"), (1, 1, "^"), (2, 1, "D"), (1, 2, "s"), (2, 2, "^"), (0, 2, "D")}
    with pytest.raises(InputError, match="screen, fold 2: each batch must be in one part"):
        figure_cdcl.folds({"screen": [TURNS[0], {"train": ["B1", "B2"], "test": ["B1"]}]})


def test_ratios_stand_in_their_cells_and_none_on_the_diagonal():
    figure = all_figures()["meetings"]
    cells = {t.get_position(): t.get_text() for t in figure.axes[0].texts}
    assert cells == {(1, 0): "1.10", (0, 1): "0.90"}


def test_crops_are_drawn_where_they_were_cut():
    box = {"global": [[1, 2, 5, 4]], "local": [[0, 0, 2, 2], [3, 3, 2, 2]]}
    ax = figure_cdcl.crops([PICTURE], [box], ["x"]).axes[0]
    found = [p for p in ax.patches if isinstance(p, Rectangle)]
    assert [p.get_bbox().bounds for p in found] == [(1, 2, 5, 4), (0, 0, 2, 2), (3, 3, 2, 2)]
    assert found[0].get_linestyle() != found[1].get_linestyle()
    assert found[0].get_edgecolor() != found[1].get_edgecolor()


@pytest.mark.parametrize("scale", [None, (0.4, 0.6)])
def test_rectangles_say_where_the_package_cuts(scale):
    field = coordinates(40)
    torch.manual_seed(0)
    seen = views.crop(field.expand(64, 2, 40, 40), 12, scale)
    found = figure_cdcl.rectangles(seen)
    assert (found[:, :2] > -1e-3).all() and (found[:, :2] + found[:, 2:] < 40 + 1e-3).all()
    np.testing.assert_allclose(found, found.round(), atol=1e-3)  # whole pixels
    if scale is None:
        np.testing.assert_allclose(found[:, 2:], 12, atol=1e-4)
        lowest = seen.flatten(2).min(-1).values.numpy()[:, ::-1]
        np.testing.assert_allclose(found[:, :2], lowest, atol=1e-4)
    else:
        share = found[:, 2] * found[:, 3] / 1600
        assert share.min() > 0.37 and share.max() < 0.63 and np.ptp(share) > 0.1
        assert (np.ptp(found, axis=0) > 3).all()


def test_errors_say_what_is_missing():
    with pytest.raises(InputError, match="got 0 rows"):
        figure_cdcl.stacked(SHARES[:0], "share")
    with pytest.raises(InputError, match=r"a, none: need \[2, 2\] points, got shape \(3, 2\)"):
        figure_cdcl.centred({"a": {"none": np.zeros((3, 2))}}, {"a": [0, 1]})
    with pytest.raises(InputError, match="up to 2"):
        figure_cdcl.correlations({"R": 2 * np.eye(3)})
    with pytest.raises(InputError, match="No pair of batches"):
        figure_cdcl.meetings(pd.DataFrame([[np.nan]]))
    with pytest.raises(InputError, match="as many pictures"):
        figure_cdcl.crops([PICTURE], [], ["x"])
    with pytest.raises(InputError, match=r"\[m 2 s s\]"):
        figure_cdcl.rectangles(np.zeros((3, 1, 4, 4)))

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hcs_utils.data import planner
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_planner
from hcs_utils.evaluation import figure_preprocessing as figures


def texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def inside(figure) -> bool:
    """Whether every text that is shown lies on the canvas."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for ax in figure.axes for text in ax.texts]
    return all(
        box.x0 >= 0
        and box.y0 >= 0
        and box.x1 <= figure.bbox.x1 + 1
        and box.y1 <= figure.bbox.y1 + 1
        for box in boxes
    )


def test_steps_have_a_bar_and_a_number_each():
    sizes = {"paper": {"raw": 84.7, "8 bit": 42.35}, "ours": {"raw": 84.7, "8 bit": 40.0}}
    before = plt.get_fignums()
    figure = figures.steps(sizes, "TB")
    (ax,) = figure.axes
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == [84.7, 42.35, 84.7, 40.0]
    assert [t.strip() for t in texts(figure)] == ["84.7  paper", "42.4", "84.7  ours", "40"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["raw", "8 bit"]
    assert ax.get_xlabel() == "TB" and inside(figure) and plt.get_fignums() == before


def test_a_step_that_was_not_measured_has_no_number():
    figure = figures.steps({"a": {"raw": 2.0, "cut": 1.0}, "b": {"raw": 2.0}}, "TB")
    assert len(texts(figure)) == 3


def test_maps_share_one_scale():
    planes = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 3.0)])
    figure = figures.maps(planes, ["one", "three"], "light")
    pictures = [ax.images[0] for ax in figure.axes if ax.images]
    assert [picture.get_clim() for picture in pictures] == [(1.0, 3.0)] * 2
    assert "light" in [ax.get_ylabel() for ax in figure.axes]
    with pytest.raises(InputError, match="title for each"):
        figures.maps(planes, ["one"], "light")


@pytest.mark.parametrize("x", [[1, 2], [1, 2, 3, 4, 5], [0.1, 0.2, 0.5]])
def test_measured_stand_beside_the_expected_line(x):
    expected = 1 / np.array(x)
    figure = figures.beside_expected(x, expected * 1.1, expected, ("n", "variance"), "1 / n")
    (ax,) = figure.axes
    line, points = ax.lines
    assert (line.get_ydata() == expected).all() and (points.get_ydata() == expected * 1.1).all()
    assert texts(figure) == ["measured", "1 / n"] and inside(figure)
    if isinstance(x[0], int):
        assert ax.get_xticks().tolist() == x


def test_forms_are_named_at_their_points_and_lossless_ones_marked():
    table = pd.DataFrame(
        {"factor": [1.9, 4.0, 8.0], "lost": [0, 0.01, 0.05], "low": [0, -0.01, 0.02],
         "high": [0, 0.03, 0.08]}, index=["PNG", "XL 0.5", "XL 1"],
    )  # fmt: skip
    figure = figures.bytes_and_loss(table, "lost")
    (ax,) = figure.axes
    assert texts(figure) == ["PNG", "XL 0.5", "XL 1"] and inside(figure)
    bars = [container.lines for container in ax.containers]
    assert [points.get_marker() for points, _, _ in bars] == ["s", "o", "o"]
    (_, _, (bar,)) = bars[2]
    assert bar.get_segments()[0][:, 1] == pytest.approx([0.02, 0.08])


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (7.4096, "7.41"), (0.08523, "0.0852"), (84.7, "84.7"), (1204.3, "1,204"),
     (9.999, "10.0"), (1234567, "1,234,567"), (0.00012345, "0.000123")],
)  # fmt: skip
def test_three_digits_count(value, said):
    assert figure_planner.number(value) == said


def test_the_script_is_the_formula_line_by_line():
    script = figure_planner.javascript()
    assert "const tb_out = tb_8bit / form_factor;" in script
    for name in planner.Cost.__annotations__:
        assert f"const {name} = " in script and f"{name}" in script.splitlines()[-2]

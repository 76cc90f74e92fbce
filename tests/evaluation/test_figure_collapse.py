import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_collapse
from tests.evaluation.test_figure_style import PAGES, contrast
from tests.evaluation.test_figures import pixels, texts


def log(loss=2.0, **signs):
    rows = [{"step": 20, "loss": 4.0}, {"step": 40, "loss": 3.0, "trivial_loss": 4.0, **signs}]
    return [*rows, {"step": 60, "loss": loss, "trivial_loss": 4.0, **signs}]


HEALTHY = {"rank_share": 0.5, "spread": 0.5, "sample_entropy": 0.6, "marginal_entropy": 0.9}
SPIKE = {"rank_share": 0.4, "spread": 0.5, "sample_entropy": 0.0, "marginal_entropy": 0.0}


def said(kind, k=16, n=40):
    uniform = np.full((n, k), 1 / k)
    return uniform if kind == "uniform" else np.eye(k)[np.arange(n) % k] * 0.9 + 0.1 / k


def two_figures():
    signs = figure_collapse.vital_signs({"a": log(**HEALTHY), "b": log(0.0, **SPIKE)}, "Two runs")
    spectra = {"a": np.arange(16.0, 0, -1), "b": np.zeros(16), "c": np.ones(4)}
    shape = figure_collapse.anatomy(spectra, {"a": said("own"), "c": said("uniform")})
    return {"vital_signs": signs, "anatomy": shape}


def test_figures_are_transparent_inked_and_shown_once():
    before = plt.get_fignums()
    for name, figure in two_figures().items():
        image = pixels(figure, dpi=60)
        assert image[0, 0, 3] == 0 and (image[..., 3] > 0).mean() > 0.005, name
        for text in figure.findobj(plt.Text):
            assert contrast(text.get_color(), PAGES["dark"]) >= 3 or not text.get_text(), name
    assert plt.get_fignums() == before


def test_each_sign_that_was_logged_has_a_panel_and_each_run_its_name_and_value():
    figure = figure_collapse.vital_signs({"run a": log(**HEALTHY), "run b": log(0.4, **SPIKE)})
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.axison]
    assert titles == [p.title for p in figure_collapse.PANELS[:5]]
    words = texts(figure)
    assert {"run a 0.50", "run b 0.10", "run a 0.90", "run b 0.00"} <= set(words)
    assert {"nothing learned", "low rank", "uniform", "one output"} <= set(words)
    lines = figure.axes[0].lines
    np.testing.assert_allclose(lines[1].get_ydata(), [1.0, 0.75, 0.5])  # over the trivial 4.0
    assert lines[1].get_linestyle() != lines[2].get_linestyle()
    assert lines[1].get_marker() != lines[2].get_marker()


def test_a_table_serves_as_well_as_rows_and_gaps_are_passed_over():
    figure = figure_collapse.vital_signs({"a": pd.DataFrame(log(**HEALTHY))})
    np.testing.assert_array_equal(figure.axes[1].lines[-1].get_xdata(), [40, 60])


@pytest.mark.parametrize("heights", [[0.0, 0.0, 0.0], [0.99, 1.0, 1.0], [0.1, 0.5, 0.52]])
def test_names_of_lines_stand_apart_and_inside(heights):
    at = figure_collapse._apart(heights, 0.1, 1.0)
    assert (np.diff(at) >= 0.1 - 1e-3).all() and max(at) <= 1.0
    assert np.abs(np.subtract(at, heights)).max() <= 0.25


def test_anatomy_draws_shares_of_the_largest_and_says_where_there_is_none():
    figure = figure_collapse.anatomy({"a": np.array([8.0, 4, 2]), "b": np.zeros(3)})
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [1, 0.5, 0.25])
    assert "constant" in texts(figure)
    assert {"a", "b"} <= set(texts(figure))


def test_anatomy_of_a_teacher_is_level_or_peaked():
    spectra = {"own": np.ones(3), "uniform": np.ones(3), "none": np.ones(3)}
    figure = figure_collapse.anatomy(spectra, {k: said(k) for k in ("own", "uniform")})
    own, uniform, none = figure.axes[3:6]
    assert own.lines[0].get_ydata()[0] > 0.9 and own.patches[0].get_height() < 0.1
    np.testing.assert_allclose(uniform.lines[0].get_ydata(), 1 / 16)
    assert "no teacher" in [t.get_text() for t in none.texts]


def test_errors_say_what_is_missing():
    with pytest.raises(InputError, match="No log has a vital sign; train with"):
        figure_collapse.vital_signs({"a": [{"step": 1, "loss": 2.0}]})
    with pytest.raises(InputError, match="log of 'a' is empty"):
        figure_collapse.vital_signs({"a": []})
    with pytest.raises(InputError, match="1 to 6 runs, got 7"):
        figure_collapse.vital_signs({str(k): log(**HEALTHY) for k in range(7)})
    with pytest.raises(InputError, match="singular values"):
        figure_collapse.anatomy({}, {})
    with pytest.raises(InputError, match="each run in `said`"):
        figure_collapse.anatomy({"a": np.ones(3)}, {"b": said("own")})

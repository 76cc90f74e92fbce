import numpy as np
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_retrieval
from hcs_utils.evaluation.figure_maps import composite
from tests.evaluation.test_figures import pixels, texts

CHANNELS = ["DNA", "ER"]


def fields(*shape):
    return np.random.default_rng(0).integers(0, 200, (*shape, 2, 16, 16), dtype=np.uint8)


def drawn(**changes):
    right = np.array([[True, False, False], [False, False, True]])
    given = dict(query=fields(2), ranked=fields(2, 3), channels=CHANNELS, right=right,
                 same_batch=~right, captions=["one", "two"], ranks=[1, 3])  # fmt: skip
    return figure_retrieval.gallery(**given | changes)


def test_gallery_shows_query_then_ranks_with_frames_by_colour_and_form():
    figure = drawn()
    axes = np.array(figure.axes).reshape(2, 4)
    np.testing.assert_array_equal(
        axes[1, 0].images[0].get_array(), composite(fields(2)[1], CHANNELS)
    )
    np.testing.assert_array_equal(
        axes[0, 2].images[0].get_array(), composite(fields(2, 3)[0, 1], CHANNELS)
    )
    frames = [ax.patches[0] for ax in axes[:, 1:].flat]
    solid = [frame.get_linestyle() in ("-", "solid") for frame in frames]
    assert solid == [True, False, False, False, False, True]
    assert len({frame.get_edgecolor() for frame in frames}) == 2
    assert [t.get_text() for ax in axes[:, 1:].flat for t in ax.texts] == list("✓✗✗✗✗✓")
    assert [len(ax.lines) for ax in axes[:, 1:].flat] == [0, 1, 1, 1, 1, 0]  # triangles


def test_gallery_says_captions_ranks_and_its_marks():
    said = texts(drawn())
    assert {"one", "two", "first right: 1", "first right: 3", "of the query's batch"} <= set(said)
    assert pixels(drawn(), dpi=50)[0, 0, 3] == 0


def test_gallery_errors():
    with pytest.raises(InputError, match=r"Need queries \[m 3 y x\]"):
        drawn(channels=["DNA", "ER", "RNA"])
    with pytest.raises(InputError, match="uint8, got float64"):
        drawn(query=fields(2).astype(float))
    with pytest.raises(InputError, match=r"right must be bool \[2, 3\], got shape \(2, 2\)"):
        drawn(right=np.ones((2, 2), bool))

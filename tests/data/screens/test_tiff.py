"""Files of the plain writer, read by three readers that know nothing of it."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hcs_utils.data.screens import tiff


@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_all_readers_find_the_same_pixels(tmp_path_factory, height, width, seed):
    path = tmp_path_factory.mktemp("tiff") / "plane.tiff"
    plane = np.random.default_rng(seed).integers(0, 2**16, (height, width), np.uint16)
    tiff.write(path, plane, 2.0)
    np.testing.assert_array_equal(tifffile.imread(path), plane)
    np.testing.assert_array_equal(imagecodecs.imread(path), plane)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.array(image), plane)


def test_the_size_of_a_pixel_is_kept(tmp_path):
    tiff.write(tmp_path / "a.tiff", np.zeros((3, 4), np.uint16), 0.65)
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        above, below = file.pages[0].tags["XResolution"].value
        assert 1e4 / (above / below) == pytest.approx(0.65)  # µm, of pixels a centimetre


@pytest.mark.parametrize("plane", [np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), np.uint16)])
def test_other_arrays_are_refused(tmp_path, plane):
    with pytest.raises(ValueError, match="of uint16 is wanted"):
        tiff.write(tmp_path / "a.tiff", plane, 2.0)
    assert not list(tmp_path.iterdir())

"""A known shading is found and undone; what cannot be a function of light is refused by name."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from hcs_utils.data import illumination
from hcs_utils.errors import InputError

SIDE = 80
Y, X = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
SHADING = np.stack([1.6 - 0.3 * X**2 - 0.2 * Y**2 + 0.1 * X, 1.5 + 0.4 * X - 0.2 * Y])
SHADING /= SHADING.min((1, 2), keepdims=True)


@cache
def fields(count: int, seed: int = 0) -> np.ndarray:
    """Cells at random places under the shading, with the noise of photons."""
    rng = np.random.default_rng(seed)
    spots = rng.random((count, 2, SIDE, SIDE), np.float32) < 0.05
    cells = 300 + 12_000 * ndimage.gaussian_filter(spots.astype(np.float32), (0, 0, 3, 3))
    return rng.poisson(cells * SHADING).astype(np.uint16)


def spread(images) -> np.ndarray:
    """Coefficient of variation of the mean image over positions, for each channel."""
    mean = ndimage.gaussian_filter(np.mean(list(images), axis=0), (0, 6, 6))
    return mean.std((1, 2)) / mean.mean((1, 2))


@pytest.mark.parametrize("smoothing", ["gaussian", "median"])
def test_a_planted_shading_is_recovered_and_undone(smoothing):
    function = illumination.fit(fields(200), 12, smoothing)
    assert function.dtype == np.float32 and function.min() == 1
    apart = function / function.mean((1, 2), keepdims=True)
    apart /= SHADING / SHADING.mean((1, 2), keepdims=True)
    assert np.abs(apart - 1).mean() < 0.03 and np.quantile(np.abs(apart - 1), 0.98) < 0.08
    fresh = fields(200, seed=1)
    corrected = [illumination.correct(image, function) for image in fresh]
    assert (spread(corrected) < 0.3 * spread(fresh)).all()


def test_the_smoothing_is_cellprofilers_normalised_gaussian():
    mean = np.random.default_rng(3).uniform(100, 900, (1, 40, 31))
    sd = 9 / 2.35
    blur = [ndimage.gaussian_filter(x, sd, mode="constant") for x in (mean[0], np.ones((40, 31)))]
    smooth = blur[0] / blur[1]
    floor = np.sort(smooth.ravel())[int(smooth.size * 0.02)]
    expected = np.maximum(smooth, floor) / floor
    got = illumination.fit([mean, mean], 9)
    np.testing.assert_allclose(got[0], expected, rtol=1e-5)


def test_the_median_passes_over_a_bright_speck_that_the_mean_keeps():
    image = np.full((1, 60, 60), 200, np.uint16)
    image[0, 30:33, 30:33] = 60_000
    assert (illumination.fit([image], 30, "median") == 1).all()
    assert illumination.fit([image], 30)[0, 31, 31] > 2


def test_images_are_summed_one_at_a_time():
    def once():
        for k in range(50):
            yield np.full((1, 8, 8), k, np.uint16)

    assert (illumination.fit(once(), 3) == 1).all()
    assert (illumination.fit([np.zeros((1, 8, 8), np.uint16)], 3) == 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_correct_is_the_rounded_quotient_and_never_wraps_around(dtype):
    top = np.iinfo(dtype).max
    image = np.arange(top + 1, dtype=dtype).reshape(1, 16, -1)
    function = np.random.default_rng(4).uniform(0.2, 3, image.shape).astype(np.float32)
    got = illumination.correct(image, function)
    expected = np.clip(np.rint(image / function.astype(float)), 0, top)
    assert got.dtype == dtype
    assert np.abs(got.astype(int) - expected).max() <= 1
    assert (got[function < 0.3][-50:] <= top).all() and (got[image / function > top] == top).all()
    np.testing.assert_array_equal(illumination.correct(image, np.ones_like(function)), image)


def test_what_does_not_fit_is_refused():
    image = np.ones((2, 8, 8), np.uint16)
    with pytest.raises(InputError, match=r"\(2, 8, 8\), its illumination function \(1, 8, 8\)"):
        illumination.correct(image, np.ones((1, 8, 8), np.float32))
    with pytest.raises(InputError, match=r"Image 2 is \(2, 8, 9\)"):
        illumination.fit([image, np.ones((2, 8, 9), np.uint16)], 3)
    with pytest.raises(InputError, match="no image to fit"):
        illumination.fit([], 3)
    with pytest.raises(InputError, match="width in pixels above 0"):
        illumination.fit([image], 0)
    with pytest.raises(InputError, match="'spline'; choose"):
        illumination.fit([image], 3, "spline")


def test_a_function_is_read_as_it_was_saved_or_refused_by_name(tmp_path):
    path = tmp_path / "p1_IllumDNA.npy"
    function = np.linspace(1, 2, 48).reshape(6, 8)
    np.save(path, function)
    np.testing.assert_allclose(illumination.load(path, (6, 8)), function)

    def refusal(shape=(6, 8)):
        with pytest.raises(InputError) as caught:
            illumination.load(path, shape)
        assert "p1_IllumDNA.npy" in str(caught.value)
        return str(caught.value)

    assert "of the size that it was computed on" in refusal((3, 4))
    path.write_bytes(path.read_bytes()[:-9])
    assert "Copy it again" in refusal()
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "allow_pickle" in refusal()
    np.save(path, function.astype(np.int64))
    assert "int64" in refusal()
    for bad in (0, -1, np.nan, np.inf):
        np.save(path, np.where(function > 1.5, bad, function))
        assert "cannot be divided" in refusal()
    path.unlink()
    assert "There is no illumination function" in refusal()

"""Drawn textures: the same by the same seed, unlike from class to class, of any size."""

import numpy as np
import pytest

from hcs_utils.data import textures
from hcs_utils.errors import InputError


def spectral(planes):
    """Mean frequency, in cycles a picture, of the variance of each plane."""
    power = np.abs(np.fft.fft2(planes - planes.mean((1, 2), keepdims=True))) ** 2
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(planes.shape[-1]) * planes.shape[-1]] * 2))
    return (power * f).sum((1, 2)) / power.sum((1, 2))


def test_drawings_are_bytes_with_every_class_equally_often():
    images, label = textures.draw(80, 40, 32, 5)
    assert images.shape == (80, 5, 32, 32) and images.dtype == np.uint8
    assert (np.bincount(label) == 2).all()
    flat = images.reshape(400, -1).astype(float)
    assert np.median(flat.std(1)) > 8 and len(np.unique(images.reshape(80, -1), axis=0)) == 80


def test_the_seed_decides():
    first, again, other = (textures.draw(64, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0]) and not np.array_equal(first[1], other[1])


def test_the_general_classes_hold_no_fault_of_a_screen():
    names = list(textures.CLASSES)
    assert len(names) == 40 and textures.GENERAL == 32
    assert not any(
        word in name
        for name in names[: textures.GENERAL]
        for word in ("blurred", "grainy", "clipped", "soiled", "soft")
    )
    assert textures.draw(64)[1].max() == 31


@pytest.mark.parametrize("name", textures.CLASSES)
@pytest.mark.parametrize("px", [16, 33])
def test_every_class_draws_finite_planes_that_vary(name, px):
    planes = textures.CLASSES[name](np.random.default_rng(0), 6, px)
    assert planes.shape == (6, px, px) and np.isfinite(planes).all()
    assert (planes.std((1, 2)) > 1e-3).sum() >= 5
    assert len(textures.CLASSES[name](np.random.default_rng(0), 0, px)) == 0


def test_frequencies_are_those_that_names_promise():
    def mean(name):
        return spectral(textures.CLASSES[name](np.random.default_rng(1), 30, 48)).mean()

    assert mean("waves, wide") < 4 < mean("waves") < 7 < mean("waves, narrow") < 13
    assert mean("noise, white") > mean("noise, pink") > mean("noise, brown") > mean("noise, cloud")
    assert mean("band, low") < mean("band") < mean("band, high")
    assert mean("cells") > mean("cells, soft") > mean("cells, blurred")
    assert mean("cells, very grainy") > mean("cells, grainy") > mean("cells")


def test_channels_have_gains_of_their_own_and_some_pictures_differ_between_them():
    images = textures.draw(640)[0].reshape(640, 3, -1).astype(float)
    assert np.median(np.ptp(images.std(2), axis=1)) > 5
    centred = images - images.mean(2, keepdims=True)
    alike = (centred[:, 0] * centred[:, 1]).mean(1) / (images.std(2)[:, :2].prod(1) + 1e-9)
    assert 0.4 < (np.abs(alike) > 0.8).mean() < 0.9


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"classes": 41}, "41 classes asked"), ({"classes": 1}, "1 classes"), ({"px": 8}, "8 px")],
)
def test_what_cannot_be_drawn_is_said(wrong, said):
    with pytest.raises(InputError, match=said):
        textures.draw(10, **wrong)

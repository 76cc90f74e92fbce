"""Every fault shows what it is named for, and its mask where it lies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label, laplace
from skimage.filters import threshold_otsu

from hcs_utils.data.screens import faults
from hcs_utils.data.screens.plating import SimulatedConfig, plate_fields
from hcs_utils.errors import InputError

TOP = 65535


@pytest.fixture(scope="module")
def fields():
    """Clean fields, 30 [n c y x]."""
    config = SimulatedConfig(batches=1, plates=1, treatments=4, wells=2, sites=3, size=64)
    return plate_fields(config, 0)[1][:30]


def spoil(fields, fault, severity, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [faults.apply(image, fault, severity, rng) for image in fields]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def sharpness(images):
    """Detail of the size of a nucleus' texture, whatever the gain and the grain."""
    smooth = gaussian_filter(images.astype(float), (0, 0, 1, 1))
    return (laplace(smooth, axes=(2, 3)).std((2, 3)) / smooth.mean((2, 3))).mean(1)


@given(
    fault=st.sampled_from(faults.FAULTS),
    severity=st.floats(0, 1),
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(12, 50), st.integers(12, 50)),
    channels=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_any_field_keeps_its_shape_and_the_same_seed_its_fault(
    fault, severity, seed, size, channels
):
    image = np.random.default_rng(seed).integers(50, 3000, (channels, *size)).astype(np.uint16)
    kept = image.copy()
    one, mask = faults.apply(image, fault, severity, np.random.default_rng(seed))
    two, again = faults.apply(image, fault, severity, np.random.default_rng(seed))
    assert one.shape == image.shape and one.dtype == np.uint16
    assert mask.shape == size and mask.dtype == bool
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(mask, again)
    np.testing.assert_array_equal(image, kept)
    if fault in ("debris", "autofluorescence"):
        np.testing.assert_array_equal((one != image).any(0), mask)
        assert (one >= image).all()
    elif fault == "saturation":
        np.testing.assert_array_equal((one == TOP).any(0), mask)
    else:
        assert mask.all()


def test_out_of_focus_takes_detail_and_keeps_the_light(fields):
    clean, some, much = (
        sharpness(x) for x in (fields, *(spoil(fields, "out_of_focus", s)[0] for s in (0.2, 1)))
    )
    assert (some < 0.6 * clean).all() and (much < some).mean() > 0.9
    blurred = spoil(fields, "out_of_focus", 1)[0]
    np.testing.assert_allclose(blurred.mean((2, 3)), fields.mean((2, 3)), rtol=0.15)


def test_saturation_clips_the_stated_share(fields):
    for severity, share in ((0, 0.02), (1, 0.2)):
        images, masks = spoil(fields, "saturation", severity)
        clipped = (images == TOP).mean((2, 3))
        assert (clipped >= share * 0.9).all() and np.median(clipped) < share * 1.3
        assert (masks.mean((1, 2)) >= clipped.max(1)).all()


def test_noise_adds_the_stated_variance(fields):
    images, _ = spoil(fields, "noise", 0.0)
    added = (images.astype(float) - fields).std((2, 3)) / fields.std((2, 3))
    assert (added < 0.55).all() and np.median(added) > 0.35  # half an sd, less what falls below 0
    more = (spoil(fields, "noise", 1.0)[0].astype(float) - fields).std((2, 3))
    assert (more > 1.5 * added * fields.std((2, 3))).all()


@pytest.mark.parametrize("fault", ["debris", "autofluorescence"])
def test_added_light_covers_more_the_more_severe(fields, fault):
    (little, a), (much, b) = (spoil(fields, fault, s) for s in (0.0, 1.0))
    assert 0 < a.mean() < b.mean() < 0.9 and b.any((1, 2)).all()
    gained = [(x.astype(float) - fields).mean() for x in (little, much)]
    assert 0 < gained[0] < gained[1]


def test_debris_has_sharp_edges_and_autofluorescence_has_none(fields):
    def steepest(fault):
        added = spoil(fields, fault, 0.5)[0].astype(float) - fields
        step = np.abs(np.diff(added, axis=-1)).max((1, 2, 3))
        return np.median(step / added.max((1, 2, 3)))

    assert steepest("debris") > 2 * steepest("autofluorescence")


def test_empty_has_no_cells(fields):
    images, _ = spoil(fields, "empty", 0.5)
    assert np.median(images.std((2, 3)) / fields.std((2, 3))) < 0.2
    floor = np.quantile(fields, 0.1, axis=(2, 3))
    np.testing.assert_allclose(images.mean((2, 3)), floor, rtol=0.1, atol=3)
    assert (images.std((2, 3)) > 0).all()  # a camera has grain
    smooth = gaussian_filter(images.astype(float), (0, 0, 3, 3))
    assert (smooth.max((2, 3)) < floor * 1.5 + 10).all()


def test_dead_has_small_bright_nuclei_only_and_fewer_the_more_severe(fields):
    images, _ = spoil(fields, "dead", 0.3)
    nuclei = [x > threshold_otsu(x) for x in images[:, 0]]
    alive = [x > threshold_otsu(x) for x in fields[:, 0]]
    area, before = (
        np.median([m.sum() / max(1, label(m)[1]) for m in masks]) for masks in (nuclei, alive)
    )
    assert area < 0.7 * before
    others = images[:, 1:].sum((1, 2, 3)) / fields[:, 1:].sum((1, 2, 3))
    assert np.median(others) < 0.7  # no cell bodies
    light = [spoil(fields, "dead", s)[0][:, 0].mean() for s in (0, 1)]
    assert light[1] < light[0]


def test_mistakes_are_told():
    image = np.zeros((2, 8, 8), np.uint16)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="Unknown fault 'dust'; there are: out_of_focus"):
        faults.apply(image, "dust", 0.5, rng)
    with pytest.raises(InputError, match=r"severity is 1\.5; give a number from 0 to 1"):
        faults.apply(image, "debris", 1.5, rng)

"""Measures of image quality against slow loops, scikit-image, and faults whose effect is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label

from hcs_utils.data import image_quality
from hcs_utils.data.screens import faults, plating
from hcs_utils.errors import InputError

CHANNELS = ("red", "green", "blue")


def blobs(n=3, side=40, bits=8, seed=0):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((n, 3, side, side)), (0, 0, 2, 2))
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 0.8 + 0.02 * rng.random(smooth.shape)
    top = 2**bits - 1
    return (smooth * top).astype(np.uint8 if bits == 8 else np.uint16)


def slow(image, windows=(8, 16), scales=(1, 2, 5)):
    """Every measure of one plane [y x] by loops over its pixels."""
    pixels = [float(v) for v in image.ravel()]
    n, (height, width) = len(pixels), image.shape
    mean = sum(pixels) / n
    found = {"FocusScore": sum((v - mean) ** 2 for v in pixels) / n / mean}
    for w in windows:
        tiles = []
        for top in range(0, height - w + 1, w):
            for left in range(0, width - w + 1, w):
                tile = [float(image[y, x]) for y in range(top, top + w)
                        for x in range(left, left + w)]  # fmt: skip
                m = sum(tile) / w**2
                tiles.append(sum((v - m) ** 2 for v in tile) / w**2 / m)
        middle = sum(tiles) / len(tiles)
        spread = sum((t - middle) ** 2 for t in tiles) / len(tiles)
        found[f"LocalFocusScore_{w}"] = spread / float(np.median(tiles))
    for s in scales:
        pairs = [
            [(image[y, x], image[y, x + s]) for y in range(height) for x in range(width - s)],
            [(image[y, x], image[y + s, x]) for y in range(height - s) for x in range(width)],
        ]
        found[f"Correlation_{s}"] = np.mean(
            [np.corrcoef(np.array(p, float).T)[0, 1] for p in pairs]
        )
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = 0.0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            total += abs((mask * image[y - 1 : y + 2, x - 1 : x + 2].astype(float)).sum())
    found["Noise"] = math.sqrt(math.pi / 2) * total / (6 * (width - 2) * (height - 2))
    middle = sorted(pixels)[n // 2 - 1 : n // 2 + 1]
    found["MedianIntensity"] = sum(middle) / 2
    found["MADIntensity"] = float(np.median([abs(v - sum(middle) / 2) for v in pixels]))
    found["MeanIntensity"], found["StdIntensity"] = mean, float(np.std(pixels))
    found["MaxIntensity"], found["MinIntensity"] = max(pixels), min(pixels)
    found["PercentMaximal"] = 100 * pixels.count(max(pixels)) / n
    found["PercentMinimal"] = 100 * pixels.count(min(pixels)) / n
    found["PowerLogLogSlope"] = slow_slope(image)
    return found


def slow_slope(image):
    """The discrete Fourier transform from its definition, rings by their rounded radius."""
    side = image.shape[0]
    turn = np.exp(-2j * np.pi * np.outer(np.arange(side), np.arange(side)) / side)
    power = np.abs(turn @ (image - image.mean()) @ turn.T) ** 2
    rings = {r: [] for r in range(1, side // 2 + 1)}
    for v in range(side):
        for u in range(side // 2 + 1):  # of a real image the others are the same
            fy, fx = (v if v <= side // 2 else v - side), u
            radius = round(math.hypot(fy, fx))
            if radius in rings:
                rings[radius].append(power[v, u])
    x = np.log(list(rings))
    return np.polyfit(x, np.log([np.mean(r) for r in rings.values()]), 1)[0]


@pytest.mark.parametrize("bits", [8, 16])
def test_every_measure_is_that_of_a_loop_over_pixels(bits):
    images = blobs(2, bits=bits)
    ours = image_quality.measures(images, CHANNELS)
    assert len(ours) == 2 and np.isfinite(ours.to_numpy()).all()
    names = set()
    for k in range(2):
        for c, channel in enumerate(CHANNELS):
            for name, value in slow(images[k, c]).items():
                kind, _, scale = name.partition("_")
                column = f"{kind}_{channel}" + (f"_{scale}" if scale else "")
                assert ours[column][k] == pytest.approx(value, rel=2e-3, abs=1e-4), column
                names.add(column)
    rest = set(ours) - names
    assert rest == {f"ThresholdOtsu_{c}" for c in CHANNELS} | {
        "ObjectCount_blue", "ObjectArea_blue"
    }  # fmt: skip


@given(st.integers(0, 1000))
def test_otsus_threshold_is_that_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    images = np.clip(rng.normal(60, 20, (2, 2, 12, 12)), 0, 255)
    images += np.where(rng.random(images.shape) < 0.3, 90, 0)
    images = np.clip(images, 0, 255).astype(np.uint8)
    ours = image_quality.otsu(images)
    for k in range(2):
        for c in range(2):
            theirs = threshold_otsu(images[k, c])
            same = (images[k, c] > ours[k, c]) == (images[k, c] > theirs)
            assert same.mean() > 0.999  # levels between two grey levels there are one threshold


def test_otsu_of_two_levels_of_16_bit_lies_between_them():
    plane = np.full((1, 1, 10, 10), 700, np.uint16)
    plane[..., :3, :] = 60_000
    assert 700 <= image_quality.otsu(plane)[0, 0] < 60_000


def test_objects_are_counted_image_by_image():
    plane = np.zeros((4, 1, 40, 40), np.uint8)
    for k, places in enumerate(([(5, 5)], [(5, 5), (20, 30), (32, 8)], [(5, 5), (30, 30)], [])):
        for y, x in places:
            plane[k, 0, y : y + 5, x : x + 5] = 200
    found = image_quality.measures(plane, ["DNA"])
    assert found["ObjectCount_DNA"].tolist() == [1, 3, 2, 0]
    for k in range(3):
        smooth = ndimage.uniform_filter(plane[k, 0].astype(float), 3, mode="nearest").round()
        parts = label(smooth > image_quality.otsu(smooth.astype(int)[None, None])[0, 0])
        area = np.bincount(parts.ravel())[1:].mean()
        assert found["ObjectArea_DNA"][k] == pytest.approx(area)
    assert "ObjectCount_ER" not in image_quality.measures(plane, ["ER"])


def test_flat_images_have_measures_too():
    flat = np.zeros((2, 3, 24, 24), np.uint8)
    flat[1] = 255
    found = image_quality.measures(flat, CHANNELS)
    assert np.isfinite(found.to_numpy()).all()
    assert (found["PercentMaximal_red"] == 100).all() and (found["Correlation_red_2"] == 0).all()
    assert (found["PowerLogLogSlope_red"] == 0).all()
    assert image_quality.measures(flat[:0], CHANNELS).empty


def test_chunks_make_no_difference(monkeypatch):
    images = blobs(7)
    whole = image_quality.measures(images, CHANNELS)
    monkeypatch.setattr(image_quality, "_CHUNK", 3)
    np.testing.assert_allclose(image_quality.measures(images, CHANNELS), whole, rtol=1e-5)


@pytest.fixture(scope="module")
def fields():
    _, images = plating.plate_fields(plating.QCConfig(treatments=2, wells=1, fault_rate=0), 0)
    return images[:24]


@pytest.mark.parametrize(
    ("fault", "column", "ratio"),
    [
        ("out_of_focus", "FocusScore_DNA", 0.7),
        ("out_of_focus", "Noise_Mito", 0.9),
        ("noise", "Noise_DNA", 3),
        ("noise", "Correlation_DNA_1", 0.7),
        ("saturation", "PercentMaximal_AGP", 20),
        ("empty", "StdIntensity_DNA", 0.4),
        ("dead", "ObjectCount_DNA", 0.8),
        ("autofluorescence", "MeanIntensity_DNA", 1.3),
    ],
)
def test_a_fault_moves_the_measure_that_is_made_for_it(fields, fault, column, ratio):
    rng = np.random.default_rng(0)
    spoilt = np.stack([faults.apply(image, fault, 0.8, rng)[0] for image in fields])
    names = ("DNA", "ER", "RNA", "AGP", "Mito")
    before, after = (image_quality.measures(x, names)[column].median() for x in (fields, spoilt))
    assert after > ratio * before if ratio > 1 else after < ratio * before


def test_the_slope_falls_with_blur_and_noise_is_told_in_its_sd():
    rng = np.random.default_rng(0)
    plane = rng.normal(1000, 12, (6, 1, 64, 64))
    found = image_quality.measures(plane.astype(np.uint16), ["ER"])
    assert found["Noise_ER"].mean() == pytest.approx(12, rel=0.05)
    assert found["PowerLogLogSlope_ER"].abs().max() < 0.15  # white noise
    soft = 12 * ndimage.gaussian_filter(plane, (0, 0, 2, 2))
    slopes = image_quality.measures(soft.astype(np.uint16), ["ER"])["PowerLogLogSlope_ER"]
    assert (slopes < -2).all()


def test_images_that_are_too_small_or_unnamed_are_told():
    with pytest.raises(InputError, match="Images of 12×12 px are too small for windows"):
        image_quality.measures(np.zeros((1, 3, 12, 12), np.uint8), CHANNELS)
    with pytest.raises(InputError, match="3 channels need as many names, got 2"):
        image_quality.measures(blobs(1), CHANNELS[:2])

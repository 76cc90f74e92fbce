import numpy as np
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import leaks
from hcs_utils.evaluation.leaks import STATISTICS, intensity_statistics
from hcs_utils.evaluation.metrics import knn_accuracy


def test_statistics_agree_with_a_loop():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 9), dtype=np.uint8)
    features = intensity_statistics(images)
    assert features.shape == (5, 3 * len(STATISTICS))
    for i, image in enumerate(images):
        for c, plane in enumerate(image):
            values = sorted(float(v) for row in plane for v in row)
            at = [q * (len(values) - 1) for q in (0.01, 0.99)]
            p1, p99 = (values[int(a)] + (a % 1) * (values[int(a) + 1] - values[int(a)]) for a in at)
            mean = sum(values) / len(values)
            sd = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
            np.testing.assert_allclose(features[i, 4 * c : 4 * c + 4], [mean, sd, p1, p99])


def test_place_of_pixels_is_not_seen_and_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6, 2, 10, 10), dtype=np.uint8)
    moved = images.reshape(6, 2, 100)[:, :, rng.permutation(100)].reshape(images.shape)
    np.testing.assert_allclose(intensity_statistics(moved), intensity_statistics(images))
    whole = intensity_statistics(images)
    monkeypatch.setattr(leaks, "_CHUNK_BYTES", 200 * 4)  # four images at a time
    np.testing.assert_array_equal(intensity_statistics(images), whole)


def test_planted_gain_is_found_and_planted_shape_is_not():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 8, (80, 1, 16, 16))
    gain = np.repeat([60, 120], 40)
    bright = np.clip(gain[:, None, None, None] + noise, 0, 255).astype(np.uint8)
    shape = np.zeros((80, 1, 16, 16))
    shape[:40, :, :8], shape[40:, :, :, :8] = 100, 100  # stripes across or down: the same histogram
    striped = np.clip(80 + shape + noise, 0, 255).astype(np.uint8)
    half = np.arange(80) % 2 == 0
    found = []
    for images in (bright, striped):
        z = intensity_statistics(images)
        z -= z.mean(axis=0)
        found.append(knn_accuracy(z[half], gain[half], z[~half], gain[~half]))
    assert found[0] == 1.0
    assert found[1] < 0.75


@pytest.mark.parametrize("images", [np.ones((2, 3, 4), np.uint8), np.ones((2, 1, 4, 4)), []])
def test_other_arrays_are_refused(images):
    with pytest.raises(InputError, match=r"uint8 \[n c y x\]"):
        intensity_statistics(images)

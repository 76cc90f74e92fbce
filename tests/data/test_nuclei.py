"""Nuclei drawn at known places are found there, and only there."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.draw import disk

from hcs_utils.data import images, nuclei
from hcs_utils.errors import InputError


def scattered(count: int, side: int, gap: float, rng: np.random.Generator) -> np.ndarray:
    """Places [n 2] at least `gap` apart and from the edge."""
    found: list[np.ndarray] = []
    while len(found) < count:
        place = rng.uniform(gap / 2, side - gap / 2, 2)
        if all(np.hypot(*(place - other)) >= gap for other in found):
            found.append(place)
    return np.array(found)


def field(places: np.ndarray, side: int, diameter: float, rng: np.random.Generator) -> np.ndarray:
    """Discs of uneven brightness and size on a sloping background, blurred, with photon noise."""
    plane = np.zeros((side, side))
    for place in places:
        radius = diameter / 2 * rng.uniform(0.85, 1.15)
        plane[disk(place, radius, shape=plane.shape)] += rng.uniform(600, 2_500)
    plane *= 1 + 0.2 * rng.standard_normal(plane.shape)  # chromatin
    plane = ndimage.gaussian_filter(plane, diameter / 16) + np.linspace(100, 400, side)
    return rng.poisson(plane).astype(np.uint16)


def matches(found: pd.DataFrame, places: np.ndarray, within: float) -> tuple[float, float]:
    """Recall and precision; a place counts once."""
    apart, nearest = cKDTree(places).query(found[["y", "x"]].to_numpy())
    hits = len(set(nearest[apart <= within]))
    return hits / len(places), hits / len(found)


@pytest.mark.parametrize("diameter", [8, 13, 20, 40])
def test_separate_nuclei_are_found_where_they_were_drawn(diameter):
    rng = np.random.default_rng(diameter)
    side = 16 * diameter
    for _ in range(3):
        places = scattered(40, side, 1.7 * diameter, rng)
        found = nuclei.find_nuclei(field(places, side, diameter, rng), "s1", diameter_px=diameter)
        recall, precision = matches(found, places, 0.15 * diameter)
        assert recall >= 0.95 and precision >= 0.95
        assert set(found["site_id"]) == {"s1"} and found["nucleus"].is_unique
        disc = np.pi / 4 * diameter**2
        assert 0.8 * disc < found["area_px"].median() < 1.5 * disc


def test_touching_nuclei_are_told_apart():
    rng = np.random.default_rng(1)
    first = scattered(25, 400, 56, rng)
    turn = rng.uniform(0, 2 * np.pi, 25)
    pairs = np.concatenate([first, first + 21 * np.stack([np.sin(turn), np.cos(turn)], 1)])
    pairs = pairs[(pairs > 12).all(1) & (pairs < 388).all(1)]
    found = nuclei.find_nuclei(field(pairs, 400, 20, rng), diameter_px=20)
    recall, precision = matches(found, pairs, 5)
    assert recall >= 0.9 and precision >= 0.9


def test_a_plane_without_nuclei_has_none():
    rng = np.random.default_rng(2)
    for plane in (
        np.zeros((90, 80), np.uint8),
        np.full((90, 80), 65535, np.uint16),
        rng.poisson(200, (300, 300)).astype(np.uint16),
        rng.poisson(np.linspace(50, 900, 300), (300, 300)).astype(np.uint16),
    ):
        found = nuclei.find_nuclei(plane, diameter_px=20)
        assert found.empty and list(found.columns) == [
            "site_id", "nucleus", "y", "x", "area_px", "touches_border",
        ]  # fmt: skip


def test_one_nucleus_in_a_large_field_is_found():
    rng = np.random.default_rng(3)
    found = nuclei.find_nuclei(field(np.array([[100, 300]]), 400, 20, rng), diameter_px=20)
    assert len(found) == 1
    np.testing.assert_allclose(found[["y", "x"]].to_numpy()[0], [100, 300], atol=1)


def test_sizes_are_known_from_pixels_or_from_micrometres():
    rng = np.random.default_rng(4)
    places = scattered(30, 320, 34, rng)
    plane = field(places, 320, 20, rng)  # 12 µm at 0.6 µm a pixel
    by_um = nuclei.find_nuclei(plane, pixel_size_um=0.6)
    assert min(matches(by_um, places, 3)) >= 0.95
    assert nuclei.find_nuclei(plane, pixel_size_um=0.6, area_um2=(200, 800)).empty
    assert nuclei.find_nuclei(plane, pixel_size_um=0.6, area_um2=(1, 50)).empty
    with pytest.raises(InputError, match="Give pixel_size_um, or diameter_px"):
        nuclei.find_nuclei(plane)


def test_what_touches_the_edge_is_marked():
    rng = np.random.default_rng(5)
    places = np.array([[0, 60], [60, 0], [119, 60], [60, 119], [60, 60]])
    found = nuclei.find_nuclei(field(places, 120, 20, rng), diameter_px=20)
    inside = np.hypot(found["y"] - 60, found["x"] - 60) < 5
    assert len(found) == 5 and found["touches_border"].tolist() == (~inside).tolist()


def test_real_fields_have_plausible_counts(shared_data):
    folder = shared_data("bbbc006_focus") / "in_focus"
    counts = {}
    for path in sorted(folder.glob("*_10.png")):  # U2OS, 20×
        found = nuclei.find_nuclei(images.read_plane(folder, path.name), diameter_px=28)
        counts[path.name.split("__")[1]] = len(found)
        assert found["area_px"].between(150, 3_700).all()
    by_eye = {"a01": 10, "a03": 11, "a04": 95}  # counted on pictures of the result
    assert all(abs(counts[well] - n) <= 0.1 * n + 1 for well, n in by_eye.items()), counts
    assert sum(counts.values()) == pytest.approx(640, rel=0.1)
    folder = shared_data("bbbc021_fields") / "images"
    found = [
        len(nuclei.find_nuclei(images.read_plane(folder, f"bbbc021v1_{k}.png#2"), diameter_px=12))
        for k in (277, 396)  # MCF7, shrunk fourfold: a full field, and one with few cells left
    ]
    assert 130 <= found[0] <= 165 and 2 <= found[1] <= 5

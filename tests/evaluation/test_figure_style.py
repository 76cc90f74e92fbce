"""Colours and style, by numbers: contrast on both pages, difference to every eye."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from hcs_utils.evaluation import figures

PAGES = {"light": "#ffffff", "dark": "#14181e", "darker": "#121212"}
CVD = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "none": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """Contrast ratio of WCAG 2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def seen(colour, kind):
    rgb = np.clip(np.array(CVD[kind]) @ linear(colour), 0, 1)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return rgb2lab(encoded)


def test_ink_and_palette_have_contrast_on_light_and_dark_pages():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast(figures.INK, PAGES["light"]) >= 4.5
    for page in PAGES.values():
        assert contrast(figures.INK, page) >= 3.9
        assert min(contrast(colour, page) for colour in figures.PALETTE.values()) >= 3
        assert min(contrast(colour, page) for colour in figures.colours(24)) >= 3


@pytest.mark.parametrize("kind", CVD)
def test_palette_stays_apart_for_every_eye(kind):
    pairs = itertools.combinations(figures.PALETTE.values(), 2)
    assert min(deltaE_ciede2000(seen(a, kind), seen(b, kind)) for a, b in pairs) > 9


@pytest.mark.parametrize("n", [1, 6, 7, 24])
def test_as_many_distinct_colours_as_asked(n):
    assert len({to_rgb(colour) for colour in figures.colours(n)}) == n


def test_names_stand_in_the_order_people_count():
    assert figures.names(["B10", "B2", "B1", "B2"]) == ["B1", "B2", "B10"]
    assert figures.names([10, 2, 1]) == [1, 2, 10]

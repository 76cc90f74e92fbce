"""Drawn fields carry their traits in shape and texture, never in brightness."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_laplace
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hcs_utils.data.screens import drawing
from hcs_utils.data.screens.drawing import CHANNELS, TRAITS, Nuisance, draw_fields

C = len(CHANNELS)


def nuisance(n, **changes):
    """A perfect microscope and equal fields, with what is given changed."""
    options = dict(
        density=np.full(n, 8.0), cell_size=np.ones(n), gain=np.full((n, C), 40_000.0),
        background=np.zeros((n, C)), defocus_px=np.full(n, 0.05), light=np.zeros((n, 5)),
        crosstalk=np.broadcast_to(np.eye(C), (n, C, C)), read_noise=np.full(n, 5.0),
    )  # fmt: skip
    return Nuisance(**(options | changes))


def drawn(n=40, traits=None, seed=0, size=48, **changes):
    traits = np.zeros((n, len(TRAITS))) if traits is None else traits
    return draw_fields(traits, nuisance(n, **changes), size, np.random.default_rng(seed))


def test_fields_are_16_bit_and_the_same_seed_draws_the_same():
    images, cells = drawn()
    assert images.shape == (40, C, 48, 48) and images.dtype == np.uint16
    assert cells.shape == (40,) and (cells >= 2).all()
    again, count = drawn()
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(cells, count)
    assert not np.array_equal(images, drawn(seed=1)[0])


def test_density_and_area_set_the_number_of_cells():
    few, many = (drawn(400, density=np.full(400, d))[1].mean() for d in (4.0, 9.0))
    assert (few, many) == (pytest.approx(4, rel=0.1), pytest.approx(9, rel=0.1))


@pytest.mark.parametrize("trait", range(len(TRAITS)), ids=TRAITS)
def test_every_channel_of_a_cell_has_the_same_sum_whatever_the_trait(trait):
    traits = np.zeros((60, len(TRAITS)), np.float32)
    traits[:30, trait], traits[30:, trait] = -1.2, 1.2
    cells = drawing._cells(traits, np.ones(60), np.random.default_rng(0))
    sums = cells.sum((2, 3))
    np.testing.assert_allclose(sums, sums[:, :1].repeat(C, 1), rtol=1e-4)
    assert (cells >= 0).all()


def codes(n):
    return np.random.default_rng(5).choice([-1.0, 1.0], (n, len(TRAITS)))


def test_no_trait_shows_in_brightness():
    """Regression of the light of a cell on all traits; the rest is cells cut by the rim."""
    traits = codes(80)
    images, cells = drawn(80, traits, size=96, density=np.full(80, 32.0))
    light = images.mean((2, 3)) / cells[:, None]
    design = np.column_stack([traits, np.ones(80)])
    slope = np.linalg.lstsq(design, light / light.mean(0))[0][:-1]
    assert np.abs(slope).max() < 0.03


def test_every_trait_shows_in_texture():
    """A linear rule on simple statistics, each free of gain, tells the sides of all traits."""
    n = 400
    traits = codes(n)
    images, cells = drawn(n, traits, defocus_px=np.full(n, 0.35), density=np.full(n, 12.0))
    images = images.astype(np.float32)
    mean = images.mean((2, 3))
    smooth = [gaussian_filter(images, (0, 0, s, s)) for s in (0, 1, 2, 4)]
    edges = [gaussian_laplace(images, (0, 0, s, s)) for s in (0.7, 1.5, 3)]
    each = images.reshape(n, C, -1) - mean[:, :, None]
    each /= each.std(-1, keepdims=True)
    pairs = np.einsum("nip,njp->nij", each, each)[:, *np.triu_indices(C, 1)]
    features = np.column_stack(
        [np.log(f.std((2, 3)) / mean) for f in smooth + edges]
        + [np.log((images**3).mean((2, 3)) / mean**3), np.log(cells), pairs]
    )
    rule = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=500))
    right = [cross_val_score(rule, features, side > 0, cv=4).mean() for side in traits.T]
    assert dict(zip(TRAITS, np.array(right) > 0.75, strict=True)) == dict.fromkeys(TRAITS, True)


def test_gain_and_background_scale_each_channel_alone():
    gain = np.full((60, C), 40_000.0)
    gain[:, 1] *= 2
    background = np.zeros((60, C))
    background[:, 2] = 500.0
    base, changed = (
        drawn(60, **o)[0].mean((0, 2, 3)) for o in ({}, dict(gain=gain, background=background))
    )
    ratio = changed / base
    assert ratio[1] == pytest.approx(2, rel=0.02)
    assert changed[2] - base[2] == pytest.approx(500, rel=0.02)
    assert ratio[[0, 3, 4]] == pytest.approx(1, rel=0.01)


def test_cross_talk_brings_one_stain_into_another_channel():
    talk = np.eye(C)
    talk[0, 4] = 0.5  # channel DNA sees half of Mito
    base, mixed = (
        drawn(60, crosstalk=np.broadcast_to(t, (60, C, C)))[0].astype(float)
        for t in (np.eye(C), talk)
    )
    np.testing.assert_allclose(mixed[:, 1:].mean(), base[:, 1:].mean(), rtol=1e-2)
    extra = (mixed[:, 0] - base[:, 0]).mean()
    assert extra == pytest.approx(0.5 * base[:, 4].mean(), rel=0.05)


def test_uneven_light_brightens_the_named_side():
    light = np.zeros((30, 5))
    light[:, 0] = 0.5  # along x
    images = drawn(30, light=light, background=np.full((30, C), 1000.0))[0].astype(float)
    assert images[..., -4:].mean() > 1.5 * images[..., :4].mean()
    assert images[..., -4:, :].mean() == pytest.approx(images[..., :4, :].mean(), rel=0.1)


def test_defocus_takes_detail_and_keeps_the_light():
    sharp, blurred = (drawn(60, defocus_px=np.full(60, s))[0].astype(float) for s in (0.05, 2.0))
    assert blurred.mean() == pytest.approx(sharp.mean(), rel=0.03)
    assert blurred.std() < 0.8 * sharp.std()


def test_blur_is_the_gaussian_of_scipy_away_from_the_rim():
    rng = np.random.default_rng(0)
    image = rng.random((40, 40))
    kernel = drawing._blur_matrices(np.array([1.5]), 40)[0].astype(float)
    np.testing.assert_allclose(kernel.sum(1), 1, rtol=1e-5)
    ours, theirs = kernel @ image @ kernel.T, gaussian_filter(image, 1.5, truncate=8)
    np.testing.assert_allclose(ours[12:-12, 12:-12], theirs[12:-12, 12:-12], rtol=1e-4)


def test_photon_noise_grows_with_the_root_of_the_signal():
    dim, bright = (
        drawn(4, gain=np.zeros((4, C)), background=np.full((4, C), b))[0].astype(float)
        for b in (400.0, 10_000.0)
    )
    assert dim.std() == pytest.approx(np.sqrt(425), rel=0.02)
    assert bright.std() == pytest.approx(np.sqrt(10_025), rel=0.02)


def test_bright_fields_saturate_and_do_not_wrap():
    images = drawn(4, background=np.full((4, C), 1e6))[0]
    assert (images == 65535).all()


def test_the_other_cell_line_is_smaller_rounder_and_stands_in_islands():
    n, places = 24, {}
    for name, line in drawing.LINES.items():
        options = nuisance(n, density=np.full(n, 40.0), read_noise=np.ones(n))
        rng = np.random.default_rng(0)
        images, cells = draw_fields(np.zeros((n, len(TRAITS))), options, 96, rng, line)
        covered = (gaussian_filter(images[:, 1].astype(float), (0, 1, 1)) > 3).mean((1, 2))
        spots = drawing._scatter(np.full(n, 30), 96, line, np.random.default_rng(1))
        gap = np.sqrt(((spots[:, :, None] - spots[:, None]) ** 2).sum(-1))
        gap[:, np.arange(30), np.arange(30)] = np.inf
        assert (spots >= 0).all() and (spots < 96).all()
        places[name] = cells.mean(), (covered / cells).mean(), gap.min(2).mean()
    u2os, mcf7 = places["u2os"], places["mcf7"]
    assert mcf7[0] < 0.85 * u2os[0]  # cells
    assert mcf7[1] < 0.9 * u2os[1]  # area of each
    assert mcf7[2] < 0.9 * u2os[2]  # to the nearest

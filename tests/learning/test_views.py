"""Views hold pixels of their own image only, and the normalisation of their own plate."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as F

from hcs_utils.errors import InputError
from hcs_utils.learning import views
from hcs_utils.learning.views import Normaliser, ViewsConfig, centre, colour, crop, multi_crop


def numbered(n):
    """Images [n 2 16 16] whose first channel counts the pixels; the second is 255 minus it."""
    count = torch.arange(256, dtype=torch.uint8).view(16, 16)
    return torch.stack([count, 255 - count]).expand(n, 2, 16, 16)


def orientations(square):
    """The eight turns and flips of a square [y x]."""
    turned = [torch.rot90(square, k) for k in range(4)]
    return turned + [t.flip(1) for t in turned]


def plain(channels, plates=1, mean=0.0, std=1.0):
    return Normaliser(torch.full((plates, channels), mean), torch.full((plates, channels), std))


# Crops cut from the pixel grid


def test_a_cut_is_a_square_of_the_image_in_one_of_eight_orientations():
    torch.manual_seed(0)
    n, size = 3000, 5
    out = crop(numbered(n), size)
    assert out.shape == (n, 2, size, size) and out.dtype == torch.float32
    assert torch.equal(out[:, 1], 255 - out[:, 0])  # channels are cut alike
    seen = np.zeros((8, 12, 12), int)
    image = torch.arange(256.0).view(16, 16)
    for got in out[:, 0]:
        top, left = divmod(int(got.min()), 16)
        square = image[top : top + size, left : left + size]
        which = [torch.equal(got, turned) for turned in orientations(square)]
        assert sum(which) == 1  # whole pixels, next to each other, nothing from elsewhere
        seen[which.index(True), top, left] += 1
    assert chisquare(seen.sum((1, 2))).pvalue > 1e-3  # all eight, equally often
    assert chisquare(seen.sum(0).ravel()).pvalue > 1e-3  # all 144 places, equally often


def test_a_cut_of_the_whole_field_only_turns_it():
    out = crop(numbered(40), 16)[:, 0]
    allowed = orientations(torch.arange(256.0).view(16, 16))
    assert all(any(torch.equal(got, turned) for turned in allowed) for got in out)


def test_the_same_random_state_gives_the_same_cuts():
    cuts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        cuts.append(crop(numbered(8), 7))
    assert torch.equal(cuts[0], cuts[1]) and not torch.equal(cuts[0], cuts[2])


def test_too_large_a_cut_is_refused():
    with pytest.raises(ValueError, match="17 px asked from fields of 16×16"):
        crop(numbered(1), 17)
    with pytest.raises(ValueError, match="17 px asked"):
        centre(numbered(1), 17)


# Crops with resizing


def test_a_resized_crop_of_the_whole_field_is_one_of_eight_orientations():
    out = crop(numbered(40), 16, (1.0, 1.0))[:, 0]
    allowed = torch.stack(orientations(torch.arange(256.0).view(16, 16)))
    gap = (out[:, None] - allowed).abs().amax((2, 3)).min(1)
    assert gap.values.max() < 1e-2 and len(set(gap.indices.tolist())) == 8


released_scales = pytest.mark.parametrize(
    "scale", [(0.15, 0.25), (0.3, 0.5), (0.75, 0.9), (0.9, 1.1), (0.8, 1.2)]
)


@released_scales
@pytest.mark.parametrize("size", [9, 30])
def test_a_resized_crop_is_torchvisions_in_one_of_eight_orientations(scale, size):
    """Pixel for pixel, smaller and larger than the rectangle; its edge looks at nothing outside."""
    images = torch.randint(0, 256, (24, 2, 20, 23), dtype=torch.uint8)
    torch.manual_seed(1)
    (top, left), (high, wide) = views._rectangles(24, (20, 23), scale, "cpu")
    torch.manual_seed(1)
    out, found = crop(images, size, scale), []
    for i in range(24):
        box = [int(v[i]) for v in (top, left, high, wide)]
        alone = F.resized_crop(images[i].float(), *box, [size, size], antialias=False)
        turned = orientations(alone.permute(1, 2, 0))
        gaps = [(out[i].permute(1, 2, 0) - t).abs().max() for t in turned]
        assert min(gaps) < 0.01
        found.append(int(np.argmin(gaps)))
    assert len(set(found)) >= 6


@released_scales
@pytest.mark.parametrize("extent", [(48, 48), (30, 20), (60, 20)])
def test_rectangles_are_drawn_as_torchvision_draws_them(scale, extent):
    """Ten tries at one that fits, then the whole field, or its middle if that is too long."""
    torch.manual_seed(0)
    n, image = 1500, torch.empty(1, *extent)
    start, length = views._rectangles(4 * n, extent, scale, "cpu")
    ours = torch.cat([start, length]).T.int().numpy()
    theirs = np.array([RandomResizedCrop.get_params(image, scale, views.ASPECT) for _ in range(n)])
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= extent).all()
    for column in range(4):
        values = np.unique(theirs[:, column])
        if len(values) > 1:
            assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4
        else:
            assert (ours[:, column] == values).all()
    fallback = np.minimum(extent, (extent[1] * 4 // 3, extent[0] * 4 // 3))
    share = [(boxes[:, 2:] == fallback).all(1).mean() for boxes in (ours, theirs)]
    assert share[0] == pytest.approx(share[1], abs=0.06)


def test_a_third_of_the_released_global_crops_are_the_whole_field():
    torch.manual_seed(0)
    _, length = views._rectangles(20_000, (256, 256), (0.9, 1.1), "cpu")
    assert (length == 256).all(0).float().mean() == pytest.approx(0.36, abs=0.02)


def test_released_settings_are_those_of_the_files_in_proportion_to_the_field():
    """Facts A4: areas, 224 and 112 of 256 px; each field may be told to differ."""
    config = views.released("rxrx1", 256)
    assert (config.global_size, config.local_size, config.locals_per_image) == (224, 112, 3)
    assert (config.global_scale, config.local_scale) == ((0.9, 1.1), (0.3, 0.5))
    colours = (config.colour_gain, config.colour_offset, config.colour_probability)
    assert colours == (0.1, 0.1, 0.5)
    small = views.released("cpg0004", 48, colour_offset=0.0, locals_per_image=0)
    assert (small.global_size, small.local_size) == (42, 21)
    assert (small.colour_offset, small.locals_per_image) == (0.0, 0)
    assert (small.global_scale, small.local_scale) == ((0.75, 0.9), (0.3, 0.5))
    large = views.released("cpg0004_large", 256)
    assert (large.global_scale, large.local_scale) == ((0.3, 0.5), (0.15, 0.25))
    assert views.released("rxrx1", 256, supervised=True).global_scale == (0.8, 1.2)
    with pytest.raises(InputError, match="'rxrx2'; released are rxrx1, cpg0004"):
        views.released("rxrx2", 256)
    fields = torch.randint(0, 256, (3, 2, 48, 48), dtype=torch.uint8)
    plates = torch.zeros(2, 3, dtype=torch.long)
    global_, local = multi_crop(fields, fields, plates, plain(2), views.released("rxrx1", 48))
    assert global_.shape == (6, 2, 42, 42) and local.shape == (18, 2, 21, 21)


# The middle, for embeddings


@pytest.mark.parametrize(("size", "first"), [(16, 0), (10, 3 * 16 + 3), (7, 4 * 16 + 4)])
def test_the_centre_is_the_middle_square_untouched(size, first):
    out = centre(numbered(2), size)
    assert out.shape == (2, 2, size, size)
    assert out[0, 0, 0, 0] == first
    top = first // 16
    image = numbered(2)[..., top : top + size, top : top + size].float()
    assert torch.equal(out, image)


# Colour


def test_normalisation_is_the_formula_of_each_images_own_plate():
    torch.manual_seed(0)
    crops, plate = torch.rand(6, 3, 4, 4) * 255, torch.tensor([0, 1, 2, 2, 1, 0])
    norm = Normaliser(torch.rand(3, 3) * 100, 1 + torch.rand(3, 3) * 30)
    out = colour(crops, plate, norm)
    for i, c in itertools.product(range(6), range(3)):
        expected = (crops[i, c] - norm.mean[plate[i], c]) / norm.std[plate[i], c]
        torch.testing.assert_close(out[i, c], expected, rtol=1e-4, atol=1e-4)
    for off in (dict(colour_probability=0.0), dict(colour_gain=0.0, colour_offset=0.0)):
        torch.testing.assert_close(colour(crops, plate, norm, ViewsConfig(**off)), out)


def test_colours_shift_by_the_stated_gain_and_offset_in_the_stated_share():
    torch.manual_seed(0)
    n = 4000
    bright, dark = torch.full((n, 2, 1, 1), 100.0), torch.zeros(n, 2, 1, 1)
    plate, norm = torch.zeros(n, dtype=torch.long), plain(2, mean=20.0, std=10.0)
    config = ViewsConfig(colour_gain=0.2, colour_offset=0.05, colour_probability=0.3)
    shifted = (colour(dark, plate, norm, config) * 10 + 20).flatten(1)  # back in grey levels
    moved = shifted.abs() > 1e-3
    assert moved[:, 0].float().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(moved[:, 0], moved[:, 1])  # an image's channels are shifted together …
    on = shifted[moved[:, 0]]
    assert abs(np.corrcoef(on.T.numpy())[0, 1]) < 0.1  # … each by its own amount
    assert on.std() == pytest.approx(255 * 0.05, rel=0.06) and abs(on.mean()) < 1
    gain_only = ViewsConfig(colour_gain=0.2, colour_offset=0.0, colour_probability=1.0)
    gain = (colour(bright, plate, norm, gain_only) * 10 + 20).flatten() / 100
    assert gain.mean() == pytest.approx(1, abs=0.01)
    assert gain.std() == pytest.approx(0.2, rel=0.06)


# Pairs


@pytest.mark.parametrize("k", [0, 1, 3])
def test_views_come_in_the_stated_order_each_with_its_owners_plate(k):
    n = 4
    first = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 2, 12, 12)
    plates = torch.stack([torch.arange(n), torch.arange(n, 2 * n)])
    norm = Normaliser(-1000.0 * torch.arange(2 * n)[:, None].repeat(1, 2), torch.ones(2 * n, 2))
    config = ViewsConfig(8, 5, k, colour_probability=0.0)
    global_, local = multi_crop(first, first + 100, plates, norm, config)
    assert global_.shape == (2 * n, 2, 8, 8) and local.shape[0] == 2 * k * n
    one = [1000 * i + i for i in range(n)]  # its plate is i, its value i
    two = [1000 * (n + i) + 100 + i for i in range(n)]
    assert global_[:, 0, 0, 0].tolist() == one + two
    assert (global_ == global_[:, :1, :1, :1]).all()
    if k:
        assert local.shape[2:] == (5, 5)
        assert local[:, 1, 2, 2].tolist() == one * k + two * k


def test_views_of_one_image_are_cut_independently():
    torch.manual_seed(0)
    image = numbered(1)
    plates = torch.zeros(2, 1, dtype=torch.long)
    config = ViewsConfig(8, 6, 3, colour_probability=0.0)
    global_, local = multi_crop(image, image, plates, plain(2), config)
    corners = {tuple(v[0, 0].tolist()) for v in [*global_, *local]}
    assert len(corners) == 8


def test_crops_keep_the_proportion_of_the_defaults():
    assert ViewsConfig.for_fields(48) == ViewsConfig()
    config = ViewsConfig.for_fields(96, locals_per_image=0)
    assert (config.global_size, config.local_size, config.locals_per_image) == (80, 56, 0)
    assert views.ViewsConfig.for_fields(64).global_size < 64

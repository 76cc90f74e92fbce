"""Views turn, shift and scale crops, and leave grey levels alone unless they scale."""

import numpy as np
import pytest
import torch

from hcs_utils.errors import InputError
from hcs_utils.learning.qc_views import QCViews, qc_view


def crops(n=64, size=12):
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, size, size), generator=g, dtype=torch.uint8)


def test_turns_are_the_eight_of_a_square_and_equally_often():
    torch.manual_seed(0)
    one = crops(1).expand(4000, -1, -1, -1)
    views = qc_view(one, QCViews(probability=0))
    square = one[0].float()
    eight = [torch.rot90(s, k, (1, 2)) for s in (square, square.flip(2)) for k in range(4)]
    counts = [int((views == e).flatten(1).all(1).sum()) for e in eight]
    assert sum(counts) == 4000 and min(counts) > 420


def test_without_any_change_a_view_is_the_crop():
    same = qc_view(crops(), QCViews(turn=False, shift=0, scale=0))
    assert torch.equal(same, crops().float())
    assert torch.equal(qc_view(crops(), QCViews(turn=False, probability=0)), crops().float())


def test_a_shift_moves_whole_pixels_and_mirrors_the_border():
    torch.manual_seed(1)
    given = crops(200)
    views = qc_view(given, QCViews(turn=False, shift=0.25, scale=0, probability=1))
    seen = set()
    for crop, view in zip(given.numpy(), views.numpy(), strict=True):
        wide = np.pad(crop.astype(float), ((0, 0), (3, 3), (3, 3)), mode="symmetric")
        found = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if np.abs(wide[:, y : y + 12, x : x + 12] - view).max() < 0.01
        ]
        assert len(found) == 1
        seen |= set(found)
    assert len(seen) > 40  # of 49


def test_scaling_is_bilinear_about_the_middle():
    """Against a loop over pixels, by the factor that a first corner tells."""
    torch.manual_seed(2)
    size = 9
    ramp = torch.arange(size).view(1, 1, 1, -1).expand(1, 1, size, size)
    many = (ramp * 20).to(torch.uint8).expand(50, 1, size, size)
    views = qc_view(many, QCViews(turn=False, shift=0, scale=0.3, probability=1))
    factors = []
    for view in views[:, 0]:
        torch.testing.assert_close(view[0], view[-1])
        assert view[0, 4] == pytest.approx(80, abs=1e-3)  # the middle stays
        factor = 20 / (view[0, 5] - view[0, 4])
        factors.append(factor.item())
        for x in range(size):
            at = min(max(4 + (x - 4) / factor.item(), -0.5), size - 0.5)
            if 0 <= at <= size - 1:
                assert view[0, x].item() == pytest.approx(20 * at, abs=0.05)
    assert min(factors) < 0.8 and max(factors) > 1.2
    assert min(factors) >= 0.7 and max(factors) <= 1.3


def test_half_of_the_views_are_only_turned():
    torch.manual_seed(3)
    views = qc_view(crops(2000), QCViews(turn=False))
    kept = (views - crops(2000).float()).abs().flatten(1).amax(1) < 0.01
    assert 0.45 < kept.float().mean() < 0.56


def test_a_constant_crop_stays_constant():
    flat = torch.full((40, 3, 12, 12), 200, dtype=torch.uint8)
    views = qc_view(flat, QCViews(probability=1))
    torch.testing.assert_close(views, flat.float())


@pytest.mark.parametrize(
    "wrong", [{"shift": 1.0}, {"scale": -0.1}, {"probability": 1.5}, {"scale": 1}]
)
def test_magnitudes_that_make_no_view_are_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        QCViews(**wrong)

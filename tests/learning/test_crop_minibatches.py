"""Crops of a step: the same when asked again, all of them in an epoch, shared by processes."""

import numpy as np
import pytest
import torch

from hcs_utils.errors import InputError
from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.qc_views import QCViews
from hcs_utils.learning.views import Normaliser

PLAIN = QCViews(turn=False, probability=0)


def stream(size=4, views=PLAIN, rows=range(3, 16), **changes):
    """Crops of one grey level each, its row times 10, of two plates unlike each other."""
    images = (torch.arange(20, dtype=torch.uint8) * 10).view(-1, 1, 1, 1).expand(-1, 3, 6, 6)
    norm = Normaliser(torch.tensor([[10.0] * 3, [20.0] * 3]), torch.tensor([[2.0] * 3, [5.0] * 3]))
    rows = np.array(rows)
    plate = changes.pop("plate", rows % 2)
    return CropMinibatches(images, rows, plate, norm, views, size=size, **changes)


def test_a_minibatch_holds_two_normalised_views_and_says_which_crops():
    s = stream()
    m = s(0, "cpu")
    assert m.global_views.shape == (8, 3, 6, 6) and m.local_views.shape == (0, 3, 6, 6)
    row = torch.from_numpy(s.rows)[m.rows]
    mean, sd = (torch.tensor(pair)[row % 2] for pair in ([10.0, 20.0], [2.0, 5.0]))
    torch.testing.assert_close(m.global_views[:4, 0, 0, 0], (row * 10 - mean) / sd)
    assert torch.equal(m.global_views[:4], m.global_views[4:])
    assert torch.equal(m.label, row % 2) and torch.equal(m.domain, m.label.repeat(2, 1))


def test_an_epoch_shows_no_crop_twice_and_the_next_is_in_another_order():
    s = stream()
    assert s.per_epoch == 3
    epochs = [torch.cat([s(3 * e + k, "cpu").rows for k in range(3)]).tolist() for e in range(20)]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert set().union(*map(set, epochs)) == set(range(13))


def test_a_step_is_the_same_whenever_it_is_asked():
    s, again = stream(views=QCViews()), stream(views=QCViews())
    found = {}
    for step in (0, 7, 3):
        torch.manual_seed(step)
        found[step] = s(step, "cpu")
    for step in (3, 0, 7):
        torch.manual_seed(step)
        m = again(step, "cpu")
        assert torch.equal(m.rows, found[step].rows)
        assert torch.equal(m.global_views, found[step].global_views)
    assert not torch.equal(stream(seed=1)(0, "cpu").rows, found[0].rows)


def test_views_of_one_crop_differ():
    s = stream(views=QCViews(probability=1))
    s.images = torch.randint(0, 256, (20, 3, 6, 6), dtype=torch.uint8)
    first, second = s(0, "cpu").global_views.chunk(2)
    assert not torch.equal(first, second)


def test_shares_of_processes_make_up_the_minibatch():
    whole, parts = stream(), []
    for rank in range(2):
        s = stream()
        s.share(rank, 2)
        parts.append(s(5, "cpu").rows)
    assert torch.equal(torch.cat(parts), whole(5, "cpu").rows)
    with pytest.raises(InputError, match="cannot be shared equally by 3"):
        whole.share(0, 3)


def test_what_cannot_be_trained_on_is_said():
    with pytest.raises(InputError, match=r"13 crops .* fewer than a minibatch of 14"):
        stream(14)
    with pytest.raises(InputError, match="nothing to compare"):
        stream(1)
    with pytest.raises(InputError, match="5 plates were given for 13 crops"):
        stream(plate=np.zeros(5, int))
    s = stream()
    s.images = s.images[..., :5]
    with pytest.raises(InputError, match="6×5 px"):
        s(0, "cpu")

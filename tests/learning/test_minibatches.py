"""Partners come from other batches, uniformly; a step sees the same sites whenever it is asked."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from hcs_utils.errors import InputError
from hcs_utils.learning.minibatches import Minibatches, PartnerIndex, Stored
from hcs_utils.learning.views import Normaliser, ViewsConfig


@st.composite
def layouts(draw):
    """Treatment and batch of each site, every treatment in two batches or more."""
    sites = []
    for treatment in range(draw(st.integers(1, 5))):
        batches = draw(st.sets(st.integers(0, 4), min_size=2))
        sites += [(treatment, b) for b in batches for _ in range(draw(st.integers(1, 4)))]
    sites = draw(st.permutations(sites))
    return tuple(np.array(column) for column in zip(*sites, strict=True))


@given(layout=layouts(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_partner_has_the_treatment_and_never_the_batch(layout, seed):
    treatment, batch = layout
    rows = np.repeat(np.arange(len(treatment)), 20)
    partner = PartnerIndex(treatment, batch).draw(rows, np.random.default_rng(seed))
    assert (treatment[partner] == treatment[rows]).all()
    assert (batch[partner] != batch[rows]).all()


@given(layout=layouts())
@settings(max_examples=25, deadline=None)
def test_every_allowed_partner_can_be_drawn(layout):
    treatment, batch = layout
    index = PartnerIndex(treatment, batch)
    rng = np.random.default_rng(0)
    for row in range(len(treatment)):
        allowed = {
            other
            for other in range(len(treatment))
            if treatment[other] == treatment[row] and batch[other] != batch[row]
        }
        drawn = index.draw(np.full(60 * len(allowed), row), rng)
        assert set(drawn.tolist()) == allowed


def test_partners_are_uniform_over_the_allowed_sites_not_over_batches():
    treatment = np.array([0] * 12 + [1] * 6)
    batch = np.array([0] * 3 + [1] * 8 + [2] * 1 + [0] * 3 + [1] * 3)
    order = np.random.default_rng(1).permutation(len(treatment))
    treatment, batch = treatment[order], batch[order]
    row = int(np.flatnonzero((treatment == 0) & (batch == 0))[0])
    drawn = PartnerIndex(treatment, batch).draw(np.full(9000, row), np.random.default_rng(2))
    allowed = np.flatnonzero((treatment == 0) & (batch != 0))
    counts = Counter(drawn.tolist())
    assert set(counts) == set(allowed.tolist()) and len(allowed) == 9
    assert chisquare([counts[site] for site in allowed]).pvalue > 1e-3


def test_a_treatment_of_one_batch_is_refused_with_what_to_do():
    treatment, batch = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 0, 1])
    with pytest.raises(InputError, match=r"2 of 3 treatments occur in one batch only.*dino") as e:
        PartnerIndex(treatment, batch)
    assert "Leave them out" in str(e.value)


# Minibatches

SITES = 23  # a prime, so that the last sites of an epoch do not fill a minibatch


def stream(partner="self", size=4, seed=0, sites=SITES, **changes):
    """Row r of the images has the value r + 100; the training sites are every second row."""
    values = torch.arange(2 * sites, dtype=torch.uint8).add(100)
    options = dict(
        images=values.view(-1, 1, 1, 1).expand(-1, 2, 12, 12),
        rows=np.arange(1, 2 * sites, 2),
        label=np.arange(sites) % 3,
        domain=np.arange(sites) % 4,
        plate=np.arange(sites) % 5,
        normaliser=Normaliser(-1000.0 * torch.arange(5)[:, None].repeat(1, 2), torch.ones(5, 2)),
        views=ViewsConfig(8, 6, 1, colour_probability=0.0),
    )
    return Minibatches(**(options | changes), size=size, partner=partner, seed=seed)


@pytest.mark.parametrize("partner", ["self", "other_batch"])
def test_a_step_draws_the_same_sites_whatever_came_before(partner):
    whole = stream(partner)
    run = [whole.draw(step) for step in range(20)]
    for step in (19, 3, 11):  # as a resumed run would ask, in a fresh process
        for a, b in zip(stream(partner).draw(step), run[step], strict=True):
            np.testing.assert_array_equal(a, b)
    other = stream(partner, seed=1).draw(3)
    assert not np.array_equal(other[0], run[3][0])


def test_no_site_comes_twice_in_an_epoch_and_each_epoch_has_its_own_order():
    s = stream()
    assert s.per_epoch == 5  # 23 // 4
    epochs = [np.concatenate([s.draw(5 * e + k)[0] for k in range(5)]) for e in range(40)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 20 and set(epoch.tolist()) <= set(range(SITES))
    assert len({tuple(e.tolist()) for e in epochs}) == 40
    left_out = np.bincount(np.concatenate(epochs), minlength=SITES)
    assert left_out.min() > 25  # 35 times each on average: nobody is left out for ever


def test_every_site_comes_exactly_once_when_minibatches_fill_the_epoch():
    s = stream(sites=24)
    epoch = np.concatenate([s.draw(k)[0] for k in range(s.per_epoch)])
    assert sorted(epoch.tolist()) == list(range(24))


def test_pairs_of_a_minibatch_are_of_one_treatment_and_two_batches():
    s = stream("other_batch")
    partners = set()
    for step in range(30):
        anchor, partner = s.draw(step)
        assert (s.label[anchor] == s.label[partner]).all()
        assert (s.domain[anchor] != s.domain[partner]).all()
        partners |= {(int(a), int(p)) for a, p in zip(anchor, partner, strict=True)}
    assert len(partners) > 60  # of 120 draws; 23 if pairs were fixed
    anchor, partner = stream("self").draw(0)
    assert (anchor == partner).all()


@pytest.mark.parametrize("partner", ["self", "other_batch"])
@pytest.mark.parametrize("stored", [False, True])
def test_images_labels_domains_and_plates_belong_together(partner, stored):
    s = stream(partner)
    if stored:
        memory = s.images.numpy()
        s.images = Stored(SimpleNamespace(read=lambda rows: memory[rows]))
    torch.manual_seed(0)
    got = s(7, "cpu")
    anchor, other = s.draw(7)
    both = np.concatenate([anchor, other])
    values = 1000 * s.plate[both] + 100 + s.rows[both]  # its plate's mean is −1000 plate
    assert got.global_views[:, 0, 0, 0].tolist() == values.tolist()
    assert got.local_views[:, 1, 3, 3].tolist() == values.tolist()
    assert got.label.tolist() == s.label[anchor].tolist()
    assert got.domain.tolist() == [s.domain[anchor].tolist(), s.domain[other].tolist()]


def test_fewer_images_than_a_minibatch_are_refused():
    with pytest.raises(InputError, match="23 training images are fewer than a minibatch of 24"):
        stream(size=24)


# Shared by several processes


@pytest.mark.parametrize("partner", ["self", "other_batch"])
@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_the_shares_of_all_processes_are_the_minibatch_of_one(partner, ranks):
    whole, one = stream(partner, size=6), stream(partner, size=6)
    torch.manual_seed(0)
    together = whole(3, "cpu")
    assert len(together.label) == 6
    parts = []
    for rank in range(ranks):
        one.share(rank, ranks)
        for a, b in zip(one.draw(3), whole.draw(3), strict=True):
            np.testing.assert_array_equal(a, b)  # what is drawn is known to all
        parts.append(one(3, "cpu"))
    assert torch.cat([p.label for p in parts]).equal(together.label)
    assert torch.cat([p.domain for p in parts], 1).equal(together.domain)
    first, second = (
        torch.cat([p.global_views.chunk(2)[k][:, 0, 0, 0] for p in parts]) for k in range(2)
    )
    assert torch.cat([first, second]).equal(together.global_views[:, 0, 0, 0])


def test_a_minibatch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(InputError, match=r"of 4 cannot be shared .* by 3 .* such as 6"):
        stream(size=4).share(0, 3)

"""Views of a compound: distinct wells, from as many sources, batches and plates as there are."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from hcs_utils.errors import InputError
from hcs_utils.learning.compound_minibatches import CompoundMinibatches, ViewIndex, WellViews
from hcs_utils.learning.views import Normaliser, ViewsConfig

CROPS = ViewsConfig(global_size=6, locals_per_image=0)
NAMES = ("source", "batch", "plate", "well")


@st.composite
def screens(draw):
    """Compound, source, batch, plate and well of each field, in any order."""
    fields = []
    for compound in range(draw(st.integers(2, 5))):
        for source in draw(st.sets(st.integers(0, 3), min_size=1)):
            for batch in range(draw(st.integers(1, 3))):
                for plate in range(draw(st.integers(1, 2))):
                    for well in range(draw(st.integers(1, 2))):
                        place = (source, 10 * source + batch, plate, 10 * compound + well)
                        fields += [(compound, *place)] * draw(st.integers(1, 2))
    return np.array(draw(st.permutations(fields)))


def distinct(table, upto):
    return len(np.unique(table[:, :upto], axis=0))


@given(screen=screens(), views=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_no_field_twice_and_as_many_sources_then_batches_plates_and_wells_as_there_are(
    screen, views, seed
):
    index = ViewIndex(screen[:, 0], list(screen[:, 1:].T))
    places = np.arange(len(index.compounds))
    drawn = index.draw(places, views, np.random.default_rng(seed))
    for compound, fields in zip(index.compounds, drawn, strict=True):
        own, seen = screen[screen[:, 0] == compound], screen[fields]
        assert (seen[:, 0] == compound).all()
        assert len(set(fields)) == min(views, len(own))
        for upto in range(2, 6):  # of compound and source; and batch; and plate; and well
            assert distinct(seen, upto) == min(views, distinct(own, upto))


def test_each_group_that_may_come_next_comes_equally_often():
    source = np.repeat([0, 1, 2, 3], [1, 5, 2, 12])
    well = np.arange(20) // 2
    index = ViewIndex(np.zeros(20, int), [source, well])
    rng = np.random.default_rng(0)
    one = index.draw(np.zeros(8000, int), 2, rng)
    assert chisquare(np.bincount(source[one[:, 0]])).pvalue > 1e-3
    assert chisquare(np.bincount(source[one[:, 1]])).pvalue > 1e-3
    third = np.bincount(one[source[one[:, 0]] == 3, 0], minlength=20)[8:]
    assert chisquare(third).pvalue > 1e-3  # all its fields


# Minibatches of a small screen: 11 compounds in 4 batches of 2 sources, one well each, 2 fields


def table(compounds=11, batches=4, fields=2):
    compound, batch, _ = (
        x.ravel()
        for x in np.meshgrid(
            np.arange(compounds), np.arange(batches), np.arange(fields), indexing="ij"
        )
    )
    well = np.array([f"A{c:02d}" for c in compound])
    levels = {"source": batch % 2, "batch": batch, "plate": batch, "well": well}
    return compound, levels


class Bits:
    """Molecules whose bits are their number."""

    def __init__(self, count=50):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, rows):
        return torch.as_tensor(rows)[:, None].repeat(1, 3).float()


def minibatches(views=None, compounds=4, of=None, **changes):
    compound, levels = table(**changes)
    images = torch.arange(len(compound), dtype=torch.uint8)[:, None, None, None]
    images = images.expand(-1, 2, 8, 8).contiguous()
    norm = Normaliser(torch.zeros(4, 2), torch.ones(4, 2))
    return CompoundMinibatches(
        images, np.arange(len(compound)), compound, levels, levels["plate"], norm,
        views or WellViews(replace(CROPS, colour_probability=0.0), 3), Bits(), of,
        compounds=compounds, names=[f"SIM-{k}" for k in range(11)],
    )  # fmt: skip


def test_a_minibatch_is_what_was_drawn():
    stream = minibatches(of=np.arange(11)[::-1].copy())
    compound, rows = stream.draw(5)
    made = stream(5, "cpu")
    assert made.images.shape == (12, 2, 6, 6) and made.views == 3
    np.testing.assert_array_equal(made.images[:, 0, 0, 0], rows.ravel())
    np.testing.assert_array_equal(made.label, compound)
    np.testing.assert_array_equal(made.domain, stream.domain[rows])
    np.testing.assert_array_equal(made.molecules[:, 0], 10 - compound)
    assert (stream.label[rows] == compound[:, None]).all()


def test_a_step_is_the_same_whenever_asked_and_an_epoch_has_no_compound_twice():
    stream, again = minibatches(), minibatches()
    steps = [stream.draw(k) for k in range(6)]
    for k in (5, 0, 3, 1, 4, 2):
        for one, other in zip(steps[k], again.draw(k), strict=True):
            np.testing.assert_array_equal(one, other)
    assert stream.per_epoch == 2
    for k in (0, 2, 4):
        epoch = np.concatenate([steps[k][0], steps[k + 1][0]])
        assert len(set(epoch)) == 8
    assert not np.array_equal(steps[0][0], steps[2][0])


@pytest.mark.parametrize("ranks", [2, 4])
def test_shares_one_after_the_other_are_the_minibatch_of_one_process(ranks):
    whole, parts = minibatches(), []
    for rank in range(ranks):
        stream = minibatches()
        stream.share(rank, ranks)
        parts.append(stream(3, "cpu"))
    made = whole(3, "cpu")
    for name in ("label", "domain", "molecules"):
        joined = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(joined, getattr(made, name))
    value = torch.cat([part.images[:, 0, 0, 0] for part in parts])
    torch.testing.assert_close(value, made.images[:, 0, 0, 0])
    with pytest.raises(InputError, match="cannot be shared equally by 3 processes"):
        minibatches().share(0, 3)


def test_a_compound_with_fewer_wells_than_views_is_named_or_seen_again():
    with pytest.raises(InputError, match=r"11 of 11 compounds .* 5 views .*SIM-0, .*, … *.*=4"):
        minibatches(WellViews(CROPS, 5))
    again = minibatches(WellViews(CROPS, 5, repeat="resample"))
    assert [len(set(rows)) for rows in again.draw(0)[1]] == [5] * 4  # other fields of the wells
    fewer = minibatches(WellViews(CROPS, 9, repeat="resample"))
    assert [len(set(rows)) for rows in fewer.draw(0)[1]] == [8] * 4
    single = minibatches(WellViews(CROPS, 1), batches=1)
    assert single.draw(0)[1].shape == (4, 1)
    with pytest.raises(InputError, match="choose views=1, or repeat='resample'"):
        minibatches(WellViews(CROPS, 2), batches=1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (dict(views=WellViews(CROPS, 3, ("sauce",))), "prefer names 'sauce'; there are: source,"),
        (dict(views=WellViews(CROPS, 3, repeat="again")), "choose 'refuse' or 'resample'"),
        (dict(views=WellViews(CROPS, 0)), "with 0 views is none to learn from"),
        (dict(compounds=12), "11 training compounds are fewer than a minibatch of 12"),
        (dict(compounds=1), "A minibatch of 1 compounds"),
    ],
)
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        minibatches(**changes)


def test_without_preferences_wells_still_differ():
    stream = minibatches(WellViews(CROPS, 2, ()))
    _, rows = stream.draw(0)
    assert (stream.domain[rows][:, 0] != stream.domain[rows][:, 1]).all()  # one well a batch


def test_views_are_drawn_at_a_hundred_thousand_compounds_a_second():
    compound, levels = table(20_000, 6, 2)
    index = ViewIndex(compound, list(levels.values()))
    rng, best = np.random.default_rng(0), np.inf
    for _ in range(5):
        places, began = rng.permutation(20_000)[:384], time.perf_counter()
        index.draw(places, 6, rng)
        best = min(best, time.perf_counter() - began)
    assert 384 / best > 1e5

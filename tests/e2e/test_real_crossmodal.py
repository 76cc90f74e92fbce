"""Real molecules and the profiles of their wells: CPJUMP1, held-out compounds, in a short form.

Runs where the plates are on this machine; nothing of them is copied. Five seeds of each method,
with intervals and nulls, are benchmarks/real_cpjump1_crossmodal.py.
"""

import numpy as np
import pytest

from benchmarks import real_cpjump1_crossmodal as real


@pytest.fixture(scope="module")
def screen(shared_data):
    return real.Screen(shared_data("cpjump1_profiles"))


def test_molecules_are_split_whole(screen):
    assert len(screen.names) == 302 and len(screen.table) == 7 * 320
    for seed in range(3):
        train, test = screen.split(seed, 100)
        assert len(test) == 100 and not set(screen.names[train]) & set(screen.names[test])
        smiles = [set(screen.table["smiles"][np.isin(screen.code, x)]) for x in (train, test)]
        assert not smiles[0] & smiles[1]


def test_views_are_wells_of_one_compound_on_different_plates(screen):
    chosen, _ = screen.split(0, 100)
    stream = real.Wells(screen, chosen, real.Settings(), None, 0)
    compound, position = stream.draw(3)
    assert (stream.label[position] == compound[:, None]).all()
    assert all(len(set(plates)) == 3 for plates in stream.domain[position])


def test_held_out_molecules_are_found_more_often_than_by_chance_and_untrained_ones_not(
    screen, one_thread
):
    """EMM and fingerprints, one seed: both ways taken together; the interval is of compounds."""
    c = real.Settings()
    trained, log = real.run(screen, "emm", c, 0)
    untrained, _ = real.run(screen, "emm", c, 0, "none")
    assert log[-1]["m2i_first"] > 0.5  # it knows what it was trained on
    chance = trained["chance_mrr"]
    assert trained["m2i_mrr"][1] > chance and trained["i2m_mrr"][0] > 1.3 * chance
    assert untrained["m2i_mrr"][1] < chance < untrained["m2i_mrr"][2]

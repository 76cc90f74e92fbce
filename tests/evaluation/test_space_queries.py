import numpy as np
import pandas as pd
import pytest

from hcs_utils.errors import InputError
from hcs_utils.evaluation import space_queries


@pytest.fixture
def asked():
    """Six compounds in two plates, a well each with three fields, and their vectors."""
    rng = np.random.default_rng(0)
    rows = [
        {"plate": f"P{plate}", "well": f"B{c + 2:02d}", "compound": f"c{c}", "batch": "b",
         "smiles": "C" * (c + 1), "split": "test", "site_id": f"P{plate}-{c}-{site}", "source": "s"}
        for plate in (1, 2) for c in range(6) for site in range(3)
    ]  # fmt: skip
    table = pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)
    molecules = rng.normal(size=(6, 16))
    code = table["compound"].str[1:].astype(int).to_numpy()
    z = 5 * molecules[code] + rng.normal(size=(36, 16))
    return table, z, molecules


def test_a_well_is_the_mean_direction_of_its_fields(asked):
    table, z, _ = asked
    mean, known = space_queries.wells(z, table)
    assert len(mean) == len(known) == 12
    assert known[["plate", "well"]].apply(tuple, axis=1).is_monotonic_increasing
    for row, well in known.iterrows():
        own = (table["plate"].eq(well["plate"]) & table["well"].eq(well["well"])).to_numpy()
        unit = z[own] / np.linalg.norm(z[own], axis=1, keepdims=True)
        expected = unit.sum(0) / np.linalg.norm(unit.sum(0))
        np.testing.assert_allclose(mean[row], expected)
        assert table["site_id"][own].iloc[(unit @ expected).argmax()] == well["site_id"]


def test_a_molecule_finds_its_wells_and_a_well_its_molecule(asked):
    table, z, molecules = asked
    mean, known = space_queries.wells(z, table)
    listed = pd.DataFrame({"compound": [f"c{c}" for c in range(6)]})
    for c in range(6):
        found = space_queries.answer(molecules[c], mean, known, 3)
        assert found["compound"].tolist()[:2] == [f"c{c}"] * 2
        assert found["rank"].tolist() == [1, 2, 3]
        assert found["similarity"].is_monotonic_decreasing and found["similarity"].max() <= 1
    row = space_queries.well_of("P2", "B04", known)
    back = space_queries.answer(mean[row], molecules, listed, 99)
    assert back["compound"].iloc[0] == "c2" and len(back) == 6


def test_place_counts_those_that_are_nearer():
    rows = np.array([[1.0, 0], [1, 0.2], [0, 1], [-1, 0]])
    assert space_queries.place([1, 0], rows, [False, False, True, False]) == 3
    assert space_queries.place([1, 0], rows, [False, True, True, False]) == 2
    with pytest.raises(InputError, match="no place"):
        space_queries.place([1, 0], rows, [False] * 4)


def test_unknown_wells_and_plates_are_named_with_what_is_near(asked):
    table, z, _ = asked
    known = space_queries.wells(z, table)[1]
    with pytest.raises(InputError, match=r"No plate is called 'P3'.*there are P1, P2"):
        space_queries.well_of("P3", "B02", known)
    with pytest.raises(InputError, match=r"Plate P1 has no well 'B2'.*from B02 to B07"):
        space_queries.well_of("P1", "B2", known)


def test_tables_that_do_not_fit_are_refused(asked):
    table, z, molecules = asked
    with pytest.raises(InputError, match="35 vectors for 36 fields"):
        space_queries.wells(z[1:], table)
    with pytest.raises(InputError, match="6 vectors for 36 names"):
        space_queries.answer(z[0], molecules, table)

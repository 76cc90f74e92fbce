import subprocess
import sys

import numpy as np
import pytest

from hcs_utils.data import molecule_properties
from hcs_utils.data.molecule_properties import properties
from hcs_utils.data.screens import molecules
from hcs_utils.errors import InputError

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def test_aspirin_is_as_in_the_books():
    row = properties([ASPIRIN]).iloc[0]
    assert row["weight"] == pytest.approx(180.16, abs=0.01)
    assert row["tpsa"] == pytest.approx(63.6) and row["logp"] == pytest.approx(1.31, abs=0.01)
    assert (row["donors"], row["acceptors"], row["rings"]) == (1, 3, 1)
    assert row["rotatable_bonds"] == 2


def test_rows_keep_their_order_and_repeats_agree():
    smiles = ["O", ASPIRIN, "O", "CCO.[Na+]"]
    table = properties(smiles)
    assert table.shape == (4, len(molecule_properties.PROPERTIES))
    assert (table.iloc[0] == table.iloc[2]).all() and table.index.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(table.iloc[1], properties([ASPIRIN]).iloc[0])


def test_every_molecule_of_the_library_has_them():
    table = properties(molecules.library()[::40])
    assert np.isfinite(table).all(axis=None) and (table.std() > 0).all()


def test_unreadable_smiles_are_all_named_with_their_rows():
    with pytest.raises(InputError, match=r"3 SMILES cannot be read") as error:
        properties(["C", "C(", "CC", "", "C(", "Xx"])
    assert "row 1: 'C('" in str(error.value) and "row 3: ''" in str(error.value)
    assert "row 5: 'Xx'" in str(error.value)


def test_the_module_is_light():
    code = "import sys, hcs_utils.data.molecule_properties; assert 'rdkit' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

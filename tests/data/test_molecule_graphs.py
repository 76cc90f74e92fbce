import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from hcs_utils.data import molecule_graphs
from hcs_utils.data.screens.molecules import library
from hcs_utils.errors import InputError

HARD = (
    "CC(=O)[O-].[Na+]", "CCN.Cl", "[Na+].[Cl-]", "[He]", "C", "[Pt+2]", "[2H]O[2H]", "[H][H]",
    "Cl[C@H](/C=C/C)Br", "C#N", "O=[N+]([O-])c1ccccc1", "[CH3]", "FS(F)(F)(F)(F)F", "c1cc[nH]c1",
    "*CC*", "[NH3]->[Pt](Cl)Cl", "F/C=C\\F", "[U]", "[O-]Cl(=O)(=O)=O", "C1CC1",
)  # fmt: skip
EVERY = (*HARD, *library()[::131])

# What OGB (Hu et al. 2020) allows, in its order; the last stands for all others
ATOM = [
    list(range(1, 119)),
    ["CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER"],
    list(range(11)), list(range(-5, 6)), list(range(9)), list(range(5)),
    ["SP", "SP2", "SP3", "SP3D", "SP3D2"],
]  # fmt: skip
BOND = ["SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"]
STEREO = ["STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY"]


def place(allowed, value):
    return allowed.index(value) if value in allowed else len(allowed)


def asked_of_rdkit(smiles):
    """Features of atoms and bonds, written from OGB's list, one by one."""
    molecule = Chem.MolFromSmiles(smiles)
    atoms = [
        [place(allowed, value) for allowed, value in zip(ATOM, [
            a.GetAtomicNum(), str(a.GetChiralTag()), a.GetTotalDegree(), a.GetFormalCharge(),
            a.GetTotalNumHs(), a.GetNumRadicalElectrons(), str(a.GetHybridization()),
        ], strict=True)] + [int(a.GetIsAromatic()), int(a.IsInRing())]
        for a in molecule.GetAtoms()
    ]  # fmt: skip
    ends, bonds = [], []
    for b in molecule.GetBonds():
        row = [place(BOND, str(b.GetBondType())), STEREO.index(str(b.GetStereo())),
               int(b.GetIsConjugated())]  # fmt: skip
        ends += [[b.GetBeginAtomIdx(), b.GetEndAtomIdx()], [b.GetEndAtomIdx(), b.GetBeginAtomIdx()]]
        bonds += [row, row]
    return atoms, ends, bonds


@pytest.mark.parametrize("smiles", EVERY)
def test_features_are_those_that_rdkit_gives(smiles):
    found = molecule_graphs.read([smiles])
    atoms, ends, bonds = asked_of_rdkit(smiles)
    assert found.atoms.tolist() == atoms
    assert found.ends.T.tolist() == ends and found.bonds.tolist() == bonds
    assert (found.atoms < np.array(molecule_graphs.ATOM_SIZES)).all()
    assert (found.bonds < np.array(molecule_graphs.BOND_SIZES)).all()


def test_the_example_that_ogb_gives():
    found = molecule_graphs.read(["Cl[C@H](/C=C/C)Br"])
    assert found.atoms[1].tolist() == [5, 2, 4, 5, 1, 0, 2, 0, 0]
    assert found.bonds[2 * 2].tolist() == [1, 2, 0]


def test_what_is_unusual_is_kept_as_it_is():
    def read(smiles):
        return molecule_graphs.read([smiles])

    assert len(read("CC(=O)[O-].[Na+]").atoms) == 5  # both parts of a salt
    assert read("[Na+].[Cl-]").ends.shape == (2, 0)  # ions have no bond
    assert read("[He]").atoms.shape == (1, 9) and read("C").bonds.shape == (0, 3)
    assert len(read("[H]C([H])([H])[H]").atoms) == 1  # hydrogens are counted at their atoms
    assert read("[H]C([H])([H])[H]").atoms[0].tolist() == read("C").atoms[0].tolist()
    assert len(read("[2H]O[2H]").atoms) == 3  # isotopes are kept by RDKit
    assert read("[Pt+2]").atoms[0, 0] == 77 and read("[Pt+2]").atoms[0, 3] == 7
    assert read("*").atoms[0, 0] == 118


def same(one, other):
    return all(np.array_equal(value, vars(other)[name]) for name, value in vars(one).items())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, len(EVERY) - 1), min_size=1, max_size=12))
def test_many_are_each_one_after_the_other(rows):
    every = molecule_graphs.read(list(EVERY))
    cut = molecule_graphs.take(every, np.array(rows))
    read = molecule_graphs.read([EVERY[k] for k in rows])
    assert same(cut, read) and len(cut) == len(rows)
    for k, row in enumerate(rows):
        own = molecule_graphs.read([EVERY[row]])
        assert np.array_equal(cut.atoms[cut.first_atom[k] : cut.first_atom[k + 1]], own.atoms)
        at = slice(cut.first_bond[k], cut.first_bond[k + 1])
        assert np.array_equal(cut.ends[:, at], own.ends)


def test_all_that_cannot_be_read_is_named_with_its_rows():
    smiles = ["CCO", "C1CC", "", "CCN", "C1CC", "  ", "not one", "C(C)(C)(C)(C)C"]
    for read in (molecule_graphs.read, lambda s: molecule_graphs.fingerprints(s, 2, 64)):
        with pytest.raises(InputError) as error:
            read(smiles)
        said = str(error.value)
        assert "6 SMILES cannot be read" in said and "row 0" not in said and "row 3" not in said
        for row in (1, 2, 4, 5, 6, 7):
            assert f"row {row}: {smiles[row]!r}" in said
        assert "row 2: '', empty" in said and "row 4: 'C1CC', RDKit" in said
    with pytest.raises(InputError, match="list of SMILES is empty"):
        molecule_graphs.read([])


def test_the_cache_gives_the_same_in_any_order_without_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(molecule_graphs, "_PART", 8)
    smiles = list(EVERY)
    first = molecule_graphs.read(smiles, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == -(-len(smiles) // 8) and same(first, molecule_graphs.read(smiles))
    for file in files:
        with np.load(file, allow_pickle=False) as kept:
            assert all(kept[name].dtype != object for name in kept.files)
    monkeypatch.setattr(molecule_graphs, "_read_lot", None)  # nothing may be read again
    assert same(first, molecule_graphs.read(smiles, tmp_path))
    turned = molecule_graphs.read(smiles[::-1], tmp_path)
    assert same(turned, molecule_graphs.take(first, np.arange(len(smiles))[::-1]))


def test_what_is_missing_or_damaged_alone_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(molecule_graphs, "_PART", 8)
    smiles, made = list(EVERY), []
    first = molecule_graphs.read(smiles, tmp_path)
    files = sorted(tmp_path.iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-30])
    files[2].write_bytes(b"")
    read = molecule_graphs._read_lot
    monkeypatch.setattr(molecule_graphs, "_read_lot", lambda lot: made.append(lot) or read(lot))
    assert same(first, molecule_graphs.read(smiles, tmp_path)) and len(made) == 3
    assert sorted(tmp_path.iterdir()) == files


def test_one_bad_molecule_leaves_the_good_parts_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(molecule_graphs, "_PART", 8)
    with pytest.raises(InputError, match="1 SMILES"):
        molecule_graphs.read(["C1CC", *EVERY], tmp_path)
    assert len(list(tmp_path.iterdir())) == -(-(len(EVERY) + 1) // 8) - 1


KILLED = """
import sys
from pathlib import Path
from hcs_utils.data import molecule_graphs
from hcs_utils.data.screens.molecules import library
molecule_graphs._PART = 200
keep, count = molecule_graphs._keep, []
def dies(path, arrays):
    count.append(path)
    if len(count) == 3:
        path.with_name(f".{path.name}.1.part").write_bytes(b"half")
        import os
        os._exit(9)
    keep(path, arrays)
molecule_graphs._keep = dies
molecule_graphs.read(library()[:1000], Path(sys.argv[1]), workers=1)
"""


def test_a_killed_reading_goes_on(tmp_path, monkeypatch):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ.copy())
    assert done.returncode == 9 and len(list(tmp_path.glob("graphs-*.npz"))) == 2
    monkeypatch.setattr(molecule_graphs, "_PART", 200)
    read, made = molecule_graphs._read_lot, []
    monkeypatch.setattr(molecule_graphs, "_read_lot", lambda lot: made.append(lot) or read(lot))
    found = molecule_graphs.read(library()[:1000], tmp_path, workers=1)
    assert len(made) == 3 and same(found, molecule_graphs.read(library()[:1000], workers=1))


def test_several_processes_read_the_same():
    smiles = [*library(), *HARD]
    one = molecule_graphs.read(smiles, workers=1)
    assert same(one, molecule_graphs.read(smiles, workers=2))
    bits = molecule_graphs.fingerprints(smiles, 2, 256, workers=2)
    assert np.array_equal(bits, molecule_graphs.fingerprints(smiles, 2, 256, workers=1))
    with pytest.raises(InputError, match=f"row {len(smiles)}: 'C1CC'"):
        molecule_graphs.read([*smiles, "C1CC"], workers=2)

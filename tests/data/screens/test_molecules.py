"""The library of molecules: real, distinct, and what RDKit makes of its parts."""

import builtins
from itertools import product

import numpy as np
import pytest

from hcs_utils.data.screens import molecules
from hcs_utils.errors import InputError


def test_the_library_is_large_and_distinct():
    smiles = molecules.library()
    sizes = [len(x) for x in (molecules.SCAFFOLDS, molecules.ON_RING, molecules.ON_NITROGEN)]
    assert sizes[0] >= 8 and min(sizes[1:]) >= 20
    assert len(set(smiles)) == len(smiles) == np.prod(sizes)


def test_every_molecule_is_sane_canonical_and_like_a_drug():
    Chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem.Descriptors import MolWt
    from rdkit.Chem.rdMolDescriptors import CalcNumLipinskiHBA, CalcNumLipinskiHBD

    for smiles in molecules.library()[::7]:
        molecule = Chem.MolFromSmiles(smiles)
        assert molecule is not None and Chem.MolToSmiles(molecule) == smiles
        assert "*" not in smiles and "." not in smiles
        assert 100 < MolWt(molecule) < 500  # Lipinski's rules
        assert CalcNumLipinskiHBD(molecule) <= 5 and CalcNumLipinskiHBA(molecule) <= 10


def test_the_file_is_what_rdkit_builds_and_parts_name_its_entries(monkeypatch):
    Chem = pytest.importorskip("rdkit.Chem")
    names = (molecules.SCAFFOLDS, molecules.ON_RING, molecules.ON_NITROGEN)
    few = [(0, 3, 7), (0, 3, 19), (5, 0, 7), (5, 0, 19)]
    for k, attribute in enumerate(("SCAFFOLDS", "ON_RING", "ON_NITROGEN")):
        kept = sorted({row[k] for row in few})
        monkeypatch.setattr(molecules, attribute, tuple(names[k][i] for i in kept))
    built = molecules.build()
    monkeypatch.undo()
    where = {molecules.parts(k): s for k, s in enumerate(molecules.library())}
    expected = [where[s, a, b] for s, a, b in product((0, 5), (0, 3), (7, 19))]
    assert list(built) == expected
    for (scaffold, a, b), smiles in list(where.items())[::97]:
        core = Chem.MolFromSmarts(names[0][scaffold].replace("[*:1]", "*").replace("[*:2]", "*"))
        assert Chem.MolFromSmiles(smiles).HasSubstructMatch(core), (scaffold, a, b)


def test_without_rdkit_the_extra_is_named_and_the_library_is_there(monkeypatch):
    real = builtins.__import__

    def absent(name, *words, **options):
        if name.startswith("rdkit"):
            raise ImportError(name)
        return real(name, *words, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install 'hcs-utils\[molecules\]'"):
        molecules.build()
    assert len(molecules.library()) == 3200

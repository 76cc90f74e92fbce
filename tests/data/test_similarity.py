import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rdkit import Chem, DataStructs
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

from hcs_utils.data import molecule_graphs, similarity
from hcs_utils.data.screens.molecules import library
from hcs_utils.errors import InputError


def test_nearest_is_that_of_rdkit():
    smiles = library()[::101]
    generator = GetMorganGenerator(radius=2, fpSize=1024)
    own = [generator.GetFingerprint(Chem.MolFromSmiles(one)) for one in smiles]
    bits = molecule_graphs.fingerprints(smiles, 2, 1024)
    expected = [max(DataStructs.BulkTanimotoSimilarity(one, own[10:])) for one in own[:10]]
    assert np.allclose(similarity.nearest_tanimoto(bits[:10], bits[10:]), expected)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, (7, 2)), st.integers(1, 6))
def test_nearest_is_that_of_sets(bits, cut):
    sets = [set(np.flatnonzero(np.unpackbits(row))) for row in bits]
    expected = [
        max(len(a & b) / len(a | b) if a | b else 1.0 for b in sets[cut:]) for a in sets[:cut]
    ]
    found = similarity.nearest_tanimoto(bits[:cut], bits[cut:])
    assert np.allclose(found, expected) and np.array_equal(
        similarity.nearest_tanimoto(bits, bits), np.ones(7)
    )


def test_many_are_compared_in_chunks(monkeypatch):
    bits = np.random.default_rng(0).integers(0, 256, (50, 8), dtype=np.uint8)
    whole = similarity.nearest_tanimoto(bits[:30], bits[30:])
    monkeypatch.setattr(similarity, "_CHUNK", 7)
    assert np.array_equal(whole, similarity.nearest_tanimoto(bits[:30], bits[30:]))


def test_nothing_to_compare_is_said():
    with pytest.raises(InputError, match="0 to compare"):
        similarity.nearest_tanimoto(np.zeros((2, 4), np.uint8), np.zeros((0, 4), np.uint8))

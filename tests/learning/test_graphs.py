import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
from torch_geometric.data import Batch

from hcs_utils.data.screens.molecules import library
from hcs_utils.errors import InputError
from hcs_utils.learning.molecules import Fingerprints, Graphs, graph

SMILES = (
    "[He]", "CC(=O)[O-].[Na+]", "C", "[Na+].[Cl-]", "Cl[C@H](/C=C/C)Br", *library()[::211],
    "[Pt+2]",
)  # fmt: skip
GRAPHS = Graphs.build(SMILES)


def test_a_graph_has_both_directions_and_whole_numbers():
    one = graph("CC(=O)O")
    assert one.x.shape == (4, 9) and one.x.dtype == one.edge_attr.dtype == torch.int64
    pairs = set(map(tuple, one.edge_index.T.tolist()))
    assert pairs == {(0, 1), (1, 0), (1, 2), (2, 1), (1, 3), (3, 1)}
    assert one.edge_attr.tolist()[2] == one.edge_attr.tolist()[3] == [1, 0, 1]
    assert one.num_nodes == 4 and not one.is_directed() and one.validate()


def test_single_atoms_have_no_edges():
    one = graph("[Na+]")
    assert one.x.shape == (1, 9) and one.edge_index.shape == (2, 0)
    assert one.edge_attr.shape == (0, 3)


@pytest.mark.parametrize("smiles", ["", "C1CC", "hello there"])
def test_what_cannot_be_read_is_named(smiles):
    with pytest.raises(ValueError, match="cannot be read") as error:
        graph(smiles)
    assert repr(smiles) in str(error.value)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(SMILES) - 1), min_size=1, max_size=9))
def test_a_batch_by_index_is_that_of_a_list(rows):
    own, made = GRAPHS[torch.tensor(rows)], Batch.from_data_list([graph(SMILES[k]) for k in rows])
    for name in ("x", "edge_index", "edge_attr", "batch", "ptr"):
        assert torch.equal(own[name], made[name]) and own[name].dtype == made[name].dtype
    assert own.num_graphs == made.num_graphs == len(rows)
    for one, other in zip(own.to_data_list(), made.to_data_list(), strict=True):
        assert torch.equal(one.x, other.x) and torch.equal(one.edge_index, other.edge_index)
        assert torch.equal(one.edge_attr, other.edge_attr)
    assert torch.equal(own.to("cpu").x, made.x) and own.validate()


def test_rows_may_be_an_array_a_list_or_a_number():
    assert torch.equal(GRAPHS[[1, 2]].x, GRAPHS[np.array([1, 2])].x)
    assert torch.equal(GRAPHS[2].x, graph(SMILES[2]).x)
    assert len(GRAPHS) == len(SMILES)
    for rows in ([len(SMILES)], [-1], [], [0.5], np.array([True, False])):
        with pytest.raises(InputError, match="Rows of molecules"):
            GRAPHS[rows]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, len(SMILES) - 1), min_size=1, max_size=9))
def test_degrees_are_those_counted_one_by_one(rows):
    counted = [atom.GetDegree() for k in rows for atom in Chem.MolFromSmiles(SMILES[k]).GetAtoms()]
    found = GRAPHS.degrees(np.array(rows))
    assert found.tolist() == [counted.count(d) for d in range(max(counted) + 1)]
    every = GRAPHS.degrees(range(len(SMILES)))
    assert torch.equal(GRAPHS.degrees(), every)


def test_fingerprints_are_those_of_rdkit():
    for radius, bits in ((2, 1024), (3, 256)):
        own = Fingerprints.build(SMILES, radius=radius, bits=bits)
        generator = GetMorganGenerator(radius=radius, fpSize=bits)
        rows = torch.tensor([4, 0, 4])
        expected = [
            generator.GetFingerprintAsNumPy(Chem.MolFromSmiles(SMILES[k])) for k in rows.tolist()
        ]
        assert np.array_equal(own[rows].numpy(), np.array(expected, np.float32))
        assert own[rows].dtype == torch.float32 and len(own) == len(SMILES)
    with pytest.raises(InputError, match="multiple of 8"):
        Fingerprints.build(SMILES, bits=1023)


def test_the_same_molecule_written_otherwise_has_the_same_bits():
    one, other = "CC(=O)Nc1ccc(O)cc1", "Oc1ccc(NC(C)=O)cc1"
    bits = Fingerprints.build([one, other])[[0, 1]]
    assert torch.equal(bits[0], bits[1]) and bits.sum() > 0

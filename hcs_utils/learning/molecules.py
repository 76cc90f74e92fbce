"""Molecules as networks take them: graphs of atoms and bonds, or fingerprints; by index."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch_geometric.data import Batch, Data

from hcs_utils.data import molecule_graphs
from hcs_utils.data.molecule_graphs import Arrays
from hcs_utils.errors import InputError


def graph(smiles: str) -> Data:
    """One molecule: `x` int64 [a 9], `edge_index` [2 e], `edge_attr` [e 3], bonds both ways.

    Columns and values are those of OGB (`molecule_graphs.ATOM_COLUMNS`, `BOND_COLUMNS`). All
    fragments are kept; a single atom has no edges. Raises `InputError`, a ValueError, naming what
    cannot be read.
    """
    return Graphs.build([smiles], workers=1)[np.array([0])].get_example(0)


class Graphs:
    """All molecules of a list, read once; ``graphs[rows]`` is a batch of some, cut by index."""

    def __init__(self, arrays: Arrays):
        self.arrays = arrays

    @classmethod
    def build(
        cls, smiles: Sequence[str], cache: Path | str | None = None, workers: int = 2
    ) -> "Graphs":
        """Read SMILES; see `molecule_graphs.read` for the cache and for what is refused."""
        return cls(molecule_graphs.read(smiles, Path(cache) if cache else None, workers))

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, rows) -> Batch:
        rows = _rows(rows, len(self))
        part = molecule_graphs.take(self.arrays, rows)
        atoms, bonds = np.diff(part.first_atom), np.diff(part.first_bond)
        shift = np.repeat(part.first_atom[:-1], bonds)
        batch = Batch(
            x=torch.from_numpy(part.atoms.astype(np.int64)),
            edge_index=torch.from_numpy(part.ends.astype(np.int64) + shift),
            edge_attr=torch.from_numpy(part.bonds.astype(np.int64)),
            batch=torch.from_numpy(np.repeat(np.arange(len(rows)), atoms)),
            ptr=torch.from_numpy(part.first_atom),
        )
        batch._num_graphs = len(rows)
        first = {"x": part.first_atom, "edge_index": part.first_bond, "edge_attr": part.first_bond}
        batch._slice_dict = {name: torch.from_numpy(at) for name, at in first.items()}
        none = torch.zeros(len(rows), dtype=torch.long)
        batch._inc_dict = {"x": none, "edge_attr": none}
        batch._inc_dict["edge_index"] = torch.from_numpy(part.first_atom[:-1])
        return batch

    def degrees(self, rows=None) -> Int[Tensor, " k"]:
        """How many atoms have 0, 1, 2, … bonds, over the molecules of `rows`: for PNA."""
        part = self.arrays
        if rows is not None:
            part = molecule_graphs.take(part, _rows(rows, len(self)))
        shift = np.repeat(part.first_atom[:-1], np.diff(part.first_bond))
        degree = np.bincount(part.ends[1] + shift, minlength=len(part.atoms))
        return torch.from_numpy(np.bincount(degree))


class Fingerprints:
    """ECFP of all molecules of a list: Morgan fingerprints as bits [n b]; ``of[rows]`` floats."""

    def __init__(self, bits: np.ndarray):
        self.bits = bits  # packed, eight to a byte

    @classmethod
    def build(
        cls, smiles: Sequence[str], radius: int = 2, bits: int = 1024, workers: int = 2
    ) -> "Fingerprints":
        """Read SMILES; radius 2 and 1,024 bits as CLOOME. Refuses what `Graphs.build` refuses."""
        if bits < 8 or bits % 8 or radius < 0:
            raise InputError(f"bits must be a multiple of 8 and radius 0 or more: {bits}, {radius}")
        return cls(molecule_graphs.fingerprints(smiles, radius, bits, workers))

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, rows) -> Float[Tensor, "n b"]:
        chosen = self.bits[_rows(rows, len(self))]
        return torch.from_numpy(np.unpackbits(chosen, axis=1).astype(np.float32))


def _rows(rows, count: int) -> np.ndarray:
    rows = np.atleast_1d(np.asarray(rows))
    if not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"Rows of molecules are whole numbers, one or more; got {rows!r:.60}.")
    if rows.min() < 0 or rows.max() >= count:
        raise InputError(f"Rows of molecules go from 0 to {count - 1}; got {rows.max()}.")
    return rows

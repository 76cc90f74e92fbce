"""Atoms and bonds of molecules as small integers, in flat arrays that are cut by index."""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from hcs_utils import files
from hcs_utils.errors import InputError

VERSION = 1  # raised when the same SMILES comes to give other numbers
ATOM_SIZES = (119, 5, 12, 12, 10, 6, 6, 2, 2)  # values of each column, as OGB counts them
BOND_SIZES = (5, 6, 2)
ATOM_COLUMNS = (
    "element", "chirality", "degree", "charge", "hydrogens", "radicals", "hybridisation",
    "aromatic", "in_ring",
)  # fmt: skip
BOND_COLUMNS = ("type", "stereo", "conjugated")
_CHIRALITY = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
_HYBRIDISATION = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
_TYPE = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_STEREO = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")
_PART = 8192  # molecules of one file of the cache
_SHOWN = 1000  # SMILES listed in one message


@dataclass
class Arrays:
    """Molecules one after the other; molecule i has the atoms `first_atom[i]` to `[i + 1]`.

    `atoms` uint8 [a 9] and `bonds` uint8 [e 3] are columns of small integers; `ends` int32 [2 e]
    numbers the atoms of a bond within its molecule. Each bond is there in both directions.
    """

    atoms: np.ndarray
    ends: np.ndarray
    bonds: np.ndarray
    first_atom: np.ndarray
    first_bond: np.ndarray

    def __len__(self) -> int:
        return len(self.first_atom) - 1


def read(smiles: Sequence[str], cache: Path | None = None, workers: int = 2) -> Arrays:
    """All molecules in their order; one that occurs twice is read once.

    All fragments are kept: a salt's counter-ion is in the well, too. Hydrogens are counted at
    their atoms. With `cache`, a folder, parts of 8,192 molecules are kept there and found again,
    so a killed reading goes on. Raises `InputError` that lists what RDKit cannot read, and where.
    """
    smiles = list(smiles)
    if not smiles:
        raise InputError("There are no molecules: the list of SMILES is empty.")
    unique, inverse = _unique(smiles)
    lots = [unique[k : k + _PART] for k in range(0, len(unique), _PART)]
    paths = [None if cache is None else _path(Path(cache), lot) for lot in lots]
    parts, bad = [path and _kept(path) for path in paths], {}
    left = [k for k, part in enumerate(parts) if part is None]
    for k, (arrays, wrong) in zip(left, _read_all([lots[k] for k in left], workers), strict=True):
        parts[k] = arrays
        bad |= wrong
        if arrays is not None and paths[k] is not None:
            _keep(paths[k], arrays)
    if bad:
        _refuse(bad, smiles)
    joined = _joined(parts)
    return joined if (inverse == np.arange(len(smiles))).all() else take(joined, inverse)


def _unique(smiles: list) -> tuple[list[str], np.ndarray]:
    """Distinct SMILES in their order as words, so that any order finds the same parts kept."""
    code, unique = pd.factorize(pd.Series([str(one) for one in smiles], dtype=object), sort=True)
    return unique.tolist(), code


def take(of: Arrays, rows: np.ndarray) -> Arrays:
    """Some molecules, in any order and as often as named; index arithmetic, no loop over them."""
    atom, first_atom = _places(of.first_atom, rows)
    bond, first_bond = _places(of.first_bond, rows)
    return Arrays(of.atoms[atom], of.ends[:, bond], of.bonds[bond], first_atom, first_bond)


def _places(first: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of all entries of `rows`, and where each row's begin among them."""
    count = first[rows + 1] - first[rows]
    start = np.r_[0, np.cumsum(count)]
    return np.repeat(first[rows] - start[:-1], count) + np.arange(start[-1]), start


def _read_all(lots: list[list[str]], workers: int) -> Iterator[tuple[Arrays | None, dict]]:
    if workers < 2 or sum(map(len, lots)) < 2000:
        yield from map(_read_lot, lots)
        return
    pieces = [lot[k : k + 512] for lot in lots for k in range(0, len(lot), 512)]
    with ProcessPoolExecutor(workers) as pool:
        found = pool.map(_read_lot, pieces)
        for lot in lots:
            own = [next(found) for _ in range(0, len(lot), 512)]
            wrong = {s: why for _, bad in own for s, why in bad.items()}
            yield (None if wrong else _joined([arrays for arrays, _ in own])), wrong


def _read_lot(smiles: list[str]) -> tuple[Arrays | None, dict[str, str]]:
    from rdkit import rdBase

    made, bad = [], {}
    with rdBase.BlockLogs():
        for one in smiles:
            try:
                made.append(_molecule(one))
            except ValueError as error:
                bad[one] = str(error)
    if bad:
        return None, bad
    atoms, ends, bonds = zip(*made, strict=True)
    flat = [np.frombuffer(b"".join(part), np.uint8) for part in (atoms, bonds)]
    ends = np.array([e for m in ends for e in m], np.int32).reshape(-1, 2).T.copy()
    sizes = (len(ATOM_SIZES), len(BOND_SIZES))
    first = [
        np.r_[0, np.cumsum([len(m) // size for m in part])].astype(np.int64)
        for part, size in zip((atoms, bonds), sizes, strict=True)
    ]
    return Arrays(flat[0].reshape(-1, sizes[0]), ends, flat[1].reshape(-1, sizes[1]), *first), {}


def _molecule(smiles: str) -> tuple[bytes, list, bytes]:
    """Rows of atoms and of bonds in both directions, with the bonds' ends."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles) if smiles.strip() else None
    if molecule is None or not molecule.GetNumAtoms():
        raise ValueError("empty" if not smiles.strip() else "RDKit cannot read it")
    chirality, hybridisation, kind, stereo = _places_of_names()
    atoms, ends, bonds = bytearray(), [], bytearray()
    for atom in molecule.GetAtoms():
        number, charge = atom.GetAtomicNum(), atom.GetFormalCharge() + 5
        atoms += bytes((
            number - 1 if 1 <= number <= 118 else 118, chirality[atom.GetChiralTag()],
            min(atom.GetTotalDegree(), 11), charge if 0 <= charge <= 10 else 11,
            min(atom.GetTotalNumHs(), 9), min(atom.GetNumRadicalElectrons(), 5),
            hybridisation[atom.GetHybridization()], atom.GetIsAromatic(), atom.IsInRing(),
        ))  # fmt: skip
    for bond in molecule.GetBonds():
        a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        ends += ((a, b), (b, a))
        row = kind[bond.GetBondType()], stereo[bond.GetStereo()], bond.GetIsConjugated()
        bonds += bytes(row + row)
    return bytes(atoms), ends, bytes(bonds)


@cache
def _places_of_names() -> list[dict]:
    """For chirality, hybridisation, bond and its stereo: RDKit's value → its number here.

    What OGB has no name for is the last; of stereo, for which it has no "other", "any".
    """
    from rdkit.Chem import rdchem

    every = {rdchem.ChiralType: (_CHIRALITY, 4), rdchem.HybridizationType: (_HYBRIDISATION, 5),
             rdchem.BondType: (_TYPE, 4), rdchem.BondStereo: (_STEREO, 5)}  # fmt: skip
    return [
        {value: known.index(name) if name in known else other for name, value in of.names.items()}
        for of, (known, other) in every.items()
    ]


def _joined(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    firsts = []
    for name in ("first_atom", "first_bond"):
        counts = [np.diff(getattr(part, name)) for part in parts]
        firsts.append(np.r_[0, np.cumsum(np.concatenate(counts))])
    atoms, ends, bonds = (
        np.concatenate([getattr(part, name) for part in parts], axis)
        for name, axis in (("atoms", 0), ("ends", 1), ("bonds", 0))
    )
    return Arrays(atoms, ends, bonds, *firsts)


def _path(cache: Path, lot: list[str]) -> Path:
    from rdkit import rdBase  # another version may see another ring as aromatic

    content = chr(10).join([str(VERSION), rdBase.rdkitVersion, *lot])
    return cache / f"graphs-{files.sha256(content.encode())[:16]}.npz"


def _keep(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **vars(arrays))


def _kept(path: Path) -> Arrays | None:
    """A part that was kept; None where there is none, or where it is damaged and is made again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return Arrays(**{name: found[name] for name in Arrays.__dataclass_fields__})
    except (ValueError, OSError, EOFError, KeyError, BadZipFile, zlib.error):
        return None


def _refuse(bad: dict[str, str], smiles: list[str]) -> None:
    rows = [k for k, one in enumerate(smiles) if str(one) in bad]
    shown = "\n".join(f"    row {k}: {smiles[k]!r}, {bad[str(smiles[k])]}" for k in rows[:_SHOWN])
    more = f"\n    … and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    raise InputError(
        f"{len(rows)} SMILES cannot be read (rows from 0):\n{shown}{more}\n"
        "Mend them, or leave these compounds out."
    )


def fingerprints(smiles: Sequence[str], radius: int, bits: int, workers: int = 2) -> np.ndarray:
    """Morgan fingerprints, packed [n bits/8] uint8; one that occurs twice is made once."""
    smiles = list(smiles)
    if not smiles:
        raise InputError("There are no molecules: the list of SMILES is empty.")
    unique, inverse = _unique(smiles)
    pieces = [unique[k : k + 512] for k in range(0, len(unique), 512)]
    jobs = [(piece, radius, bits) for piece in pieces]
    if workers < 2 or len(unique) < 2000:
        found = list(map(_printed, jobs))
    else:
        with ProcessPoolExecutor(workers) as pool:
            found = list(pool.map(_printed, jobs))
    if bad := {one: why for _, wrong in found for one, why in wrong.items()}:
        _refuse(bad, smiles)
    return np.concatenate([packed for packed, _ in found])[inverse]


def _printed(job: tuple[list[str], int, int]) -> tuple[np.ndarray, dict[str, str]]:
    from rdkit import Chem, rdBase
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    smiles, radius, bits = job
    made, bad, generator = [], {}, GetMorganGenerator(radius=radius, fpSize=bits)
    with rdBase.BlockLogs():
        for one in smiles:
            molecule = Chem.MolFromSmiles(one) if one.strip() else None
            if molecule is None or not molecule.GetNumAtoms():
                bad[one] = "RDKit cannot read it" if one.strip() else "empty"
                continue
            made.append(np.packbits(generator.GetFingerprintAsNumPy(molecule)))
    return np.array(made, np.uint8).reshape(-1, bits // 8), bad

"""Compounds that are one molecule, and molecules that share a scaffold, for leak-proof splits."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hcs_utils.errors import InputError

_SHOWN = 20  # SMILES listed in one message


def groups(manifest: pd.DataFrame, scaffold: bool = False) -> pd.Series:
    """The group of every row: rows of one compound, or of one molecule, are always together.

    Rows are joined by the name of the compound and by the first block of the InChIKey, which
    stereoisomers and isotopes share; with `scaffold` also by the Bemis–Murcko scaffold. A molecule
    without a ring has no scaffold and stays by itself, as does a compound without SMILES. What is
    joined to the same thing is joined: a name with two SMILES brings both scaffolds together.

    A column `inchikey` is believed where it is filled; else RDKit works it out, about a minute for
    100,000 molecules. A group is called after the first of its compounds.

    Raises `InputError` listing the SMILES that RDKit cannot read.
    """
    named = ["compound", "smiles", *(["inchikey"] if "inchikey" in manifest else [])]
    rows = manifest[named].assign(name=manifest["compound"])
    nameless = rows["name"] == ""
    if nameless.any():  # the class is then the only name there is
        rows.loc[nameless, "name"] = manifest.loc[nameless, "treatment"]
    keys = [column for column in ("name", *named[1:])]
    code = rows.groupby(keys, sort=True, dropna=False).ngroup().to_numpy()
    first = np.unique(code, return_index=True)[1]
    unique = rows.iloc[first].reset_index(drop=True)
    links = [unique["name"], _connectivity(unique)]
    if scaffold:
        if not (unique["smiles"] != "").any():
            raise InputError("No row has SMILES, so there are no scaffolds. Split by compound.")
        links.append(_of_smiles(unique["smiles"], _scaffold))
    group = _joined(links)
    label = unique["name"].groupby(group).min()
    return pd.Series(label.to_numpy()[group][code], manifest.index, dtype="str")


def _joined(links: list[pd.Series]) -> np.ndarray:
    """Number of each row's component; rows are joined by an equal, non-empty value of a link."""
    rows, nodes, offset = [], [], 0
    for link in links:
        filled = np.flatnonzero(link != "")
        codes, values = pd.factorize(link.iloc[filled])
        rows.append(filled)
        nodes.append(codes + offset)
        offset += len(values)
    n = len(links[0])
    row, node = np.concatenate(rows), np.concatenate(nodes) + n
    graph = coo_matrix((np.ones(len(row), np.int8), (row, node)), shape=(n + offset, n + offset))
    return connected_components(graph, directed=False)[1][:n]


def _connectivity(unique: pd.DataFrame) -> pd.Series:
    """First block of the InChIKey; "" for what has neither key nor SMILES."""
    known = unique["inchikey"] if "inchikey" in unique else pd.Series("", unique.index)
    key = known.str[:14]
    empty = key == ""
    key = key.mask(empty, _of_smiles(unique["smiles"].where(empty, ""), _inchikey))
    return key


def _of_smiles(smiles: pd.Series, function) -> pd.Series:
    """`function` of each molecule, once for each SMILES; "" stays "". All bad SMILES are named."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        found, bad = {"": ""}, []
        for one in smiles.unique():
            molecule = Chem.MolFromSmiles(one) if one else None
            if molecule is not None:
                found[one] = function(molecule)
            elif one:
                bad.append(one)
        if bad:
            shown = "\n".join(f"    {one!r}" for one in bad[:_SHOWN])
            more = f"\n    … and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            raise InputError(
                f"{len(bad)} SMILES cannot be read:\n{shown}{more}\nMend them, or leave them empty."
            )
    return smiles.map(found).astype("str")


def _inchikey(molecule) -> str:
    from rdkit import Chem

    return Chem.MolToInchiKey(molecule)[:14]


def _scaffold(molecule) -> str:
    """Canonical SMILES of the rings and what links them, without stereochemistry; "" if none."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return MurckoScaffold.MurckoScaffoldSmiles(mol=molecule, includeChirality=False)

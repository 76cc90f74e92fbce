"""What a chemist reads off a molecule at once: size, greasiness, polarity, flexibility."""

from collections.abc import Sequence

import pandas as pd

from hcs_utils.errors import InputError

PROPERTIES = (  # name here, function of RDKit
    ("weight", "Descriptors", "MolWt"),  # g/mol
    ("logp", "Crippen", "MolLogP"),  # octanol over water, log10, estimated
    ("tpsa", "rdMolDescriptors", "CalcTPSA"),  # polar surface, Å²
    ("donors", "Lipinski", "NumHDonors"),  # of hydrogen bonds
    ("acceptors", "Lipinski", "NumHAcceptors"),
    ("rotatable_bonds", "rdMolDescriptors", "CalcNumRotatableBonds"),
    ("rings", "rdMolDescriptors", "CalcNumRings"),
)
_SHOWN = 20  # SMILES listed in one message


def properties(smiles: Sequence[str]) -> pd.DataFrame:
    """Seven properties of every molecule, a row each in the order given (about 2,000 a second).

    weight (g/mol), logp (Crippen's estimate), tpsa (Å²), donors and acceptors of hydrogen bonds,
    rotatable_bonds and rings. They say how large and how greasy a molecule is and nothing of which
    one it is, so pools of molecules that are alike in them ask for more
    (`evaluation.retrieval`, form "matched").

    Raises `InputError` naming every SMILES that RDKit cannot read, with its row, and the empty.
    """
    given = pd.Series([str(one) for one in smiles], dtype=object)
    found = {}
    for one in given.unique():
        found[one] = _of(one)
    bad = [one for one, values in found.items() if values is None]
    if bad:
        first = [int((given == one).to_numpy().argmax()) for one in bad[:_SHOWN]]
        shown = "\n".join(f"    row {r}: {s!r}" for r, s in zip(first, bad, strict=False))
        more = f"\n    … and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise InputError(
            f"{len(bad)} SMILES cannot be read:\n{shown}{more}\nMend them, or leave such rows out."
        )
    names = [name for name, _, _ in PROPERTIES]
    return pd.DataFrame([found[one] for one in given], columns=names, dtype=float)


def _of(smiles: str) -> list[float] | None:
    from importlib import import_module

    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
    if molecule is None:
        return None
    return [
        float(getattr(import_module(f"rdkit.Chem.{module}"), function)(molecule))
        for _, module, function in PROPERTIES
    ]

"""The molecules of the simulated screen: every pair of substituents on every scaffold."""

from functools import cache
from itertools import product
from pathlib import Path

from hcs_utils.errors import InputError

SCAFFOLDS = (
    "[*:1]c1ccc(cc1)C(=O)N[*:2]",  # benzamide
    "[*:1]c1ccc2ncnc(N[*:2])c2c1",  # quinazolin-4-amine
    "[*:1]c1ccc2[nH]c(cc2c1)C(=O)N[*:2]",  # indole-2-carboxamide
    "[*:1]c1ccc(cc1)S(=O)(=O)N[*:2]",  # benzenesulfonamide
    "[*:1]c1ccnc(c1)N[*:2]",  # pyridin-2-amine
    "[*:1]c1ccc(cc1)-c1ccnc(N[*:2])n1",  # 4-phenylpyrimidin-2-amine
    "[*:1]c1csc(n1)C(=O)N[*:2]",  # thiazole-2-carboxamide
    "[*:1]c1ccc2c(c1)C(=O)N([*:2])CC2",  # dihydroisoquinolin-1-one
)
ON_RING = (
    "C", "CC", "C(C)C", "C1CC1", "F", "Cl", "Br", "O", "OC", "OCC", "OC(F)(F)F", "N", "N(C)C",
    "N1CCOCC1", "C#N", "C(F)(F)F", "C(N)=O", "C(=O)OC", "SC", "S(C)(=O)=O",
)  # fmt: skip
ON_NITROGEN = (
    "C", "CC", "CCC", "C(C)C", "C1CC1", "CC1CC1", "C1CCCC1", "C1CCCCC1", "C1CCOCC1", "CCO", "CCOC",
    "CCN(C)C", "CC(F)(F)F", "CC(N)=O", "c1ccccc1", "c1ccc(F)cc1", "Cc1ccccc1", "CCc1ccccc1",
    "Cc1ccco1", "Cc1cccnc1",
)  # fmt: skip
_WRITTEN = Path(__file__).with_name("molecules.txt")


@cache
def library() -> tuple[str, ...]:
    """Canonical SMILES of all molecules, scaffold by scaffold, as :func:`build` made them.

    They are read from a file, so that the screen is the same with any version of RDKit, or none.
    """
    return tuple(_WRITTEN.read_text("utf-8").split())


def build() -> tuple[str, ...]:
    """The same from their parts, joined, sanitised and written by RDKit (3,200: a few seconds)."""
    try:
        from rdkit import Chem
    except ImportError as error:
        raise InputError(
            "Molecules are built with RDKit, which is not installed: pip install "
            "'hcs-utils[molecules]'."
        ) from error
    made = []
    for names in product(SCAFFOLDS, ON_RING, ON_NITROGEN):
        pieces = Chem.MolFromSmiles("{}.[*:1]{}.[*:2]{}".format(*names))
        molecule = Chem.molzip(pieces)
        Chem.SanitizeMol(molecule)
        made.append(Chem.MolToSmiles(molecule))
    return tuple(made)


def parts(index):
    """Scaffold, substituent on the ring and on the nitrogen, as numbers, of a library's entry."""
    scaffold, rest = divmod(index, len(ON_RING) * len(ON_NITROGEN))
    return (scaffold, *divmod(rest, len(ON_NITROGEN)))

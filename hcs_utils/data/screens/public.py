"""The public screens that a reader of this folder knows, and the manifest of one on this disk."""

from importlib import import_module
from pathlib import Path

import pandas as pd

from hcs_utils.data import manifest as manifests
from hcs_utils.errors import InputError

NAMES = ("rxrx1", "cpg0004", "jump", "bbbc021", "bbbc022")  # a module each beside this one


def tables(name: str, root: Path | str, **options) -> pd.DataFrame:
    """The manifest of all that the screen's own tables below `root` speak of."""
    if name not in NAMES:
        near = manifests.nearest(name, list(NAMES))
        raise InputError(f"Unknown screen {name!r}{near}; there are: {', '.join(NAMES)}.")
    return import_module(f"hcs_utils.data.screens.{name}").manifest(root, **options)


def fetched(name: str, root: Path | str) -> pd.DataFrame:
    """The manifest of a public screen below `root`: the one fetched last, else all of its tables.

    Every image must be here. Raises `InputError` naming the tables or images that are not.
    """
    there = Path(root) / "manifest.parquet"
    return manifests.read(there) if there.is_file() else tables(name, root)

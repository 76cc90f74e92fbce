"""A screen brought to this disk and ready to be learned from: manifest and store."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hcs_utils import files
from hcs_utils.data import manifest as manifests
from hcs_utils.data import preprocess, quality, splits
from hcs_utils.data.screens import cpg0004, own, public, simulated
from hcs_utils.data.store import Store, open_store
from hcs_utils.errors import InputError
from hcs_utils.learning import ranks
from hcs_utils.learning.minibatches import Stored
from hcs_utils.learning.views import Normaliser

_IN_MEMORY_GIB = 4


@dataclass
class Screen:
    """A screen on this disk, ready to be learned from; rows of the table follow the store."""

    name: str
    root: Path
    table: pd.DataFrame
    store: Store
    left_out: int = 0  # fields that quality control flagged, neither in the table nor in the store

    @property
    def channels(self) -> tuple[str, ...]:
        return self.store.channels

    def images(self):
        """All images in memory as uint8 [n c y x], or a reader that is indexed the same way."""
        if np.prod(self.store.shape) <= _IN_MEMORY_GIB * 2**30:
            return torch.from_numpy(self.store.read(np.arange(len(self.store))))
        return Stored(self.store)


def prepare(
    screen: str = "simulated",
    size: str = "quick",
    image_px: int = 0,
    progress: bool = False,
    flagged: str = "drop",
) -> Screen:
    """Bring a screen to the store: ``simulated``, one of ``public.NAMES``, or a ``screen.yaml``.

    A simulated screen is drawn, of size ``size``; a public one is read in ``$HCS_DATA/<name>``, of
    it what ``hcs fetch`` brought last, else all. What is there already is used; what was
    interrupted goes on. ``image_px`` is the side of the stored squares, 0 for the files' own size.

    Fields that quality control flagged (`quality.write`) are in neither table nor store, and a line
    says how many; ``flagged="keep"`` takes them in. The store on the disk has them all, and its
    grey levels were set by a sample of them all.
    """
    one_of("value of flagged", flagged, ("drop", "keep"))
    if screen == "simulated":
        one_of("size", size, simulated.SIZES)
        name, root = f"simulated-{size}", simulated.home(size)
        simulated.draw(root, simulated.SIZES[size], progress=progress)
        table, um = simulated.manifest(root), simulated.PIXEL_SIZE_UM
        state = (root / "simulated.json").read_text()
    elif screen in public.NAMES or str(screen).endswith((".yaml", ".yml")):
        table = _public(screen) if screen in public.NAMES else own.from_yaml(screen)
        name = re.sub(r"[^\w.-]+", "-", table.attrs["screen"]).strip("-.") or "own"
        root, um, state = Path(table.attrs["root"]), table.attrs.get("pixel_size_um"), ""
    else:
        raise InputError(
            f"screen is {screen!r}; give 'simulated' or the path of a screen.yaml, or a public "
            f"screen: {', '.join(public.NAMES)}{manifests.nearest(str(screen), public.NAMES)}."
        )
    px = image_px or None
    key = files.sha256(f"{root.resolve()} {state}".encode())[:8]
    path = files.data_root() / "stores" / f"{name}-{key}-{px or 'full'}.zarr"
    preprocess.preprocess(
        table, root, path, size=px, low=0.5, high=99.8, pixel_size_um=um, progress=progress
    )
    store = open_store(path)
    table = table.set_index("site_id").loc[list(store.site_ids)].reset_index()
    return _judged(Screen(name, Path(root), table, store), flagged)


def _judged(screen: Screen, flagged: str) -> Screen:
    """The screen with what quality control found, and without the fields that it flagged."""
    if not (screen.root / quality.FILE).exists():
        return screen
    table = quality.with_quality(screen.table, screen.root)
    if (line := quality.told(table, flagged)) and ranks.this() == 0:
        print(line)
    if flagged == "keep":
        return Screen(screen.name, screen.root, table, screen.store)
    kept, store = quality.without_flagged(table, screen.store)
    return Screen(screen.name, screen.root, kept, store, len(table) - len(kept))


def split(table: pd.DataFrame, fold: int, folds: int) -> pd.Series:
    """Part (train, val, test) of every site by whole batches; ``folds`` 0 leaves one batch out.

    Five folds of CPG0004, known by its columns, are the paper's: whole replicate groups of plates.
    """
    if folds == len(cpg0004.FOLDS) and {"platemap", "replicate", "date"} <= set(table.columns):
        part = splits.split_sites(table, cpg0004.fold(table, fold), by="plate")
        splits.assert_disjoint(table, part, by="plate")
        return part.loc[table["site_id"]].set_axis(table.index)
    batches = table["batch"].unique()
    if len(batches) < 2:
        raise InputError(
            f"The screen has one batch only ({batches[0]}), so no batch can be held out. Give the "
            "column that tells days, runs or plates apart as `batch`."
        )
    parts = (
        splits.batch_folds(batches, fold, folds) if folds else splits.leave_one_out(batches, fold)
    )
    part = splits.split_sites(table, parts, by="batch")
    splits.assert_disjoint(table, part, by="batch")
    return part.loc[table["site_id"]].set_axis(table.index)


def normaliser(screen: Screen, over: str) -> tuple[Normaliser, np.ndarray]:
    """Channel statistics by plate, and the row of them that belongs to each site."""
    stats = preprocess.control_statistics(screen.store, screen.table, by="plate", over=over)
    mean = stats[[f"mean_{c}" for c in screen.channels]].to_numpy(np.float32)
    std = stats[[f"std_{c}" for c in screen.channels]].to_numpy(np.float32)
    plate = pd.Index(stats.index).get_indexer(screen.table["plate"])
    return Normaliser(torch.tensor(mean), torch.tensor(np.maximum(std, 1.0))), plate


def _public(name: str) -> pd.DataFrame:
    """The manifest of a public screen: the one that `hcs fetch` wrote, else of all its tables."""
    root = files.data_root() / name
    if not root.is_dir() or not any(root.iterdir()):
        raise InputError(
            f"The screen {name} is not on this disk: it is looked for in {root}, that is "
            f"$HCS_DATA/{name}. `hcs fetch {name}` brings it, or the part of it that you name; its "
            "dataset card says how large it is."
        )
    table = public.fetched(name, root)
    table.attrs |= {"screen": name, "root": str(root)}
    return table


def one_of(name: str, value, known) -> None:
    if value not in known:
        near = manifests.nearest(str(value), list(known))
        raise InputError(f"Unknown {name} {value!r}{near}; there are: {', '.join(known)}.")

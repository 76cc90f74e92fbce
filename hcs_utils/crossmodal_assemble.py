"""From the flat parameters of a cross-modal run to what learning works with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn

from hcs_utils import files
from hcs_utils.crossmodal_settings import CrossmodalSettings
from hcs_utils.data import manifest as manifests
from hcs_utils.data import molecule_groups, splits
from hcs_utils.errors import InputError
from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.compound_minibatches import PREFER, CompoundMinibatches, WellViews
from hcs_utils.learning.views import Normaliser, ViewsConfig
from hcs_utils.prepare import Screen, normaliser

if TYPE_CHECKING:  # its packages are those of [molecules]
    from hcs_utils.learning.space import Space


@dataclass
class Ready:
    """A screen with its split by compounds, its molecules, and how its images are looked at."""

    settings: CrossmodalSettings
    screen: Screen
    table: pd.DataFrame  # the manifest with `split` (train, val, test) and `molecule`
    compounds: pd.DataFrame  # with SMILES, a row each: compound, smiles, molecule, role, split
    normaliser: Normaliser
    plate: np.ndarray  # row of the normaliser of each field
    crops: ViewsConfig

    @cached_property
    def images(self):
        return self.screen.images()

    @cached_property
    def molecules(self):
        """Graphs or fingerprints of all compounds, in their rows' order."""
        return molecules(self.settings, self.compounds["smiles"].tolist())

    @cached_property
    def row(self) -> np.ndarray:
        """Row in `compounds` of each field's; −1 where it has no SMILES."""
        return pd.Index(self.compounds["compound"]).get_indexer(self.table["compound"])

    @cached_property
    def trained(self) -> np.ndarray:
        """Rows of the fields to learn from, negative controls left out or taken for a compound."""
        chosen = self.table["split"].eq("train") & (self.row >= 0)
        if self.settings.controls == "leave_out":
            chosen &= self.table["role"].ne("negcon")
        rows = np.flatnonzero(chosen)
        if not len(rows):
            raise InputError("No training field has a compound with SMILES to learn from.")
        return rows


def ready(settings: CrossmodalSettings, screen: Screen) -> Ready:
    """Split the screen by compounds; what it lacks for the settings is said at once.

    A compound is split with all that are the same molecule (`molecule_groups`), and these are one
    class in training. `split` "given" takes the manifest's own column of that name.
    """
    table = screen.table
    if not table["smiles"].ne("").any():
        raise InputError(
            f"No row of {screen.name} has SMILES, so there are no molecules to learn from. Fill "
            "the column smiles of its table of compounds."
        )
    if settings.image_norm == "controls":
        manifests.require_controls(table, "plate", "crossmodal_image_norm='all'")
    table = table.assign(molecule=molecule_groups.groups(table), split=_split(settings, table))
    treated = table[table["role"].ne("negcon")]
    splits.assert_disjoint(treated, treated.set_index("site_id")["split"], by="molecule")
    known = table[table["smiles"].ne("")].drop_duplicates("compound")
    known = known[["compound", "smiles", "molecule", "role", "split"]]
    known = known.sort_values("compound", ignore_index=True)
    known.loc[known["role"].eq("negcon"), "split"] = "train"  # some of its wells are in each part
    norm, plate = normaliser(
        screen, "all" if settings.image_norm == "none" else settings.image_norm
    )
    if settings.image_norm == "none":  # [0, 1], as released
        norm = Normaliser(torch.zeros_like(norm.mean), torch.full_like(norm.std, 255.0))
    return Ready(settings, screen, table, known, norm, plate, crops(settings, screen))


def _split(settings: CrossmodalSettings, table: pd.DataFrame) -> pd.Series:
    if settings.split == "given":
        if "split" not in table:
            raise InputError(
                "split='given' needs a column `split` (train, val, test), by compound."
            )
        unknown = set(table["split"]) - {"train", "val", "test", ""}
        if unknown:
            raise InputError(
                f"The column split holds {sorted(unknown)}; train, val, test are known."
            )
        return table["split"]
    val, test = settings.val_share, settings.test_share
    shares = {"train": 1 - val - test, "val": val, "test": test}
    part = splits.grouped_split(table, settings.split, shares, seed=settings.fold)
    return part.loc[table["site_id"]].set_axis(table.index)


def crops(settings: CrossmodalSettings, screen: Screen) -> ViewsConfig:
    """Squares cut from the fields, turned and flipped; channels made brighter or darker."""
    side = max(1, round(settings.crop_share * min(screen.store.shape[-2:])))
    return ViewsConfig(
        global_size=side, locals_per_image=0, colour_gain=settings.colour_gain,
        colour_probability=settings.colour_probability,
    )  # fmt: skip


def molecules(settings: CrossmodalSettings, smiles: list[str]):
    """`Graphs` of the SMILES, kept on the disk, or their `Fingerprints` for method ecfp."""
    from hcs_utils.learning.molecules import Fingerprints, Graphs

    cache = files.data_root() / "molecules"
    if "ecfp" in (settings.method, settings.molecule_encoder):
        return Fingerprints.build(smiles, bits=settings.bits)
    return Graphs.build(smiles, cache=cache)


def space(settings: CrossmodalSettings, of: Ready) -> Space:
    """Image and molecule encoder with their heads, untrained; random numbers from the seed."""
    from hcs_utils.learning.molecule_encoders import molecule_encoder
    from hcs_utils.learning.space import Space

    torch.manual_seed(settings.seed)
    image = encoder(settings.image_encoder, of.screen.channels, settings.image_weights or None)
    if settings.freeze_image:
        image = Frozen(image)
    name = "ecfp" if settings.method == "ecfp" else settings.molecule_encoder
    degrees = None
    if name.startswith("pna"):
        degrees = of.molecules.degrees(np.flatnonzero(of.compounds["split"].eq("train")))
    molecule = molecule_encoder(name, degrees, form=settings.form, bits=settings.bits)
    return Space(image, molecule, settings.width, settings.dropout)


class Frozen(nn.Module):
    """An image encoder as it is: no gradient, and statistics of batch norm stay what they were."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.requires_grad_(False)
        self.channels, self.num_features = network.channels, network.num_features

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x):
        return self.network(x)


def method(settings: CrossmodalSettings, made: Space) -> nn.Module:
    """The loss's module around a space."""
    from hcs_utils.learning.methods.clip import CLIP, CLIPConfig
    from hcs_utils.learning.methods.emm import EMM, EMMConfig
    from hcs_utils.learning.methods.imm import IMM, IMMConfig

    own = {
        name: getattr(settings, name)
        for name in ("temperature", "learn_temperature", "temperature_min", "temperature_max",
                     "form")
    }  # fmt: skip
    if settings.method in ("clip", "ecfp"):
        return CLIP(made, CLIPConfig(**own))
    if settings.method == "emm":
        return EMM(made, EMMConfig(**own))
    return IMM(made, IMMConfig(**own, gamma=settings.gamma, pairs=settings.pairs))


def stream(settings: CrossmodalSettings, of: Ready) -> CompoundMinibatches:
    """Minibatches of the training compounds; names of one molecule are one class.

    CLIP reads one view of a compound, so only one is drawn for it.
    """
    rows = of.trained
    code, first = np.unique(of.compounds["molecule"], return_index=True)
    classes = pd.Index(code).get_indexer(of.table["molecule"].iloc[rows])
    levels = {
        name: pd.factorize(of.table[name].iloc[rows], sort=True)[0] for name in (*PREFER, "well")
    }
    views = settings.views if settings.method in ("emm", "imm") else 1
    return CompoundMinibatches(
        of.images, rows, classes, levels, of.plate, of.normaliser,
        WellViews(of.crops, views, settings.preferred, settings.repeat), of.molecules, first,
        compounds=settings.compounds, seed=settings.seed, names=code,
    )  # fmt: skip


def train_config(settings: CrossmodalSettings) -> train.TrainConfig:
    """How to optimise."""
    return train.TrainConfig(
        steps=settings.steps, learning_rate=settings.learning_rate, precision=settings.precision,
        warmup_steps=settings.warmup_steps, weight_decay=settings.weight_decay,
        compile=settings.compile, seed=settings.seed,
    )  # fmt: skip

"""From the flat parameters of quality control to crops, their truth, encoders and methods."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from hcs_utils import files
from hcs_utils.data import label_draws, qc_crops
from hcs_utils.data.labels import LabelFile
from hcs_utils.data.screens import own, public, simulated
from hcs_utils.data.store import Store, open_store
from hcs_utils.errors import InputError
from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.qc_views import QCViews
from hcs_utils.learning.views import Normaliser
from hcs_utils.prepare import Screen, normaliser, one_of
from hcs_utils.qc_judging import Question
from hcs_utils.qc_settings import SELF_SUPERVISED, TRANSFER, QCSettings

CHANNELS = ("red", "green", "blue")  # of every encoder here, whatever the stains are


@dataclass
class Crops:
    """The crops of a screen, in a store, and what is known of them; rows follow the store."""

    name: str  # of the screen
    root: Path  # of its fields
    table: pd.DataFrame  # of crops: site_id, parent, plate, …, abnormal, fault, labelled, split
    store: Store
    normaliser: Normaliser
    plate: np.ndarray  # row of the normaliser of each crop

    @cached_property
    def images(self):
        """All crops in memory as uint8 [n c y x], or a reader that is indexed the same way."""
        return Screen(self.name, self.root, self.table, self.store).images()

    @cached_property
    def field(self) -> np.ndarray:
        """The number of each crop's field."""
        return pd.factorize(self.table["parent"])[0]


@dataclass
class Ready:
    """A screen's crops with their split by plates, and those of the other cell line, if any."""

    settings: QCSettings
    crops: Crops
    shift: Crops | None

    @cached_property
    def trained(self) -> np.ndarray:
        """Rows of the crops to learn from without labels: of training plates, faults and all."""
        return np.flatnonzero(self.crops.table["split"].eq("train"))

    @cached_property
    def question(self) -> Question:
        """What every encoder is asked, in memory: labels to draw from, crops to judge."""
        return _question(self)


def ready(settings: QCSettings, progress: bool = False) -> Ready:
    """Bring the screen, cut its crops, tell which are abnormal, deal plates into parts.

    Cutting is done once for all runs of the same screen, size and scale. Raises `InputError` where
    it is not known which crops are abnormal, or there are too few of either class.
    """
    crops = cut(settings, settings.screen, settings.size, settings.channels, progress)
    _label(crops, settings.labels, settings.least, "qc_labels")
    table, fold = crops.table, settings.fold
    split = label_draws.split(table, fold, settings.test_share, settings.val_share)
    crops.table = table.assign(split=split.to_numpy())
    shift = None
    if settings.shift_screen:
        place = (settings.shift_screen, settings.shift_size, settings.shift_channels)
        shift = cut(settings, *place, progress)
        _label(shift, settings.shift_labels, settings.least, "qc_shift_labels")
    return Ready(settings, crops, shift)


def cut(
    settings: QCSettings, screen: str, size: str, composite: tuple[str, ...], progress: bool
) -> Crops:
    """The crops of one screen: ``simulated`` of that size, a public one, or a ``screen.yaml``."""
    name, root, table, state = _fields(screen, size, progress)
    asked = {
        "composite": composite, "size": settings.crop_px, "max_per_field": settings.max_per_field,
        "without_nuclei": settings.without_nuclei, "scale": settings.scale,
    }  # fmt: skip
    key = files.sha256(f"{root.resolve()} {state} {sorted(asked.items())}".encode())[:8]
    path = files.data_root() / "stores" / f"{name}-crops-{key}-{settings.crop_px}.zarr"
    with files.locked(path.with_suffix(".lock")):  # runs side by side cut once
        if not path.exists():
            qc_crops.cut(table, root, path, **asked, progress=progress)
    crops, store = qc_crops.read(path), open_store(path)
    norm, plate = normaliser(Screen(name, root, crops, store), "all")
    if settings.image_norm == "none":  # [0, 1]
        norm = Normaliser(torch.zeros_like(norm.mean), torch.full_like(norm.std, 255.0))
    return Crops(name, root, crops, store, norm, plate)


def _fields(screen: str, size: str, progress: bool):
    """Name, root and manifest of a screen, every field of it, flagged or not; and its state."""
    if screen == "simulated":
        one_of("size", size, simulated.SIZES)
        root = simulated.home(size)
        simulated.draw(root, simulated.SIZES[size], progress=progress)
        state = (root / "simulated.json").read_text()
        return f"simulated-{size}", Path(root), simulated.manifest(root), state
    if screen in public.NAMES:
        root = files.data_root() / screen
        if not root.is_dir():
            raise InputError(
                f"The screen {screen} is not on this disk: it is looked for in {root}, that is "
                f"$HCS_DATA/{screen}. `hcs fetch {screen}` brings it."
            )
        return screen, root, public.fetched(screen, root), ""
    if not str(screen).endswith((".yaml", ".yml")):
        one_of("screen", screen, ("simulated", *public.NAMES, "the path of a screen.yaml"))
    table = own.from_yaml(screen)
    name = "".join(c if c.isalnum() or c in "_.-" else "-" for c in str(table.attrs["screen"]))
    return name.strip("-.") or "own", Path(table.attrs["root"]), table, ""


def _label(crops: Crops, labels: str, least: float, name: str) -> None:
    """Columns `labelled`, `abnormal` and `fault`: the simulation's truth, or what people said."""
    table = crops.table
    if labels:
        said = LabelFile(labels).table().set_index("site_id")["label"].reindex(table["site_id"])
        known, wrong = said.notna().to_numpy(), said.eq("abnormal").to_numpy()
        if not known.any():
            raise InputError(
                f"{labels} labels none of the {len(table)} crops of {crops.name}. Its site_id must "
                f"be those of crops, such as {table['site_id'].iloc[0]}."
            )
        fault = np.where(wrong, "abnormal", "")
    elif (crops.root / "truth.parquet").exists():
        truth = qc_crops.truth(table, crops.root, least)
        known, wrong = np.ones(len(table), bool), truth["abnormal"].to_numpy(bool)
        fault = np.where(wrong, truth["fault"], "")
        table = table.assign(severity=truth["severity"], covered=truth["covered"])
    else:
        raise InputError(
            f"Which crops of {crops.name} are abnormal is not known: the annotations of the paper "
            f"are not public. Label some, as chapter 14 does, and give the file as {name}."
        )
    crops.table = table.assign(labelled=known, abnormal=wrong, fault=fault)


def _question(of: Ready) -> Question:
    s, table = of.settings, of.crops.table
    wrong, known = table["abnormal"].to_numpy(), table["labelled"].to_numpy()
    part = table["split"].to_numpy()
    pool = np.flatnonzero((part == "train") & known)
    field, sides = of.crops.field, [(of.crops, pool, None)]
    for name, count in (("test", s.test_crops), ("val", min(s.test_crops, 200))):
        rows = np.flatnonzero((part == name) & known)
        if name == "val":  # what there is
            few = min(wrong[rows].sum(), (~wrong[rows]).sum())
            count = min(count, 2 * int(few))
        if count >= 2:
            chosen = label_draws.draw(wrong, field, rows, count, 7_000_000 + s.fold)
            sides.append((of.crops, chosen, "" if name == "test" else name))
    if of.shift is not None:
        table = of.shift.table
        rows = np.flatnonzero(table["labelled"])
        chosen = label_draws.draw(
            table["abnormal"].to_numpy(), of.shift.field, rows, s.shift_crops, 7_000_000
        )
        sides.append((of.shift, chosen, "shift"))
    return _joined(sides)


def _joined(sides: list) -> Question:
    """Crops of one or two stores, one after another: the first group may be labelled."""
    images, plates, means, sds, wrong, fault, field = ([] for _ in range(7))
    asked, start, known = {}, 0, {}
    for crops, rows, name in sides:
        if crops.name not in known:
            known[crops.name] = sum(len(m) for m in means), 10**9 * len(known)
            means.append(crops.normaliser.mean)
            sds.append(crops.normaliser.std)
        first, far = known[crops.name]
        images.append(crops.images[torch.from_numpy(rows)])
        plates.append(crops.plate[rows] + first)
        wrong.append(crops.table["abnormal"].to_numpy(bool)[rows])
        fault.append(crops.table["fault"].to_numpy(str)[rows])
        field.append(crops.field[rows] + far)
        if name is not None:
            asked[name] = np.arange(start, start + len(rows))
        start += len(rows)
    return Question(
        torch.cat(images), np.concatenate(plates), Normaliser(torch.cat(means), torch.cat(sds)),
        CHANNELS, np.concatenate(wrong), np.concatenate(field), np.concatenate(fault),
        np.arange(len(images[0])), asked,
    )  # fmt: skip


def network(settings: QCSettings) -> nn.Module:
    """The encoder that a method begins with; random numbers from the seed."""
    torch.manual_seed(settings.seed)
    if settings.method in TRANSFER:
        return encoder(settings.method, CHANNELS, settings.weights)
    if settings.method != "procedural":
        return encoder(settings.encoder, CHANNELS)
    own = settings.weights.startswith("procedural")  # else ImageNet's, or a file of another encoder
    return encoder(settings.encoder, CHANNELS, settings.weights if own else "procedural")


def method(settings: QCSettings, made: nn.Module, count: int) -> nn.Module:
    """The self-supervised loss's module around an encoder; `count`: crops to learn from."""
    from hcs_utils.learning.methods import barlow_twins, deepcluster, simclr, swav, vicreg

    one_of("method", settings.method, SELF_SUPERVISED)
    shape = {"hidden": settings.hidden, "width": settings.width}
    cluster = {
        "hidden": settings.hidden, "width": settings.cluster_width,
        "prototypes": settings.prototypes,
    }  # fmt: skip
    if settings.method == "simclr":
        return simclr.SimCLR(made, simclr.SimCLRConfig(**shape, temperature=settings.temperature))
    if settings.method == "barlow_twins":
        return barlow_twins.BarlowTwins(made, barlow_twins.BarlowTwinsConfig(**shape))
    if settings.method == "vicreg":
        return vicreg.VICReg(made, vicreg.VICRegConfig(**shape))
    if settings.method == "swav":
        one = 1 / settings.epochs  # of training: an epoch
        queue = {"queue": settings.queue, "queue_starts": min(1.0, settings.queue_starts * one)}
        return swav.SwAV(made, swav.SwAVConfig(**cluster, **queue, frozen_share=min(0.5, one)))
    clusters = {"iterations": settings.kmeans_iterations, "first_epoch": settings.first_epoch}
    config = deepcluster.DeepClusterConfig(**cluster, **clusters)
    return deepcluster.DeepClusterV2(made, config, count=count)


def stream(settings: QCSettings, of: Ready) -> CropMinibatches:
    """Minibatches of the training plates' crops, two views of each."""
    views = QCViews(
        shift=settings.view_shift, scale=settings.view_scale, probability=settings.view_probability
    )
    rows = of.trained
    return CropMinibatches(
        of.crops.images, rows, of.crops.plate[rows], of.crops.normaliser, views,
        size=settings.minibatch, seed=settings.seed,
    )  # fmt: skip


def train_config(settings: QCSettings, per_epoch: int) -> train.TrainConfig:
    """How to optimise; lengths in epochs become steps.

    The gradient is clipped of adamw only: the paper, which takes sgd, names no limit.
    """
    limit = {"clip_norm": 0.0} if settings.optimizer == "sgd" else {}
    return train.TrainConfig(
        steps=settings.epochs * per_epoch, learning_rate=settings.learning_rate,
        warmup_steps=max(1, round(settings.warmup_epochs * per_epoch)),
        weight_decay=settings.weight_decay, optimizer=settings.optimizer,
        momentum=settings.momentum, precision=settings.precision, compile=settings.compile,
        seed=settings.seed, **limit,
    )  # fmt: skip

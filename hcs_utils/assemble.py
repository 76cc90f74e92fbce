"""From the flat parameters of a run to what learning works with: method, views, optimisation."""

import numpy as np
import torch
from torch import nn

from hcs_utils.learning import train
from hcs_utils.learning import views as crops
from hcs_utils.learning.backbones import encoder, without_drop_path
from hcs_utils.learning.methods.barlow_only import BarlowConfig, BYOLBarlow, DINOBarlow
from hcs_utils.learning.methods.byol import BYOL, BYOLConfig, BYOLCrossBatch
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig, off_diagonal_for
from hcs_utils.learning.methods.dino import DINO, DINOConfig, DINOCrossBatch
from hcs_utils.learning.methods.supervised import Supervised
from hcs_utils.settings import Settings

NO_LOCAL_CROPS = ("supervised", "byol", "byol_cb", "byol_bl")


def backbone(settings: Settings, channels: tuple[str, ...]) -> nn.Module:
    """The encoder of a run as it is before training, its random numbers drawn from the seed."""
    torch.manual_seed(settings.seed)
    return encoder(settings.encoder, channels, settings.weights or None, settings.drop_path)


def method(
    settings: Settings, channels: tuple[str, ...], classes: int, domains: np.ndarray
) -> nn.Module:
    """The method's module; ``domains`` counts the training images of each batch."""
    network, name = backbone(settings, channels), settings.method
    if name == "supervised":
        return Supervised(network, classes)
    dino, byol = dino_config(settings), byol_config(settings)
    made = {
        "dino": lambda: DINO(network, dino),
        "dino_cb": lambda: DINOCrossBatch(network, dino),
        "cdcl": lambda: CDCL(network, np.maximum(domains, 1), dino, cdcl_config(settings)),
        "dino_bl": lambda: DINOBarlow(network, dino, barlow_config(settings, dino.width)),
        "byol": lambda: BYOL(network, byol),
        "byol_cb": lambda: BYOLCrossBatch(network, byol),
        "byol_bl": lambda: BYOLBarlow(network, byol, barlow_config(settings, byol.width)),
    }[name]()
    without_drop_path(made.teacher)
    return made


def dino_config(settings: Settings) -> DINOConfig:
    """Head, temperatures and teacher of DINO and of what builds on it."""
    return DINOConfig(
        hidden=settings.head_hidden, bottleneck=settings.head_bottleneck,
        width=settings.head_width, momentum_start=settings.momentum_start,
        teacher_temperature=settings.teacher_temperature,
        teacher_temperature_end=settings.teacher_temperature_end, view_pairs=settings.view_pairs,
    )  # fmt: skip


def cdcl_config(settings: Settings) -> CDCLConfig:
    """What CDCL adds to DINO: centres and a Barlow loss, λ = 0.25 as in the paper."""
    return CDCLConfig(
        off_diagonal=off_diagonal_for(settings.head_width), form=settings.form,
        centers=settings.centers, view_pairs=settings.view_pairs,
        teacher_temperature=settings.teacher_temperature,
        teacher_temperature_end=settings.teacher_temperature_end,
    )  # fmt: skip


def byol_config(settings: Settings) -> BYOLConfig:
    """Hidden layers four times as wide as DINO's; always 256 outputs, whatever DINO's K is.

    So the released 4,096 and 256 stand beside DINO's 1,024 and K = 4,096. The teacher's first
    momentum is its own, too: released 0.99, where DINO's is 0.995; it ends at 1.
    """
    return BYOLConfig(hidden=4 * settings.head_hidden, momentum_start=settings.byol_momentum_start)


def barlow_config(settings: Settings, width: int) -> BarlowConfig:
    """The Barlow loss of that many outputs, weighted as CDCL's."""
    return BarlowConfig(off_diagonal=off_diagonal_for(width), form=settings.form)


def views(settings: Settings, field_px: int) -> crops.ViewsConfig:
    """The crops and colours the method asks for, for square fields of that side."""
    chosen = {
        "locals_per_image": 0 if settings.method in NO_LOCAL_CROPS else 3,
        "colour_offset": settings.colour_offset,
        "colour_probability": settings.colour_probability,
    }
    if settings.crops == "cut":
        return crops.ViewsConfig.for_fields(field_px, **chosen)
    supervised = settings.method == "supervised"
    return crops.released(settings.crops, field_px, supervised, **chosen)


def train_config(settings: Settings, steps: int) -> train.TrainConfig:
    """How to optimise."""
    return train.TrainConfig(
        steps=steps, learning_rate=settings.learning_rate, precision=settings.precision,
        warmup_steps=settings.warmup_steps, weight_decay=settings.weight_decay,
        weight_decay_end=settings.weight_decay_end, compile=settings.compile, seed=settings.seed,
    )  # fmt: skip

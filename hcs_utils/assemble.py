"""From the flat parameters of a run to what learning works with: method, views, optimisation."""

import numpy as np
import torch

from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.methods.barlow_only import BarlowConfig, BYOLBarlow, DINOBarlow
from hcs_utils.learning.methods.byol import BYOL, BYOLConfig, BYOLCrossBatch
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig, off_diagonal_for
from hcs_utils.learning.methods.dino import DINO, DINOConfig, DINOCrossBatch
from hcs_utils.learning.methods.supervised import Supervised
from hcs_utils.learning.views import ViewsConfig
from hcs_utils.settings import Settings

TWO_VIEWS = ("byol", "byol_cb", "byol_bl", "supervised")  # no local crops


def method(settings: Settings, channels: tuple[str, ...], classes: int, domains: np.ndarray):
    """The method's module; ``domains`` counts the training images of each batch."""
    torch.manual_seed(settings.seed)
    backbone = encoder(settings.encoder, channels, settings.weights or None)
    name, head = settings.method, dino_config(settings)
    if name == "supervised":
        return Supervised(backbone, classes)
    if name == "cdcl":
        weight = off_diagonal_for(head.width)
        config = CDCLConfig(off_diagonal=weight, form=settings.form)
        return CDCL(backbone, np.maximum(domains, 1), head, config)
    if name == "dino_bl":
        return DINOBarlow(backbone, head, barlow_config(settings, head.width))
    if name == "byol_bl":
        byol = byol_config(settings)
        return BYOLBarlow(backbone, byol, barlow_config(settings, byol.width))
    if name.startswith("byol"):
        kind = {"byol": BYOL, "byol_cb": BYOLCrossBatch}[name]
        return kind(backbone, byol_config(settings))
    return {"dino": DINO, "dino_cb": DINOCrossBatch}[name](backbone, head)


def dino_config(settings: Settings) -> DINOConfig:
    """Head, temperatures and teacher of DINO and of what builds on it."""
    return DINOConfig(
        hidden=settings.head_hidden, bottleneck=settings.head_bottleneck,
        width=settings.head_width, momentum_start=settings.momentum_start,
        teacher_temperature=settings.teacher_temperature,
    )  # fmt: skip


def byol_config(settings: Settings) -> BYOLConfig:
    """Hidden layers four times as wide as DINO's; always 256 outputs, whatever DINO's K is.

    So the released 4,096 and 256 stand beside DINO's 1,024 and K = 4,096.
    """
    return BYOLConfig(hidden=4 * settings.head_hidden, momentum_start=settings.momentum_start)


def barlow_config(settings: Settings, width: int) -> BarlowConfig:
    """The Barlow loss of that many outputs, weighted as CDCL's."""
    return BarlowConfig(off_diagonal=off_diagonal_for(width), form=settings.form)


def views(settings: Settings, field_px: int) -> ViewsConfig:
    """The crops and colours the method asks for, for square fields of that side."""
    locals_per_image = 0 if settings.method in TWO_VIEWS else 3
    return ViewsConfig.for_fields(
        field_px, locals_per_image=locals_per_image, colour_offset=settings.colour_offset,
        colour_probability=settings.colour_probability,
    )  # fmt: skip


def train_config(settings: Settings, steps: int) -> train.TrainConfig:
    """How to optimise."""
    return train.TrainConfig(
        steps=steps, learning_rate=settings.learning_rate, precision=settings.precision,
        warmup_steps=settings.warmup_steps, weight_decay=settings.weight_decay,
        weight_decay_end=settings.weight_decay_end, compile=settings.compile, seed=settings.seed,
    )  # fmt: skip

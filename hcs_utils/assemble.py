"""From the flat parameters of a run to what learning works with: method, views, optimisation."""

import numpy as np
import torch

from hcs_utils.learning import train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig, off_diagonal_for
from hcs_utils.learning.methods.dino import DINO, DINOConfig, DINOCrossBatch
from hcs_utils.learning.methods.supervised import Supervised
from hcs_utils.learning.views import ViewsConfig
from hcs_utils.settings import Settings


def method(settings: Settings, channels: tuple[str, ...], classes: int, domains: np.ndarray):
    """The method's module; ``domains`` counts the training images of each batch."""
    torch.manual_seed(settings.seed)
    backbone = encoder(settings.encoder, channels)
    head = DINOConfig(width=settings.head_width)
    if settings.method == "supervised":
        return Supervised(backbone, classes)
    if settings.method == "cdcl":
        weight = off_diagonal_for(settings.head_width)
        config = CDCLConfig(off_diagonal=weight, form=settings.form)
        return CDCL(backbone, np.maximum(domains, 1), head, config)
    return {"dino": DINO, "dino_cb": DINOCrossBatch}[settings.method](backbone, head)


def views(settings: Settings, field_px: int) -> ViewsConfig:
    """The crops and colours the method asks for, for square fields of that side."""
    locals_per_image = 0 if settings.method == "supervised" else 3
    return ViewsConfig.for_fields(field_px, locals_per_image=locals_per_image)


def train_config(settings: Settings, steps: int) -> train.TrainConfig:
    """How to optimise."""
    return train.TrainConfig(
        steps=steps, learning_rate=settings.learning_rate, precision=settings.precision,
        warmup_steps=settings.warmup_steps, weight_decay=settings.weight_decay,
        weight_decay_end=settings.weight_decay_end, compile=settings.compile, seed=settings.seed,
    )  # fmt: skip

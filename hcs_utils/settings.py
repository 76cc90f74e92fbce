"""The flat parameters of a run, checked before anything is begun."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from hcs_utils import flat_settings

TRAINED = (
    "supervised", "dino", "byol", "dino_cb", "byol_cb", "cdcl", "dino_bl", "byol_bl",
)  # fmt: skip
METHODS = (*TRAINED, "random", "intensity", "leaks")  # the last three are baselines
_WORDS = {
    "method": METHODS,
    "subset": ("all", "controls", "treatments", "half", "half_released"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
    "form": ("paper", "released"),
    "centers": ("released", "paper", "one"),
    "view_pairs": ("all", "cross"),
    "crops": ("cut", "rxrx1", "cpg0004", "cpg0004_large"),
    "select": ("last", "best"),
    "image_norm": ("controls", "all"),
    "znorm": ("controls", "all", "minibatch"),
}
_ABOVE_ZERO = (
    "epochs", "minibatch", "learning_rate", "head_width", "head_hidden", "head_bottleneck",
    "teacher_temperature", "teacher_temperature_end", "kbet_fraction",
)  # fmt: skip
_NOT_BELOW_ZERO = ("warmup_steps", "weight_decay", "colour_offset", "finetune_epochs")


@dataclass(frozen=True)
class Settings:
    """The flat parameters of notebook 22; the presets' comments give units and reasons."""

    preset: str = "quick"
    screen: str = "simulated"
    size: str = "quick"
    image_px: int = 0
    method: str = "cdcl"
    variant: str = ""
    fold: int = 1
    folds: int = 6
    seed: int = 0
    subset: str = "all"
    epochs: int = 10
    minibatch: int = 64
    learning_rate: float = 2e-3
    precision: str = "32-true"
    compile: bool = False
    warmup_steps: int = 0
    weight_decay: float = 1e-4
    weight_decay_end: float = 1e-4
    encoder: str = "small"
    weights: str = ""
    drop_path: float = 0.0
    head_width: int = 256
    head_hidden: int = 256
    head_bottleneck: int = 128
    momentum_start: float = 0.97
    byol_momentum_start: float = 0.97
    teacher_temperature: float = 0.04
    teacher_temperature_end: float = 0.04
    form: str = "released"
    centers: str = "released"
    view_pairs: str = "all"
    crops: str = "cut"
    colour_offset: float = 0.0
    colour_probability: float = 0.5
    select: str = "last"
    image_norm: str = "controls"
    znorm: str = "controls"
    kbet_fraction: float = 0.005
    finetune_epochs: int = 0

    def __post_init__(self):
        flat_settings.check(self, _WORDS, _ABOVE_ZERO, _NOT_BELOW_ZERO)


def from_parameters(given: Mapping) -> Settings:
    """Settings from a preset; names that belong to other notebooks are left."""
    shared = tuple(field.name for field in dataclasses.fields(Settings))
    return flat_settings.from_parameters(Settings, given, "", shared, ())

"""The flat parameters of a run, checked before anything is begun."""

import dataclasses
from dataclasses import dataclass

from hcs_utils.errors import InputError
from hcs_utils.prepare import one_of

TRAINED = ("supervised", "dino", "dino_cb", "cdcl")
METHODS = (*TRAINED, "random", "intensity", "leaks")  # the last three are baselines


@dataclass(frozen=True)
class Settings:
    """The flat parameters of notebook 22; the presets' comments give units and reasons."""

    preset: str = "quick"
    screen: str = "simulated"
    size: str = "quick"
    image_px: int = 0
    method: str = "cdcl"
    fold: int = 1
    folds: int = 6
    seed: int = 0
    epochs: int = 10
    minibatch: int = 64
    learning_rate: float = 2e-3
    precision: str = "32-true"
    encoder: str = "small"
    head_width: int = 256
    form: str = "released"
    image_norm: str = "controls"
    znorm: str = "controls"
    kbet_fraction: float = 0.005

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if type(value) is not kind and not (kind is float and type(value) is int):
                noun = {int: "a whole number", float: "a number", str: "a word"}[kind]
                raise InputError(f"{field.name} is {value!r}; it must be {noun}.")
        one_of("method", self.method, METHODS)
        one_of("form", self.form, ("paper", "released"))
        one_of("precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        one_of("image_norm", self.image_norm, ("controls", "all"))
        one_of("znorm", self.znorm, ("controls", "all", "minibatch"))
        for name in ("epochs", "minibatch", "learning_rate", "head_width", "kbet_fraction"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0.")

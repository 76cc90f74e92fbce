"""The flat parameters of a cross-modal run, checked before anything is begun."""

from collections.abc import Mapping
from dataclasses import dataclass

from hcs_utils import flat_settings
from hcs_utils.errors import InputError

TRAINED = ("clip", "emm", "imm", "ecfp")  # the last is CLIP whose molecules are fingerprints
BASELINES = ("random", "position", "intensity", "cdcl")
METHODS = (*TRAINED, *BASELINES)
SHARED = ("preset", "screen", "image_px", "fold", "seed", "precision", "compile")
_ELSEWHERE = ("screen", "image_px")  # shared, but a preset may want others here
PREFIX = "crossmodal_"  # of all other parameters in notebooks and presets
_WORDS = {
    "method": METHODS,
    "split": ("compound", "scaffold", "given"),
    "molecule_encoder": ("pna", "gin", "pna_small", "gin_small", "ecfp"),
    "form": ("paper", "released"),
    "pairs": ("distinct", "all"),
    "controls": ("leave_out", "compound"),
    "repeat": ("refuse", "resample"),
    "image_norm": ("controls", "all", "none"),
    "select": ("last", "best"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}
_ABOVE_ZERO = (
    "fold", "val_share", "test_share", "temperature", "temperature_max", "width", "views",
    "compounds", "steps", "learning_rate", "crop_share", "bits",
)  # fmt: skip
_NOT_BELOW_ZERO = (
    "image_px", "gamma", "temperature_min", "dropout", "warmup_steps", "weight_decay",
    "colour_gain", "colour_probability",
)  # fmt: skip


@dataclass(frozen=True)
class CrossmodalSettings:
    """The flat parameters of notebook 32; the presets' comments give units and reasons."""

    preset: str = "quick"
    screen: str = "simulated"
    size: str = "molecules-quick"
    image_px: int = 0
    method: str = "clip"
    variant: str = ""
    fold: int = 1
    seed: int = 0
    split: str = "compound"
    val_share: float = 0.15
    test_share: float = 0.25
    molecule_encoder: str = "gin_small"
    image_encoder: str = "small"
    image_weights: str = ""
    freeze_image: bool = False
    bits: int = 1024
    width: int = 256
    dropout: float = 0.0
    form: str = "paper"
    pairs: str = "distinct"
    gamma: float = 0.5
    temperature: float = 0.1
    learn_temperature: bool = False
    temperature_min: float = 0.01
    temperature_max: float = 1.0
    compounds: int = 64
    views: int = 3
    prefer: str = "source,batch,plate"
    repeat: str = "refuse"
    controls: str = "leave_out"
    steps: int = 800
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    weight_decay: float = 0.01
    precision: str = "32-true"
    compile: bool = False
    crop_share: float = 0.8
    colour_gain: float = 0.1
    colour_probability: float = 0.5
    image_norm: str = "controls"
    select: str = "last"
    pool: int = 100

    def __post_init__(self):
        flat_settings.check(self, _WORDS, _ABOVE_ZERO, _NOT_BELOW_ZERO)
        if self.val_share + self.test_share >= 1 or self.crop_share > 1:
            raise InputError(
                f"val_share {self.val_share} and test_share {self.test_share} must leave compounds "
                f"to train on, and crop_share ({self.crop_share}) is at most 1."
            )
        if not self.temperature_min < self.temperature_max:
            raise InputError(
                f"temperature_min ({self.temperature_min}) must be below temperature_max "
                f"({self.temperature_max})."
            )
        if self.pool < 2:
            raise InputError(
                f"pool is {self.pool}: a pool that holds one pair has nothing to find in. Take 2 "
                "or more; the paper's are 100 and 1000."
            )

    @property
    def preferred(self) -> tuple[str, ...]:
        """What the views of a compound differ in first."""
        return tuple(name.strip() for name in self.prefer.split(",") if name.strip())


def parameters() -> dict[str, str]:
    """For each parameter of a notebook or preset the setting that it is: all but a few prefixed.

    ``crossmodal_screen`` and ``crossmodal_image_px``, where filled, go before ``screen`` and
    ``image_px``: a preset may send CDCL and this to different screens.
    """
    return flat_settings.parameters(CrossmodalSettings, PREFIX, SHARED, _ELSEWHERE)


def from_parameters(given: Mapping) -> CrossmodalSettings:
    """Settings from a preset or a notebook's ``globals()``; names of other notebooks are left."""
    return flat_settings.from_parameters(CrossmodalSettings, given, PREFIX, SHARED, _ELSEWHERE)

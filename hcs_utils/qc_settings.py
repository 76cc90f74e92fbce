"""The flat parameters of a run of quality control, checked before anything is begun."""

from collections.abc import Mapping
from dataclasses import dataclass

from hcs_utils import flat_settings
from hcs_utils.errors import InputError

TRANSFER = ("vgg16", "resnet18", "convnext")  # the paper's, from weights of another task
SELF_SUPERVISED = ("simclr", "barlow_twins", "vicreg", "swav", "deepcluster")
BASELINES = ("classical", "random")
METHODS = (*TRANSFER, "procedural", *SELF_SUPERVISED, *BASELINES)
SHARED = ("preset", "screen", "fold", "seed", "precision", "compile")
_ELSEWHERE = ("screen",)  # shared, but a preset may want another here
PREFIX = "qc_"  # of all other parameters in notebooks and presets
_WORDS = {
    "method": METHODS,
    "scale": ("plate", "plane"),
    "without_nuclei": ("grid", "leave_out"),
    "image_norm": ("plate", "none"),
    "feature_scale": ("standard", "none"),
    "optimizer": ("adamw", "sgd"),
    "finetune_optimizer": ("adamw", "sgd"),
    "first_epoch": ("encoder", "released"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}
_ABOVE_ZERO = (
    "fold", "crop_px", "val_share", "test_share", "test_crops", "shift_crops", "epochs",
    "minibatch", "learning_rate", "temperature", "prototypes", "kmeans_iterations", "hidden",
    "width", "cluster_width", "draws", "linear_epochs", "linear_rate", "finetune_epochs",
    "finetune_rate",
)  # fmt: skip
_NOT_BELOW_ZERO = (
    "max_per_field", "least", "warmup_epochs", "weight_decay", "momentum", "queue",
    "queue_starts", "view_shift", "view_scale", "view_probability", "finetune_steps",
    "null_draws",
)  # fmt: skip


@dataclass(frozen=True)
class QCSettings:
    """The flat parameters of notebook 12; the presets' comments give units and reasons."""

    preset: str = "quick"
    screen: str = "simulated"
    size: str = "qc-quick"
    labels: str = ""
    shift_screen: str = "simulated"
    shift_size: str = "qc-quick-shift"
    shift_labels: str = ""
    method: str = "simclr"
    variant: str = ""
    fold: int = 1
    seed: int = 0
    composite: str = "AGP,Mito,DNA"
    shift_composite: str = "AGP,ER,DNA"
    crop_px: int = 48
    max_per_field: int = 4
    without_nuclei: str = "grid"
    scale: str = "plate"
    least: float = 0.02
    val_share: float = 0.125
    test_share: float = 0.5
    test_crops: int = 500
    shift_crops: int = 400
    image_norm: str = "plate"
    encoder: str = "small"
    weights: str = "procedural"
    epochs: int = 5
    minibatch: int = 64
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.5
    precision: str = "32-true"
    compile: bool = False
    view_shift: float = 0.0625
    view_scale: float = 0.1
    view_probability: float = 0.5
    temperature: float = 0.07
    hidden: int = 256
    width: int = 256
    cluster_width: int = 128
    prototypes: int = 100
    queue: int = 512
    queue_starts: int = 1
    kmeans_iterations: int = 10
    first_epoch: str = "encoder"
    budgets: str = "350,100,50,25,10"
    draws: int = 20
    null_draws: int = 2
    feature_scale: str = "standard"
    linear_epochs: int = 150
    linear_rate: float = 1e-3
    finetune_epochs: int = 50
    finetune_steps: int = 50
    finetune_optimizer: str = "adamw"
    finetune_rate: float = 3e-3

    def __post_init__(self):
        flat_settings.check(self, _WORDS, _ABOVE_ZERO, _NOT_BELOW_ZERO)
        if self.val_share + self.test_share >= 1 or self.least > 1:
            raise InputError(
                f"val_share {self.val_share} and test_share {self.test_share} must leave plates to "
                f"train on, and least ({self.least}) is a share, at most 1."
            )
        for name in ("composite", "shift_composite"):
            if len(_words(getattr(self, name))) != 3:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; name the three channels that become red, "
                    "green and blue, with commas between them."
                )
        if min(self.label_budgets) < 2:
            raise InputError(
                f"budgets is {self.budgets!r}: a budget counts labels of both classes, so 2 is the "
                "least."
            )

    @property
    def label_budgets(self) -> tuple[int, ...]:
        """Numbers of labels, the most first."""
        words = _words(self.budgets)
        if not words or not all(word.isdigit() for word in words):
            raise InputError(
                f"budgets is {self.budgets!r}; give whole numbers with commas between them, such "
                "as 350,100,50,25,10."
            )
        return tuple(sorted({int(word) for word in words}, reverse=True))

    @property
    def channels(self) -> tuple[str, ...]:
        """The stains shown as red, green and blue."""
        return _words(self.composite)

    @property
    def shift_channels(self) -> tuple[str, ...]:
        """The same of the shifted screen."""
        return _words(self.shift_composite)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def parameters() -> dict[str, str]:
    """For each parameter of a notebook or preset the setting that it is: all but a few prefixed.

    ``qc_screen``, where filled, goes before ``screen``: a preset may send CDCL and this to
    different screens.
    """
    return flat_settings.parameters(QCSettings, PREFIX, SHARED, _ELSEWHERE)


def from_parameters(given: Mapping) -> QCSettings:
    """Settings from a preset or a notebook's ``globals()``; names of other notebooks are left."""
    return flat_settings.from_parameters(QCSettings, given, PREFIX, SHARED, _ELSEWHERE)

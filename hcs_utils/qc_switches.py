"""What the quality-control paper leaves open, or its library does otherwise, and what it changes.

The numbers 39 to 42 are those of the ledger in chapter 13. No code of the paper was found; what is
said of code was read in vturrisi/solo-learn@9187ea3 (SL), the library that it names, in a version
later than the paper's, and not run unless `evidence` says otherwise. A difference is what
`switches.effects` makes of records of the experiments qc and qc-ledger.
"""

from functools import partial

from hcs_utils import switches
from hcs_utils.switches import Switch

EXPERIMENT, VARIANTS = "qc", "qc-ledger"
OUTCOMES = (  # of a switch that trains anew; the first two are its number
    "linear_accuracy_350", "finetuned_accuracy_350", "knn_accuracy_350", "linear_auc_350",
    "finetuned_auc_350", "finetuned_accuracy_10", "shift_linear_accuracy_350",
    "shift_finetuned_accuracy_350", "recall_empty_linear_350", "recall_out_of_focus_linear_350",
)  # fmt: skip
_SSL = ("simclr", "barlow_twins", "vicreg", "swav", "deepcluster")
_VARIANTS: dict[str, tuple[dict, tuple[str, ...]]] = {  # parameters changed, methods
    "swav-queue-late": ({"qc_queue_starts": 15}, ("swav",)),
    "deepcluster-first-epoch-lost": ({"qc_first_epoch": "released"}, ("deepcluster",)),
    "plane-scale": ({"qc_scale": "plane"}, ("classical", "procedural", "simclr")),
    "nuclei-only": ({"qc_without_nuclei": "leave_out"}, ("classical", "simclr")),
    "views-turned": ({"qc_view_probability": 0.0}, ("simclr",)),
    "views-strong": ({"qc_view_shift": 0.25, "qc_view_scale": 0.4}, ("simclr",)),
    "rate-halved": ({"qc_learning_rate": 0.001}, ("simclr", "swav")),
    "sgd": ({"qc_optimizer": "sgd", "qc_learning_rate": 0.001}, ("simclr",)),
    "temperature-recipe": ({"qc_temperature": 0.2}, ("simclr",)),
    "features-raw": ({"qc_feature_scale": "none"}, ("procedural", "simclr", "random")),
}


def variants() -> dict[str, dict]:
    """Runs beside the normal grid, by name: `parameters` changed, `methods`, `preset`, `seeds`.

    Parameters are those of notebook 12. Each is compared with a normal run, from which it differs
    in what its name says and in nothing else. In the order in which they are worth running.
    """
    return switches.trained_anew(_VARIANTS)


_run = partial(switches.switch_of, _VARIANTS)
_NOT_SAID = "the paper, section 3.1"
LEDGER = (
    _run(
        "swav-queue-late", "39", "SwAV has a queue of 2,560 crops; training lasts 5 epochs.",
        "By default the queue is used from epoch 15 on, so that it never is.",
        "SL `solo/methods/swav.py`: epoch_queue_starts",
        label="SwAV's queue: never − from epoch 1"),
    _run(
        "deepcluster-first-epoch-lost", "40", "DeepCluster is trained for 5 epochs.",
        "In the first epoch all targets are −1: a loss of NaN, no gradient, and 4 epochs remain.",
        "SL `solo/methods/deepclusterv2.py`, `solo/losses/deepclusterv2.py`",
        label="DeepClusterV2's first epoch: lost − used",
        evidence="its loss and gradient were run"),
    Switch(
        "minibatch-mean", "41", "130 crops are judged, and 200 of the other cell line.",
        "Accuracies are n/128 or n/384, and n/224: means of minibatches' accuracies.",
        "tables 1 to 3", label="accuracy of the other cell line: mean of minibatches − of crops",
        metrics=(("shift_finetuned_accuracy_350", "shift_finetuned_accuracy_minibatches_350"),
                 ("shift_linear_accuracy_350", "shift_linear_accuracy_minibatches_350")),
        methods=_SSL, evidence="computed from the printed tables"),
    Switch(
        "feature-widths", "42", "k-NN compares 512 features of the encoder.",
        "ResNet18 has 512; VGG16 and ConvNeXt have others, by the layer that is taken.",
        "the paper, section 3.3; timm's models", evidence="counted",
        reason="A width is no switch: chapter 13 counts those of the encoders used here."),
    _run(
        "plane-scale", "", "Nothing of how 16 bits became 8.", "–", _NOT_SAID,
        label="grey levels: each plane's percentiles − the plate's", towards="neither"),
    _run(
        "nuclei-only", "", "Crops stand around nuclei; the introduction asks for empty images.",
        "–", _NOT_SAID, label="fields without nuclei: left out − cut by a grid", towards="neither"),
    _run(
        "views-turned", "", "Rotation, flip, transposition, shift and scale; no magnitudes.", "–",
        "the paper, section 3.2", label="views: turned only − shifted and scaled, too",
        towards="neither"),
    _run(
        "views-strong", "", "As above.", "–", "the paper, section 3.2",
        label="views: shifts and scales four times as large", towards="neither"),
    _run(
        "rate-halved", "", "An initial learning rate of 0.001.",
        "The rate that is given is multiplied by minibatch / 256, which is a half.",
        "SL `solo/args/pretrain.py`: parse_cfg", label="learning rate: halved − as given"),
    _run(
        "sgd", "", "SGD, 0.001, momentum 0.9.", "–", "the paper, section 3.2",
        label="in our few steps: the paper's SGD − AdamW", towards="neither"),
    _run(
        "temperature-recipe", "", "A temperature of 0.07 for the unsupervised loss.",
        "0.2 in the recipes for SimCLR.", "SL `scripts/pretrain/*/simclr.yaml`",
        label="SimCLR's temperature: 0.2 − 0.07"),
    _run(
        "features-raw", "", "Nothing of a scale of features.", "–", "the paper, section 3.3",
        label="features of k-NN and linear layer: raw − scaled", towards="neither"),
)  # fmt: skip

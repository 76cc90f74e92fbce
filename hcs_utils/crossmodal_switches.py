"""Where the cross-modal paper and its code disagree, how each is set here, and what it changes.

The numbers 23 to 38 are those of the ledger in chapter 33. What is said of the code was read at
gwatkinson/jump_models@b9a3653 (JM) and gwatkinson/jump_download@304339a (JD) and not run, unless
`evidence` says otherwise. A difference is what `switches.effects` makes of records of the
experiments crossmodal and crossmodal-ledger.
"""

from functools import partial

from hcs_utils import switches
from hcs_utils.switches import Switch

EXPERIMENT, VARIANTS = "crossmodal", "crossmodal-ledger"
OUTCOMES = (  # of a switch that trains anew; the first two are its number
    "m2i_mrr", "i2m_mrr", "m2i_hr1", "m2i_hr10", "i2m_hr1", "i2m_hr10", "m2i_mrr_matched",
    "i2m_mrr_matched", "g_nss_logistic", "target_random_logistic",
)  # fmt: skip
_CLIP, _EMM, _IMM = ("clip",), ("emm",), ("imm",)
_ALL = ("clip", "emm", "imm")
_VARIANTS: dict[str, tuple[dict, tuple[str, ...]]] = {  # parameters changed, methods
    "emm-released": ({"crossmodal_form": "released"}, _EMM),
    "imm-released": ({"crossmodal_form": "released"}, _IMM),
    "clip-released": ({"crossmodal_form": "released"}, _CLIP),
    "imm-all-pairs": ({"crossmodal_pairs": "all"}, _IMM),
    "clip-wide": ({"crossmodal_compounds": 192}, _CLIP),
    "temperature-half": ({"crossmodal_temperature": 0.5}, _CLIP),
    "temperature-one": ({"crossmodal_temperature": 1.0}, ("emm", "imm")),
    "temperature-learned": ({"crossmodal_learn_temperature": True}, _ALL),
    "head-dropout": ({"crossmodal_dropout": 0.2}, _CLIP),
    "dmso-compound": ({"crossmodal_controls": "compound"}, _EMM),
    "weight-decay": ({"crossmodal_weight_decay": 0.05}, _EMM),
    "colour-off": ({"crossmodal_colour_probability": 0.0}, _EMM),
    "pixels-plain": ({"crossmodal_image_norm": "none"}, _EMM),
    "six-views": ({"crossmodal_views": 6}, ("emm", "imm")),
    "scaffolds": ({"crossmodal_split": "scaffold"}, _ALL),
    "bf16": ({"precision": "bf16-mixed"}, ("clip", "emm")),
}


def variants() -> dict[str, dict]:
    """Runs beside the normal grid, by name: `parameters` changed, `methods`, `preset`, `seeds`.

    Parameters are those of notebook 32. Each is compared with a normal run, from which it differs
    in what its name says and in nothing else. In the order in which they are worth running.
    """
    return switches.trained_anew(_VARIANTS)


_run = partial(switches.switch_of, _VARIANTS)


def _judged(name: str, *said: str, label: str, metrics: tuple, **given) -> Switch:
    """A switch of the judge: the same weights, judged twice."""
    return Switch(name, *said, label=label, metrics=metrics, methods=_ALL, **given)


_LOSSES = "JM `src/modules/losses/multiview_losses.py`"
_CONFIGS = "JM `configs/experiment/final/dataset_experiments/`"
_AS_25 = "the configurations at 25"
LEDGER = (
    _run(
        "emm-released", "23", "EMM: a sum over views inside the logarithm, negatives of all views.",
        "A mean of logarithms, one a view; negatives of the same view only; molecule to image.",
        f"{_LOSSES}: NTXentMultiplePositives", label="EMM's loss: code − paper"),
    _run(
        "imm-released", "24", "IMM is EMM and γ = 0.5 times the same of pairs of images.",
        "A sum of one-way terms over the pairs of molecule and views: EMM's part weighs three "
        "times as much; a pair of views counts once (a < b).",
        f"{_LOSSES}: MultiviewIntraModalNTXentLoss", label="IMM's loss: code − paper"),
    _run(
        "imm-all-pairs", "24", "B_M is the set of all pairs of indices from 1 to M.",
        "Pairs of two different views. The text can be read with a view and itself, too.",
        "as above", label="IMM's pairs: with itself − distinct", towards="neither"),
    _run(
        "clip-released", "25", "CLIP, both ways, by its reference.",
        "From images to molecules only, and the positive is left out of the denominator.",
        f"{_CONFIGS}`default.yaml`; `models/*/module.py`", label="CLIP's loss: code − paper"),
    _run(
        "temperature-half", "25", "Models differ in their losses alone; no temperature is given.",
        "CLIP's is 0.5 (what should change it is nested in the wrong place); ours is 0.1.",
        f"{_CONFIGS}`big.yaml`", label="CLIP's temperature: 0.5 − 0.1"),
    _run(
        "temperature-one", "25", "As above.", "EMM's and IMM's is 1; ours is 0.1.",
        f"{_CONFIGS}`multiview_big*.yaml`", label="temperature: 1 − 0.1"),
    _run(
        "head-dropout", "25", "As above.",
        "CLIP's heads drop a fifth of their inputs, EMM's and IMM's nothing.",
        "as above", label="CLIP's heads: dropout 0.2 − none"),
    _run(
        "clip-wide", "26", "384 compounds a minibatch for all.",
        "On each GPU 196 for CLIP and 64 of three views for EMM and IMM: as many images.",
        f"{_CONFIGS}`big.yaml`, `multiview_big*.yaml`",
        label="CLIP's minibatch: as many images as EMM − as many compounds"),
    _run(
        "weight-decay", "26", "Weight decay 0.05.", "0.01.",
        "JM `configs/model/optimizer/adamw.yaml`", label="weight decay: 0.01 − 0.05",
        towards="paper"),
    _run(
        "colour-off", "26", "Colours are changed with probability 0.4, crops resized.",
        "Colours are not changed; crops are cut.", f"{_CONFIGS}`multiview_big*.yaml`",
        label="colour shift: none − half of the views"),
    Switch(
        "first-weights", "27", "Nothing is said of first weights.",
        "PNA was trained before on other data (a private path), ResNet on ImageNet.",
        "JM `configs/molecule_encoder/pna_pretrained.yaml`",
        reason="The file is not public. Here all train from random weights; "
        "`crossmodal_image_weights` takes others for the images."),
    _judged(
        "ten-targets", "28", "Nine targets.", "The ten with most images, whatever is asked for.",
        "JM `eval/batch_effect/datamodule.py: setup`", label="G_NSS: ten targets − nine",
        metrics=(("g_nss_logistic", "g_nss_logistic_top10"),)),
    _judged(
        "dmso-last", "29", "Nothing is said of a scale by DMSO.",
        "An option scales groups by their DMSO wells; only the last group stays scaled.",
        "JM `eval/batch_effect/evaluator.py: normalize_embeddings`",
        label="G_NSS, k-NN, scaled by DMSO: the last plate − all",
        metrics=(("g_nss_knn_dmso", "g_nss_knn_dmso_released"),)),
    Switch(
        "transform", "30", "The task of the batch effect runs.",
        "A tensor meets a transform that turns its axes as NumPy does: TypeError.",
        "JM `BatchEffectDataset.__getitem__`; `SimpleTransform`", evidence="run in part",
        reason="It decides whether there is a number, not which."),
    _judged(
        "l2-inverted", "31", "Retrieval by similarity.",
        "With the option L2, distances are taken for similarities: the farthest is first.",
        "JM `eval/simple_retrieval/evaluator.py`", label="retrieval: L2 as released − cosine",
        metrics=(("m2i_mrr", "m2i_mrr_inverted"), ("i2m_mrr", "i2m_mrr_inverted"))),
    _judged(
        "fields-apart", "32", "A random split, the base of every G.",
        "Of images: fields of one well are on both sides, and the base is too high.",
        "JM `eval/batch_effect/evaluator.py: single_run`",
        label="G_NSS over the split of: fields − wells",
        metrics=(("g_nss_logistic_wells", "g_nss_logistic"),
                 ("target_well_logistic", "target_random_logistic"))),
    _judged(
        "task-seen", "33", "The task's plates were not seen in training.",
        "Plates were not; their compounds may be on training plates.",
        "JM `jump_cl/datamodule.py`", label="G_NSS of compounds: trained on − held out",
        metrics=(("g_nss_logistic", "g_nss_logistic_seen"),)),
    Switch(
        "sources", "34", "13 sources, 4.4 million fields.",
        "Nine sources have plates of compounds; the notebook counts 5.12 million rows.",
        "JM notebook 0.1", evidence="printed in the notebook",
        reason="It is about what was downloaded, which a simulated screen does not have."),
    Switch(
        "control-fields", "35", "Three fields of a control well, six of a treated one.",
        "Positive and negative lists are swapped (DMSO four), and names that never match make "
        "controls into treatments; not seeded.",
        "JD `sample_load_data.py: sample_load_data, sample_compound`; `conf/filters`",
        reason="The README's examples have three: what really ran was another version."),
    Switch(
        "crop-resize", "36", "Fields are cropped and resized to 768 px.", "They are cropped.",
        "JD `final_image_class.py: image_processing`",
        reason="Fields of JUMP differ in size by source; simulated ones do not."),
    Switch(
        "commands", "37", "`download_images_from_csv`; folders plate, batch, source.",
        "`download_images_from_job`; the reverse order.", "JD `README.md`, `pyproject.toml`",
        reason="Names of commands and folders."),
    Switch(
        "captions", "38", "Table 3: plate, source, batch; hits at 1, 5 and 5.",
        "The symbols say plate, batch, source; the tables have hits at 1, 3, 5 and 10.",
        "the paper, section 5.1 and table 3", evidence="read in the paper",
        reason="Labels. We take the symbols."),
    _judged(
        "blocks", "", "Pools of 100 (1:100).",
        "One field a compound; blocks of 100 in the order of InChI, so like stands by like.",
        "JM `src/eval/simple_retrieval`", label="retrieval: blocks by InChI − random pools",
        metrics=(("m2i_mrr", "m2i_mrr_blocks"), ("i2m_mrr", "i2m_mrr_blocks"))),
    _run(
        "dmso-compound", "", "Nothing of controls in training.",
        "DMSO is one of the compounds.", "the list of compounds and their rows",
        label="DMSO in training: a compound − left out"),
    _run(
        "pixels-plain", "", "Nothing of the scale of pixels but percentiles.",
        "From 0 to 1, no mean or deviation; ours scale a plate by its controls.",
        _AS_25, label="pixels: 0 to 1 − scaled by controls"),
    _run(
        "six-views", "", "M images of a compound; M is not given.",
        "Three, of three batches where there are so many.", _AS_25,
        label="views of a compound: six − three", towards="neither"),
    _run(
        "temperature-learned", "", "No temperature is given.",
        "Fixed; bounds are accepted and never enforced.", _AS_25,
        label="temperature: learned − 0.1", towards="neither"),
    _run(
        "scaffolds", "", "4,000 compounds are held out.", "At random; scaffolds are an option.",
        "JM `RandomSplitter`", label="held out: scaffolds − compounds", towards="neither"),
    Switch(
        "augmented-tests", "", "Nothing of augmentation when judged.",
        "Fields are cut and flipped at random there, too.", _AS_25,
        reason="Ours are the middle of each field, so that a record can be made again."),
    _run(
        "bf16", "", "Nothing of arithmetic.", "32 bits.", _AS_25,
        label="arithmetic: 16 bits − 32", towards="neither"),
)  # fmt: skip

"""Where CDCL's paper and its released code disagree, how each is set here, and what it changes.

The numbers 1 to 22 are those of the ledger, chapter 24. What is said of the code was read at
cfredinh/CDCL@54bb98b and not run, unless `evidence` says otherwise.
"""

from hcs_utils.switches import BASE, Switch

_CDCL, _BOTH = ("cdcl",), ("supervised", "cdcl")
_VARIANTS: dict[str, tuple[dict, tuple[str, ...]]] = {  # parameters changed, methods
    BASE: ({"precision": "bf16-mixed"}, _BOTH),
    "losses-paper": ({"form": "paper"}, _CDCL),
    "centers-paper": ({"centers": "paper"}, _CDCL),
    "centers-one": ({"centers": "one"}, _CDCL),
    "pairs-cross": ({"view_pairs": "cross"}, _CDCL),
    "crops-rxrx1": ({"crops": "rxrx1"}, _CDCL),
    "colour-offset": ({"colour_offset": 0.1}, _CDCL),
    "norm-all": ({"image_norm": "all"}, _CDCL),
    "best-val": ({"select": "best"}, _CDCL),
    "warm-up": ({"warmup_steps": 6}, _CDCL),
    "colour-often": ({"colour_probability": 0.8}, _CDCL),
    "controls-only": ({"subset": "controls"}, _BOTH),  # table 2b, setting I
    "treatments-only": ({"subset": "treatments"}, _BOTH),  # II
    "half-treatments": ({"subset": "half"}, _BOTH),  # III, as the text has it
    "half-images": ({"subset": "half_released"}, _BOTH),  # III, as the README's command has it
    "finetuned": ({"finetune_epochs": 10}, ("random", *_BOTH)),  # table 2a
}


def variants() -> dict[str, dict]:
    """Runs beside the normal grid, by name: `parameters` changed, `methods`, `preset`, `seeds`.

    All share one arithmetic: two of them differ in what their names say, and in nothing else.
    """
    return {
        name: {
            "parameters": {"precision": "bf16-mixed", **changed}, "methods": methods,
            "preset": "quick", "seeds": (0, 1, 2),
        }
        for name, (changed, methods) in _VARIANTS.items()
    }  # fmt: skip


def _run(name: str, *said: str, label: str, **given) -> Switch:
    """A switch whose variant has its name."""
    changed, methods = _VARIANTS[name]
    return Switch(
        name, *said, label=label, parameters=changed, methods=methods, variant=name, **given
    )


LEDGER = (
    _run(
        "best-val", "1", "The weights that did best on validation are tested.",
        "The word that decides (`aux_val`) never equals the one it is compared with (`knn_val`): "
        "no better weights are ever kept, and the file that is tested holds the first ones.",
        "`params.json`; `self_supervised/BYOL/trainer.py: evaluate, train`; "
        "`defaults/bases.py: save_session, load_session`",
        label="weights: best on validation − last", towards="neither"),
    Switch(
        "first-weights", "1", "The trained weights are tested.",
        "As shipped, the weights that training began from are tested.", "as above",
        label="weights: first − last", parameters={"method": "random"}, against=""),
    Switch(
        "test-after-training", "1b", "A test follows training; its results are saved.",
        "From training to the test a variable is unbound, and the program stops before it saves. "
        "Only a test of its own (`--test`) can finish; the file has another name.",
        "`defaults/trainer.py: test`; `classification.py: main`",
        reason="It decides whether there is a number, not which."),
    Switch(
        "znorm-all", "2", "Z-norm by the controls of each batch.",
        "Mean and deviation are of all samples of the batch, after their length is set to 1.",
        "`defaults/trainer.py: test, normalize_features_per_domain`",
        label="Z-norm: all samples − controls", metrics=(("knn_znorm", "knn_znorm_all"),)),
    Switch(
        "znorm-minibatch", "2", "Test fields are scaled as all others are.",
        "For test fields they are of those in the same minibatch, at most 92 neighbours in the "
        "table; a field alone gets NaN.", "as above",
        label="Z-norm: minibatch − controls", metrics=(("knn_znorm", "knn_znorm_minibatch"),)),
    Switch(
        "kbet-labels", "3", "k-BET asks how batches mix.",
        "On the test part it asks how treatments mix (on CPG0004, mechanisms), and its Z-norm is "
        "per treatment. Only the training part is asked about batches.",
        "`defaults/trainer.py: test` (`ids`, `id_bank`); "
        "`defaults/datasets.py: RxRx1_HUVEC.__getitem__`",
        label="k-BET of: treatments − batches", metrics=(
            ("kbet_released", "kbet_by_treatment"), ("kbet_znorm", "kbet_znorm_by_treatment"))),
    Switch(
        "kbet-neighbours", "4", "k-BET's k neighbours of a field, by χ².",
        "By dot product of features of any length, so the field left out as the first neighbour "
        "need not be itself; k are expected, k − 1 counted.",
        "`defaults/trainer.py: kbet, test`",
        label="k-BET neighbours: code − paper", metrics=(("kbet", "kbet_released"),)),
    Switch(
        "mechanism-1nn", "5", "Mechanism by the nearest other compound.",
        "The nearest other treatment, so another dose of the same compound may answer; DMSO is "
        "asked as well; controls are label 0, though labels were renumbered.",
        "`defaults/trainer.py: eval_moa`",
        label="mechanism: other treatment − compound", metrics=(("nsc_moa", "nsc_moa_released"),)),
    Switch(
        "folds", "6", "Six folds.", "The accuracies of tables 1 and 3 are means of five.",
        "the tables' last digits: multiples of 0.02",
        reason="Which fold is missing is not known. `folds` of the grid takes any of the six.",
        evidence="inferred from the printed digits"),
    _run(
        "half-images", "7", "Setting III trains on half of the treatments.",
        "The README's command keeps all 1,108 and drops one image of each two.",
        "`defaults/datasets.py: get_dataframe`; `README.md`",
        label="setting III: half the images − half the treatments", against="half-treatments"),
    _run(
        "controls-only", "8", "`drop_treatment_duplicates` drops second images of treatments.",
        "It keeps the controls alone (its mask is negated); a sibling drops the first image.",
        "`defaults/datasets.py: get_dataframe`",
        label="dropped: all treatments − their second images", against="half-images"),
    Switch(
        "subset-ignored", "9", "`--subset_strategy` chooses what is trained on.",
        "It does nothing unless `subset_data` is true, which the shipped parameters lack: all is "
        "trained on.", "`classification.py`; `defaults/datasets.py`",
        label="setting III: ignored − obeyed", parameters={"subset": "all"}, methods=_BOTH,
        variant=BASE, against="half-treatments"),
    _run(
        "warm-up", "10", "The learning rate is warmed up over 1,000 steps.",
        "Over 10 epochs, some 4,270 of 85,400 steps: `warmup_epochs` wins. Here the same shares of "
        "500 steps: 6, and 25.",
        "`params.json`; `utils/_utils.py: LinearWarmup`",
        label="warm-up: code − paper", towards="paper"),
    _run(
        "colour-offset", "11", "Colour shift with the probability that the settings give.",
        "The probability (0.8 or 0.5) is ignored: always 0.5. The additive part is several "
        "standard deviations of a channel of RxRx1.",
        "`defaults/bases.py: get_trans_list_albumentations`; `utils/_utils.py: Shift_Colors`",
        label="additive colour shift: with − without"),
    _run(
        "colour-often", "11",
        "Colours shift in 80 % of views, by one of the settings (by another, in half).",
        "In half of them, whatever the settings say.", "as above",
        label="colour shift: in half − in 80 %", towards="paper"),
    _run(
        "losses-paper", "12", "Barlow on probabilities, a sum with weight α (eq. 3).",
        "On centred logits, standardised over the minibatch, as means over 14 pairs of views, "
        "divided by 0.0595.", "`self_supervised/DINO/models.py: calculate_barlow_loss`",
        label="losses: code − paper", towards="paper"),
    Switch(
        "dino-loss", "13", "A sum over views; targets from the student; no temperatures (eq. 2).",
        "A mean of 14 terms over ln K; targets from the teacher; temperatures 0.1 and 0.04.",
        "`self_supervised/DINO/models.py: forward`", reason="`form` switches it together with 12."),
    Switch(
        "dino-crops", "14", "DINO: one global and three local crops of an image, eight views.",
        "True of pairs; plain DINO has two global and six local crops of one image.",
        "`defaults/datasets.py: __getitem__`",
        reason="Four crops of one image are not the eight views that the text counts: ours are the "
        "code's."),
    _run(
        "pairs-cross", "15", "Consistency across batches.",
        "Six of the 14 terms compare views of one image; `--only_cross_domain` is without effect.",
        "`self_supervised/DINO/models.py`; `classification.py`",
        label="pairs of views: all 14 − the 8 across", towards="paper"),
    _run(
        "centers-paper", "16", "Each batch's centre is a moving average.",
        "Its step is weighed by how frequent the batch is in the minibatch; beyond a weight of 10 "
        "it moves away.", "`self_supervised/DINO/models.py: update_domain_wise_centers`",
        label="centres: code − paper", towards="paper"),
    _run(
        "centers-one", "16", "A centre for each batch, against collapse.",
        "The same; one centre for all, as DINO's, is an option.", "as above",
        label="centres: one for all − one a batch", towards="neither"),
    Switch(
        "knn-constants", "17", "k-NN as Caron et al.: k = 20, temperature 0.07.",
        "k = 10, temperature 0.1; loaders drop the last minibatch.",
        "`defaults/datasets.py: knn_nhood`; `defaults/wrappers.py: init_dataloaders`",
        label="k-NN: k = 10 − k = 20", metrics=(("knn_caron", "knn_znorm"),)),
    Switch(
        "linear-layer", "18", "A linear layer learned independently.",
        "Learned while the encoder trains; BYOL's step never clears its gradient, and clips it "
        "together with the encoder's.", "`self_supervised/BYOL/trainer.py: global_step`",
        reason="Ours is fitted to frozen features, as in the text. An online layer reads an "
        "encoder that still moves, which is another question."),
    Switch(
        "down-sampling", "19", "Images are down-sampled to 256 px.",
        "Stored at 512 px, and resized once for each of eight views.",
        "`defaults/bases.py: disentangle_resizes_from_transforms`",
        reason="It costs time; the pixels are the same."),
    Switch(
        "dead-settings", "20", "`bn_head`, `use_barlow_student` and `embedding_centering` are set.",
        "The first is read under another name; the others have no effect.",
        "`self_supervised/DINO/models.py: DINO.__init__`",
        reason="The text names none of them."),
    _run(
        "norm-all", "21", "Pixels are scaled by the controls of a plate (CPG0004).",
        "By all wells; kept by the plate's name and looked up by its number, which finds nothing.",
        "`defaults/datasets.py: CPG0004…plate_normalize_image`; a notebook",
        label="pixel scale: all wells − controls"),
    Switch(
        "readme", "22", "The README names settings, notebooks and scripts.",
        "The runs' settings, the notebook of grit and k-BET, all code of grit, and the script of "
        "the plates' statistics are not there; files are written and read under different names.",
        "`README.md`; `defaults/datasets.py`; `build_data/`",
        reason="So the paper's own settings are not known: “code” is what was shipped."),
    _run(
        "crops-rxrx1", "", "Crops, without their scale.",
        "Resized crops of 0.9 to 1.1 and 0.3 to 0.5 of the area; above 1 it is mostly the whole.",
        "`self_supervised/*/augmentation_strategy-RxRx1.json`", label="crops: resized − cut"),
    _run(
        "bf16", "", "Nothing of arithmetic.", "32 bits.", "`params.json`",
        label="arithmetic: 16 bits − 32", against="", towards="neither"),
)  # fmt: skip

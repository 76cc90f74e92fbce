# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One run: from a few labels to a judged encoder
#
# Paper: Comparison of semi-supervised learning methods for High Content Screening quality control
# {cite}`masud2022qc`, sections 3 and 4.
#
# **The claim.** An encoder that was trained without labels of this screen needs only a few of them to tell
# normal crops from abnormal ones.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 1 CPU core | under 1 minute |
# | `quick` | 1 CPU core | 4 to 5 minutes, most of them for fine-tuning; ½ more the first time |
# | `standard` | 1 CPU core | 5 minutes a method; 3 more the first time |
# | `full` | one GPU | minutes on a large one |

# %% [markdown]
# **You will learn**
#
# - to train SimCLR, Barlow Twins, VICReg, SwAV or DeepClusterV2 on crops, and to see a collapse;
# - to judge by k-NN, by a linear layer and by fine-tuning, with 350 labels down to 10;
# - why one draw of ten labels is an anecdote, and what twenty draws say;
# - which faults are found, and which are missed, beside two baselines and shuffled labels.
#
# **You need** {doc}`11_qc_data` for crops and labels; {doc}`13_qc_results` has the outcome of many runs.
#
# **The key equation** is SimCLR's {cite}`chen2020simclr`. Of the $2N$ views of a minibatch, view $i$ has to
# find the other view $p(i)$ of its own crop,
#
# ```{math}
# :label: eq-qc-simclr
# L = -\frac{1}{2N} \sum_{i=1}^{2N} \log
# \frac{e^{\cos(z_i, z_{p(i)})/\tau}}{\sum_{j \ne i} e^{\cos(z_i, z_j)/\tau}}
# ```
#
# What two views of a crop share is learned: turned, shifted and scaled views share stain, focus and
# noise. Had the views changed these, an encoder would have learned to look past them.

# %% [markdown]
# ## Set-up
#
# In Colab the first cell fetches the book and installs it; elsewhere it does nothing. Choose a GPU
# there: *Runtime*, *Change runtime type*.

# %% tags=["hide-cell"]
import os
import subprocess
import sys

if "google.colab" in sys.modules:  # fetch the book and install it; elsewhere do nothing
    home = "." if os.path.isdir("hcs_utils") else "seeing-past-the-batch"
    if not os.path.isdir(home):
        clone = ["git", "clone", "-q", "--depth=1", "{{repository}}", home]
        subprocess.run(clone, check=True)
    os.chdir(home)
    subprocess.run([sys.executable, "workflow/colab.py"], check=True)

# %% tags=["parameters"]
preset = "quick"  # name of the preset; part of the record's path

# The screens
screen = "simulated"  # simulated, a public screen, or the path of a screen.yaml
qc_screen = ""  # "": that of screen; else goes before it
qc_size = "qc-quick"  # simulated screen: qc-smoke, qc-quick, qc-standard or qc-full
qc_labels = ""  # CSV of site_id, label; "": the truth of a simulated screen
qc_shift_screen = "simulated"  # another cell line, for tests only; "": none
qc_shift_size = "qc-quick-shift"  # the same with other cells: qc-quick-shift, …
qc_shift_labels = ""  # labels of its crops, as above

# Crops, their truth and their parts
qc_composite = "AGP,Mito,DNA"  # stains shown as red, green, blue; figure 1 of the paper
qc_shift_composite = "AGP,ER,DNA"  # the same of the other cell line
qc_crop_px = 48  # px, side of a crop
qc_max_per_field = 4  # crops of a field, drawn by lot; 0: one of each nucleus
qc_without_nuclei = "grid"  # crops of a field without a nucleus: grid, or leave_out
qc_scale = "plate"  # percentiles for 8 bits, of the plate or of each plane
qc_least = 0.02  # share of a crop that a local fault must cover
fold = 1  # deals the plates to the parts anew
qc_val_share = 0.125  # of the plates, to choose on
qc_test_share = 0.34  # of the plates, to judge on; no plate straddles
qc_test_crops = 400  # crops judged, half of them abnormal
qc_shift_crops = 200  # the same of the other cell line

# What is trained
qc_method = "simclr"  # see below
qc_variant = ""  # name of a switch of the ledger, part of the record's path; "": none
seed = 0  # of draws, views, minibatches and weights
qc_encoder = "small"  # of the self-supervised, procedural and random
qc_weights = "procedural"  # of vgg16, resnet18, convnext: imagenet, procedural, or a file
qc_image_norm = "plate"  # pixel scale: mean and sd of a plate's crops, or none

# Views and losses
qc_view_shift = 0.0625  # largest shift of a view over the crop's side
qc_view_scale = 0.1  # largest change of a view's scale; the paper gives none
qc_view_probability = 0.5  # that a view is shifted and scaled; the paper gives none
qc_temperature = 0.07  # of SimCLR; the paper's
qc_hidden = 256  # width of the projectors' hidden layers
qc_width = 256  # outputs of the projectors of SimCLR, Barlow Twins and VICReg
qc_cluster_width = 128  # the same of SwAV and DeepClusterV2; the library's
qc_prototypes = 100  # of SwAV and DeepClusterV2
qc_queue = 512  # crops in SwAV's queue
qc_queue_starts = 1  # epoch from which the queue is used; the library's is 15
qc_kmeans_iterations = 10  # of DeepClusterV2; the paper's
qc_first_epoch = "encoder"  # of DeepClusterV2: targets of the untrained encoder, or none (released)

# Optimisation
qc_epochs = 3  # passes over the training plates' crops
qc_minibatch = 64  # crops an optimiser step
qc_optimizer = "adamw"  # sgd as in the paper, or adamw
qc_learning_rate = 0.002  # peak; then a cosine
qc_momentum = 0.9  # of sgd; the paper's
qc_weight_decay = 0.0001  # weights only; the paper names none
qc_warmup_epochs = 0.3  # of linear warm-up
precision = "32-true"  # of the arithmetic: 32-true, bf16-mixed or 16-mixed
compile = False  # torch.compile the encoders

# Judging
qc_budgets = "350,100,50,25,10"  # numbers of labels, half of them abnormal
qc_draws = 20  # times that labels are drawn anew for each budget
qc_null_draws = 1  # draws fine-tuned with shuffled labels, too
qc_feature_scale = "standard"  # of features before k-NN and linear: standard, or none
qc_linear_epochs = 150  # of the linear layer, 32 labels a step; the paper's
qc_linear_rate = 0.001  # SGD with momentum 0.9; the paper's
qc_finetune_epochs = 50  # of encoder and linear layer, 32 labels a step; the paper's
qc_finetune_steps = 50  # at most this many of its optimiser steps; 0: no limit
qc_finetune_optimizer = "adamw"  # sgd as in the paper, or adamw
qc_finetune_rate = 0.003  # peak; the paper's is 0.001, with SGD

# %%
import dataclasses
import json

import numpy as np
import pandas as pd
from IPython.display import display

from hcs_utils import qc, qc_assemble, qc_judging, qc_settings, qc_tables, runs
from hcs_utils.evaluation import figure_crops, figure_crossmodal, figure_qc, figures
from hcs_utils.qc_tables import FAULTS

runs.refuse_unknown(globals())
settings = qc_settings.from_parameters(globals())
method, most = settings.method, settings.label_budgets[0]
fewest = settings.label_budgets[-1]
names = {m: qc_tables.NAMES[qc_tables.named(m, settings.weights)] for m in qc_settings.METHODS}

# %% [markdown]
# `qc_method` is one of five that learn from crops without labels, one of the paper's encoders of transfer
# (`vgg16`, `resnet18`, `convnext`, with `qc_weights`), `procedural` (a small encoder that has learned from
# drawings), or a baseline. From a terminal the same notebook runs with other parameters; a misspelt one is
# refused. Your own screen needs a file of labels, which {doc}`14_ten_labels` makes:
#
# ```bash
# papermill notebooks/12_qc_run.ipynb out.ipynb -f workflow/presets/quick.yaml -p qc_method swav
# python workflow/train.py --qc -f workflow/presets/standard.yaml -p qc_method swav -p seed 1
# papermill notebooks/12_qc_run.ipynb out.ipynb -f workflow/presets/quick.yaml \
#     -p qc_screen path/to/screen.yaml -p qc_labels labels.csv -p qc_shift_screen ""
# ```

# %% [markdown]
# ## Crops, and who is asked what
#
# Whole plates are dealt to parts. Training plates give the crops that are learned from, faults and all, and
# the labels; test plates give the crops that are judged, half of them abnormal. A second screen of another
# cell line is for tests only.

# %% tags=["remove-output"]
ready = qc_assemble.ready(settings, progress=True)

# %%
crops, question = ready.crops.table, ready.question
print(f"{ready.crops.name}: {len(crops):,} crops of {settings.crop_px} px", end="")
print(f" from {crops['parent'].nunique():,} fields, {len(ready.trained):,} to learn from")
plates = crops.groupby("split")["plate"].unique()
for name in ("train", "val", "test"):
    print(f"{name:6}{len(plates[name]):3} plates: {', '.join(sorted(plates[name])[:6])}, …")
assert crops.groupby("plate")["split"].nunique().max() == 1
assert not set(question.pool) & set(np.concatenate([*question.asked.values()]))
qc_judging.counts(question).rename_axis(None)

# %% mystnb={"figure": {"name": "fig-qc-crops", "caption": "Crops of the training plates, normal and with each fault, by lot."}, "image": {"alt": "Rows of composite crops, a row for normal ones and for each of seven faults."}}
rng, shown = np.random.default_rng(seed), {}
named = np.where(question.fault[question.pool] == "", "normal", question.fault[question.pool])
for name in ["normal", *(fault for fault in FAULTS if (named == fault).any())]:
    rows = rng.permutation(question.pool[named == name])[:8]
    shown[name] = [*question.images[rows].numpy(), *[None] * (8 - len(rows))]
figure_crops.grid([*shown.values()], [FAULTS.get(n, n) for n in shown], [""] * 8, 0.8)

# %% [markdown]
# **Read this as.** Some faults fill the crop, some hide in a corner of it, and mild ones are hard to see at
# all: no method can reach 100 %. {doc}`11_qc_data` says when a crop counts as abnormal.

# %% [markdown]
# ## Train and judge
#
# `qc.run` does all of it and saves the record. Two baselines first: the classical measures of image quality,
# which need no encoder, and the same encoder before any training.

# %%
scores = {}
for name in [other for other in ("classical", "random") if other != method]:
    scores[name] = qc.scores(dataclasses.replace(settings, method=name), ready)
result = qc.run(settings, True, ready)
scores[method] = result.metrics
print(f"{method}: {result.seconds:.0f} s of training, {settings.precision}, on ", end="")
print(json.loads(result.record.read_text())["device"])

# %% [markdown]
# **Killed?** Run it again: the run's folder is named by its settings, its crops and the code that trains,
# and holds a checkpoint from every 100 steps. The same settings go on to the same weights, on a CPU to the
# bit.

# %%
folder = qc.run_folder(settings, ready)
if result.log.empty:
    print(f"{method} is not trained on these crops: nothing is left in {folder.name}")
else:
    print(", ".join(sorted(path.name for path in folder.iterdir())))
    assert {"model.safetensors", "resume.safetensors", "log.csv"} <= set(os.listdir(folder))

# %% [markdown]
# ## Signs of collapse
#
# The dashed line is the loss of an encoder that gives the same answer to every crop (of clusterings: of one
# that finds all clusters equally likely). Beside the loss each method says how many directions its outputs
# fill, or how many prototypes its crops use: a number that falls to 1 is a collapse.

# %% mystnb={"figure": {"name": "fig-qc-loss", "caption": "Loss over training steps: each logged value faint, a running mean strong. Dashed: the loss of constant outputs."}, "image": {"alt": "Training loss against optimiser steps, with a dashed line at the loss of constant outputs."}}
if result.log.empty:
    print(f"{method} has no training curve.")
else:
    trivial = result.log["trivial_loss"].dropna().iloc[-1]
    display(figures.loss_curve(result.log, trivial=trivial, trivial_label="constant outputs"))
    assert np.isfinite(result.log["loss"]).all()

# %%
signs = [name for name in ("directions", "prototypes_used") if name in result.log]
if signs:
    log = result.log.dropna(subset=signs)
    display(log.iloc[np.unique(np.linspace(0, len(log) - 1, 6).astype(int))]
            .set_index("step")[["loss", *signs]].round(2))  # fmt: skip
    assert log[signs].iloc[-1].min() > 1.01

# %% [markdown]
# **Read this as.** A loss near the line has learned nothing yet. A loss far below it may still know the wrong
# thing: two crops of one plate differ in cells, and share stain and focus. Only labels tell.

# %% [markdown]
# ## How many labels are needed?
#
# For each number of labels, half of them abnormal, the labels are drawn anew `qc_draws` times from the
# training plates. Accuracy on the balanced test crops, so that a coin has 50 %; in brackets 95 % intervals
# over draws and over fields. *sd* is the spread from draw to draw, *worst* the unluckiest draw, and *null*
# the same with the labels shuffled.

# %%
tasks = {"knn": "k-NN", "linear": "linear", "logistic": "logistic", "finetuned": "fine-tuned"}
rows = {}
for name, found in scores.items():
    for task in [task for task in tasks if f"{task}_accuracy_{most}" in found]:
        for budget in settings.label_budgets:
            value, low, high = found[f"{task}_accuracy_{budget}"]
            null = np.ravel(found.get(f"{task}_accuracy_null_{budget}", np.nan))[0]
            rows[names[name], tasks[task], budget] = {
                "accuracy": f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})",
                "sd": 100 * found[f"{task}_accuracy_sd_{budget}"],
                "worst": 100 * found[f"{task}_accuracy_worst_{budget}"],
                "null": 100 * null, "F1": 100 * found[f"{task}_f1_{budget}"][0],
                "AUC": 100 * found[f"{task}_auc_{budget}"][0],
            }  # fmt: skip
table = pd.DataFrame(rows).T.rename_axis(["", "task", "labels"])
table.loc[names[method]].map(lambda x: x if isinstance(x, str) else f"{x:.1f}").replace("nan", "")

# %%
curves = pd.DataFrame([
    (tasks[task], names[name], budget, *found[f"{task}_accuracy_{budget}"])
    for name, found in scores.items() for task in tasks for budget in settings.label_budgets
    if f"{task}_accuracy_{budget}" in found
], columns=["panel", "method", "labels", "value", "low", "high"])  # fmt: skip
assert curves["value"].between(0, 1).all() and (curves["low"] <= curves["high"]).all()

# %% mystnb={"figure": {"name": "fig-qc-run-budgets", "caption": "Accuracy over the number of labels, with intervals over draws and fields; dashed, a coin."}, "image": {"alt": "Four panels, k-NN, linear, logistic and fine-tuned; accuracy rises with the number of labels, a line a method."}}
figure_qc.budgets(curves)

# %%
nulls = {k: np.ravel(v) for k, v in result.metrics.items() if f"_null_{most}" in k}
for name, (value, low, high) in nulls.items():
    print(f"{name}: {value:.3f} ({low:.3f} to {high:.3f})")
best = max((found[f"{task}_accuracy_{most}"][0], names[name], tasks[task])
           for name, found in scores.items() for task in tasks
           if f"{task}_accuracy_{most}" in found)  # fmt: skip
print(f"best with {most} labels: {best[1]}, {best[2]}, {100 * best[0]:.1f} %")
for task in tasks:
    if f"{task}_accuracy_{fewest}" in result.metrics:
        sd = 100 * result.metrics[f"{task}_accuracy_sd_{fewest}"]
        print(f"{tasks[task]}: sd between draws of {fewest} labels {sd:.1f} points")

# %% [markdown]
# **Read this as.** The null has to sit at 50 %, or labels leak. The spread between draws says what one draw of
# ten labels is worth: differences smaller than that are luck, and the paper has one draw. *Linear* is the
# paper's layer, 150 epochs, which of ten labels are 150 steps; *logistic* trains until it has converged.
# Where the classical measures are on top, as they can be where faults are the ones that they were made
# for, that is the news: they cost a second.

# %% [markdown]
# ## Which faults are found?
#
# *Recall*: the share of the crops of a fault that is called abnormal (above 0.5), and of normal crops, which
# is the specificity. With the most labels.

# %%
task = "finetuned" if f"recall_normal_finetuned_{most}" in result.metrics else "linear"
bars = pd.DataFrame([
    {"panel": FAULTS.get(fault, fault), "method": names[name], "paper": np.nan, "line": 0.5}
    | dict(zip(("value", "low", "high"), found.get(f"recall_{fault}_{of}_{most}", [np.nan] * 3),
               strict=True))
    for fault in ("normal", *FAULTS) for name, found in scores.items()
    for of in ["linear" if name == "classical" else task]
])  # fmt: skip
assert bars["value"].dropna().between(0, 1).all()

# %% mystnb={"figure": {"name": "fig-qc-recall", "caption": "Share of the crops of each fault that is called abnormal, of normal ones that is called normal; intervals over draws and fields. Classical measures by the linear layer, encoders fine-tuned."}, "image": {"alt": "Eight panels, normal crops and seven faults, with a bar of recall for each method."}}
figure_crossmodal.bars(bars, f"recall with {most} labels", "a coin", 4, limit=1)

# %%
of = bars[bars["method"] == names[method]].set_index("panel")["value"].dropna().sort_values()
print(f"{names[method]}, {tasks[task]}: least found {of.index[0]} ({of.iloc[0]:.2f}), ", end="")
print(f"most found {of.index[-1]} ({of.iloc[-1]:.2f})")

# %% [markdown]
# **Read this as.** One accuracy hides seven stories. A fault of the whole crop is told from ten labels; a
# local one covers some per cent of the crop and may lie in a stain that the composite leaves out. A rate of
# recall without that of normal crops says nothing: call everything abnormal, and every fault is found.

# %% [markdown]
# ## Another cell line
#
# The same draws of the most labels, the same classifiers, on crops of a screen with smaller cells in islands and
# other stains: table 3 of the paper. Nothing was trained or chosen there.

# %%
rows = {}
for name, found in scores.items():
    for task in [task for task in tasks if f"shift_{task}_accuracy_{most}" in found]:
        here, there = (found[f"{part}{task}_accuracy_{most}"] for part in ("", "shift_"))
        rows[names[name], tasks[task]] = {
            "same screen": 100 * here[0], "other cell line": 100 * there[0],
            "interval": "{:.1f} to {:.1f}".format(*(100 * np.array(there[1:]))),
            "lost, points": 100 * (here[0] - there[0]),
        }  # fmt: skip
shifted = pd.DataFrame(rows).T
shifted.map(lambda x: x if isinstance(x, str) else f"{x:.1f}") if rows else print("no other screen")

# %% [markdown]
# **Read this as.** What falls most has learned what this screen looks like, not what a fault looks like. A
# model that is fine-tuned on one assay may lose there what it had gained.

# %% [markdown]
# ## The record

# %%
print(os.path.relpath(result.record))
record = json.loads(result.record.read_text())
print(", ".join(f"{name} {record[name]}" for name in ("experiment", "method", "fold", "seed")))
assert record["parameters"]["method"] == method

# %% [markdown]
# ## What we learned
#
# - Encoders that saw no label of this screen are judged by three tasks, each with many draws of few labels.
# - The spread from draw to draw is as large as the differences between many methods.
# - Recall fault by fault says what an accuracy hides; the null and two baselines say what it is worth.
# - The loss and the number of directions show a collapse before any label is asked for.
#
# **What would change our mind.** If untrained features did as well as trained ones, if shuffled labels did
# better than a coin, or if single draws agreed within a point: then training, or twenty draws, would be
# a waste.
#
# **Where paper and code disagree.** No code of the paper was found; what its library does otherwise is read,
# not run ({doc}`13_qc_results` has the ledger).
#
# | the paper says | the library does | where |
# |---|---|---|
# | SwAV has a queue, training 5 epochs | the queue starts with epoch 15 | `solo/methods/swav.py` |
# | DeepCluster trains for 5 epochs | the first has no targets, and no gradient | `solo/methods/deepclusterv2.py` |
# | SGD, 0.001 | times minibatch / 256 | `solo/args/pretrain.py` |
#
# Here: a queue from epoch 1, targets from the start, the rate as given; each is a parameter.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* Run `qc_method = "vicreg"`. Its views share stain, focus and noise, too. Which fault should it
#    find as well as SimCLR does?
#
# ```{admonition} Solution
# :class: dropdown
# Those of the whole crop. Compare the figures of recall: what two views share is the same for both losses.
# ```
#
# 2. *Change one parameter.* `qc_scale = "plane"`. Which faults become harder to see?
#
# ```{admonition} Solution
# :class: dropdown
# Empty and dim ones, and saturation: each plane is stretched to the same range (ledger, `plane-scale`).
# ```
#
# 3. *Extend.* `qc_budgets = "350,100,50,25,10,6,4"`. Where does k-NN stop to make sense, and why?
#
# ```{admonition} Solution
# :class: dropdown
# With k = 5 of four labels, every crop gets the same votes: two normal, two abnormal.
# ```

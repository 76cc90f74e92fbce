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
# # One run: any method, fold and seed
#
# Paper: [Metadata-guided Consistency Learning for High Content
# Images](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`, table 1 and figure 2.
#
# **The claim.** Trained on pairs across batches, features find a treatment in batches that the
# network has never seen; trained on single fields, they find the batch.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | 2 to 3 minutes; 1 more the first time, to draw the screen |
# | `standard` | 2 CPU cores | 10 minutes |
# | `full` | one GPU | by the GPU: minutes on a large one, half an hour on a small one |

# %% [markdown]
# **You will learn**
#
# - to run one method from images to a record, with every setting in sight;
# - to read a training curve beside the loss of a network that has learned nothing;
# - to judge features on unseen batches, beside chance, a baseline and a null;
# - to do the same with a screen of your own.
#
# **You need** {doc}`00_tour`; {doc}`20_cdcl_idea` for what is trained.
#
# **The key equation** is the vote that names a field $q$ by its nearest training fields, $T = 0.1$ and
# $k = 10$:
#
# ```{math}
# :label: eq-knn
# \hat y(q) = \arg\max_c \sum_{i \in \mathrm{NN}_k(q),\ y_i = c} e^{\cos(z_q,\, z_i) / T}
# ```

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
screen = "simulated"  # simulated, or the path of a screen.yaml beside your own images
size = "quick"  # of the simulated screen: smoke, quick, standard or full
image_px = 0  # px, side of the stored squares; 0: as the files are
method = "cdcl"  # supervised, dino, dino_cb, cdcl; or a baseline: random, intensity, leaks
variant = ""  # name of a switch of the ledger, part of the record's path; "": none
fold = 1  # 1-based; which batches are held out
folds = 6  # turns; 0 leaves one batch out, number `fold`
seed = 0  # of pairs, views, minibatches and weights
subset = (
    "all"  # what of the training part is trained on: all, controls, treatments, half, half_released
)
epochs = 10  # passes over the training fields
minibatch = 64  # fields, or pairs of fields, an optimiser step
learning_rate = 0.002  # peak, AdamW
precision = "32-true"  # of the arithmetic: 32-true, bf16-mixed or 16-mixed
compile = False  # torch.compile the encoders: a minute of waiting, then faster on some machines
warmup_steps = 0  # optimiser steps of linear warm-up; 0: a twentieth of all
weight_decay = 0.0001  # at the start; weights only
weight_decay_end = 0.0001  # at the end, reached along a cosine
encoder = "small"  # small, tiny, or a timm model such as deit_small_patch16_224
weights = ""  # first weights: "" (random), imagenet, or a .safetensors file
drop_path = 0.0  # stochastic depth of the student, for timm's encoders
head_width = 256  # outputs K of the projection head
head_hidden = 256  # width of the head's hidden layers
head_bottleneck = 128  # width before the head's last layer
momentum_start = 0.97  # of the teacher's moving average; it ends at 0.9996 (BYOL: 1)
teacher_temperature = 0.04  # at the start
teacher_temperature_end = 0.04  # after the first twentieth of training
form = "released"  # of CDCL's losses: paper (equations) or released (code)
centers = (
    "released"  # of CDCL's centres: a moving mean a batch as paper or released, or one for all
)
view_pairs = "all"  # of the loss of cross-batch methods: all 14, or the cross-batch 8 (cross)
crops = "cut"  # cut (no resizing), or resized: rxrx1, cpg0004 or cpg0004_large of the released code
colour_offset = 0.0  # sd of the shift of a channel, in units of the 8-bit range
colour_probability = 0.5  # share of views whose colours are shifted
select = "last"  # weights that are judged: the last, or the best on the validation batches
image_norm = "controls"  # pixel scale a plate: from controls, or all wells
znorm = "controls"  # embedding scale a batch: from controls, all samples, or a minibatch
kbet_fraction = 0.005  # neighbours of a field in kBET, as a share of all fields
finetune_epochs = 0  # of the encoder on mechanisms (MoA), after it was judged; 0: none

# %%
import dataclasses
import math

import numpy as np
import pandas as pd

from hcs_utils import assemble, experiments, runs
from hcs_utils.evaluation import figure_collapse, figure_metrics, figures, leaks
from hcs_utils.learning import diagnose
from hcs_utils.learning.embed import features

runs.refuse_unknown(globals())
names = [field.name for field in dataclasses.fields(experiments.Settings)]
settings = experiments.Settings(**{name: globals()[name] for name in names})

# %% [markdown]
# From a terminal the same notebook runs with other parameters; a misspelt one is refused:
#
# ```bash
# papermill notebooks/22_cdcl_run.ipynb out.ipynb -f workflow/presets/quick.yaml -p method dino
# ```
#
# On **your own screen**, described by a `screen.yaml` ({doc}`01_screens` writes one), without control
# wells and leaving one batch out:
#
# ```bash
# papermill notebooks/22_cdcl_run.ipynb out.ipynb -f workflow/presets/quick.yaml \
#     -p screen path/to/screen.yaml -p image_norm all -p znorm all -p folds 0
# ```

# %% [markdown]
# ## The screen and its split

# %% tags=["remove-output"]
data = experiments.prepare(screen, size, image_px, progress=True)

# %%
part = experiments.split(data.table, fold, folds)
print(f"{data.name}: {len(data.store):,} fields, channels {', '.join(data.channels)}")
for name in ("train", "val", "test"):
    held = data.table[part == name]
    print(f"{name:6}{len(held):6,} fields in {held['batch'].nunique():2} batches")
treatments = data.table.loc[data.table["role"] == "trt", "treatment"].nunique()
print(f"{treatments} treatments besides the negative control")
batch_sets = [set(data.table.loc[part == p, "batch"]) for p in ("train", "val", "test")]
assert not set.intersection(*batch_sets[::2]) and not set.intersection(*batch_sets[1:])

# %% [markdown]
# ## Train, embed, judge
#
# `experiments.run` does all of it and saves the record. Beside the method it runs what no result
# should be read without: channel intensities (the *baseline*: what can be had without looking at
# cells), the same {term}`encoder` with random weights (the *null*: what its architecture gives for
# nothing), and a {term}`leak audit`. They take half a minute. A run that was killed goes on where it was.

# %%
results = {}
for name in dict.fromkeys(("intensity", "random", "leaks", method)):
    choice = dataclasses.replace(settings, method=name)
    results[name] = experiments.run(choice, data)
result = results[method]

# %%
print(f"{method}: {result.seconds:.0f} s of training")
z = features(result.embedding)
print("embedding [field, feature]:", z.shape)
assert len(z) == len(result.table) and np.isfinite(z).all()
assert (result.embedding["site_id"].to_numpy() == result.table["site_id"].to_numpy()).all()

# %% [markdown]
# ## The training curve
#
# The dashed line is the loss of a network that has learned nothing: for DINO it is $\ln K$, for CDCL
# the same with Barlow's part, for a classifier $\ln$ of the number of classes.

# %% mystnb={"figure": {"name": "fig-run-loss", "caption": "Loss over training steps: each logged value faint, a running mean strong. Dashed: the loss of a network that has learned nothing."}, "image": {"alt": "Training loss against optimiser steps, with a dashed line at the trivial value."}}
if result.log.empty:
    print(f"{method} is not trained: there is no curve.")
else:
    classes, batches = result.table["treatment"].nunique(), result.table["batch"].nunique()
    network = assemble.method(settings, data.channels, classes, np.ones(batches))
    trivial = getattr(network, "trivial_loss", math.log(classes))
    display(figures.loss_curve(result.log, trivial=trivial, trivial_label="nothing learned"))
    assert np.isfinite(result.log["loss"]).all()

# %% [markdown]
# **Read this as.** A curve that stays on the line has not started. A curve below it is not yet a
# success: a loss falls as well when the network learns the batch, or says one thing of everything.
#
# At each checkpoint the {doc}`collapse doctor <04_collapse>` looks at a few training fields: how many
# directions the features use ({term}`effective rank`), how decided the teacher is
# ({term}`teacher entropy`), whether two crops of a field find the same neighbours, and whether
# neighbours share the batch or the treatment.

# %% mystnb={"figure": {"name": "fig-run-signs", "caption": "Vital signs of the run on training fields, at each checkpoint."}, "image": {"alt": "Panels of signs against optimiser steps: loss over its trivial value, effective rank, entropies of the teacher, agreement of neighbours, and what neighbours share."}}
if not result.log.empty:
    display(figure_collapse.vital_signs({method: result.log}))
    name, advice = diagnose.verdict(result.log)
    print(f"verdict: {name}. {advice}")

# %% [markdown]
# ## The map
#
# As figure 2 of the paper: fields of batches that were not trained on, by batch above and by treatment
# below; raw on the left, after {term}`Z-norm` on the right. With preset smoke, principal
# components stand in for UMAP, which takes long to start.

# %%
table = result.table
batch, is_control = table["batch"].to_numpy(), (table["role"] == "negcon").to_numpy()
zn = experiments.znorm(z, table, settings)
unseen = (table["split"] != "train").to_numpy()
several = len(set(batch[unseen])) > 1
print("The map shows", "the unseen batches." if several else "all batches: only one is unseen.")
shown = (unseen | (not several)) & ~is_control
shown[np.random.default_rng(seed).permutation(np.flatnonzero(shown))[3000:]] = False

# %%
if preset == "smoke":
    from sklearn.decomposition import PCA

    print("preset smoke: principal components in place of UMAP")
    maps = [PCA(2).fit_transform(x[shown]) for x in (z, zn)]
else:
    maps = [figures.umap(x[shown], seed) for x in (z, zn)]

# %% mystnb={"figure": {"name": "fig-run-map", "caption": "Fields of unseen batches, placed by their features: by batch above, the framed spot by treatment below."}, "image": {"alt": "Two maps of fields coloured by batch, raw and after Z-norm; below each an enlarged spot coloured by treatment."}}
points = dict(zip((f"{method}, raw", f"{method}, after Z-norm"), maps, strict=True))
figures.umap_panels(points, batch[shown], table.loc[shown, "treatment"])

# %% [markdown]
# **Read this as.** Look at the colours of the upper maps: if they lie apart, the features know the
# batch. Then at the colours of the lower ones: if they gather, the features know the treatment. A
# good method mixes above and sorts below. What a map suggests, the next numbers must say.

# %% [markdown]
# ## The numbers
#
# k-NN, {eq}`eq-knn`: fields of the test batches, named by fields of the training batches, negative
# controls left out. In brackets the 95 % interval when whole {term}`wells <well>` are drawn anew.
# The column `knn_shuffled` is the same with the training labels shuffled.

# %%
keys = ["knn", "knn_znorm", "knn_shuffled", "kbet_train", "kbet", "kbet_znorm"]
rows = {}
compared = {name: one for name, one in results.items() if name != "leaks" or name == method}
for name, one in compared.items():
    cells = {}
    for key in keys:
        value, *interval = np.atleast_1d(one.metrics.get(key, np.nan))
        spread = " ({:.3f} to {:.3f})".format(*interval) if interval else ""
        cells[key] = f"{value:.3f}{spread}" if np.isfinite(value) else "one batch"
    rows[name] = cells
print(f"chance {result.metrics['chance']:.3f}")
pd.DataFrame(rows).T

# %%
points = pd.DataFrame(
    [
        {"method": name, **{key: np.ravel(one.metrics[key])[0] for key in keys[:3]}}
        for name, one in compared.items()
    ]
)

# %% mystnb={"figure": {"name": "fig-run-knn", "caption": "k-NN accuracy across batches, of one run each, raw and after Z-norm. Null: random weights, baseline: channel intensities, both after Z-norm."}, "image": {"alt": "k-NN accuracy of intensity statistics, random weights and the method, raw and after Z-norm, with lines at the two of them."}}
figures.compare(
    points,
    {"knn": "raw", "knn_znorm": "after Z-norm"},
    f"k-NN accuracy across batches (chance {result.metrics['chance']:.3f})",
    null=np.ravel(results["random"].metrics["knn_znorm"])[0],
    baseline=np.ravel(results["intensity"].metrics["knn_znorm"])[0],
)

# %%
for one in compared.values():
    values = [np.ravel(one.metrics[key])[0] for key in keys if key in one.metrics]
    assert all(0 <= value <= 1 for value in values)
null = np.ravel(result.metrics["knn_shuffled"])[0]
best = np.ravel(result.metrics["knn_znorm"])[0]
print(f"{method} {best:.3f}; null {null:.3f}; chance {result.metrics['chance']:.3f}")
for name in ("intensity", "random"):
    other = np.ravel(results[name].metrics["knn_znorm"])[0]
    print(f"{method} is {'above' if best > other else 'not above'} {name} ({other:.3f})")

# %% [markdown]
# **Read this as.** Compare with three things: chance and the shuffled null, which should agree; the
# baseline and the random encoder, which a trained one must beat, or training was for nothing; and
# the interval, since a difference smaller than that may be luck. {term}`kBET` says how batches mix
# and nothing of treatments: random features mix perfectly.
#
# One run is an anecdote. {doc}`23_cdcl_results` has all methods, over seeds and folds.

# %% [markdown]
# ## The leak audit
#
# Could the same fields be named without looking at cells? The bank, the queries and the wells are those
# of the number above; what answers is the well's position, the plate's name, the number of nuclei, the
# intensities, or the encoder as it was born. Each may use the best of three judges, the vote of the score,
# trees, or lines (linear discriminants), so that no way in is missed because a cosine cannot see it. So the
# method, too, is shown twice: by its vote and by lines. {doc}`03_judging` tells more.

# %% mystnb={"figure": {"name": "fig-run-audit", "caption": "Leak audit of this run's task: what each source alone reaches, with the interval over wells; the tick is its own null, with the labels of the bank shuffled. Lines with bands: the method after Z-norm, by its vote and by linear discriminants."}, "image": {"alt": "One row for each source, with accuracy, interval and null; two vertical bands show the method's accuracy by k-NN and by lines."}}
audit = leaks.from_metrics(results["leaks"].metrics)
judges = {"k-NN": "knn_znorm", "lines": "linear_znorm"}
score = {
    f"{method}, {judge}": tuple(np.ravel(result.metrics[m]))
    for judge, m in judges.items()
    if m in result.metrics
}
figure_metrics.audit(audit, score, "accuracy on unseen batches")

# %%
told = audit[audit["leaks"] & (audit.index != "shuffled labels")]
print("above their null:", ", ".join(told.index) or "none")
assert {"well position", "plate", "random weights", "shuffled labels"} <= set(audit.index)
assert audit.drop("shuffled labels")["value"].between(0, 1).all()

# %% [markdown]
# **Read this as.** No plate is on both sides, so its name tells nothing. Position may tell much: on the
# simulated screen every second source keeps one layout, as real screens do, and who knows the well
# knows the treatment. Counts and intensities are part of every true phenotype: above their null they are
# no fault of the split, but a floor that a method has to beat.
#
# Does the method live on positions? `knn_znorm_moved` is its accuracy on those fields alone whose
# treatment never stood in that well of a plate in the bank. Whoever reads positions must lose there.

# %%
moved = {name: one.metrics.get("knn_znorm_moved") for name, one in compared.items()}
for name, triple in moved.items():
    if triple is None:
        print(f"{name:12}no treatment of the test part stands elsewhere than in the bank")
        continue
    value, *interval = np.ravel(triple)
    whole = np.ravel(results[name].metrics["knn_znorm"])[0]
    print(f"{name:12}{whole:.3f} on all, {value:.3f} ", end="")
    print("({:.3f} to {:.3f}) on those that moved".format(*interval))

# %% [markdown]
# ## The record

# %%
for name, one in results.items():
    print(f"{name:12}{os.path.relpath(one.record)}")
assert result.record.exists()

# %% [markdown]
# ## What we learned
#
# - A run is its settings: they stand in the parameters cell, and in the record.
# - The loss has a trivial value; being below it is needed and not enough.
# - k-NN on unseen batches asks the question of a screen: is it the treatment again?
# - Chance, null, baseline and interval come with each number.
#
# **What would change our mind.** If random weights did as well as a trained encoder, the phenotypes
# would be too easy for this comparison to mean anything; if `knn_shuffled` were above chance, the
# split would leak.
#
# **Where paper and code disagree.** (`cfredinh/CDCL@54bb98b`, read, not run.)
#
# | the paper says | the code does | where |
# |---|---|---|
# | Z-norm from controls | from all samples; for test images within minibatches of at most 92 | `defaults/trainer.py: test, normalize_features_per_domain` |
# | kBET on batches | on test data the treatment's id stands in the batch's place | `defaults/trainer.py: test` |
# | the model is chosen on validation | as shipped, the first weights are kept and tested | `self_supervised/BYOL/trainer.py: evaluate, train` |
#
# Here: Z-norm from controls (`znorm = "all"` and `"minibatch"` are the others); kBET on batches; the last weights of a
# run of fixed length, nothing chosen.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* Run `method = "dino"`. Which of `kbet_train` and `knn_znorm` falls, against `cdcl`?
#
# ```{admonition} Solution
# :class: dropdown
# Run it, or look at {doc}`23_cdcl_results`. Plain DINO may see nothing but what two crops of one
# field share.
# ```
#
# 2. *Change one parameter.* `form = "paper"`. Does the loss compare with `released`? Does k-NN?
#
# ```{admonition} Solution
# :class: dropdown
# Losses do not: one is a sum, the other a mean over $\ln K$; the curve's line tells. k-NN is
# comparable.
# ```
#
# 3. *Extend.* Train on two batches only. What happens to `cdcl`, and what to `supervised`?
#
# ```{admonition} Solution
# :class: dropdown
# Describe the screen's folder by a `screen.yaml` with a `filter` on `batch`, three batches, and
# `folds: 0`. With two training batches each field has partners in one other batch only.
# ```

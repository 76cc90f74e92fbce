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
# Images](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`, tables 1, 4 and 5, figure 2.
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
# - to run one method from images to a record, on this screen or your own, with every setting in sight;
# - to read a training curve beside the loss of a network that has learned nothing;
# - to judge features on unseen batches, beside chance, a baseline and a null;
# - what happens when a run is killed, and how it spreads over several GPUs;
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

# The screen and its split
screen = "simulated"  # simulated, a public screen, or the path of your own screen.yaml
size = "quick"  # of the simulated screen: smoke, quick, standard or full
image_px = 0  # px, side of the stored squares; 0: as the files are
fold = 1  # 1-based; which batches are held out
folds = 6  # turns; 0 leaves one batch out, number `fold`

# What is trained, and on what
method = "cdcl"  # supervised dino byol dino_cb byol_cb cdcl dino_bl byol_bl random intensity leaks
variant = ""  # name of a switch of the ledger, part of the record's path; "": none
subset = "all"  # of the training part: all, controls, treatments, half, half_released
seed = 0  # of pairs, views, minibatches and weights

# Optimisation
epochs = 10  # passes over the training fields
minibatch = 64  # fields, or pairs of fields, an optimiser step
learning_rate = 0.002  # peak, AdamW
warmup_steps = 0  # optimiser steps of linear warm-up; 0: a twentieth of all
weight_decay = 0.0001  # at the start; weights only
weight_decay_end = 0.0001  # at the end, reached along a cosine
precision = "32-true"  # of the arithmetic: 32-true, bf16-mixed or 16-mixed
compile = False  # torch.compile the encoders: a minute of waiting, then faster on some machines

# Encoder and heads
encoder = "small"  # small, tiny, or a timm model such as deit_small_patch16_224
weights = ""  # first weights: "" (random), imagenet, or a .safetensors file
drop_path = 0.0  # stochastic depth of the student, for timm's encoders
head_width = 256  # outputs K of the projection head
head_hidden = 256  # width of the head's hidden layers
head_bottleneck = 128  # width before the head's last layer

# Teacher, losses and views
momentum_start = 0.97  # of the teacher's moving average; it ends at 0.9996
byol_momentum_start = 0.97  # the same of BYOL's teacher; it ends at 1
teacher_temperature = 0.04  # at the start
teacher_temperature_end = 0.04  # after the first twentieth of training
form = "released"  # of CDCL's losses: paper (equations) or released (code)
centers = "released"  # of CDCL: a moving mean a batch as paper or released, or one for all
view_pairs = "all"  # of the loss of cross-batch methods: all 14, or the cross-batch 8 (cross)
crops = "cut"  # cut (no resizing), or resized as released: rxrx1, cpg0004, cpg0004_large
colour_offset = 0.0  # sd of the shift of a channel, in units of the 8-bit range
colour_probability = 0.5  # share of views whose colours are shifted

# Judging
select = "last"  # weights that are judged: the last, or the best on the validation batches
image_norm = "controls"  # pixel scale a plate: from controls, or all wells
znorm = "controls"  # embedding scale a batch: from controls, all samples, or a minibatch
kbet_fraction = 0.005  # neighbours of a field in kBET, as a share of all fields
finetune_epochs = 0  # of the encoder on mechanisms (MoA), after it was judged; 0: none

# %%
import dataclasses
import json
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
# On **several GPUs** the same settings run without the notebook, since processes cannot share one;
# the README has one machine, several GPUs and SLURM:
#
# ```bash
# torchrun --nproc-per-node 4 workflow/train.py -f workflow/presets/full.yaml -p method cdcl
# ```
#
# **`precision`.** `bf16-mixed` computes with 8 bits of mantissa where the network can bear it, and twice
# as fast on CPUs and GPUs that know it; losses and centres stay in 32 bits. What it costs in
# accuracy is in {doc}`24_cdcl_ledger`.
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
# nothing), and a {term}`leak audit`. `experiments.scores` gives their metrics, and reads them from the
# record where it is of this very run: same settings, screen, packages and commit.

# %%
scores = {}
for name in [other for other in ("intensity", "random", "leaks") if other != method]:
    scores[name] = experiments.scores(dataclasses.replace(settings, method=name), data)
result = experiments.run(settings, data)
scores[method] = result.metrics

# %%
print(f"{method}: {result.seconds:.0f} s of training, {settings.precision}, on ", end="")
print(json.loads(result.record.read_text())["device"])
z = features(result.embedding)
print("embedding [field, feature]:", z.shape)
assert len(z) == len(result.table) and np.isfinite(z).all()
assert (result.embedding["site_id"].to_numpy() == result.table["site_id"].to_numpy()).all()

# %% [markdown]
# **Killed?** Run it again. Each 100 steps the run leaves a checkpoint in its folder, which is named by its settings,
# its images and the code that trains; the same settings find it and go on to the same weights, on a CPU to the bit.
# Other settings find nothing of it. A loss that is not finite stops the run at that step, keeps the
# last good checkpoint and says what to try.

# %%
folder = experiments.run_folder(settings, data)
print(os.path.relpath(folder))
if not result.log.empty:
    print(", ".join(sorted(path.name for path in folder.iterdir())))
    assert {"model.safetensors", "resume.safetensors", "log.csv"} <= set(os.listdir(folder))

# %% [markdown]
# ## The training curve
#
# The dashed line is the loss of a network that has learned nothing: for DINO it is $\ln K$, for BYOL 4
# (two predictions at right angles to their targets), for CDCL $\ln K$ scaled, with Barlow's part, for a
# classifier $\ln$ of the number of classes.

# %% mystnb={"figure": {"name": "fig-run-loss", "caption": "Loss over training steps: each logged value faint, a running mean strong. Dashed: the loss of a network that has learned nothing."}, "image": {"alt": "Training loss against optimiser steps, with a dashed line at the trivial value."}}
if result.log.empty:
    print(f"{method} is not trained: there is no curve.")
else:
    classes, batches = result.table["treatment"].nunique(), result.table["batch"].nunique()
    network = assemble.method(settings, data.channels, classes, np.ones(batches, dtype=int))
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
# `linear`: by linear discriminants. `knn_shuffled`: with the training labels shuffled.

# %%
compared = {name: found for name, found in scores.items() if name != "leaks" or name == method}
accuracy = ["knn", "knn_znorm", "linear", "linear_znorm", "knn_shuffled", "val_knn_znorm"]
mixing = ["kbet_train", "kbet", "kbet_znorm", "kbet_released", "kbet_by_treatment"]
biology = ["grit_train", "grit", "grit_znorm", "nsc_moa", "nsc_moa_chance", "nsc_moa_finetuned"]
rows = {}
for name, found in compared.items():
    rows[name] = {}
    for key in accuracy + mixing + biology:
        value, *interval = np.atleast_1d(found.get(key, np.nan))
        spread = " ({:.3f} to {:.3f})".format(*interval) if interval else ""
        rows[name][key] = f"{value:.3f}{spread}" if np.isfinite(value) else "–"
table = pd.DataFrame(rows)
print(f"chance {result.metrics['chance']:.3f}")
table.loc[accuracy]

# %% [markdown]
# On the validation batches, `val_knn_znorm`, one may choose: settings, or with `select = "best"` the
# weights. The test batches choose nothing.
#
# **Mixing of batches**, by {term}`kBET`: the share of fields whose neighbourhood has the batches in their proportions;
# of the training batches, the test batches, and these after Z-norm. `kbet_released` and
# `kbet_by_treatment` are what the released code computes: the second counts treatments, as that code does
# on test data, and so says something else.

# %%
table.loc[mixing]

# %% [markdown]
# **Biology beyond names.** {term}`Grit <grit>`: how much more a field resembles its treatment's others than the
# controls do, in their standard deviations. `nsc_moa`: does a treatment's nearest neighbour, of another
# compound, share its mechanism? Its chance is what shuffled mechanisms give. A dash: not to be had
# on this screen, or with these settings.

# %%
values = {name: {k: np.ravel(v)[0] for k, v in found.items()} for name, found in compared.items()}
for found in values.values():
    assert all(0 <= found[k] <= 1 for k in accuracy + mixing if k in found)
    assert all(np.isfinite(found[k]) for k in biology if k in found)
table.loc[[key for key in biology if key in table.index]]

# %%
points = pd.DataFrame([{"method": n} | {k: v[k] for k in accuracy[:2]} for n, v in values.items()])

# %% mystnb={"figure": {"name": "fig-run-knn", "caption": "k-NN accuracy across batches, of one run each, raw and after Z-norm. Null: random weights, baseline: channel intensities, both after Z-norm."}, "image": {"alt": "k-NN accuracy of intensity statistics, random weights and the method, raw and after Z-norm, with lines at the two of them."}}
figures.compare(
    points,
    {"knn": "raw", "knn_znorm": "after Z-norm"},
    f"k-NN accuracy across batches (chance {result.metrics['chance']:.3f})",
    null=values["random"]["knn_znorm"],
    baseline=values["intensity"]["knn_znorm"],
)

# %%
null, best = values[method]["knn_shuffled"], values[method]["knn_znorm"]
print(f"{method} {best:.3f}; null {null:.3f}; chance {result.metrics['chance']:.3f}")
for name in ("intensity", "random"):
    other = values[name]["knn_znorm"]
    print(f"{method} is {'above' if best > other else 'not above'} {name} ({other:.3f})")

# %% [markdown]
# **Read this as.** Compare with three things: chance and the shuffled null, which should agree; the
# baseline and the random encoder, which a trained one must beat, or training was for nothing; and
# the interval, since a difference smaller than that may be luck. kBET says how batches mix
# and nothing of treatments: random features mix well.
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
audit = leaks.from_metrics(scores["leaks"])
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
moved = {name: found.get("knn_znorm_moved") for name, found in compared.items()}
for name, triple in moved.items():
    if triple is None:
        print(f"{name:12}no treatment of the test part stands elsewhere than in the bank")
        continue
    value, *interval = np.ravel(triple)
    whole = values[name]["knn_znorm"]
    print(f"{name:12}{whole:.3f} on all, {value:.3f} ", end="")
    print("({:.3f} to {:.3f}) on those that moved".format(*interval))

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
# Here: Z-norm from controls; kBET on batches; the last weights of a run of fixed length, nothing chosen.
# Each is a parameter, and {doc}`24_cdcl_ledger` has all of them with what they change.

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

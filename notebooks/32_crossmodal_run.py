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
# # One run: molecules and images in one space
#
# Paper: Weakly Supervised Cross-Modal Learning in High-Content Screening
# {cite}`watkinson2024crossmodal`, tables 1 to 3 and figure 2.
#
# **The claim.** Several images of a compound, from several labs, teach a better space of molecules and
# images than one image does; what a molecule finds there survives the change of the lab.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 1 CPU core | under 1 minute |
# | `quick` | 1 CPU core | 3 minutes; ½ more the first time, to draw the screen |
# | `standard` | 1 CPU core | 6 minutes |
# | `full` | one GPU | minutes on a large one |

# %% [markdown]
# **You will learn**
#
# - to train CLIP, EMM or IMM from a screen to a record, with every setting in sight;
# - to hold out compounds, not batches, and to draw views from as many labs as there are;
# - to read retrieval both ways beside chance, a shuffled null and three honest baselines;
# - to ask whether images of another lab still name the target.
#
# **You need** {doc}`22_cdcl_run` for what a run is; {doc}`90_scoreboard` has the outcome of many.
#
# **The key equation** is what EMM asks of a minibatch of $N$ compounds with $M$ views each: a molecule
# $i$ finds all the views $u$ of its own cells among those of all other compounds $j$,
#
# ```{math}
# :label: eq-run-emm
# L_{EMM} = -\frac{1}{N} \sum_{i=1}^{N} \log
# \frac{\sum_u e^{s_{iiu}/\tau}}{\sum_{j \ne i} \sum_u e^{s_{iju}/\tau}} , \qquad
# s_{iju} = \cos(m_i, v_{ju})
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

# The screen, and which compounds are held out
screen = "simulated"  # simulated, or the path of a screen.yaml beside your own images
crossmodal_screen = ""  # "": that of screen; else goes before it
crossmodal_size = "molecules-quick"  # simulated: molecules-smoke, -quick, -standard or -full
image_px = 0  # px, side of the stored squares; 0: as the files are
crossmodal_image_px = 0  # px, side of the stored squares; 0: image_px
fold = 1  # deals the compounds to the parts anew
crossmodal_split = "compound"  # what is held out: compound, scaffold, or given (column split)
crossmodal_val_share = 0.15  # of the fields, of compounds to choose on
crossmodal_test_share = 0.25  # of the fields, of compounds to judge on

# What is trained
crossmodal_method = "clip"  # clip, emm, imm, ecfp, or a baseline: random, position, intensity, cdcl
crossmodal_variant = ""  # name of a switch of the ledger, part of the record's path; "": none
seed = 0  # of views, minibatches and weights
crossmodal_molecule_encoder = "gin_small"  # pna, gin, pna_small, gin_small or ecfp
crossmodal_image_encoder = "small"  # tiny, small, or a timm model
crossmodal_image_weights = ""  # "" (random), imagenet, or a .safetensors file
crossmodal_freeze_image = False  # keep the image encoder as its weights are
crossmodal_bits = 1024  # of the fingerprints of ecfp and of the baselines
crossmodal_width = 256  # of the space, in dimensions
crossmodal_dropout = 0.0  # of the projection heads

# The loss
crossmodal_form = "paper"  # of the losses: paper (its equations) or released (its code)
crossmodal_pairs = "distinct"  # image pairs of IMM: distinct, or all (a view with itself too)
crossmodal_gamma = 0.5  # weight of IMM's pairs of images
crossmodal_temperature = 0.1  # of the losses, at the start where it is learned
crossmodal_learn_temperature = False  # let training choose it, between the next two
crossmodal_temperature_min = 0.01  # enforced after each step
crossmodal_temperature_max = 1.0  # as above

# Compounds and their views
crossmodal_compounds = 64  # a minibatch
crossmodal_views = 3  # of each compound in EMM and IMM; CLIP sees one
crossmodal_prefer = "source,batch,plate"  # what the views of a compound differ in first; then wells
crossmodal_repeat = "refuse"  # compounds with fewer wells than views: refuse, or resample
crossmodal_controls = "leave_out"  # negative controls: leave_out, or a compound as any other
crossmodal_crop_share = 0.8  # side of the square that is cut from a field, over the field's
crossmodal_colour_gain = 0.1  # sd of the factor on each channel
crossmodal_colour_probability = 0.5  # share of views whose channels are made brighter or darker
crossmodal_image_norm = "controls"  # pixel scale a plate: controls, all wells, or none (0 to 1)

# Optimisation
crossmodal_steps = 800  # optimiser steps: 1 to 2 min a method
crossmodal_learning_rate = 0.001  # peak, AdamW
crossmodal_warmup_steps = 0  # of linear warm-up; 0: a twentieth of all
crossmodal_weight_decay = 0.01  # weights only
precision = "32-true"  # of the arithmetic: 32-true, bf16-mixed or 16-mixed
compile = False  # torch.compile the encoders: a minute of waiting, then faster on some machines

# Judging
crossmodal_select = "last"  # weights that are judged: last, or best on validation
crossmodal_pool = 100  # pairs a pool of retrieval, one of them right; the paper's

# %%
import dataclasses
import json
import os
import warnings

import numpy as np
import pandas as pd
from IPython.display import display

from hcs_utils import crossmodal, crossmodal_assemble, crossmodal_settings, prepare, runs
from hcs_utils.evaluation import figure_crossmodal, figures
from hcs_utils.learning.embed import features

runs.refuse_unknown(globals())
warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated", FutureWarning)
settings = crossmodal_settings.from_parameters(globals())
method = settings.method

# %% [markdown]
# `crossmodal_method` is `clip`, `emm` or `imm`, `ecfp` (CLIP whose molecules are fingerprints through two
# layers, as CLOOME {cite}`sanchez2022cloome`), or a baseline. From a terminal the same notebook runs with
# other parameters; a misspelt one is refused. Several GPUs share a run under `torchrun`, and your own
# screen needs SMILES in its table of compounds ({doc}`01_screens`):
#
# ```bash
# papermill notebooks/32_crossmodal_run.ipynb out.ipynb -f workflow/presets/quick.yaml \
#     -p crossmodal_method emm
# torchrun --nproc-per-node 4 workflow/train.py --crossmodal -f workflow/presets/full.yaml \
#     -p crossmodal_method emm
# papermill notebooks/32_crossmodal_run.ipynb out.ipynb -f workflow/presets/quick.yaml \
#     -p screen path/to/screen.yaml -p crossmodal_compounds 32
# ```

# %% [markdown]
# ## The screen and its split
#
# Whole compounds are held out: no image of a test compound, and no molecule of one, is seen in training.
# Names that are one molecule, by the first block of the {term}`InChIKey`, stay together. With
# `crossmodal_split = "scaffold"`, so do all molecules of one Bemis–Murcko scaffold, which is harder.

# %% tags=["remove-output"]
data = prepare.prepare(settings.screen, settings.size, settings.image_px, progress=True)

# %%
ready = crossmodal_assemble.ready(settings, data)
table, known = ready.table, ready.compounds
print(f"{data.name}: {len(data.store):,} fields, channels {', '.join(data.channels)}")
for name in ("train", "val", "test"):
    held, fields = known[known["split"] == name], table[table["split"] == name]
    print(f"{name:6}{len(held):6,} compounds, {len(fields):7,} fields, ", end="")
    print(f"{fields['batch'].nunique()} batches of {fields['source'].nunique()} sources")
treated = table[table["role"] != "negcon"]
assert (treated.groupby("molecule")["split"].nunique() == 1).all()

# %% [markdown]
# Negative controls are one compound with many wells. Left in, they would be the wrong answer of every
# minibatch; `crossmodal_controls` leaves them out, or counts them as one compound among the others.
#
# **Views.** The $M$ views of a compound come from as many sources as it has, then from other batches, other
# plates, and always from different wells. Here is what EMM would draw at its first step, and what an even
# draw of fields would have given.

# %%
seen = dataclasses.replace(settings, method="emm")
compound, drawn = crossmodal_assemble.stream(seen, ready).draw(0)
source = table["source"].to_numpy()[ready.trained]
rng = np.random.default_rng(seed)
code = table["molecule"].to_numpy()[ready.trained]
evenly = [rng.choice(np.flatnonzero(code == code[rows[0]]), len(rows), False) for rows in drawn]
for name, rows in (("preferring other sources", drawn), ("drawn evenly", evenly)):
    counts = [len(set(source[own])) for own in rows]
    print(f"{name}: {np.mean(counts):.2f} sources among {settings.views} views")
most = min(settings.views, len(set(source)))
assert "source" not in settings.preferred or all(len(set(source[own])) == most for own in drawn)

# %% [markdown]
# ## Train, embed, judge
#
# `crossmodal.run` does all of it and saves the record. Beside the method it runs what no result should be
# read without: a space that was never trained, and two that know images without looking at cells, by their
# position on the plate or by their channels' intensities. There molecules come in by a ridge regression
# from their fingerprints, fitted on the training compounds. (A fourth, `cdcl`, takes features that CDCL
# learned on the same fields; it takes longer and is left to the grid.)

# %%
scores = {}
for name in [other for other in ("random", "position", "intensity") if other != method]:
    scores[name] = crossmodal.scores(dataclasses.replace(settings, method=name), data, False)
result = crossmodal.run(settings, data)
scores[method] = result.metrics

# %%
print(f"{method}: {result.seconds:.0f} s of training, {settings.precision}, on ", end="")
print(json.loads(result.record.read_text())["device"])
v, m = features(result.embedding), features(result.molecules)
print("images [field, dimension]:", v.shape, " molecules [compound, dimension]:", m.shape)
assert v.shape[1] == m.shape[1] and np.isfinite(v).all() and np.isfinite(m).all()

# %% [markdown]
# **Killed?** Run it again: the run's folder is named by its settings, its images and the code that trains,
# and holds a checkpoint from every 100 steps. The same settings find it and go on to the same weights, on a
# CPU to the bit.

# %%
folder = crossmodal.run_folder(settings, data)
print(os.path.relpath(folder))
if not result.log.empty:
    print(", ".join(sorted(path.name for path in folder.iterdir())))
    assert {"model.safetensors", "resume.safetensors", "log.csv"} <= set(os.listdir(folder))

# %% [markdown]
# ## The training curve
#
# The dashed line is the loss of a space that puts everything in one place: $\ln N$ for CLIP, whose sum has
# the right partner in it, $\ln (N-1)$ for EMM, which leaves it out, and $(1 + \gamma) \ln (N-1)$ for IMM.

# %% mystnb={"figure": {"name": "fig-crossmodal-loss", "caption": "Loss over training steps: each logged value faint, a running mean strong. Dashed: the loss of a space in which all is one point."}, "image": {"alt": "Training loss against optimiser steps, with a dashed line at the value of a space that knows nothing."}}
if "trivial_loss" not in result.log:
    print(f"{method} is no trained space: there is no curve.")
else:
    trivial = result.log["trivial_loss"].dropna().iloc[-1]
    display(figures.loss_curve(result.log, trivial=trivial, trivial_label="nothing learned"))
    assert np.isfinite(result.log["loss"]).all()

# %% [markdown]
# **Read this as.** A curve on the line has not started. A curve far below it may know its training
# compounds by heart: the loss cannot tell a rule of chemistry from a list. What tells is retrieval among
# compounds that it has not seen, and at each checkpoint the run looks at those for validation.

# %%
if "val_mrr" in result.log:
    watched = result.log.dropna(subset=["val_mrr"]).set_index("step")
    display(watched[["loss", "val_mrr"]].round(3))

# %% [markdown]
# ## Found again?
#
# Of a {term}`pool` of test compounds, a molecule asks for its image (and an image for its molecule, table
# 1). HR@k: the share of questions whose answer is among the k nearest; MRR: the mean of 1 / rank. In
# brackets 95 % intervals over compounds. `_shuffled`: molecules given to images at random, the null.
# `_matched`: pools of molecules that are alike in weight, polarity and flexibility, where no rough guess
# helps. Pools have at most `crossmodal_pool` pairs.

# %%
shown = [f"{way}_{k}" for way in ("m2i", "i2m") for k in ("hr1", "hr5", "hr10", "mrr")]
shown += [f"{way}_mrr_{null}" for way in ("m2i", "i2m") for null in ("shuffled", "matched")]
rows = {}
for name, found in scores.items():
    rows[name] = {}
    for key in [key for key in shown if key in found]:
        value, *interval = np.ravel(found[key])
        spread = " ({:.3f} to {:.3f})".format(*interval) if interval else ""
        rows[name][key] = f"{value:.3f}{spread}"
chance = {key: f"{result.metrics['chance_' + key[4:]]:.3f}" for key in rows[method] if
          "chance_" + key[4:] in result.metrics}  # fmt: skip
print(f"pools of {result.metrics['pool']:.0f} of {result.metrics['compounds']:.0f} test compounds")
pd.DataFrame({"chance": chance} | rows).reindex(list(rows[method])).fillna("")

# %%
keys = {"m2i_mrr": "molecule → image", "i2m_mrr": "image → molecule"}
bars = pd.DataFrame([
    {"panel": title, "method": name, "paper": np.nan, "line": result.metrics["chance_mrr"]}
    | dict(zip(("value", "low", "high"), np.ravel(found[key]), strict=True))
    for key, title in keys.items() for name, found in scores.items()
])  # fmt: skip
assert bars["value"].between(0, 1).all()

# %% mystnb={"figure": {"name": "fig-crossmodal-found", "caption": "Mean reciprocal rank among test compounds, with intervals over compounds; dashed, what guessing gives."}, "image": {"alt": "Bars of mean reciprocal rank of the baselines and the method, both ways, with a dashed line at chance."}}
figure_crossmodal.bars(bars, "mean reciprocal rank")

# %%
low = np.ravel(result.metrics["m2i_mrr"])[1]
for name, value in {"chance": result.metrics["chance_mrr"]}.items() | {
    other: np.ravel(found["m2i_mrr"])[0] for other, found in scores.items() if other != method
}.items():
    said = "above" if low > value else "not above"
    print(f"{method}, lower end {low:.3f}: {said} {name} ({value:.3f})")

# %% [markdown]
# **Read this as.** The null has to sit at chance, or the pools leak. `position` finds something only where
# a plate's layout follows its chemistry. `intensity` with a ridge is the baseline to beat: if brightness
# and a fingerprint do as well as a trained space, no cell had to be looked at. One run is an anecdote:
# seeds and methods stand side by side in {doc}`33_crossmodal_results`.

# %% [markdown]
# ## The batch-effect task
#
# Does an image still name its compound's {term}`target` when training and test images share less and less:
# drawn at random, then no well, no plate, no batch and no source in common? Test compounds alone, of the
# nine targets with most fields; logistic regression on raw projections. $G$ is the share of the random
# split's accuracy that is left.

# %%
splits = [s for s in ("random", "well", "plate", "batch", "source") if
          f"target_{s}_logistic" in result.metrics]  # fmt: skip
task = pd.DataFrame({
    name: [np.ravel(found[f"target_{s}_logistic"])[0] for s in splits]
    for name, found in scores.items()
}, index=splits).T  # fmt: skip
task.attrs["line"] = result.metrics.get("target_chance", np.nan)
general = [
    key for key in ("g_nsw", "g_nsp", "g_nsb", "g_nss") if f"{key}_logistic" in scores[method]
]
kept = {
    n: [np.ravel(s.get(f"{k}_logistic", np.nan))[0] for k in general] for n, s in scores.items()
}
assert task.empty or task.stack().between(0, 1).all()
print(
    "" if general else "No share: on this screen nothing is named where parts are drawn at random."
)
pd.DataFrame(kept, index=general).T.round(2) if general else None

# %% mystnb={"figure": {"name": "fig-crossmodal-apart", "caption": "Accuracy of naming the target from an image, when training and test images share less and less from left to right."}, "image": {"alt": "Lines of accuracy over five splits, one line a method, with a dashed line at the share of the largest target."}}
if task.shape[1] > 1:
    display(figure_crossmodal.ways_apart(task, "accuracy"))

# %% [markdown]
# **Read this as.** From left to right less can be had from the lab, so lines fall; one that falls little
# generalises. The random split shares wells between both sides: its accuracy flatters, and makes every $G$
# look worse. An accuracy at the dashed line names nothing, and its $G$ says nothing.

# %% [markdown]
# ## The map
#
# As figure 2 of the paper: images of test compounds by source, and their molecules beside them. With preset
# smoke, principal components stand in for UMAP, which takes long to start.

# %%
of_test = np.flatnonzero(table["split"].eq("test") & table["role"].ne("negcon"))
of_test = np.random.default_rng(seed).permutation(of_test)[:1500]
asked = result.molecules["compound"].isin(table["compound"].iloc[of_test]).to_numpy()
both = np.concatenate([v[of_test], m[asked]])
both /= np.linalg.norm(both, axis=1, keepdims=True) + 1e-12
kind = np.r_[table["source"].to_numpy()[of_test], np.repeat("molecule", asked.sum())]

# %%
if preset == "smoke":
    from sklearn.decomposition import PCA

    place = PCA(2).fit_transform(both)
else:
    place = figures.umap(both, seed)

# %% mystnb={"figure": {"name": "fig-crossmodal-map", "caption": "Images of test compounds by source, and their molecules, placed by their projections."}, "image": {"alt": "A map of points coloured by source, with molecules as a group of their own."}}
figures.umap_panels({method: place}, kind, what="source, or molecule")

# %%
near = np.einsum("id,jd->ij", both[: len(of_test)], both[: len(of_test)])
np.fill_diagonal(near, -1)
same = (kind[: len(of_test)][near.argsort(1)[:, -10:]] == kind[: len(of_test), None]).mean()
share = (pd.Series(kind[: len(of_test)]).value_counts(normalize=True) ** 2).sum()
print(f"{same:.2f} of the ten nearest images are of the same source; {share:.2f} by chance")
assert 0 <= same <= 1

# %% [markdown]
# **Read this as.** Islands of one colour are labs; a cloud of mixed colours is what several views from
# several sources are for. Molecules may lie apart from images: the losses ask which is *nearer*, never that
# the two kinds mix.

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
# - A cross-modal run holds out compounds; batches and labs are on both sides, and are judged apart.
# - Views of one compound come from as many sources as there are, since what they share is learned.
# - A loss below its trivial value may be memory; retrieval among unseen compounds decides.
# - Chance, null, baselines and intervals come with each number.
#
# **What would change our mind.** If a ridge on intensities did as well as the trained space, if
# `_shuffled` were above chance, or if CLIP with as many images as EMM did as well as EMM (the ledger's
# variant `clip-wide`), several views would not be what helps.
#
# **Where paper and code disagree.** (jump_models, read, not run.)
#
# | the paper says | the code does | where |
# |---|---|---|
# | EMM sums views inside the logarithm | a mean of logarithms, each against views of its own number | `NTXentMultiplePositives` |
# | all models otherwise identical | CLIP has another temperature, dropout and direction | `configs/experiment/final` |
# | batch-effect accuracy on a random split | of images, so that wells are on both sides | `eval/batch_effect/evaluator.py` |
#
# Here: the paper's equations and one temperature for all; each is a parameter, and
# {doc}`33_crossmodal_results` has all of them with what they change.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* Run `crossmodal_method = "emm"`. Which rises more against `clip`: `m2i_mrr`, or the share
#    of accuracy that is left when sources are apart?
#
# ```{admonition} Solution
# :class: dropdown
# Run it, or look at {doc}`33_crossmodal_results`, where both stand with their spread over seeds.
# ```
#
# 2. *Change one parameter.* `crossmodal_prefer = ""`. What do views from any wells do to the map?
#
# ```{admonition} Solution
# :class: dropdown
# Views of one source agree on the source as well; count the same-source neighbours below the map.
# ```
#
# 3. *Extend.* `crossmodal_split = "scaffold"`. Why does retrieval fall, and which method falls least?
#
# ```{admonition} Solution
# :class: dropdown
# The core of a test molecule was never seen: what is left are its substituents.
# ```

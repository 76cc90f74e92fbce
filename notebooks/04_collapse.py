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
# # Is it learning at all? The collapse doctor
#
# Papers: [RankMe](https://arxiv.org/abs/2210.02885) {cite}`garrido2023rankme` for the rank,
# [VICReg](https://arxiv.org/abs/2105.04906) {cite}`bardes2022vicreg` and
# [SimSiam](https://arxiv.org/abs/2011.10566) {cite}`chen2021simsiam` for the spread.
#
# **The claim.** A low loss is no proof of learning. A few numbers, from two crops of some two hundred
# training fields, tell whether a run has collapsed and which way; one failure stays hidden until
# somebody asks what neighbours share.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | 1 to 2 minutes, and 1 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - what a loss is worth beside its trivial value, and why that is not enough;
# - to tell the collapses apart: of features, of the teacher's answers, of meaning;
# - what causes each, from ten small networks that you train here, most of them broken on purpose;
# - to let the doctor watch your own run, for about one hundredth of its time.
#
# **You need** {doc}`00_tour`; {doc}`20_cdcl_idea` for {term}`DINO` and its {term}`centre`.
#
# **The key equations.** The {term}`effective rank` of features with singular values $\sigma_k$, and
# what the answers $q_i$ of the {term}`teacher` tell of the field $i$, with entropy $H$, from 0 to 1:
#
# ```{math}
# :label: eq-vital-signs
# \operatorname{rank} = e^{H(p)},\quad p_k = \frac{\sigma_k}{\sum_j \sigma_j};
# \qquad
# I = \frac{H(\bar q) - \overline{H(q_i)}}{\ln K}
# ```
#
# $H(\bar q)$ is high if all fields together use many outputs, $\overline{H(q_i)}$ is low if each
# field picks few. If both are high, or both low, $I$ is 0, and the student has nothing to copy.

# %% [markdown]
# ## Set-up
#
# In Colab the first cell fetches the book and installs it; elsewhere it does nothing.

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
size = "quick"  # of the simulated screen: smoke, quick, standard or full
fold = 1  # 1-based; which batches are held out
folds = 6  # turns: each batch is held out in one of them
seed = 0  # of weights, minibatches, views and of the doctor's fields
steps = 0  # optimiser steps of each network; 0: 120, with preset smoke 50

# %%
import dataclasses
import inspect
import math
import tempfile
import time

import numpy as np
import pandas as pd
import torch
from IPython.display import Code

from hcs_utils import experiments, runs
from hcs_utils.evaluation import figure_collapse
from hcs_utils.learning import backbones, diagnose, minibatches, signs, train, views
from hcs_utils.learning.methods import cdcl, dino, supervised

runs.refuse_unknown(globals())
steps, began = steps or (50 if preset == "smoke" else 120), time.perf_counter()
torch.set_num_threads(1)  # small networks gain little from more, and sums keep one order
K = 64  # outputs of the head
size_of_minibatch = 8 if preset == "smoke" else 32  # fields or pairs a step

# %% [markdown]
# ## First sign: the loss beside its trivial value
#
# A network that says the same of everything has a loss too. Below it is nothing but arithmetic, from
# the method's own settings:

# %%
w = cdcl.off_diagonal_for(K)
of_what = {
    "classifier, 16 classes": ("supervised", 16, {}),
    "DINO": ("dino", K, {}),
    "CDCL, paper's sums": ("cdcl", K, {"off_diagonal": w}),
    "CDCL, released means": ("cdcl", K, {"off_diagonal": w, "form": "released"}),
    "Barlow, constant outputs": ("barlow", K, {"off_diagonal": w}),
    "Barlow, outputs that agree on nothing": ("barlow_independent", K, {"minibatch": 32}),
    "CLIP, 64 candidates": ("clip", 64, {}),
    "BYOL, independent directions": ("byol", K, {}),
}
trivial = {k: diagnose.trivial_loss(n, s, **more) for k, (n, s, more) in of_what.items()}
pd.Series(trivial, name="loss of a network that has learned nothing").to_frame().round(3)

# %%
assert math.isclose(trivial["DINO"], math.log(K)) and trivial["BYOL, independent directions"] == 2
assert math.isclose(trivial["CDCL, released means"], 1, rel_tol=0.01)

# %% [markdown]
# **Read this as.** At its value a run has not begun. Below it, it may be learning or cheating: DINO's
# loss falls to 0 if the teacher gives one answer to all, BYOL's if all vectors are equal.

# %% [markdown]
# ## Second sign: the directions in use
#
# The features of a few training fields, centred; their singular values; {eq}`eq-vital-signs`.

# %%
Code(inspect.getsource(signs.effective_rank), language="python")

# %% [markdown]
# Planted features, so that the answer is known before the question is asked:

# %%
rng = np.random.default_rng(seed)
n, d = 192, 64
ball, line = rng.normal(size=(n, d)), rng.normal(size=(n, 1)) * rng.normal(size=d)
planted = {
    "every direction alike": ball,
    "the same for all": np.ones((n, d)) + 1e-4 * ball,
    "all on a line": line + 1e-3 * ball,
    "60 % of the units dead": ball * (np.arange(d) >= 0.6 * d),
}
rows = {}
for name, z in planted.items():
    found = diagnose.examine(z)
    rows[name] = found | {"verdict": diagnose.verdict(found)[0]}
columns = ["effective_rank", "stable_rank", "spread", "dead_share", "cosine", "verdict"]
pd.DataFrame(rows).T[columns].map(lambda v: v if isinstance(v, str) else round(v, 3))

# %%
said = [row["verdict"] for row in rows.values()]
assert said == ["healthy", "constant", "low rank", "dead dimensions"]

# %% [markdown]
# **Read this as.** Each defect moves a sign of its own. The *spread* is the standard deviation of a
# dimension on the unit sphere: 1 if directions fill it, 0 if all fields point one way. The mean
# cosine of all pairs comes from one sum of vectors, without a table of pairs.

# %% [markdown]
# ## Third sign: what the teacher says
#
# Now real runs. One screen, one tiny {term}`encoder`, and streams of views: of one field with itself,
# and of pairs across batches.

# %%
screen = experiments.prepare("simulated", size)
table = screen.table.assign(split=experiments.split(screen.table, fold, folds))
rows_of = np.flatnonzero(table["split"] == "train")
label = table["treatment"].astype("category").cat.codes.to_numpy(np.int64)
domain = table["batch"].astype("category").cat.codes.to_numpy(np.int64)
normaliser, plate = experiments.normaliser(screen, "controls")
crops = views.ViewsConfig.for_fields(min(screen.store.shape[-2:]), locals_per_image=1)
images, here = screen.images(), rows_of
known = (images, here, label[here], domain[here], plate[here])
common = {"size": size_of_minibatch, "seed": seed}
one = minibatches.Minibatches(*known, normaliser, crops, **common)
pairs = minibatches.Minibatches(*known, normaliser, crops, partner="other_batch", **common)
print(f"{len(here):,} training fields; {steps} steps of {size_of_minibatch} fields or pairs")

# %% [markdown]
# DINO has three guards: a centre, a low {term}`temperature` of the teacher, and a teacher that follows
# slowly. We train it as it should be, and three times with one guard gone.

# %%
changes = {
    "as it should be": {},
    "no centre": {"center_momentum": 1.0},  # the centre never moves from 0
    "no sharpening": {"teacher_temperature": 0.4},  # ten times its value
    "teacher = student": {"momentum_start": 0.0, "momentum_end": 0.0},
}
config = train.TrainConfig(steps=steps, checkpoint_every=20, seed=seed, accelerator="cpu")
logs, looks = {}, {}
for name, change in changes.items():
    torch.manual_seed(seed)
    network = backbones.encoder("tiny", screen.channels)
    method = dino.DINO(network, dino.DINOConfig(width=K, **change))
    doctor = diagnose.Doctor(one, labels=True, seed=seed)
    print(f"— {name}")
    with tempfile.TemporaryDirectory() as run:
        logs[name] = train.fit(method, one, config, run, doctor, progress=False)
    looks[name] = doctor.look(method)
    print(f"  at the end: {diagnose.verdict(logs[name])[0]}")

# %% [markdown]
# What is printed while they train is what the doctor says in any run: a sentence, once, when its
# verdict turns bad. The signs of the last step:

# %%
columns = ["loss", "trivial_loss", "rank_share", "spread", "sample_entropy", "marginal_entropy"]
columns += ["agreement", "batch_shared", "treatment_shared"]
last = {name: log[-1] | {"verdict": diagnose.verdict(log)[0]} for name, log in logs.items()}
ending = pd.DataFrame(last).T[[*columns, "verdict"]]
ending.map(lambda v: v if isinstance(v, str) else round(v, 3))

# %%
assert last["no centre"]["verdict"] == "one prototype" and last["no centre"]["loss"] < 0.05
assert last["no sharpening"]["verdict"] == "uniform teacher"
assert abs(last["no sharpening"]["loss"] - math.log(K)) < 0.05
if preset != "smoke":  # whose 50 steps are too few for a network to be in health
    assert last["as it should be"]["verdict"] == "healthy"
    assert last["teacher = student"]["verdict"] != "healthy"

# %% mystnb={"figure": {"name": "fig-collapse-signs", "caption": "Vital signs of four runs of DINO against training steps. Dashed: what a value means."}, "image": {"alt": "Eight small panels of curves. Without centre the loss and both entropies are at zero; without sharpening all three are at one; the run as it should be lies between, and its two entropies differ."}}
figure_collapse.vital_signs(logs)

# %% mystnb={"figure": {"name": "fig-collapse-anatomy", "caption": "The same four runs at their end. Above: singular values of the features over the largest. Below: what the teacher says, outputs sorted; line: of one field on average, bars: of all fields together, dotted: 1/K."}, "image": {"alt": "Four columns. Spectra above look alike. Below, without centre line and bars are one spike; without sharpening both are level; as it should be the line is peaked over level bars."}}
spectra = {name: signs.spectrum(first) for name, (first, _, _) in looks.items()}
figure_collapse.anatomy(spectra, {name: said for name, (_, _, said) in looks.items()})

# %% [markdown]
# **Read this as.** Without a centre the loss is 0, the best of the four, and the teacher gives one
# answer to every field. Without sharpening the loss stays at $\ln K$ and all outputs are alike.
# A teacher that copies the student at once runs after itself. Look at the upper row of
# {numref}`fig-collapse-anatomy`: the *features* have lost little in these few steps. It is the
# teacher that has fallen silent, so nothing more will be learned; the rank alone would not have told.

# %% [markdown]
# ## Features that fall on a few lines
#
# What does flatten the features? A learning rate that is too high. A classifier, once at 0.002 and
# once at 0.1, gradients not clipped:

# %%
alone = dataclasses.replace(crops, locals_per_image=0)
plain = minibatches.Minibatches(*known, normaliser, alone, **common)
classes = int(label.max()) + 1
for name, rate, clip in (("rate 0.002", 0.002, 3.0), ("rate 0.1", 0.1, 1e9)):
    torch.manual_seed(seed)
    method = supervised.Supervised(backbones.encoder("tiny", screen.channels), classes)
    doctor = diagnose.Doctor(plain, labels=True, seed=seed)
    steep = dataclasses.replace(config, learning_rate=rate, clip_norm=clip)
    with tempfile.TemporaryDirectory() as run:
        logs[name] = train.fit(method, plain, steep, run, doctor, progress=False)
    looks[name] = doctor.look(method)
    end = logs[name][-1]
    print(f"{name:11}rank {end['effective_rank']:.1f}, dead {end['dead_share']:.0%}, "
          f"loss {end['loss'] / end['trivial_loss']:.2f} of trivial: {diagnose.verdict(logs[name])[0]}")  # fmt: skip

# %% mystnb={"figure": {"name": "fig-collapse-rank", "caption": "Singular values of the features of a classifier over the largest: trained at a learning rate of 0.002 and of 0.1."}, "image": {"alt": "Two spectra: the left falls slowly over all directions, the right falls by orders of magnitude within a few."}}
pair = ("rate 0.002", "rate 0.1")
figure_collapse.anatomy({name: signs.spectrum(looks[name][0]) for name in pair})

# %%
gentle, steep = (logs[name][-1] for name in pair)
assert steep["effective_rank"] < 0.8 * gentle["effective_rank"]
assert steep["dead_share"] > 2 * gentle["dead_share"]
if preset != "smoke":
    assert steep["effective_rank"] < 0.4 * gentle["effective_rank"]
    assert diagnose.verdict(logs["rate 0.1"])[0] in ("low rank", "dead dimensions", "constant")

# %% [markdown]
# **Read this as.** Too large a step pushes units of the network below zero for every field, where a
# ReLU has no gradient: they are dead and stay so. Here the loss does not tell it. A few lines are
# enough to get some classes right, and they get there sooner than the careful run: compare the two
# losses above. How far it goes hangs on the seed; at a rate of 0.3 all units died when we tried.

# %% [markdown]
# ## A weight that drowns the rest, and a method that nobody broke
#
# CDCL's Barlow term has a weight $w$, 0.95 in the released code, for a head of 4,096 outputs. Our
# head has 64. `off_diagonal_for` keeps the price of one entry; here it is beside the released value.
# And DINO-CB: cross-batch pairs, one centre, no Barlow term, as the paper's ablation has it.

# %%
counts = np.maximum(np.bincount(domain[here], minlength=domain.max() + 1), 1)
head = dino.DINOConfig(width=K)
for name, weight in ((f"CDCL, w = {w:.2f}", w), ("CDCL, w = 0.95", 0.95), ("DINO-CB", None)):
    torch.manual_seed(seed)
    network = backbones.encoder("tiny", screen.channels)
    if weight is None:
        method = dino.DINOCrossBatch(network, head)
    else:
        settings = cdcl.CDCLConfig(off_diagonal=weight, form="released")
        method = cdcl.CDCL(network, counts, head, settings)
    doctor = diagnose.Doctor(pairs, labels=True, seed=seed, say=False)
    with tempfile.TemporaryDirectory() as run:
        logs[name] = train.fit(method, pairs, config, run, doctor, progress=False)
    s = logs[name][-1]
    print(f"{name:15}loss {s['loss'] / s['trivial_loss']:.2f} of trivial, teacher "
          f"{s['sample_entropy']:.3f}/{s['marginal_entropy']:.3f}, two crops agree "
          f"{s['agreement']:.2f}: {diagnose.verdict(logs[name])[0]}")  # fmt: skip

# %%
ours, drowned = logs[f"CDCL, w = {w:.2f}"][-1], logs["CDCL, w = 0.95"][-1]
assert ours["loss"] < 0.9 * ours["trivial_loss"]
assert drowned["loss"] > 1.1 * drowned["trivial_loss"]
if preset != "smoke":
    assert diagnose.verdict(logs[f"CDCL, w = {w:.2f}"])[0] == "healthy"
    assert drowned["agreement"] < ours["agreement"] and drowned["rank_share"] > 0.2
    assert diagnose.verdict(logs["CDCL, w = 0.95"])[0] in ("uniform teacher", "not learning")
    assert diagnose.verdict(logs["DINO-CB"])[0] == "uniform teacher"

# %% [markdown]
# **Read this as.** With 0.95 the loss is *above* its trivial value: between minibatches of 32, outputs
# correlate by chance, and this noise is what is minimised: the teacher hardly tells fields apart, and
# two crops of one field agree less. The features keep their rank all the same, so here again only the
# other signs tell. DINO-CB, which nobody broke, drifts to the uniform teacher: two fields from two batches
# share so little at first that the safest answer is none. In these few steps, at this size; longer
# runs are in {doc}`23_cdcl_results`. CDCL, which
# adds the Barlow term and a centre for each batch, keeps its teacher talking.

# %% [markdown]
# ## The collapse that no sign shows
#
# Suppose the screen came without controls and each batch was stained anew: raw grey levels, a gain for
# each channel and batch, no shifts of colour in the views. Plain DINO, all guards in place.

# %%
gains = torch.from_numpy(np.exp(rng.normal(0, 0.5, (domain.max() + 1, len(screen.channels)))))
batch_of_plate = pd.Series(domain).groupby(plate).first().to_numpy(copy=True)
mean, std = normaliser.mean.mean(0), normaliser.std.mean(0)
laden = views.Normaliser(mean.repeat(len(batch_of_plate), 1), std / gains[batch_of_plate].float())
grey = dataclasses.replace(crops, colour_gain=0.0)
for name, partner in (("DINO", "self"), ("CDCL", "other_batch")):
    torch.manual_seed(seed)
    stream = minibatches.Minibatches(*known, laden, grey, partner=partner, **common)
    network = backbones.encoder("tiny", screen.channels)
    method = dino.DINO(network, head)
    if name == "CDCL":
        method = cdcl.CDCL(network, counts, head, cdcl.CDCLConfig(off_diagonal=w, form="released"))
    doctor = diagnose.Doctor(stream, labels=True, seed=seed, say=False)
    with tempfile.TemporaryDirectory() as run:
        logs[f"{name}, stained anew"] = train.fit(
            method, stream, config, run, doctor, progress=False
        )
    looks[f"{name}, stained anew"] = doctor.look(method)

# %%
unseen = ("batch_shared", "treatment_shared")
for name in ("as it should be", "DINO, stained anew", "CDCL, stained anew"):
    blind = [{k: v for k, v in row.items() if k not in unseen} for row in logs[name]]
    s = logs[name][-1]
    print(
        f"{name:20}without labels: {diagnose.verdict(blind)[0]:16} with: {diagnose.verdict(logs[name])[0]}"
    )
    print(
        f"{'':20}neighbours beyond chance: batch {s[unseen[0]]:.3f}, treatment {s[unseen[1]]:.3f}"
    )

# %%
z = looks["DINO, stained anew"][0]
shuffled = [signs.shared(z, rng.permutation(doctor.batch), doctor.treatment) for _ in range(20)]
print(f"null, batches shuffled 20 times: {np.mean(shuffled):.3f} ± {np.std(shuffled):.3f}")
locked, freed = (logs[f"{m}, stained anew"][-1]["batch_shared"] for m in ("DINO", "CDCL"))
assert locked > 0.1 and locked > 5 * np.std(shuffled)
assert abs(np.mean(shuffled)) < 0.05
if preset != "smoke":
    assert diagnose.verdict(logs["DINO, stained anew"])[0] == "batch lock"
    assert freed < locked
    first, second = logs["as it should be"][-1], logs["DINO, stained anew"][-1]
    assert second["loss"] < 1.05 * first["loss"] and second["agreement"] > first["agreement"]
    assert min(second[k] / first[k] for k in ("rank_share", "spread")) > 0.8
    told = [row["marginal_entropy"] - row["sample_entropy"] for row in (first, second)]
    assert told[1] > 0.7 * told[0]  # its teacher tells fields apart as well

# %% mystnb={"figure": {"name": "fig-collapse-lock", "caption": "Plain DINO on the screen as it is, and on the screen stained anew in each batch, with CDCL beside it."}, "image": {"alt": "Eight panels. In the first six the three runs look healthy. In the panel of neighbours that share the batch, DINO on the screen stained anew is far above DINO on the screen as it is."}}
three = ("as it should be", "DINO, stained anew", "CDCL, stained anew")
figure_collapse.vital_signs({name: logs[name] for name in three})

# %% [markdown]
# **Read this as.** In {numref}`fig-collapse-lock` the run that was stained anew looks no worse than
# the first wherever no label is needed: loss, rank, spread, a teacher that tells fields apart; and its
# crops agree even better. It has learned the microscope's day. That is {term}`batch lock`: no collapse of
# features but of meaning, and only the last two panels show it. They ask, among training fields and
# among neighbours of *another* treatment, how many share the batch, and the other way round. Pairs
# across batches lower it; in so few steps they do not end it.

# %% [markdown]
# ## Baseline and null
#
# An untrained network has signs as well: what do they say of it? And what does the doctor cost?

# %%
torch.manual_seed(seed)
method = dino.DINO(backbones.encoder("tiny", screen.channels), head)
doctor = diagnose.Doctor(one, labels=True, seed=seed)
start = time.perf_counter()
null = doctor(0, method)
cost = time.perf_counter() - start
print(f"random weights: rank {null['effective_rank']:.1f}, spread {null['spread']:.3f}, teacher "
      f"{null['sample_entropy']:.2f}/{null['marginal_entropy']:.2f}, crops agree {null['agreement']:.2f}")  # fmt: skip
print(
    f"verdict at step 0: {diagnose.verdict(null | {'step': 0})[0]}; without the step: {diagnose.verdict(null)[0]}"
)
print(f"one look: {1000 * cost:.0f} ms, every 100 steps by default")
assert diagnose.verdict(null)[0] == "constant"

# %% [markdown]
# **Read this as.** Random weights turn all fields into nearly one direction, since the network's running
# means are not yet those of the images; with the step given, the doctor waits for 50 of them.

# %% [markdown]
# ## Your own run
#
# ```python
# stream = minibatches.Minibatches(...)  # your training fields
# doctor = diagnose.Doctor(stream)  # labels=True also asks what neighbours share
# train.fit(method, stream, config, "my_run", monitor=doctor)
# diagnose.verdict(diagnose.read("my_run"))  # also of runs that no doctor watched
# ```
#
# | verdict | what it saw | first thing to try |
# |---|---|---|
# | constant | all fields the same | lower the learning rate; look at the images |
# | low rank | a few lines | lower learning rate or weight decay; more Barlow or variance |
# | dead dimensions | most units silent | lower learning rate, longer warm-up; begin again |
# | one prototype | one answer to all | see that the centre moves |
# | uniform teacher | no answer | lower the teacher's temperature; go on for longer |
# | not learning | loss at its trivial value | longer; learning rate by a factor of three |
# | no agreement | crops of a field apart | longer; larger crops |
# | batch lock | the day, not the treatment | normalise by controls; pairs across batches |

# %%
metrics = {}
for name, log in logs.items():
    key = "".join(c if c.isalnum() else "_" for c in name.lower().replace(".", "")).strip("_")
    keys = ("rank_share", "spread", "sample_entropy", "marginal_entropy", "batch_shared")
    metrics |= {f"{key}_{k}": log[-1][k] for k in keys if k in log[-1]}
    metrics[f"{key}_loss_share"] = log[-1]["loss"] / log[-1]["trivial_loss"]
parameters = {"size": size, "fold": fold, "folds": folds, "seed": seed, "steps": steps}
parameters |= {"head_width": K, "minibatch": size_of_minibatch}
parameters["verdicts"] = {name: diagnose.verdict(log)[0] for name, log in logs.items()}
record = runs.save_record(
    experiment="collapse", screen=screen.name, method="doctor", preset=preset, fold=fold, seed=seed,
    parameters=parameters, metrics=metrics, device="CPU", seconds=time.perf_counter() - began,
    manifest_sha256=screen.store.manifest_sha256,
)  # fmt: skip
print(os.path.relpath(record))
assert record.exists() and all(np.isfinite(value) for value in metrics.values())

# %% [markdown]
# ## What we learned
#
# - A loss means something beside its trivial value, and even then not enough: the best loss on this
#   page belongs to a teacher that says one thing.
# - Features and the teacher's answers collapse apart: look at both.
# - Health is not use: a network can be in perfect health and tell the batch.
# - What was broken shows within a hundred steps; nobody need wait for the end of a run.
#
# **What would change our mind.** The thresholds lie in gaps between runs of small networks on one
# simulated screen. If a run that finds treatments across batches gets a bad verdict, or one that the
# doctor calls healthy does not rise above random weights, a threshold is wrong or a sign is missing.
#
# **Where paper and code disagree.** RankMe takes the features as they are. We subtract their mean
# first: behind a ReLU it is the largest direction by far, and tells of no field. VICReg's variance
# is that of the projections, at their own scale; here it is that of features on the unit sphere.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* Train DINO with `teacher_temperature = 0.1`, the student's own. Which verdict?
#
# ```{admonition} Solution
# :class: dropdown
# Uniform teacher: nothing is sharper in the teacher than in the student, and what the centre takes
# away does not come back.
# ```
#
# 2. *Change one parameter.* `steps = 300`. Does DINO-CB begin to speak? Does CDCL free itself of the
#    batch?
#
# ```{admonition} Solution
# :class: dropdown
# Look at `sample_entropy` and `batch_shared` in `logs`. With 300 steps and three small crops of each
# field DINO-CB's teacher was still uniform when we tried, while neighbours of the same treatment became
# slightly more frequent.
# ```
#
# 3. *Extend.* Two checkpoints of one run: do fields keep their neighbours?
#
# ```{admonition} Solution
# :class: dropdown
# Save `doctor.look(method)[0]` at two steps, in a monitor of your own that calls the doctor;
# `signs.agreement` of the two rises towards 1 as the run settles.
# ```

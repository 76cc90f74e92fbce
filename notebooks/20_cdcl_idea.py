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
# # Why plain self-supervision learns the batch
#
# Paper: [Metadata-guided Consistency Learning for High Content
# Images](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`, section 3 and appendices C, D, F;
# [code](https://github.com/cfredinh/CDCL), read at commit 54bb98b and not run.
#
# **The claim.** Self-supervised learning keeps what two views have in common. Two crops of one field
# share its batch and all that is particular to the field; two fields of one treatment from two
# batches share only what the treatment did.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | under 2 minutes, and 1 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - what two {term}`views <view>` share, in numbers: field, batch, treatment;
# - which of the two tasks can be solved without looking at the treatment;
# - the loss, the settings and the {term}`trivial loss` of each of the paper's eight methods;
# - what a {term}`centre` for each batch and the {term}`Barlow loss` do, seen.
#
# **You need** {doc}`00_tour` and what a softmax is. Symbols are those of {doc}`../book/notation`.
#
# **The key equation** is that of the {doc}`notation <../book/notation>`, in full:
#
# ```{math}
# :label: eq-cdcl-idea
# \begin{aligned}
# \mathcal{L} &= \lambda \underbrace{\sum_{i \in \{1,2\}} \sum_{j \neq i}
#   -\sum_k q_{ik} \log p_{jk}}_{\text{views agree}}
# + (1 - \lambda) \underbrace{\Big[ \sum_k (1 - R_{kk})^2
#   + \alpha \sum_{k} \sum_{l \neq k} R_{kl}^2 \Big]}_{\text{outputs say different things}} \\
# q_i &= \operatorname{softmax}\frac{t_i - c_{d(i)}}{\tau_t}, \qquad
# p_j = \operatorname{softmax}\frac{s_j}{\tau_s}
# \end{aligned}
# ```
#
# Three changes to DINO stand in it: views $i, j$ come from a *pair of fields*; the centre $c_d$ is
# that of the *batch* $d$; and the second term is new.

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
preset = "quick"  # name of the preset: smoke trains a few steps only
size = "quick"  # of the simulated screen: smoke, quick, standard or full
fold = 1  # 1-based; which batches are held out
folds = 6  # turns: each batch is held out in one of them
minibatch = 64  # fields, or pairs of fields, a step
head_width = 64  # outputs K of the projection head
steps = 0  # optimiser steps of each brief training; 0: 120, with preset smoke 5
seed = 0  # of weights, pairs, crops and of the numbers that stand for outputs

# %%
import copy
import dataclasses
import inspect
import math
import tempfile

import numpy as np
import pandas as pd
import torch
from IPython.display import Code

from hcs_utils import assemble, experiments, runs
from hcs_utils.data.screens import simulated
from hcs_utils.evaluation import figure_cdcl, figures
from hcs_utils.learning import minibatches, train, views
from hcs_utils.learning.methods import barlow, barlow_only, byol, cdcl, centers, dino, supervised
from hcs_utils.settings import TRAINED, Settings

runs.refuse_unknown(globals())
torch.set_num_threads(1)  # small networks gain little from more, and sums keep one order
steps, K = steps or (5 if preset == "smoke" else 120), head_width

# %% [markdown]
# ## Eight methods on one screen
#
# A simulated screen whose truth is known, its training batches, and the paper's eight methods with a
# tiny encoder. All start from the same weights; they differ in what they are asked.

# %%
screen = experiments.prepare("simulated", size)
table = screen.table.assign(split=experiments.split(screen.table, fold, folds))
rows = np.flatnonzero(table["split"] == "train")
label = table["treatment"].astype("category").cat.codes.to_numpy(np.int64)
domain = table["batch"].astype("category").cat.codes.to_numpy(np.int64)
normaliser, plate = experiments.normaliser(screen, "controls")
images, classes = screen.images(), int(label.max()) + 1
counts = np.bincount(domain[rows], minlength=domain.max() + 1)
print(f"{len(rows):,} training fields, {classes} treatments, {(counts > 0).sum()} batches")

# %%
settings, made, streams = {}, {}, {}
for name in TRAINED:
    settings[name] = Settings(
        preset=preset, size=size, method=name, folds=folds, minibatch=minibatch, seed=seed,
        encoder="tiny", head_width=K, head_hidden=64, head_bottleneck=32,
    )  # fmt: skip
    made[name] = assemble.method(settings[name], screen.channels, classes, counts)
    streams[name] = minibatches.Minibatches(
        images, rows, label[rows], domain[rows], plate[rows], normaliser,
        assemble.views(settings[name], min(screen.store.shape[-2:])),
        size=minibatch, partner=made[name].partner, seed=seed,
    )  # fmt: skip
pd.Series({name: method.partner for name, method in made.items()}, name="second image").to_frame()

# %% [markdown]
# **Read this as.** `self`: the second image is the first one again, so both views are crops of one
# field. `other_batch`: it is another field of the same treatment, from another batch, a
# {term}`cross-batch pair`.

# %%
pairs = np.concatenate([np.stack(streams["cdcl"].draw(step), 1) for step in range(10)])
first, second = rows[pairs[:, 0]], rows[pairs[:, 1]]  # rows of the table
assert (label[first] == label[second]).all()  # a pair shares its treatment
assert (domain[first] != domain[second]).all()  # and never its batch
alone = streams["dino"].draw(0)
assert (alone[0] == alone[1]).all()
print(f"{len(pairs):,} pairs drawn: all of one treatment, none of one batch")

# %% mystnb={"figure": {"name": "fig-idea-pairs", "caption": "Four pairs. Above $x$, below its partner $x'$: the same treatment, another batch."}, "image": {"alt": "Two rows of four cell images. In each column both share cell shape and differ in colour and brightness."}}
shown = np.concatenate([first[:4], second[:4]])
titles = table["compound"].to_numpy()[shown] + " in " + table["batch"].to_numpy()[shown]
pictures = screen.store.read(shown)
figures.site_grid(pictures, screen.channels, titles, pixel_size_um=simulated.PIXEL_SIZE_UM)

# %% [markdown]
# **Read this as.** In {numref}`fig-idea-pairs` what a column has in common is the treatment; day,
# plate, density and focus differ, and so does everything else that varies from field to field.
# {doc}`21_cdcl_data` looks at pairs and crops closely.

# %% [markdown]
# ## Two brief trainings
#
# DINO, plain, and CDCL, for a few steps each: far too few for good features, enough to see where each
# of them goes.

# %%
trained = {}
for name in ("dino", "cdcl"):
    method = assemble.method(settings[name], screen.channels, classes, counts)
    trained[name] = method
    how = assemble.train_config(settings[name], steps)
    with tempfile.TemporaryDirectory() as folder:
        log = train.fit(method, streams[name], how, folder, progress=False)
    assert math.isfinite(log[-1]["loss"])
    print(f"{name:5} {steps} steps, last loss {log[-1]['loss']:.3f}")

# %% [markdown]
# ## What two views share
#
# Take training fields, two crops of each, and centre and scale each feature. Then the mean product of
# the features of two *different* views is the variance that views of such a kind have in common
# (1: all of it; 0: nothing):
#
# ```{math}
# :label: eq-shared
# A_{\text{kind}} = \operatorname*{mean}_{(i, j)\ \text{of that kind}}\;
#   \frac{1}{d} \sum_k z^{(1)}_{ik} z^{(2)}_{jk}
# ```
#
# Fields of one batch and two treatments share the batch; of one treatment and two batches, the
# treatment; what two crops of one field share besides is the field's own: its cells, density, focus,
# light, and also its well and plate.

# %%
rng = np.random.default_rng(seed)
treated = rows[(table["role"] == "trt").to_numpy()[rows]]
at = rng.permutation(treated)[:1500]  # fields to look at
cut, owner = streams["dino"].views, torch.from_numpy(plate[at])
torch.manual_seed(seed)
two = [
    views.colour(views.crop(images[torch.from_numpy(at)], cut.global_size), owner, normaliser, cut)
    for _ in range(2)
]  # two crops of each, shifted in colour as in training
networks = {"untrained": made["cdcl"], "DINO": trained["dino"], "CDCL": trained["cdcl"]}
told = {"pixels": [torch.cat([x.mean((2, 3)), x.std((2, 3))], 1).numpy() for x in two]}
for name, method in networks.items():
    with torch.no_grad():
        told[name] = [method.encoder.eval()(x).numpy() for x in two]
told = {name: np.stack(z).astype(float) for name, z in told.items()}
told = {name: (z - z.mean((0, 1))) / (z.std((0, 1)) + 1e-9) for name, z in told.items()}

# %%
y, d = label[at], domain[at]
same, day = y[:, None] == y, d[:, None] == d
kinds = {"crops": np.eye(len(at), dtype=bool), "batch": ~same & day, "treatment": same & ~day}
kinds["nothing"] = ~same & ~day
shared = {}
for name, (a, b) in told.items():
    product = a @ b.T / a.shape[1]
    shared[name] = {kind: product[mask].mean() for kind, mask in kinds.items()}
shared = pd.DataFrame(shared).T
parts = shared[["batch", "treatment"]].sub(shared["nothing"], axis=0)
parts.insert(0, "field", shared["crops"] - shared["nothing"] - parts.sum(axis=1))
share = parts.div(parts.sum(axis=1), axis=0)
share.round(3).rename_axis("share of what two crops of one field agree on")

# %% mystnb={"figure": {"name": "fig-idea-shared", "caption": "What two views have in common, as a share of the variance of the features: above two crops of one field, below a cross-batch pair. *Pixels*: mean and standard deviation of each channel. An estimate may be a little below zero."}, "image": {"alt": "Stacked bars for pixels, an untrained encoder, DINO and CDCL. Two crops of one field share mostly the field; a cross-batch pair shares a thin slice of treatment."}}
bars = {}
for name, row in parts.iterrows():
    bars[f"{name}: one field"] = row
    bars[f"{name}: cross-batch pair"] = row.where(row.index == "treatment")
figure_cdcl.stacked(pd.DataFrame(bars).T, "shared variance (share of all)")

# %%
assert (parts["field"] > parts["treatment"]).all()
if preset != "smoke":
    assert (share.loc[["pixels", "untrained", "DINO"], "treatment"] < 0.1).all()
    plain = share.loc[["pixels", "untrained", "DINO"]]
    assert (plain["batch"] > plain["treatment"]).all()
    assert parts.at["CDCL", "treatment"] > 2 * parts.at["DINO", "treatment"]

# %% [markdown]
# **Read this as.** In {numref}`fig-idea-shared` two crops of one field agree almost wholly on the field
# and its batch; a few hundredths of the agreement are about the treatment. A method that is rewarded
# for agreement is rewarded for that. A cross-batch pair has nothing but the treatment to
# agree on, and CDCL's features move there.

# %% [markdown]
# ## A task that can be solved without the treatment
#
# Of one field of each treatment take a view, and mix the other views: which belongs to which? Once
# the other view is a second crop of the same field, once it is the cross-batch partner. We answer by
# cosine, also with what only a simulation knows: each field's true nuisance (density, cell size,
# focus), and each well's true traits, which the treatment sets.

# %%
truth = simulated.truth(screen.root).set_index("site_id").loc[table["site_id"].iloc[at]]
known = {
    "true nuisance": truth[["density", "cell_size", "defocus_px"]],
    "true traits": truth[[name for name in truth if name.startswith("trait_")]],
}
for name, values in known.items():
    z = values.to_numpy(float)
    told[name] = np.stack([(z - z.mean(0)) / z.std(0)] * 2)

# %%
index, right = minibatches.PartnerIndex(y, d), []
unit = {name: z / np.linalg.norm(z, axis=2, keepdims=True) for name, z in told.items()}
for draw in range(200):
    mixed = rng.permutation(len(at))
    mine = mixed[np.unique(y[mixed], return_index=True)[1]]  # one field of each treatment
    asked = {"one field": mine, "cross-batch pair": index.draw(mine, rng)}
    for name, (a, b) in unit.items():
        found = {k: (a[mine] @ b[other].T).argmax(1) for k, other in asked.items()}
        hit = {k: (best == np.arange(len(mine))).mean() for k, best in found.items()}
        right.append({"method": name, "tens": draw // 20} | hit)
right = pd.DataFrame(right).groupby(["method", "tens"], as_index=False).mean()
chance = 1 / len(np.unique(y))

# %% mystnb={"figure": {"name": "fig-idea-match", "caption": "Share of views whose other view is found, among one field of each treatment. Mean ± standard deviation over ten times 20 draws (small dots); the null is chance."}, "image": {"alt": "Dots for six ways to answer. Crops of one field are found by pixels and by the true nuisance nearly always; cross-batch partners by none but the true traits."}}
order = ["true traits", "true nuisance", "pixels", "untrained", "DINO", "CDCL"]
tasks = {"one field": "two crops of one field", "cross-batch pair": "cross-batch pair"}
figures.compare(right, tasks, label="views matched (share)", null=chance, order=order)

# %%
hit = right.groupby("method")[list(tasks)].mean()
assert hit.at["true nuisance", "one field"] > 0.99 and hit.at["pixels", "one field"] > 2 * chance
if preset != "smoke":
    assert hit.at["pixels", "one field"] > 0.85 and hit.at["true traits", "cross-batch pair"] > 0.85
    assert (hit.loc[["pixels", "true nuisance"], "cross-batch pair"] < 2 * chance).all()

# %% [markdown]
# **Read this as.** Means and deviations of the channels, ten numbers without any shape, find the other
# crop of a field nearly always: plain SSL's task is solved by staining, light and density.
# For a cross-batch partner the same numbers do about as well as chance, and so does the field's true
# nuisance; the true traits find it. Only there does the task ask for the treatment.
#
# **Null and baseline.** The line is chance; the untrained encoder is the null of the two trained ones.

# %% [markdown]
# ## Each method: equation, settings, loss
#
# Every method of the paper on one screen: its equation, its code, and a table with its settings here
# and as released, and the loss of the untrained network on one minibatch beside its
# {term}`trivial loss`. *Released* is CDCL's only parameter file, a default; what the paper's runs
# used is not published.

# %%
dino_released = {
    "hidden": 1024, "bottleneck": 512, "width": 4096, "student_temperature": 0.1,
    "teacher_temperature": 0.04, "teacher_temperature_end": 0.07, "view_pairs": "all",
    "temperature_share": "10 of 200 epochs", "frozen_share": "1 of 200 epochs",
    "momentum_start": 0.995, "momentum_end": 0.9996, "center_momentum": 0.9,
}  # fmt: skip
byol_released = {"hidden": 4096, "width": 256, "momentum_start": 0.99, "momentum_end": 1.0}
barlow_released = {"off_diagonal": 0.95, "form": "released"}
cdcl_released = {"weight_dino": 0.25, "centers": "released"} | barlow_released
released = {
    "supervised": {"label_smoothing": 0.0}, "dino": dino_released, "byol": byol_released,
    "dino_cb": dino_released, "byol_cb": byol_released, "cdcl": dino_released | cdcl_released,
    "dino_bl": dino_released | barlow_released, "byol_bl": byol_released | barlow_released,
}  # fmt: skip
released = {
    name: values | {"second image": made[name].partner} for name, values in released.items()
}

# %%
sheets, loss, trivial = {}, {}, {}
for name in TRAINED:
    method = assemble.method(settings[name], screen.channels, classes, counts).train()
    with torch.no_grad():
        loss[name] = float(method.loss(streams[name](0, "cpu"), 0.0)[0])
    trivial[name] = float(getattr(method, "trivial_loss", math.log(classes)))
    configs = [getattr(method, part, None) for part in ("config", "cdcl", "barlow")]
    here = {k: v for c in configs if c is not None for k, v in dataclasses.asdict(c).items()}
    here["second image"] = method.partner
    sheet = pd.DataFrame({"here": here, "released": released[name]}, dtype=object)
    sheet.loc["loss, one minibatch"] = [f"{loss[name]:.3f}", ""]
    sheet.loc["trivial loss"] = [f"{trivial[name]:.3f}", ""]
    sheets[name] = sheet.reindex([*here, "loss, one minibatch", "trivial loss"]).fillna("–")
assert all(math.isfinite(value) for value in loss.values())
assert set(sheets) == set(TRAINED)

# %% [markdown]
# ### Supervised: every treatment is a class
#
# ```{math}
# :label: eq-idea-supervised
# \mathcal{L} = -\log \operatorname{softmax}\big(W h(x) + b\big)_y
# ```
#
# Trivial: all classes alike, the log of their number.

# %%
Code(inspect.getsource(supervised.Supervised.loss), language="python")

# %%
sheets["supervised"]

# %% [markdown]
# ### DINO: the student copies the teacher
#
# Eight views, two large ones for the teacher and all for the student; equation 2 of the paper as the
# code has it, a mean over the 14 ordered pairs of a teacher's view and another of the student's. The
# one centre $c$ is lightly's:
#
# ```{math}
# :label: eq-idea-dino
# \mathcal{L} = \frac{1}{14} \sum_{i \in \{0,1\}} \sum_{j \neq i} - \sum_k q_{ik} \log p_{jk},
# \qquad q_i = \operatorname{softmax}\frac{t_i - c}{\tau_t}
# ```
#
# Trivial: flat outputs, $\ln K$.

# %%
Code(inspect.getsource(dino.DINO.loss), language="python")

# %%
sheets["dino"]

# %% [markdown]
# The same few symbols by hand, on outputs $t$ and $s$ drawn at random, against lightly's loss:

# %%
n, tau_t, tau_s = minibatch, 0.04, 0.1
t = torch.randn(2, n, K) * tau_t  # the teacher's outputs: 2 views, n pairs, K
s = torch.randn(8, n, K) * tau_s  # the student's: 8 views
q, log_p = torch.softmax(t / tau_t, -1), torch.log_softmax(s / tau_s, -1)
image = [0, 1, 0, 0, 0, 1, 1, 1]  # which of the pair each view is of, in the order of multi_crop
ordered = [(i, j) for i in range(2) for j in range(8) if i != j]
across = sum(image[i] != image[j] for i, j in ordered)
by_hand = sum(-(q[i] * log_p[j]).sum(-1).mean() for i, j in ordered) / len(ordered)
theirs = copy.deepcopy(made["dino"].criterion)(list(t), list(s), teacher_temp=tau_t)
print(f"by hand {by_hand:.4f}, package {theirs:.4f}; {len(ordered)} pairs, {across} of two images")
assert torch.isclose(by_hand, theirs, rtol=1e-5) and (len(ordered), across) == (14, 8)

# %% [markdown]
# **Two ways to cheat.** A network that gives the same output to everything makes all views agree.
# If the output is flat, the loss is $\ln K$: a line drawn in every training curve of this book. If it
# is one spike, the loss falls to zero. That is {term}`collapse`, and low loss is no proof of learning.

# %%
flat, spike = torch.zeros(2, n, K), torch.zeros(2, n, K)
spike[..., 0] = 2.0
for name, alike in {"flat": flat, "spike": spike}.items():
    q = torch.softmax(alike / tau_t, -1)
    cheated = -(q * torch.log_softmax(alike / tau_s, -1)).sum(-1).mean()
    print(f"everything the same, {name:5}: loss {cheated:.4f}  (ln K = {math.log(K):.4f})")
assert cheated < 0.05 and math.isclose(trivial["dino"], math.log(K))

# %% [markdown]
# Against the spike DINO subtracts a centre, a moving mean of the teacher's outputs: what is the same
# for all is taken away, and the spike becomes flat. Against the flat one stands the teacher's low
# {term}`temperature`, which sharpens any difference that is left.

# %% [markdown]
# ### BYOL: predict the teacher's direction
#
# ```{math}
# :label: eq-idea-byol
# \mathcal{L} = \frac{1}{B} \sum_b \sum_{i \in \{0,1\}}
#   \big(2 - 2 \cos(s_{ib},\, t_{1-i,b})\big)
# ```
#
# Two large views, no small ones, and a predictor after the student's projector. Trivial:
# independent directions, 4; a constant output has 0, so here too a low loss proves nothing.

# %%
Code(inspect.getsource(byol.byol_loss), language="python")

# %%
sheets["byol"]

# %% [markdown]
# ### DINO-CB and BYOL-CB: the same losses, of cross-batch pairs
#
# Not a letter of {eq}`eq-idea-dino` and {eq}`eq-idea-byol` changes: view 0 and its small crops are
# of $x$, view 1 and its small crops of $x'$. This one line is the method:

# %%
Code(inspect.getsource(dino.DINOCrossBatch), language="python")

# %%
pd.concat({"DINO-CB": sheets["dino_cb"], "BYOL-CB": sheets["byol_cb"]}, axis=1).fillna("–")

# %% [markdown]
# ### CDCL: pairs, a centre for each batch, and the Barlow loss
#
# The loss is {eq}`eq-cdcl-idea`; its parts are looked at below. `cdcl_loss` reads the centres, and
# never moves them.

# %%
Code(inspect.getsource(cdcl.cdcl_loss), language="python")

# %%
sheets["cdcl"]

# %% [markdown]
# ### DINO-BL and BYOL-BL: the Barlow loss alone
#
# Table 3 of the paper asks what the Barlow loss does by itself, on crops of one field: it takes the
# place of {eq}`eq-idea-dino` and of {eq}`eq-idea-byol`.
#
# ```{math}
# :label: eq-idea-barlow-only
# \mathcal{L}_{\text{DINO-BL}} = \frac{1}{14} \sum_{i} \sum_{j \neq i}
#   \mathcal{L}_{\mathrm{Barlow}}(t_i, s_j), \qquad
# \mathcal{L}_{\text{BYOL-BL}} = \mathcal{L}_{\mathrm{Barlow}}\big((s_0, s_1), (t_1, t_0)\big)
# ```

# %%
Code(inspect.getsource(barlow_only.byol_barlow_loss), language="python")

# %%
pd.concat({"DINO-BL": sheets["dino_bl"], "BYOL-BL": sheets["byol_bl"]}, axis=1).fillna("–")

# %% [markdown]
# All eight side by side:

# %%
beside = pd.DataFrame({"loss, one minibatch": loss, "trivial loss": trivial})
assert (beside > 0).all(axis=None)
beside.assign(ratio=beside.iloc[:, 0] / beside.iloc[:, 1]).round(3)

# %% [markdown]
# **Read this as.** Untrained networks need not be at their trivial loss. Classifier and BYOL are; DINO's
# head starts at about half of $\ln K$, before a centre has moved: its views agree without
# having learned anything. So a loss below the trivial one is no proof of learning, and losses of two
# methods say nothing of which is better.

# %% [markdown]
# ## A centre for each batch
#
# Suppose the network has learned the batch. Then the teacher's outputs of one batch lie here and of
# another there. One centre lies between them, and the difference stays. CDCL keeps one centre
# for each batch $d$:
#
# ```{math}
# :label: eq-centre
# c_d \leftarrow m\, c_d + (1 - m)\, \overline{t}_d
# ```

# %%
Code(inspect.getsource(centers.DomainCenters), language="python")

# %%
b = torch.arange(2).repeat_interleave(500)  # two batches
outputs = torch.randn(1000, K) + 3.0 * torch.randn(2, K)[b]  # its place, and fields around it
per_batch, single = centers.DomainCenters(2, K), centers.DomainCenters(1, K)
for _ in range(100):
    per_batch.update(outputs, b)
    single.update(outputs, torch.zeros_like(b))
centred = {"none": outputs, "one": single(outputs, torch.zeros_like(b))}
centred["one a batch"] = per_batch(outputs, b)
for name, o in centred.items():
    gap = (o[b == 0].mean(0) - o[b == 1].mean(0)).norm()
    print(f"centre {name:12} distance between the batches' means {gap:6.2f}")
assert gap < 0.02 and torch.allclose(centred["one a batch"].mean(0), torch.zeros(K), atol=0.01)

# %% [markdown]
# What does the student hear of it? Let the teacher say which of its $K$ outputs is largest:

# %%
heard = []
for name, o in centred.items():
    said = torch.softmax(o / tau_t, -1)
    used = [said[b == d].mean(0) for d in (0, 1)]  # how often each output is used, by batch
    entropy = dino.entropy(said.mean(0).clamp_min(1e-12).log())
    heard.append((name, float(torch.minimum(*used).sum()), float(entropy)))
columns = ["centre", "outputs shared by the batches (0 to 1)", "entropy of use (nats)"]
heard = pd.DataFrame(heard, columns=columns).set_index("centre")
print(f"ln K = {math.log(K):.2f}")
heard.round(2).rename_axis(None)

# %%
shared = heard[columns[1]]
assert shared["one a batch"] > 2 * max(shared["none"], shared["one"])

# %% [markdown]
# **Read this as.** With no centre or a single one, each batch uses outputs of its own, and the
# student is taught the batch. With one centre a batch, both use the same outputs. In the paper's
# words, each batch is "evenly distributed across the latent space".

# %% [markdown]
# Now a real teacher, that of the brief DINO above, and centres that moved over minibatches of one half
# of the fields; drawn are the others. Axes are the two directions in which the batches' means differ
# most, found before centring.

# %%
with torch.no_grad():
    method = trained["dino"].eval()
    said_t = method.teacher_head(method.teacher(two[0]))
day_t = torch.from_numpy(d)
half = len(at) // 2
own, one = centers.DomainCenters(int(domain.max()) + 1, K), centers.DomainCenters(1, K)
for _ in range(100):
    some = torch.randint(half, (minibatch,))
    own.update(said_t[some], day_t[some])
    one.update(said_t[some], torch.zeros_like(some))
rest, day_t = said_t[half:], day_t[half:]
cases = {"planted": (centred, b)}
real = {"none": rest, "one": one(rest, torch.zeros_like(day_t)), "one a batch": own(rest, day_t)}
cases["DINO's teacher"] = (real, day_t)

# %%
clouds, groups, between = {}, {}, {}
for case, (by_centre, of) in cases.items():
    o = by_centre["none"]
    means = torch.stack([o[of == k].mean(0) for k in of.unique()])
    axes = torch.linalg.svd(means - means.mean(0), full_matrices=False)[2][:2]
    clouds[case] = {name: (x @ axes.T).numpy() for name, x in by_centre.items()}
    groups[case] = of.numpy()
    for name, x in by_centre.items():
        inside = sum((x[of == k] - x[of == k].mean(0)).square().sum() for k in of.unique())
        between[case, name] = 1 - float(inside / (x - x.mean(0)).square().sum())
between = pd.Series(between).unstack()[list(centred)]
between.round(3).rename_axis("share of variance between batches")

# %% mystnb={"figure": {"name": "fig-idea-centred", "caption": "Outputs of a teacher with no centre taken away, with one, and with one a batch; colour and large mark: the batch and its mean. Above two planted batches, below the teacher of the brief DINO, on fields whose outputs did not move the centres. No units; zero at the thin lines; one scale in a row."}, "image": {"alt": "Two rows of three clouds of points. Left and middle the batches' means lie apart; right they meet at zero."}}
figure_cdcl.centred(clouds, groups)

# %%
assert (between["one a batch"] < between["none"]).all()
assert np.allclose(between["one"], between["none"], atol=1e-5)

# %% [markdown]
# **Read this as.** In {numref}`fig-idea-centred` one centre moves the whole cloud to zero, and leaves
# the batches where they were to each other: the share of variance between them does not change. One
# centre a batch brings the means together. It cannot take away what is not a shift: within a batch,
# fields still differ by all that is particular to them.

# %% [markdown]
# ## Barlow: no output repeats another
#
# The second term looks at columns, not rows. Over a minibatch, correlate each output of one view
# with each output of the other: $R$, $K \times K$. Equation 3 of the paper wants ones on its diagonal,
# the views agree; and zeros elsewhere, no output repeats another.

# %%
Code(inspect.getsource(barlow.barlow_loss), language="python")

# %% [markdown]
# The function never makes $R$. From the standardised outputs $A, B$ of a minibatch of $n$,
# $\lVert R \rVert_F^2 = \sum (A A^\top \circ B B^\top) / n^2$, and these are only $n \times n$.
# Here beside it the slow way, from the equation:

# %%
a, b2 = torch.randn(n, K), torch.randn(n, K)
A, B = ((v - v.mean(0)) / torch.sqrt(v.var(0, unbiased=False) + 1e-5) for v in (a, b2))
R = A.T @ B / n
w = cdcl.off_diagonal_for(K)
alpha = w / ((1 - w) * (K - 1))
diagonal = torch.diagonal(R)
slow = (1 - diagonal).square().sum() + alpha * (R.square().sum() - diagonal.square().sum())
fast = barlow.barlow_loss(a, b2, w, form="paper")
print(f"K × K {slow:.3f}, without it {fast:.3f}; w = {w:.3f}, alpha = {alpha:.5f}")
assert torch.isclose(slow, fast, rtol=1e-4)

# %% [markdown]
# **Read this as.** Two ways, one number. The weight $w$ is 0.95 in the released code, for $K = 4096$
# outputs. What counts is $\alpha$, the price of one entry off the diagonal; a narrower head has fewer
# of them, so $w$ is set to keep $\alpha$. Now four cases whose answer is known:

# %%
spread = torch.randn(4 * K, K)
orthogonal = torch.linalg.qr(spread - spread.mean(0))[0] * 2 * math.sqrt(K)  # sd 1, uncorrelated
repeated = orthogonal[:, :1].expand(-1, K)
cases = {
    "identical, uncorrelated": (orthogonal, orthogonal),
    "identical, all columns the same": (repeated, repeated),
    "independent": (orthogonal, torch.randn(4 * K, K)),
    "everything the same": (torch.ones(n, K), torch.ones(n, K)),
}
value = {name: float(barlow.barlow_loss(*pair, w, "paper")) for name, pair in cases.items()}
pd.Series(value, name="Barlow loss (paper's form)").to_frame().round(3)

# %%
assert value["identical, uncorrelated"] < 1e-3 * K  # 0, but for the 1e-5 in the root
assert math.isclose(value["identical, all columns the same"], alpha * K * (K - 1), rel_tol=1e-3)
assert math.isclose(value["everything the same"], K, rel_tol=1e-6)

# %% [markdown]
# **Read this as.** Zero for outputs that agree and say different things. It is $\alpha K (K-1)$ when
# all columns repeat one, and $K$ for a collapsed network, whose columns have no spread: unlike the
# first term, this one cannot be cheated by giving always the same.

# %% [markdown]
# And $R$ itself, of real heads: CDCL's, untrained and after the brief training, between the teacher's
# outputs for $x$ and the student's for $x'$, over eight minibatches.

# %%
heads = {"untrained": made["cdcl"], f"after {steps} steps": trained["cdcl"]}
correlated, summary = {}, {}
for name, method in heads.items():
    torch.manual_seed(seed)
    with torch.no_grad():
        both_views = [method.eval().outputs(streams["cdcl"](k, "cpu")) for k in range(8)]
    A, B = (torch.cat(v) for v in zip(*[(o[0][0], o[1][1]) for o in both_views], strict=True))
    A, B = ((v - v.mean(0)) / (v.std(0, unbiased=False) + 1e-9) for v in (A, B))
    R = (A.T @ B / len(A)).numpy()
    off = R[~np.eye(K, dtype=bool)]
    correlated[name] = R
    summary[name] = {
        "diagonal, mean": np.diag(R).mean(),
        "off it, root mean square": (off**2).mean() ** 0.5,
    }
print(f"by chance {len(A) ** -0.5:.3f} off the diagonal")
pd.DataFrame(summary).T.round(3)

# %% mystnb={"figure": {"name": "fig-idea-cross", "caption": "The matrix $R$ of CDCL's head over cross-batch pairs, before and after a brief training. The Barlow loss wants the diagonal at 1, all else at 0."}, "image": {"alt": "Two square matrices of correlations: pale all over before training; after it, strong red and blue on and off the diagonal."}}
figure_cdcl.correlations(correlated)

# %%
assert all(np.abs(R).max() <= 1 + 1e-5 for R in correlated.values())
if preset != "smoke":
    before, after = summary.values()
    assert after["diagonal, mean"] > before["diagonal, mean"]

# %% [markdown]
# **Read this as.** In {numref}`fig-idea-cross` the untrained head agrees on nothing across a pair. After a
# brief training the diagonal has risen, so the outputs of both fields agree; but so have
# entries off it, for outputs still repeat one another. The second half of the Barlow loss is not met yet.

# %% [markdown]
# ## Both together
#
# The null: a network that knows nothing, in both of the forms the function has.

# %%
domains = torch.from_numpy(domain[np.stack([first[:n], second[:n]])])
centres = centers.DomainCenters(int(domain.max()) + 1, K)
for form in ("paper", "released"):
    config = cdcl.CDCLConfig(off_diagonal=w, form=form)
    nothing = cdcl.cdcl_loss(torch.zeros(8, n, K), torch.zeros(2, n, K), domains, centres, config)
    noise = cdcl.cdcl_loss(s, t, domains, centres, config)
    print(f"{form:9} collapsed {nothing:10.3f}   random outputs {noise:10.3f}")
    assert torch.isfinite(noise)
    if form == "paper":
        assert math.isclose(nothing, 14 * (0.25 * math.log(K) + 0.75 * K), rel_tol=1e-4)

# %% [markdown]
# ## Where paper and code disagree
#
# Code: `cfredinh/CDCL@54bb98b`, read, not run. Its only parameter file is a default; the settings of
# the paper's runs are not published.
#
# | the paper says | the code does | where |
# |---|---|---|
# | Barlow of $P_T$ and $P_S$, a sum with weight $\alpha$ | of centred logits, standardised over the minibatch; means weighted 0.05 and 0.95, divided by 0.0595, averaged over 14 pairs | `self_supervised/DINO/models.py: calculate_barlow_loss` |
# | equation 2 is a sum; $P_T$ is written with $f^S$; no temperatures | mean of 14 terms over $\ln K$; the teacher; 0.1, and 0.04 rising to 0.07 | `self_supervised/DINO/models.py: forward` |
# | one global and three local crops of each of two images | so for pairs; plain DINO takes two and six of one image | `datasets.py: __getitem__` |
# | consistency across batches | 6 of the 14 terms are of one image; the switch `--only_cross_domain` always sets False | `self_supervised/DINO/models.py`, `classification.py` |
# | a centre is a moving average | weighted by a batch's share of the minibatch over its share of the data; overshoots where that ratio passes 10, diverges past 20 | `update_domain_wise_centers` |
# | k-NN as in DINO's paper (k = 20, T = 0.07) | k = 10, T = 0.1 | `datasets.py: knn_nhood` |
# | (switches of the configuration) | `bn_head` is looked for as `head_bn`, so it is ignored; `use_barlow_student` and `embedding_centering` have no effect | `self_supervised/DINO/models.py: DINO.__init__` |
#
# `form="paper"` and `form="released"` choose between the first two rows and the centres. The
# notebooks run `released`, which is on one scale whatever $K$ is.

# %% [markdown]
# ```{admonition} Paper says, code does
# :class: note
# The ratio in the released centres can make a centre jump past its mean, and, past a ratio of 20,
# run away. Here is one batch with 1 in 100 of the images that fills a whole minibatch:
# ```

# %%
rare = centers.DomainCenters(2, 1, frequencies=[1, 99])
ordinary = centers.DomainCenters(2, 1)
ones, zero = torch.ones(64, 1), torch.zeros(64, dtype=torch.long)
path = []
for _ in range(4):
    rare.update(ones, zero, form="released")
    ordinary.update(ones, zero, form="paper")
    path.append((float(rare.centers[0, 0]), float(ordinary.centers[0, 0])))
print(pd.DataFrame(path, columns=["released", "paper"]).round(2).to_string(index=False))
assert abs(path[-1][0]) > 100 and 0 < path[-1][1] < 1

# %% [markdown]
# **Read this as.** The mean is 1. The paper's centre walks towards it, the released one leaps to and
# fro, further each time. Ordinary minibatches hold all batches in about their share, and then both
# are the same; a screen with one small batch is where to look.

# %% [markdown]
# ## What we learned
#
# - Two crops of one field agree on the field and its batch; the treatment is a small part of it.
# - Pixel statistics alone solve plain SSL's task. For cross-batch pairs they do not.
# - Eight methods differ in the second image, the centre and the loss; each has its trivial loss.
# - A centre for each batch keeps the teacher from naming batches; Barlow has no collapsed solution.
#
# **What would change our mind.** If pairs of *the same* batch but different fields worked as well,
# it would be the field's nuisance and not the batch that pairs remove; {numref}`fig-idea-shared` says
# that the field is the larger part by far. No method here draws such pairs. {doc}`22_cdcl_run` has
# `dino` and `dino_cb`, which differ in the pair alone, and so in both.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* A screen without field nuisance, but with batches: what does plain SSL's task reward?
#
# ```{admonition} Solution
# :class: dropdown
# The batch, the treatment, and where the cells happen to lie, for two crops of one field share all
# three. The match by pixels stays easy only as far as batches and chance differ between the fields.
# ```
#
# 2. *Change one parameter.* Run with `head_width = 256`. Which trivial losses move, and does `alpha`?
#
# ```{admonition} Solution
# :class: dropdown
# Those of DINO and DINO-CB, $\ln K$; CDCL's and the Barlow losses' are ratios near 1 in the released
# form; BYOL's stays 4. `w` moves, and `alpha` stays at 0.00464.
# ```
#
# 3. *Extend.* What is left of the batch in the teacher's outputs if a centre takes away its mean but
#    batches differ in spread?
#
# ```{admonition} Solution
# :class: dropdown
# Multiply `outputs` of one batch by 2 before centring: means agree, and the batch with the larger
# spread gets sharper answers. Z-norm of embeddings divides by the spread too; a centre does not.
# ```

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
# # Three losses between molecules and images
#
# Paper: Weakly Supervised Cross-Modal Learning in High-Content Screening
# {cite}`watkinson2024crossmodal`, section 4.3;
# [code](https://github.com/gwatkinson/jump_models), read and not run.
#
# **The claim.** A molecule and the cells it was given to belong together. Several images of one
# compound, from several labs, tell what is the compound's and what is the lab's; a loss that sees
# them at once can use it.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 1 CPU core | under 1 minute |
# | `quick` | 1 CPU core | under 1 minute |

# %% [markdown]
# **You will learn**
#
# - what {term}`CLIP`, {term}`EMM` and {term}`IMM` pull together and what they push apart;
# - what the {term}`temperature` does to the push;
# - what the second term of IMM adds: views of one compound come together *among themselves*;
# - where the paper's equations and its code differ, measured on the same numbers.
#
# **You need** {doc}`04_collapse` for what a loss can hide. Symbols are those of
# {doc}`../book/notation`.
#
# **The key equation** is IMM's, which holds EMM in its first half. Of $N$ compounds with $M$ views,
#
# ```{math}
# :label: eq-idea-imm
# L_{IMM} = \underbrace{-\frac1N \sum_i \log
# \frac{\sum_u e^{s_{iiu}/\tau}}{\sum_{j \ne i} \sum_u e^{s_{iju}/\tau}}}_{\text{EMM: molecules and images}}
# \underbrace{-\,\frac{\gamma}{N} \sum_i \log
# \frac{\sum_{(a,b) \in B_M} e^{t_{ia,ib}/\tau}}
# {\sum_{j \ne i} \sum_{(a,b) \in B_M} e^{t_{ia,jb}/\tau}}}_{\text{images among themselves}}
# ```
#
# with the cosines $s_{iju} = \cos(m_i, v_{ju})$ and $t_{ia,jb} = \cos(v_{ia}, v_{jb})$.

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
preset = "quick"  # name of the preset: smoke takes a few steps only
crossmodal_temperature = 0.1  # τ of the losses
crossmodal_gamma = 0.5  # γ, weight of IMM's pairs of images
steps = 0  # gradient steps on the six molecules; 0: 60, with preset smoke 5
seed = 0  # of the numbers that stand for projections

# %%
import inspect
import math
import time
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Code

from hcs_utils import runs
from hcs_utils.data.screens import molecules
from hcs_utils.evaluation import figure_losses, figure_molecules
from hcs_utils.learning.methods.clip import clip_loss
from hcs_utils.learning.methods.contrast import log_ratio
from hcs_utils.learning.methods.emm import emm_loss
from hcs_utils.learning.methods.imm import imm_loss

runs.refuse_unknown(globals())
torch.set_num_threads(1)
began = time.perf_counter()
tau, gamma = float(crossmodal_temperature), float(crossmodal_gamma)
steps = steps or (5 if preset == "smoke" else 60)

# %% [markdown]
# ## Six molecules, three labs
#
# Six molecules of the simulated library. For each, one point for the molecule and three for images of
# its cells, one from each lab. The points are drawn so that the lab is loud: images of one lab lie
# together, whatever was in the well.

# %% mystnb={"figure": {"name": "fig-six-molecules", "caption": "Six molecules of the simulated library."}, "image": {"alt": "Six structural formulas, labelled A to F."}}
N, M, D = 6, 3, 16  # compounds, views, dimensions
library = molecules.library()
smiles = [library[k] for k in np.linspace(0, len(library) - 1, N).astype(int)]
names = list("ABCDEF")
figure_molecules.formulas(smiles, names, columns=3)

# %%
g = torch.Generator().manual_seed(seed)
own, lab = torch.randn(N, 1, D, generator=g), torch.randn(1, M, D, generator=g)
noise = torch.randn(N, M, D, generator=g)
start = {"mol": torch.randn(N, D, generator=g), "img": 0.6 * own + 1.2 * lab + 0.6 * noise}
columns = [name for name in names for _ in range(M)]
mol, img = start["mol"], start["img"]
unit = F.normalize(img, dim=-1)
same = torch.einsum("iad,ibd->iab", unit, unit)[:, ~torch.eye(M, dtype=bool)].mean()
day = torch.einsum("iad,jad->ija", unit, unit)[~torch.eye(N, dtype=bool)].mean()
print(f"mean cosine of two images: one compound {same:.2f}, one lab {day:.2f}")
assert day > same  # the lab is louder

# %% [markdown]
# ## Who attracts whom
#
# Before the equations, their pairs. Rows are molecules, columns images, three of each compound.

# %% mystnb={"figure": {"name": "fig-masks", "caption": "Pairs of a minibatch: + is pulled together, – pushed apart, empty not compared. CLIP sees one view. EMM pushes all views of other compounds; as released, each view has logs of its own, so that a row is three rows."}, "image": {"alt": "Three matrices of plus and minus signs for CLIP, EMM and the image-image pairs of IMM."}}
ours = np.repeat(np.eye(N, dtype=int), M, axis=1)  # molecule × image
every = 2 * ours - 1
first = np.where(np.arange(N * M) % M == 0, every, 0)
views = np.repeat(every[:2], M, axis=0)  # the images of A and B against all
figure_losses.masks(
    {"CLIP (molecule × image)": first, "EMM (molecule × image)": every}, names, columns, M
)

# %% mystnb={"figure": {"name": "fig-masks-images", "caption": "What IMM compares besides, for the images of A and B in rows. A view with itself, the diagonal, is in $B_M$ in one reading and not in the other."}, "image": {"alt": "Two matrices of image-image pairs; one leaves out pairs of equal view indices."}}
at = np.arange(N * M)
distinct = np.where(at[: 2 * M, None] % M == at % M, 0, views)
rows = [f"{name}{u + 1}" for name in names[:2] for u in range(M)]
figure_losses.masks({"all index pairs": views, "distinct indices": distinct}, rows, columns, M)

# %% [markdown]
# **Read this as.** In {numref}`fig-masks` EMM asks every molecule about all the views at once. In
# {numref}`fig-masks-images` `distinct` leaves out equal indices $a = b$, both of a view with itself,
# where the cosine is 1 whatever is learned, and of other compounds, where the same index is only
# by chance the same lab.

# %% [markdown]
# ## CLIP: which image is this molecule's, and back
#
# The paper writes no equation for its baseline. What the name says is the symmetric loss
#
# ```{math}
# :label: eq-idea-clip
# L_{CLIP} = -\frac{1}{2N} \sum_i \left[ \log \frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ij}/\tau}}
# + \log \frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ji}/\tau}} \right]
# ```

# %%
Code(inspect.getsource(clip_loss), language="python")

# %% [markdown]
# All three stand on one function: the log of a ratio of two sums, worked out some compounds at a time.

# %%
print(inspect.getdoc(log_ratio))

# %%
Code(inspect.getsource(emm_loss), language="python")

# %%
Code(inspect.getsource(imm_loss), language="python")

# %% [markdown]
# The first half of {eq}`eq-idea-imm` by hand, on the six molecules:

# %%
s = torch.einsum("id,jud->iju", F.normalize(mol, dim=-1), unit) / tau  # molecule, compound, view
mine, others = torch.eye(N, dtype=bool), ~torch.eye(N, dtype=bool)
above = s[mine].exp().sum(1)
below = torch.stack([s[i, others[i]].exp().sum() for i in range(N)])
by_hand = -(above / below).log().mean()
print(f"by hand {by_hand:.4f}, package {emm_loss(mol, img, tau):.4f}, ln 5 = {math.log(5):.4f}")
assert torch.isclose(by_hand, emm_loss(mol, img, tau), rtol=1e-4)

# %% [markdown]
# **Trivial losses.** If all points are one, CLIP's loss is $\ln N$ and EMM's $\ln(N-1)$, as the right
# answer is not below its line; IMM's is $(1+\gamma)\ln(N-1)$. For that reason CLIP's loss ends at 0,
# and those of EMM and IMM go on below it.

# %%
ones = torch.ones(N, D), torch.ones(N, M, D)
trivial = {
    "CLIP": clip_loss(ones[0], ones[1][:, 0], tau), "EMM": emm_loss(*ones, tau),
    "IMM": imm_loss(*ones, tau, gamma),
}  # fmt: skip
expected = [math.log(N), math.log(N - 1), (1 + gamma) * math.log(N - 1)]
np.testing.assert_allclose([float(x) for x in trivial.values()], expected, rtol=1e-5)

# %% [markdown]
# ## A few steps of each
#
# The points themselves are moved, down the gradient of each loss: no network, so what is seen is the
# pull of the loss alone.

# %%
LOSSES = {"CLIP": clip_loss, "EMM": emm_loss, "IMM": partial(imm_loss, gamma=gamma)}
seen = {"CLIP": 0, "EMM": slice(None), "IMM": slice(None)}  # which views
after, log = {"before": (mol, img)}, {}
for name, loss in LOSSES.items():
    points = [x.clone().requires_grad_() for x in (mol, img)]
    optimizer, log[name] = torch.optim.SGD(points, lr=2.0), []
    for _ in range(steps):
        value = loss(points[0], points[1][:, seen[name]], temperature=tau)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        log[name].append(value.item())
    after[name] = tuple(x.detach() for x in points)
    assert log[name][-1] < log[name][0]

# %% mystnb={"figure": {"name": "fig-six-cosines", "caption": "Cosines of molecules (rows) and images (columns, three of each), before and after. Frames: pairs that belong together."}, "image": {"alt": "Four heat maps. After CLIP only the first view of each compound is warm within its frame; after EMM and IMM all three are."}}
cosine = {
    name: (F.normalize(m, dim=-1) @ F.normalize(v, dim=-1).flatten(0, 1).T).numpy()
    for name, (m, v) in after.items()
}
figure_losses.cosines(cosine, names, columns, M, label="cosine")

# %% mystnb={"figure": {"name": "fig-six-images", "caption": "Cosines of images among themselves, three of each compound in rows and columns."}, "image": {"alt": "Four heat maps of image against image: a lab pattern before, blocks along the diagonal after IMM."}}
among = {}
for name, (_, v) in after.items():
    x = F.normalize(v, dim=-1).flatten(0, 1)
    among[name] = (x @ x.T).numpy().clip(-1, 1)
labels = [f"{name}{u + 1}" for name in names for u in range(M)]
figure_losses.cosines(among, labels, columns, M, across=2)

# %%
block = np.kron(np.eye(N), np.ones((M, M))).astype(bool)
index = np.arange(N * M)
lab_pair = (index[:, None] % M == index % M) & ~block
one = block & ~np.eye(N * M, dtype=bool)
told = pd.DataFrame({
    name: {
        "own molecule and image": cosine[name][ours.astype(bool)].mean(),
        "two images of one compound": among[name][one].mean(),
        "two images of one lab": among[name][lab_pair].mean(),
    }
    for name in after
}).T  # fmt: skip
told.round(2).rename_axis("mean cosine")

# %%
if preset != "smoke":
    assert (
        told["own molecule and image"].loc[["EMM", "IMM"]].min()
        > told.at["CLIP", "own molecule and image"]
    )
    assert told["two images of one compound"].idxmax() == "IMM"
    assert told.at["IMM", "two images of one lab"] < told.at["before", "two images of one lab"]

# %% [markdown]
# **Read this as.** In {numref}`fig-six-cosines` CLIP moves the first view of each compound and leaves
# the others where they were: here points move one by one, in a network the others would move
# along. EMM brings all of them to their molecule; so images of one compound come together by way of it.
# IMM's second term does it directly, {numref}`fig-six-images`, and pushes apart what has only the lab
# in common. **The null** is the column before: what the points had by themselves.

# %% [markdown]
# ## Temperature
#
# A molecule is pushed from other compounds' images with weights: a softmax of their cosines over τ.

# %% mystnb={"figure": {"name": "fig-temperature", "caption": "Share of the push that the nearest wrong image, and the nearest three, take, by temperature; mean over the six molecules, before training. Dashed against solid line."}, "image": {"alt": "Two falling curves: at small temperature nearly all of the push is on the nearest image, at temperature 1 it is even."}}
taus = np.geomspace(0.01, 10, 25)
wrong = torch.stack([tau * s[i, others[i]].flatten() for i in range(N)])  # cosines
weights = {t: torch.softmax(wrong / t, 1).sort(descending=True)[0] for t in taus.tolist()}
push = {
    "nearest": {t: float(w[:, 0].mean()) for t, w in weights.items()},
    "nearest three": {t: float(w[:, :3].sum(1).mean()) for t, w in weights.items()},
    "even": dict.fromkeys(weights, 1 / wrong.shape[1]),
}
figure_losses.curves(pd.DataFrame(push), "temperature τ", "share of the push", log=True)

# %% [markdown]
# **Read this as.** At τ = 0.01 one image takes nearly all of the push; at τ = 1, which the released
# code has for EMM and IMM, all are pushed nearly alike ({numref}`fig-temperature`). Cosines lie
# between −1 and 1, so at τ = 1 the best and the worst score differ by a factor of $e^2$ only, and a loss
# that can hardly fall says little about learning. The paper names no temperature.

# %%
lowest = {t: math.log(N - 1) - (1 - -1 / (N - 1)) / t for t in (1.0, 0.5, 0.1)}
best = pd.Series(lowest, name="EMM where all compounds are as far apart as they can be")
assert push["nearest"][0.01] > 0.5 > 3 * push["nearest"][10.0]
best.round(2).rename_axis("τ").to_frame()

# %% [markdown]
# ## Paper says, code does
#
# | № | the paper | its code | here |
# |---|---|---|---|
# | 23 | EMM adds views up inside the log; all views of others below the line | a mean of logs; below the line the same view index only | `form` |
# | 24 | IMM is EMM + γ · images | a sum over pairs of (molecule, views): EMM × M, then a < b only | `form` |
# | – | $B_M$: "all possible index pairs" | a = b left out | `pairs` |
# | 25 | CLIP, EMM and IMM alike but for the loss | CLIP: τ = 0.5, images ask, dropout 0.2; EMM, IMM: τ = 1, molecules ask | `form`, `temperature`, `dropout` |
# | 26 | minibatches of 384, weight decay 0.05 | 64 or 196 a GPU, 0.01 | `compounds`, `weight_decay` |
# | 27 | no word | PNA pre-trained in a private file | at random here |
#
# How far apart are the forms? On the same six molecules: the value, how long the gradient is, and the
# cosine of its direction with that of the paper's form.

# %%
forms = {
    ("CLIP", "paper"): {}, ("CLIP", "released"): {"form": "released"},
    ("EMM", "paper"): {}, ("EMM", "released"): {"form": "released"},
    ("IMM", "paper, distinct"): {}, ("IMM", "paper, all"): {"pairs": "all"},
    ("IMM", "released"): {"form": "released"},
}  # fmt: skip
measured, pulls = {}, {}
for (name, form), how in forms.items():
    points = [x.clone().requires_grad_() for x in (mol, img)]
    value = LOSSES[name](points[0], points[1][:, seen[name]], temperature=tau, **how)
    value.backward()
    pulls[name, form] = torch.cat([x.grad.flatten() for x in points])
    base = pulls[next(key for key in pulls if key[0] == name)]
    measured[name, form] = {
        "loss": value.item(), "gradient's length": pulls[name, form].norm().item(),
        "cosine with the paper's": F.cosine_similarity(pulls[name, form], base, 0).item(),
    }  # fmt: skip
measured = pd.DataFrame(measured).T
measured.round(2)

# %%
alike = measured["cosine with the paper's"]
assert np.allclose(alike.xs("paper", level=1), 1) and (alike.drop("IMM").min() > 0.3)
ratio = measured.at[("IMM", "released"), "gradient's length"]
ratio /= measured.at[("IMM", "paper, distinct"), "gradient's length"]
print(f"IMM's gradient as released is {ratio:.1f} times as long as the paper's")
assert ratio > 1.5

# %% [markdown]
# **Read this as.** The forms pull in related directions, not in the same. The released IMM is longer,
# as it is a sum and holds EMM $M$ times: beside it γ = 0.5 weighs less than the paper's. `all`, with a
# view's cosine to itself above the line, has a weaker pull among images. What the forms change in a
# trained space is in the ledger of {doc}`33_crossmodal_results`.

# %%
record = runs.save_record(
    experiment="crossmodal-idea", screen="simulated", method="losses", preset=preset,
    parameters={"temperature": tau, "gamma": gamma, "steps": steps}, fold=1, seed=seed,
    metrics={f"{a}_{b}_cosine".lower().replace(", ", "_").replace("-", "_"): v
             for (a, b), v in alike.items()},
    device="CPU", seconds=time.perf_counter() - began, manifest_sha256="",
)  # fmt: skip
print(os.path.relpath(record))

# %% [markdown]
# ## What we learned
#
# - CLIP sees one view, EMM several by way of the molecule, IMM several also among themselves.
# - The paper's EMM and IMM go one way, from molecules; its CLIP is symmetric by name, and in the code
#   goes the other way.
# - A small temperature pushes the nearest wrong answer, a large one all alike.
# - Equations and code differ in length and direction of the pull, not in their aim.
#
# ## What would change our mind
#
# If EMM, trained, brought images of a compound from different labs
# together as well as IMM, the second term would be idle: {doc}`33_crossmodal_results` compares them.
#
# ## Exercises
#
# Predict, then run: (1) `crossmodal_temperature = 1.0`: which heat map still changes?
# (2) `crossmodal_gamma = 0`: which column of the table of cosines falls? (3) Make the labs louder (1.2 → 3):
# does CLIP still find its first views?
#
# ```{admonition} Solutions
# :class: dropdown
# (1) All change less: at τ = 1 the gradients are short. (2) IMM becomes EMM, so *two images of one
# compound* falls to EMM's. (3) Yes: free points can go anywhere; a network that sees only pixels could
# not, and that is what the next chapters are about.
# ```

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
# # The idea of CDCL: pairs that share a treatment and not a batch
#
# Paper: [Metadata-guided Consistency Learning for High Content
# Images](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`, section 3 and appendices C, D, F;
# [code](https://github.com/cfredinh/CDCL), read at commit 54bb98b and not run.
#
# **The claim.** Self-supervised learning keeps what two views have in common. Two crops of one field
# share its batch; two fields of one treatment from two batches share only what the treatment did.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | under 1 minute, and 1 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - how {term}`cross-batch pairs <cross-batch pair>` are drawn, and that they never share a batch;
# - the {term}`DINO` loss, and how a network can cheat it;
# - what a {term}`centre` for each batch takes away, in numbers;
# - what the {term}`Barlow loss` asks, and how to have it without its large matrix.
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
size = "quick"  # of the simulated screen: smoke, quick, standard or full
fold = 1  # 1-based; which batches are held out
folds = 6  # turns: each batch is held out in one of them
minibatch = 64  # pairs of fields
head_width = 256  # outputs K of the projection head
seed = 0  # of pairs, crops and of the numbers that stand for outputs

# %%
import inspect
import math

import numpy as np
import pandas as pd
import torch
from IPython.display import Code

from hcs_utils import experiments, runs
from hcs_utils.data.screens import simulated
from hcs_utils.evaluation import figures
from hcs_utils.learning import minibatches, views
from hcs_utils.learning.methods import barlow, cdcl, dino

runs.refuse_unknown(globals())
generator = torch.manual_seed(seed)

# %% [markdown]
# ## Pairs
#
# Each field of a treatment may have as partner any field of the same treatment from any *other*
# batch, all alike. An index built once makes a draw cheap, however large the screen is.

# %%
Code(inspect.getsource(minibatches.PartnerIndex.draw), language="python")

# %%
screen = experiments.prepare("simulated", size)
table = screen.table.assign(split=experiments.split(screen.table, fold, folds))
rows = np.flatnonzero(table["split"] == "train")
label = table["treatment"].astype("category").cat.codes.to_numpy(np.int64)
domain = table["batch"].astype("category").cat.codes.to_numpy(np.int64)
normaliser, plate = experiments.normaliser(screen, "controls")
stream = minibatches.Minibatches(
    screen.images(), rows, label[rows], domain[rows], plate[rows], normaliser,
    views.ViewsConfig.for_fields(min(screen.store.shape[-2:])),
    size=minibatch, partner="other_batch", seed=seed,
)  # fmt: skip
print(
    f"{len(rows):,} training fields, {stream.per_epoch} minibatches of {minibatch} pairs an epoch"
)

# %%
pairs = np.concatenate([np.stack(stream.draw(step), 1) for step in range(stream.per_epoch)])
first, second = rows[pairs[:, 0]], rows[pairs[:, 1]]  # rows of the table
assert (label[first] == label[second]).all()  # a pair shares its treatment
assert (domain[first] != domain[second]).all()  # and never its batch
print(f"{len(pairs):,} pairs drawn: all of one treatment, none of one batch")
met = pd.crosstab(table["batch"].to_numpy()[first], table["batch"].to_numpy()[second])
met.rename_axis(index=None, columns="x down, x′ across")

# %% mystnb={"figure": {"name": "fig-idea-pairs", "caption": "Four pairs. Above $x$, below its partner $x'$: the same treatment, another batch."}, "image": {"alt": "Two rows of four cell images. In each column both share cell shape and differ in colour and brightness."}}
shown = np.concatenate([first[:4], second[:4]])
titles = table["compound"].to_numpy()[shown] + " in " + table["batch"].to_numpy()[shown]
images = screen.store.read(shown)
figures.site_grid(images, screen.channels, titles, pixel_size_um=simulated.PIXEL_SIZE_UM)

# %% [markdown]
# **Read this as.** The table's diagonal is empty: no batch meets itself. In {numref}`fig-idea-pairs`
# what a column has in common is the treatment; day, plate, density and focus differ, and so does
# everything else that varies from field to field.

# %% [markdown]
# ## Views
#
# From each pair come eight views: a large crop of each field and three small ones of each, turned,
# flipped, and shifted in colour. The teacher sees the two large ones, the student all eight.

# %%
batch_of_views = stream(0, "cpu")
large, small = batch_of_views.global_views, batch_of_views.local_views
n = minibatch
print(f"large {tuple(large.shape)}, small {tuple(small.shape)}: [views × pairs, channel, y, x]")
assert len(large) == 2 * n and len(small) == 6 * n
assert torch.isfinite(large).all() and torch.isfinite(small).all()

# %% mystnb={"figure": {"name": "fig-idea-views", "caption": "The eight views of the second pair, in the AGP channel and in units of the plate's controls: middle grey is their mean, black and white are three standard deviations away. Black frames are not part of the small crops."}, "image": {"alt": "Eight grey pictures in two rows: one large and three small crops of the first field, then of its partner."}}
agp, k, edge = screen.channels.index("AGP"), 1, (large.shape[-1] - small.shape[-1]) // 2
one = [torch.nn.functional.pad(v[agp], [edge] * 4, value=-3.0) for v in small[k::n]]
one = [large[k, agp], *one[:3], large[n + k, agp], *one[3:]]
grey = torch.stack(one).div(6).add(0.5).clamp(0, 1).mul(255).byte()[:, None].numpy()
names = ["large crop of x", *["small crop of x"] * 3]
figures.site_grid(grey, ["signal"], names + [f"{name}′" for name in names])

# %% [markdown]
# **Read this as.** Of the 14 ordered pairs of a teacher's view and another student's view, six are of
# one field and eight cross the batches:

# %%
owner = [0, 1, 0, 0, 0, 1, 1, 1]  # field of each view, in the order of multi_crop
ordered = [(i, j) for i in range(2) for j in range(8) if i != j]
across = sum(owner[i] != owner[j] for i, j in ordered)
print(f"{len(ordered)} ordered pairs of views, {across} across batches")
assert (len(ordered), across) == (14, 8)

# %% [markdown]
# ## DINO: the student copies the teacher
#
# The first term, equation 2 of the paper: the cross-entropy between what the teacher says of one view and what the
# student says of another. The package takes lightly's loss, tested; here are the same few symbols
# by hand, on outputs $t$ and $s$ drawn at random.

# %%
tau_t, tau_s, K = 0.04, 0.1, head_width
t = torch.randn(2, n, K) * tau_t  # the teacher's outputs: 2 views, n pairs, K
s = torch.randn(8, n, K) * tau_s  # the student's: 8 views
q = torch.softmax(t / tau_t, -1)
log_p = torch.log_softmax(s / tau_s, -1)
by_hand = sum(-(q[i] * log_p[j]).sum(-1).mean() for i, j in ordered) / len(ordered)
method = dino.DINO(experiments.encoder("tiny", screen.channels), dino.DINOConfig(width=K))
theirs = method.criterion(list(t), list(s), teacher_temp=tau_t)
print(f"by hand {by_hand:.4f}, package {theirs:.4f}")
assert torch.isclose(by_hand, theirs, rtol=1e-5)

# %% [markdown]
# **Two ways to cheat.** A network that gives the same output to everything makes all views agree.
# If the output is flat, the loss is $\ln K$: a line drawn in every training curve of this book. If it
# is one spike, the loss falls to zero. That is {term}`collapse`, and low loss is no proof of learning.

# %%
flat, spike = torch.zeros(2, n, K), torch.zeros(2, n, K)
spike[..., 0] = 2.0
for name, same in {"flat": flat, "spike": spike}.items():
    q = torch.softmax(same / tau_t, -1)
    log_p = torch.log_softmax(same / tau_s, -1)
    loss = -(q * log_p).sum(-1).mean()
    print(f"everything the same, {name:5}: loss {loss:.4f}  (ln K = {math.log(K):.4f})")
assert loss < 0.05

# %% [markdown]
# Against the spike DINO subtracts a centre, a moving mean of the teacher's outputs: what is the same
# for all is taken away, and the spike becomes flat. Against the flat one stands the teacher's low
# {term}`temperature`, which sharpens any difference that is left.

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
Code(inspect.getsource(cdcl.DomainCenters), language="python")

# %%
b = torch.arange(2).repeat_interleave(500)  # two batches
outputs = torch.randn(1000, K) + 3.0 * torch.randn(2, K)[b]  # its place, and fields around it
per_batch, single = cdcl.DomainCenters(2, K), cdcl.DomainCenters(1, K)
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
# ## Both together
#
# `cdcl_loss` is {eq}`eq-cdcl-idea`. It reads the centres, and never moves them.

# %%
Code(inspect.getsource(cdcl.cdcl_loss), language="python")

# %% [markdown]
# The null: a network that knows nothing, in both of the forms the function has.

# %%
domains = torch.from_numpy(domain[np.stack([first[:n], second[:n]])])
centres = cdcl.DomainCenters(int(domain.max()) + 1, K)
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
rare = cdcl.DomainCenters(2, 1, frequencies=[1, 99])
ordinary = cdcl.DomainCenters(2, 1)
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
# - The pair is the question: what two views share is what is learned.
# - A centre for each batch keeps the teacher from naming batches.
# - Barlow has no collapsed solution, and needs no $K \times K$ matrix.
# - Paper and code are two forms of one idea; both are here, tested, under one name.
#
# **What would change our mind.** If pairs of *the same* batch but different fields worked as well,
# it would be the field's nuisance and not the batch that pairs remove. No method here draws such
# pairs yet. {doc}`22_cdcl_run` has `dino` and `dino_cb`, which differ in the pair alone, and so in
# both.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* A treatment occurs in one batch only. What does `PartnerIndex` do?
#
# ```{admonition} Solution
# :class: dropdown
# It refuses, and says how many such treatments there are: they have no partner. The released code
# falls back to any field of the treatment, for CPG0004 only.
# ```
#
# 2. *Change one parameter.* Run with `head_width = 64`. Which numbers move, and does `alpha`?
#
# ```{admonition} Solution
# :class: dropdown
# $\ln K$, the loss of a collapsed network, and `w` move; `alpha` stays at 0.00464.
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

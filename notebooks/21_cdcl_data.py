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
# # Pairs, folds and crops, seen
#
# Paper: [Metadata-guided Consistency Learning for High Content
# Images](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`, sections 3.3 and 4, appendix C;
# [code](https://github.com/cfredinh/CDCL), read at commit 54bb98b and not run.
#
# **The claim.** What a method can learn is decided before the first step: by which batches it sees,
# which two fields it is asked to compare, and which parts of them.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | under 1 minute, and 1 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - how batches are dealt into folds, so that none stands on two sides;
# - how partners are drawn, and that every pair of batches meets as often as it should;
# - what of a field the network gets to see, and in which colours;
# - what settings I to III of the paper's table 2b leave of the training fields.
#
# **You need** {doc}`20_cdcl_idea`.
#
# **The key equation** is the chance that field $x$, of treatment $y$ and batch $d$, gets its partner from
# batch $d'$. With $n_{yd}$ the training fields of a treatment in a batch,
#
# ```{math}
# :label: eq-partner
# P(d' \mid x) = \frac{n_{yd'}}{\sum_{e \neq d} n_{ye}} \quad (d' \neq d), \qquad P(d \mid x) = 0
# ```

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
minibatch = 64  # pairs of fields a step
seed = 0  # of pairs, crops and colours

# %%
import inspect
import time

import numpy as np
import pandas as pd
import torch
from IPython.display import Code

from hcs_utils import experiments, runs
from hcs_utils.data import splits, subsets
from hcs_utils.data.screens import simulated
from hcs_utils.evaluation import figure_cdcl, figures
from hcs_utils.learning import minibatches, views

runs.refuse_unknown(globals())
torch.set_num_threads(1)

# %%
screen = experiments.prepare("simulated", size)
table = screen.table.assign(split=experiments.split(screen.table, fold, folds))
rows = np.flatnonzero(table["split"] == "train")
label = table["treatment"].astype("category").cat.codes.to_numpy(np.int64)
domain = table["batch"].astype("category").cat.codes.to_numpy(np.int64)
batches = list(table["batch"].astype("category").cat.categories)
normaliser, plate = experiments.normaliser(screen, "controls")
images, px = screen.images(), min(screen.store.shape[-2:])
print(f"{len(table):,} fields of {px} px ({px * simulated.PIXEL_SIZE_UM:.0f} µm a side)")
print(f"{len(batches)} batches; {len(rows):,} fields to train on")

# %% [markdown]
# ## Folds: whole batches
#
# RxRx1-HUVEC has 24 batches: 16 to train, then 4 to validate, then 4 to test, counted round the end,
# and six such turns. CPG0004 has five replicates of each layout: 3, 1 and 1. One function does both:

# %%
names = {"RxRx1-HUVEC": [f"{k:02d}" for k in range(1, 25)], "CPG0004": list("12345")}
names["simulated"] = batches
count = {"RxRx1-HUVEC": 6, "CPG0004": 5, "simulated": folds}
turns = {
    name: [splits.batch_folds(names[name], f, n) for f in range(1, n + 1)]
    for name, n in count.items()
}
for name, parts in turns.items():
    tested = [batch for part in parts for batch in part["test"]]
    assert len(tested) == len(set(tested))  # no batch is tested twice
    for part in parts:
        every = [batch for group in part.values() for batch in group]
        assert sorted(every) == sorted(names[name]) and len(every) == len(set(every))
print("No batch stands on two sides of a fold.")

# %% mystnb={"figure": {"name": "fig-data-folds", "caption": "Which batches (on CPG0004: replicates) train, validate and test in each fold."}, "image": {"alt": "Three grids of marks. In each row most batches train, and a block to validate and a block to test move on from row to row."}}
figure_cdcl.folds(turns)

# %% [markdown]
# **Read this as.** Each row of {numref}`fig-data-folds` is a fold: squares train, triangles validate,
# diamonds test. In six turns every batch of RxRx1 is tested once; so is every replicate of CPG0004 in
# five. What the released code lists, for comparison:

# %%
first_tested = [20, 0, 4, 8, 12, 16]  # RxRx1, counted from 0; four in a row
for f, parts in enumerate(turns["RxRx1-HUVEC"]):
    assert [int(b) - 1 for b in parts["test"]] == [first_tested[f] + k for k in range(4)]
    assert [len(parts[part]) for part in ("train", "val", "test")] == [16, 4, 4]
listed = ["123/4/5", "234/5/1", "345/1/2", "451/2/3", "512/3/4"]
assert ["/".join(map("".join, p.values())) for p in turns["CPG0004"]] == listed
assert table.groupby("batch")["split"].nunique().eq(1).all()
table.groupby("split")[["batch", "plate", "treatment", "site_id"]].nunique().loc[
    ["train", "val", "test"]
]

# %% [markdown]
# ## Pairs: the same treatment, any other batch
#
# An index built once makes a draw three look-ups, whatever the size of the screen; it holds six whole
# numbers a field. The released code filters the whole table for each field. Measured
# ratios are on the {doc}`scoreboard <90_scoreboard>`, in the rows whose names begin with `cdcl_`.

# %%
Code(inspect.getsource(minibatches.PartnerIndex.draw), language="python")

# %%
rng = np.random.default_rng(seed)
index, rounds = minibatches.PartnerIndex(label[rows], domain[rows]), 100
first = np.tile(np.arange(len(rows)), rounds)
began = time.perf_counter()
second = index.draw(first, rng)
print(f"{len(first):,} pairs in {time.perf_counter() - began:.2f} s")
y, d = label[rows], domain[rows]
assert (y[first] == y[second]).all() and (d[first] != d[second]).all()

# %% [markdown]
# How often did each pair of batches meet, over what {eq}`eq-partner` expects?

# %%
n = np.zeros((label.max() + 1, len(batches)))
np.add.at(n, (y, d), 1)  # fields of each treatment in each batch
left = n.sum(1, keepdims=True) - n  # fields in the other batches
weight = np.divide(n, left, out=np.zeros_like(n), where=left > 0)
expected = rounds * weight.T @ n
met = np.zeros_like(expected)
np.add.at(met, (d[first], d[second]), 1)
possible = ~np.eye(len(batches), dtype=bool) & (expected > 0)
z = (met - expected)[possible] / np.sqrt(expected[possible])
print(
    f"largest deviation {np.abs(z).max():.1f} standard deviations of a count, {len(z)} pairs of batches"
)
assert np.abs(z).max() < 5 and met[~possible].sum() == 0

# %% mystnb={"figure": {"name": "fig-data-meetings", "caption": "How often the fields of a training batch (down) got a partner from another (across), over the expected number. Empty: never, by construction."}, "image": {"alt": "A square of cells, one for each two training batches, all near 1; the diagonal is empty."}}
inside = np.unique(d)
ratio = np.where(possible, np.divide(met, expected, out=np.ones_like(met), where=possible), np.nan)
named = [batches[k] for k in inside]
figure_cdcl.meetings(pd.DataFrame(ratio[np.ix_(inside, inside)], named, named))

# %% [markdown]
# **Read this as.** All cells of {numref}`fig-data-meetings` are near 1, the diagonal is empty: every
# batch meets every other one, as often as its fields allow, and never itself.

# %% [markdown]
# ## Views: what of a pair the network sees
#
# From each of the two fields one large crop and three small ones. To see where they lie, two more
# channels are cut along: the row and the column of each pixel.

# %%
crop_of = views.ViewsConfig.for_fields(px)
grid = torch.stack(torch.meshgrid(torch.arange(px), torch.arange(px), indexing="ij")).byte()
k = int(np.flatnonzero((table["role"] == "trt").to_numpy()[rows])[0])  # a field of a treatment
pair = rows[[k, int(index.draw(np.array([k]), rng)[0])]]
fields = torch.cat([images[torch.from_numpy(pair)], grid.expand(2, -1, -1, -1)], 1)
torch.manual_seed(seed)
large = views.crop(fields, crop_of.global_size)
small = views.crop(fields.repeat_interleave(3, 0), crop_of.local_size)
boxes = [
    {"global": figure_cdcl.rectangles(large[[i], -2:]),
     "local": figure_cdcl.rectangles(small[3 * i : 3 * i + 3, -2:])}
    for i in range(2)
]  # fmt: skip
lengths = np.concatenate([box["local"][:, 2:] for box in boxes])
assert np.allclose(lengths, crop_of.local_size, atol=1e-3)

# %% mystnb={"figure": {"name": "fig-data-crops", "caption": "A pair, $x$ and $x'$, its channels composed; one large crop of each (full line) and three small ones (dashed)."}, "image": {"alt": "Two fields of cells of one treatment from two batches, each with one large rectangle and three small ones."}}
pictures = [figures.composite(image, screen.channels) for image in screen.store.read(pair)]
about = table.iloc[pair]
titles = (about["compound"] + " in " + about["batch"]).tolist()
figure_cdcl.crops(pictures, boxes, [f"x: {titles[0]}", f"x′: {titles[1]}"])

# %% mystnb={"figure": {"name": "fig-data-views", "caption": "The same eight crops as the network sees them: flipped, turned, shifted in colour, and in units of the plate's controls (black: one standard deviation below their mean, full colour: four above). Black frames are not part of the small crops."}, "image": {"alt": "Two rows of four pictures: a large crop and three small ones of the first field, then of its partner."}}
owner = torch.from_numpy(plate[pair])
sees = views.colour(large[:, :-2], owner, normaliser, crop_of)
local = views.colour(small[:, :-2], owner.repeat_interleave(3), normaliser, crop_of)
edge = sees.shape[-1] - local.shape[-1]
frame = [edge // 2, edge - edge // 2] * 2
local = torch.nn.functional.pad(local, frame, value=-1.0)
eight = torch.cat([sees[:1], local[:3], sees[1:], local[3:]])
assert torch.isfinite(eight).all()
shown = eight.add(1).div(5).clamp(0, 1).mul(255).byte().numpy()
said = ["large crop of x", *["small crop of x"] * 3]
figures.site_grid(shown, screen.channels, said + [f"{name}′" for name in said])

# %% [markdown]
# **Read this as.** In {numref}`fig-data-crops` the small crops overlap the large one of their own field,
# and share nothing with the partner's but the treatment. {numref}`fig-data-views` has the same eight:
# the scale of a plate is gone, the field's own light and density are not.

# %% [markdown]
# ## Crops: cut, or as released
#
# The notebooks cut squares without resizing, at sizes in proportion to the field. The released files
# draw a rectangle by its share of the area, with an aspect ratio of 3/4 to 4/3, and resize it.

# %%
presets = {"cut": crop_of} | {name: views.released(name, px) for name in views.RELEASED}
several = images[torch.from_numpy(pair[:1])].expand(5, -1, -1, -1)
several = torch.cat([several, grid.expand(5, -1, -1, -1)], 1)
torch.manual_seed(seed)
drawn = {}
for name, c in presets.items():
    shapes = {"global": (c.global_size, c.global_scale), "local": (c.local_size, c.local_scale)}
    drawn[name] = {
        kind: figure_cdcl.rectangles(views.crop(several, min(s, px // 4) if a else s, a)[:, -2:])
        for kind, (s, a) in shapes.items()
    }

# %% mystnb={"figure": {"name": "fig-data-presets", "caption": "Five large crops and five small ones of one field, as each setting draws them."}, "image": {"alt": "One field four times. Cut: equal squares. The large crops of rxrx1 are nearly the whole field, those of cpg0004 somewhat less, those of cpg0004_large about as small as the small ones of the others."}}
figure_cdcl.crops([pictures[0]] * 4, list(drawn.values()), list(drawn))

# %% [markdown]
# How much of the field that is, over a thousand draws from a square field of 256 px, its side on RxRx1:

# %%
whole = torch.stack(torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")).byte()
shares = {}
for name in views.RELEASED:
    c = views.released(name, 256)
    for kind, scale in {"global": c.global_scale, "local": c.local_scale}.items():
        parts = [views.crop(whole.expand(200, -1, -1, -1), 4, scale) for _ in range(5)]
        at = figure_cdcl.rectangles(torch.cat(parts))
        area = at[:, 2] * at[:, 3] / 256**2
        all_of_it = (at[:, 2:] > 255.5).all(1).mean()
        shares[f"{name}, {kind}"] = (str(scale), area.mean(), area.min(), area.max(), all_of_it)
columns = ["asked (share of area)", "mean", "least", "most", "whole field (share of draws)"]
shares = pd.DataFrame(shares, index=columns).T
shares.map(lambda v: v if isinstance(v, str) else round(v, 3))

# %%
entire = shares[columns[-1]].astype(float)
assert abs(entire["rxrx1, global"] - 0.36) < 0.06
assert (entire.drop("rxrx1, global") < 0.01).all() and (shares["most"] <= 1.001).all()

# %% [markdown]
# **Read this as.** A share of up to 1.1 of the area seldom fits into the field: after ten tries the code
# takes the whole field, in about 36 of 100 draws. The large "crops" of RxRx1 are, one time in three, no
# crops at all, and otherwise nearly the whole: the two large views of one field then differ in
# little but turns, flips and colour.

# %% [markdown]
# ## Colours: what the released shift does
#
# In half of the views each channel $c$ is multiplied by $g_c \sim N(1, 0.1)$, and shifted by
# $o_c \sim N(0, 0.1)$ of the *whole 8-bit range*, that is 25.5 grey levels; then normalised by plate:
#
# ```{math}
# :label: eq-colour
# x_c \leftarrow \frac{(g_c\, x_c + 255\, o_c) - \mu_c}{\sigma_c}
# ```

# %%
offset = 0.1 * 255  # grey levels
sd = {
    f"simulated, {c}": float(s)
    for c, s in zip(screen.channels, normaliser.std.median(0).values, strict=True)
}
rxrx1 = [5.694, 12.036, 2.666, 6.236, 2.424, 2.712]  # grey levels; constants of the released code
sd |= {f"RxRx1, channel {k}": value for k, value in enumerate(rxrx1, 1)}
times = offset / pd.Series(sd)
assert times["RxRx1, channel 5"] > 10 and times.filter(like="RxRx1").min() > 2

# %% mystnb={"figure": {"name": "fig-data-offset", "caption": "The standard deviation of the released additive shift, over that of the channel's pixels: on the simulated screen (median over plates, of control wells), and on RxRx1 by the constants of the released code."}, "image": {"alt": "Bars for five simulated and six RxRx1 channels. On RxRx1 they reach from 2 to over 10."}}
figure_cdcl.stacked(times.to_frame("shift"), "sd of the shift / sd of the channel", digits=1)

# %% mystnb={"figure": {"name": "fig-data-colour", "caption": "One large crop as the network sees it: above with gains only, as the notebooks have it, below with the released offset as well; four draws each, shift always on."}, "image": {"alt": "Two rows of four pictures of the same cells. Above they differ slightly in tint; below strongly, and the empty ground takes a colour."}}
one, at_plate = large[:1, :-2].expand(4, -1, -1, -1), owner[:1].expand(4)
kinds = {"gain": 0.0, "gain and offset": 0.1}
seen = []
for o in kinds.values():
    torch.manual_seed(seed)
    how = views.ViewsConfig(colour_gain=0.1, colour_offset=o, colour_probability=1.0)
    seen.append(views.colour(one, at_plate, normaliser, how))
moved = [float((x.mean((2, 3)) - x.mean((0, 2, 3))).square().mean().sqrt()) for x in seen]
assert moved[1] > moved[0]
shown = torch.cat(seen).add(1).div(5).clamp(0, 1).mul(255).byte().numpy()
figures.site_grid(shown, screen.channels, np.repeat(list(kinds), 4))

# %% [markdown]
# **Read this as.** On RxRx1 the offset is 2 to 10 standard deviations of a channel: the level of a channel
# tells nothing any more in half of the views, whatever batch it came from. {numref}`fig-data-offset`
# has the same ratio here, where channels are wider. {doc}`22_cdcl_run` takes it as `colour_offset`.

# %% [markdown]
# ## Settings I to III: what is left to train on
#
# Table 2b of the paper trains on parts of the data: I, controls only; II, treatments only; III, half of
# the treatments. For III text and command differ, so there are two. Only training fields are
# left out: the bank of k-NN, validation and test keep all.

# %%
kept, treated = {}, (table["role"] == "trt").to_numpy()
for subset in subsets.SUBSETS:
    chosen = subsets.training_rows(table, subset)
    assert np.isin(chosen, rows).all()
    kept[subset] = {
        "controls": (~treated[chosen]).sum(), "treatments": treated[chosen].sum(),
        "classes": len(np.unique(label[chosen])),
    }  # fmt: skip
kept = pd.DataFrame(kept).T
setting = {"controls": "I", "treatments": "II", "half": "III, text", "half_released": "III, README"}
kept.insert(0, "setting", [setting.get(name, "all") for name in kept.index])
kept

# %% mystnb={"figure": {"name": "fig-data-settings", "caption": "Training fields that each setting keeps, controls and treatments."}, "image": {"alt": "Stacked bars for five settings; both forms of III keep all controls and half of the fields of treatments."}}
bars = kept.set_axis(kept["setting"] + " (" + kept.index + ")")[["controls", "treatments"]]
figure_cdcl.stacked(bars.astype(float), "training fields (number)", digits=0)

# %%
fields_of, classes_of = kept["treatments"], kept["classes"]
assert fields_of["controls"] == 0 and kept.at["treatments", "controls"] == 0
assert classes_of["half_released"] == classes_of["all"] > classes_of["half"]
assert abs(fields_of["half"] / fields_of["all"] - 0.5) < 0.05

# %% [markdown]
# **Read this as.** Both forms of III halve the treated fields. The text's keeps half of the treatments
# with all their fields, the README's all treatments with half of their fields. On RxRx1 that is 554 or 1,108
# treatments, a different question: fewer things to learn, or fewer examples of each.

# %% [markdown]
# ## Where paper and code disagree
#
# Code: `cfredinh/CDCL@54bb98b`, read, not run. Numbers are those of the ledger.
#
# | | the paper says | the code does | where |
# |---|---|---|---|
# | 7 | III trains on 50 % of the treatments | the README's strategy keeps all 1,108 treatments and half of the images | `datasets.py: get_dataframe`, `README.md` |
# | 8 | (a switch named `drop_treatment_duplicates`) | keeps only controls, for its mask is negated; its sibling drops the first image and keeps the second | `datasets.py: get_dataframe` |
# | 9 | `--subset_strategy` chooses the subset | nothing happens unless `subset_data` is true, which `params.json` does not have | `classification.py`, `datasets.py` |
# | 11 | colour shift with probability 0.8 or 0.5, switchable | probability and switch are ignored: always on, in half of the views | `bases.py: get_trans_list_albumentations`, `_utils.py: Shift_Colors` |
# | 14 | one global and three local crops of each image, eight views | so for pairs; plain DINO takes two and six of one image | `datasets.py: __getitem__` |
# | 15 | consistency across batches | 6 of the 14 terms of the loss are of one image; `--only_cross_domain` always sets False | `DINO/models.py`, `classification.py` |
# | 19 | images are down-sampled to 256 px | stored at 512 px and resized on the fly, once for each of eight views | `bases.py: disentangle_resizes_from_transforms` |
#
# Switches here: `subset` (7), `colour_offset` and `colour_probability` (11), `crops`, `view_pairs` (15).

# %% [markdown]
# ## What we learned
#
# - Folds are of whole batches; no batch trains and tests.
# - A partner is any field of the treatment in any other batch, all alike; one index, three look-ups.
# - The released large crop of RxRx1 is the whole field in about a third of the draws.
# - The released offset is several standard deviations of a channel: it hides levels, not shapes.
#
# **What would change our mind.** If cutting and the released crops gave the same accuracy, where crops lie
# would not matter for cells that look alike all over a field.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* One batch has twice the fields of the others. How often is it the partner's?
#
# ```{admonition} Solution
# :class: dropdown
# Twice as often as each of the others, by {eq}`eq-partner`: partners are uniform over fields, not over
# batches.
# ```
#
# 2. *Change one parameter.* Run with `fold = 2`. Which batches leave {numref}`fig-data-meetings`?
#
# ```{admonition} Solution
# :class: dropdown
# Those that validate or test in the second row of {numref}`fig-data-folds`, for only training fields
# have partners.
# ```
#
# 3. *Extend.* With which area share would the whole field be drawn never?
#
# ```{admonition} Solution
# :class: dropdown
# Every rectangle fits if the widest does: $\sqrt{a \cdot 4/3} \le 1$, so a share $a$ of up to 3/4. With
# ten tries CPG0004's 0.75–0.9 falls back almost never too.
# ```

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
# # What a batch effect is, seen in ten minutes
#
# Paper: [Metadata-guided Consistency Learning for High Content
# Images](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`.
#
# **The claim.** An image from a screen carries two strong signals, what the treatment did and the
# {term}`batch` it was made in, and the second is the easier one to read.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | 1 minute, and 1 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - to see a {term}`batch effect` in images, on a plate and on a map of all fields;
# - to measure it in two ways: by prediction, and by neighbours;
# - what scaling by {term}`control` wells mends, and what it leaves;
# - to hold every number against a null.
#
# **You need** some Python. No network is trained here. The screen is
# [simulated](card-simulated): its truth is known, and your machine draws it.
#
# **The key number** is the share of a field's $k$ nearest neighbours $\mathrm{NN}_k(i)$ that come
# from its own batch $b_i$, over all $n$ fields:
#
# ```{math}
# :label: eq-same-batch
# S = \frac{1}{nk} \sum_{i=1}^{n} \sum_{j \in \mathrm{NN}_k(i)} \mathbb{1}[b_j = b_i]
# ```
#
# If fields knew nothing of their batch, $S$ would be the chance that two fields share one.

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
seed = 0  # of shuffled labels and of the map

# %%
import time

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from hcs_utils import experiments, runs
from hcs_utils.data.screens import simulated
from hcs_utils.evaluation import figure_metrics, figures, leaks, metrics, postprocess

runs.refuse_unknown(globals())
began = time.perf_counter()

# %% [markdown]
# ## One treatment, four batches
#
# `prepare` draws the screen, or finds it, and brings it into one array of 8-bit fields.
# {doc}`01_screens` shows how; here it is enough to look.

# %%
screen = experiments.prepare("simulated", size)
table = screen.table
treated = sorted(set(table.loc[table["role"] == "trt", "treatment"]))
batches = figures.names(table["batch"])
print(f"{len(table):,} fields of {len(screen.channels)} channels: {', '.join(screen.channels)}")
print(f"{len(treated)} treatments and a negative control, each in all of {len(batches)} batches")
assert table.groupby("treatment")["batch"].nunique().eq(len(batches)).all()

# %% [markdown]
# Each field is first put into a few numbers: mean, standard deviation and two percentiles of each
# {term}`channel`. They serve the whole page; here they pick, of the fields of a treatment in a
# batch, the one nearest to their mean, so that no picture is chosen by eye.

# %%
everything = screen.store.read(np.arange(len(screen.store)))
x = leaks.intensity_statistics(everything)  # n, 4 numbers for each channel
names = [f"{channel} {s}" for channel in screen.channels for s in leaks.STATISTICS]
print(f"Every field in {x.shape[1]} numbers: {', '.join(names[:5])}, …")
assert x.shape == (len(table), 4 * len(screen.channels))
keys = ["treatment", "batch"]
mean = pd.DataFrame(x).groupby([table[key] for key in keys]).transform("mean").to_numpy()
typical = table.assign(off=np.linalg.norm(x - mean, axis=1)).sort_values("off")
typical = typical.drop_duplicates(keys).sort_values(keys)

# %% [markdown]
# The upper row of {numref}`fig-tour-fields` shows one treatment in four batches, the lower row four
# treatments in one batch.

# %% mystnb={"figure": {"name": "fig-tour-fields", "caption": "Above: one treatment in four batches. Below: four treatments in one batch. Each picture is one field; its five channels have a colour each."}, "image": {"alt": "Two rows of four cell images. In the upper row, one treatment in four batches, colour and brightness change from picture to picture. In the lower row, four treatments of one batch, they stay alike while cell shapes change."}}
above = typical[(typical["treatment"] == treated[0]) & typical["batch"].isin(batches[:4])]
below = typical[(typical["batch"] == batches[0]) & typical["treatment"].isin(treated[:4])]
shown = pd.concat([above, below])
titles = shown["compound"] + " in " + shown["batch"]
images = everything[shown.index]
figures.site_grid(images, screen.channels, titles, pixel_size_um=simulated.PIXEL_SIZE_UM)

# %% [markdown]
# **Read this as.** Above, the cells have one build, and colour and brightness change with the day.
# Below, the cells change their build, and colour stays nearly the same. A network that is asked
# only to tell fields apart will take the easy way: colour.

# %% [markdown]
# ## A well knows its place
#
# Smaller than batches are plates, and within a plate it goes on. Over all plates treatments stand in many
# places, so brightness should not follow the place. The map shows all plates laid on one another: DNA
# in each well, as a share of its plate's mean.

# %% mystnb={"figure": {"name": "fig-tour-plate", "caption": "All plates in one: mean of the DNA channel in each well, over the mean of its plate. Wells that no plate filled are empty."}, "image": {"alt": "Map of a 96-well plate. Wells at the rim are darker than wells inside."}}
dna = pd.Series(x[:, 0])
relative = dna / dna.groupby(table["plate"]).transform("mean")
label = f"{screen.channels[0]}, share of the plate's mean"
figures.plate_map(table["well"], relative, label, title=f"{table['plate'].nunique()} plates")

# %%
row, column = table["well"].str[:-2], table["well"].str[-2:]
rim = row.isin([row.min(), row.max()]) | column.isin([column.min(), column.max()])
print(f"rim {relative[rim].mean():.2f}, inside {relative[~rim].mean():.2f} of the plate's mean")
assert relative[rim].mean() < relative[~rim].mean()

# %% [markdown]
# **Read this as.** The rim is darker: wells there dry out, and hold fewer cells. This {term}`edge
# effect` is planted, as it occurs in laboratories. A treatment that always stands at the rim would
# seem to kill.

# %% [markdown]
# ## Can the batch be told from brightness alone?
#
# Take the few numbers of each field. No shape, no texture, no cell is in them. A logistic regression learns to name the batch, and is asked about fields of
# wells that it has not seen.
#
# Three questions: as the fields are; after {term}`Z-norm` by the control wells
# ({doc}`notation <../book/notation>`); and, as a null, with the batch labels shuffled.

# %%
batch, well = table["batch"].to_numpy(), (table["plate"] + table["well"]).to_numpy()
is_control = (table["role"] == "negcon").to_numpy()
xz = postprocess.zscore_by_controls(x, batch, is_control)
shuffled = np.random.default_rng(seed).permutation(batch)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
asked = {"shuffled batches": (x, shuffled), "after Z-norm": (xz, batch), "as they are": (x, batch)}
rows = []
for name, (features, labels) in asked.items():
    right = cross_val_score(model, features, labels, groups=well, cv=GroupKFold(5))
    rows += [{"method": name, "accuracy": value} for value in right]
told = pd.DataFrame(rows)

# %% mystnb={"figure": {"name": "fig-tour-told", "caption": "How often a logistic regression names the batch of a field from its channel statistics. Dots: five sets of held-out wells; mark: their mean, with standard deviation. Null: chance."}, "image": {"alt": "Accuracy of naming the batch: shuffled labels at chance, after Z-norm somewhat above it, and for fields as they are far above."}}
chance = 1 / len(batches)
label, order = "batch named rightly (share of fields)", list(asked)[::-1]
figures.compare(told, "accuracy", label, null=chance, order=order)

# %%
share = told.groupby("method")["accuracy"].mean()
print(share.round(3).to_string(), f"\nchance {chance:.3f}")
assert share["as they are"] > 3 * chance  # the batch shows
assert share["shuffled batches"] < 2 * chance  # the null is one
assert chance < share["after Z-norm"] < share["as they are"]  # less, not nothing

# %% [markdown]
# **Read this as.** Brightness gives the batch away, far above chance. The same model on shuffled
# labels is at chance, so it is not the model that finds batches everywhere. Scaling each batch by
# its own controls takes most of it out, and leaves some: Z-norm moves and stretches each number,
# and a batch effect can do more than that.

# %% [markdown]
# ## Neighbours are of the same batch
#
# Now without any model. One field of each well, so that no two come from one well; its ten nearest
# neighbours by the same numbers; and the share {eq}`eq-same-batch`.

# %%
one = (table["site"] == table["site"].min()).to_numpy()
k, same = 10, {}
for name, features in {"as they are": scale(x[one]), "after Z-norm": scale(xz[one])}.items():
    near = NearestNeighbors(n_neighbors=k).fit(features).kneighbors(return_distance=False)
    same[name] = np.mean(batch[one][near] == batch[one][:, None])
    hidden = shuffled[one]
    same[name + ", shuffled"] = np.mean(hidden[near] == hidden[:, None])
for name, value in same.items():
    print(f"{name:24}{value:.3f} of the {k} nearest share the batch (chance {chance:.3f})")
assert same["as they are"] > 2 * chance > same["as they are, shuffled"]
assert same["after Z-norm"] < same["as they are"]

# %% [markdown]
# A map shows it at once. {term}`UMAP` lays fields out so that neighbours stay neighbours; with
# preset smoke two principal components stand in for it, since UMAP takes long to start.

# %%
if preset == "smoke":
    from sklearn.decomposition import PCA

    print("preset smoke: principal components in place of UMAP")
    maps = [PCA(2).fit_transform(scale(features[one])) for features in (x, xz)]
else:
    maps = [figures.umap(scale(features[one]), seed) for features in (x, xz)]

# %% mystnb={"figure": {"name": "fig-tour-map", "caption": "One field of each well, placed by its channel statistics and coloured by batch. Below: the framed spot, coloured by treatment."}, "image": {"alt": "Two maps of fields coloured by batch. Left, as they are: batches keep to regions. Right, after Z-norm: colours are mixed. Enlarged spots show treatments mixed in both."}}
points = dict(zip(("As they are", "After Z-norm"), maps, strict=True))
figures.umap_panels(points, batch[one], table.loc[one, "treatment"])

# %% [markdown]
# **Read this as.** Left, several batches keep to regions of their own. Right, after Z-norm, their
# colours are mixed. In the enlarged spots colours are treatments, and lie in no order on either
# side: the batch has gone, and the treatment has not come.

# %% [markdown]
# ## What remains: finding the treatment
#
# That is the task of this book. Hold out whole batches, and let each of their fields be named by
# its nearest fields from other batches ({term}`k-NN accuracy`).

# %%
part = experiments.split(table, fold, folds)
bank, query = (part.eq(p).to_numpy() & ~is_control for p in ("train", "test"))
label = table["treatment"].to_numpy()
names = np.random.default_rng(seed).permutation(label[bank])
found = {
    "as they are": metrics.knn_accuracy(x[bank], label[bank], x[query], label[query]),
    "after Z-norm": metrics.knn_accuracy(xz[bank], label[bank], xz[query], label[query]),
    "shuffled treatments": metrics.knn_accuracy(xz[bank], names, xz[query], label[query]),
}
print(pd.Series(found).round(3).to_string(), f"\nchance {1 / len(treated):.3f}")
assert set(batch[bank]).isdisjoint(batch[query])

# %% [markdown]
# An accuracy above chance need not come from the cells. So each one in this book stands beside a
# {term}`leak audit`: the same fields, named from the well's position, the plate's name, the number of
# nuclei, or brightness alone, each by the best of three judges: the vote, trees, lines ({doc}`03_judging`).

# %% mystnb={"figure": {"name": "fig-tour-audit", "caption": "The same task from what should not tell. Dot: accuracy, with the interval over wells; tick: the same with shuffled labels in the bank."}, "image": {"alt": "One row for each source. Well position lies far above its null; plate and cell count lie at theirs, and intensity statistics between."}}
sources = leaks.sources(table, screen.store)
sources["intensity statistics"] = xz
audit = leaks.audit(label, bank, query, sources, unit=well, seed=seed)
figure_metrics.audit(audit, label="treatment named rightly (share of fields)")

# %%
print(audit[["value", "low", "high", "null", "judge"]].round(3))
assert not audit.loc["plate", "leaks"]
if size == "quick":
    assert audit.loc["well position", "leaks"]
    assert audit.loc["intensity statistics", "judge"] == "linear"
    assert found["after Z-norm"] < audit.loc["intensity statistics", "value"] < 0.4

# %% [markdown]
# **Read this as.** A warning about our own screen: *who knows the well can name the treatment* in many
# cases. Every second source keeps one layout on all its plates, as real ones do. Cells do not show
# where they stood, unless the rim's shadow tells; whether a method lives on that is asked of each run, by
# its accuracy on fields whose treatment stood elsewhere in the bank ({doc}`22_cdcl_run`).
#
# The numbers that name the batch hardly name the treatment to a vote of neighbours. Lines drawn through
# them read more: the judge matters as much as the features, so every method is given both. This is as it
# was drawn: treatments change shape and texture at equal mean brightness. What is needed are features
# that see shape and texture and do not see the batch. Scaling cannot make them. Learning may, if it
# is asked the right question, and that question is the
# {doc}`next chapter <20_cdcl_idea>`.

# %%
parameters = {"size": size, "fold": fold, "folds": folds, "seed": seed, "k": k}
measured = {
    "chance_batch": chance, "batch": share["as they are"], "batch_znorm": share["after Z-norm"],
    "same_batch": same["as they are"], "knn_znorm": found["after Z-norm"],
}  # fmt: skip
record = runs.save_record(
    experiment="tour", screen=screen.name, method="intensity", preset=preset, fold=fold, seed=seed,
    parameters=parameters, metrics=measured, device="CPU", seconds=time.perf_counter() - began,
    manifest_sha256=screen.store.manifest_sha256,
)  # fmt: skip
print(os.path.relpath(record))

# %% [markdown]
# ## What we learned
#
# - A field tells its batch, by brightness alone, to a linear model and to a ruler.
# - Z-norm by controls removes most of what is shift and scale, and nothing else.
# - Removing the batch does not bring the treatment: these are two tasks.
# - A number means something beside its null and its chance.
#
# **What would change our mind.** If channel statistics named the treatment across batches as well
# as they name the batch, there would be no need to learn features. On a screen of strong, bright
# phenotypes that can happen: try this page on yours before you train anything.
#
# **Where paper and code disagree.** The paper's text normalises by control wells. The released code
# takes all samples of a batch, and for test images only those in the same minibatch
# (`cfredinh/CDCL@54bb98b`, `defaults/trainer.py: normalize_features_per_domain`; read, not run). We
# use controls, as the text does.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* Two plates of one batch share its gains and its stain cross-talk. Will a model name
#    the plate as well as the batch?
#
# ```{admonition} Solution
# :class: dropdown
# Replace `batch` by `table["plate"]` in `asked`. Plates have effects of their own, a gain and a
# drift, but smaller ones, and there are more of them: accuracy falls, and mistakes stay within the
# batch.
# ```
#
# 2. *Change one thing.* Z-norm by plate in place of batch. What happens to the neighbours?
#
# ```{admonition} Solution
# :class: dropdown
# `postprocess.zscore_by_controls(x, table["plate"], is_control)`. Differences between the plates of
# a batch go too, but each mean rests on fewer controls and becomes noisier.
# ```
#
# 3. *Extend.* Which channel gives the batch away?
#
# ```{admonition} Solution
# :class: dropdown
# Repeat the prediction with the four columns of one channel, `x[:, 4 * c : 4 * c + 4]`. Each alone
# tells much less than all together: the batch is a pattern over channels, as stain cross-talk is.
# ```
#
# ## The map of the book
#
# | if you want to | read |
# |---|---|
# | bring images of your own into this form | {doc}`01_screens` |
# | know how CDCL asks the right question | {doc}`20_cdcl_idea` |
# | train one method, here or on your screen | {doc}`22_cdcl_run` |
# | see all methods beside the paper's numbers | {doc}`23_cdcl_results` |
# | see what was reproduced, and what was not | {doc}`90_scoreboard` |

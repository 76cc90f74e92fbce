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
# # Screens: from raw images to a manifest and a store
#
# Paper: [Metadata-guided Consistency Learning for High Content
# Images](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`, appendix A.
#
# **The claim.** A screen is one table and one array: a *manifest*, a row a {term}`field`, and a
# *store*, all fields in 8 bits with named channels. Once both stand, nothing downstream asks where
# they came from.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | under 1 minute, and 1 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - how a screen arrives, and what a manifest makes of it;
# - to read the report of a table that is wrong;
# - what the store keeps, and what it must not take away;
# - to bring in a folder of your own by writing one small file.
#
# **You need** {doc}`00_tour`, or to know what a plate is. To try it on your images, have their
# folder and one table at hand.
#
# **The key equation** is the one that makes 8 bits of 16. For each {term}`channel`, with $l$ and $h$
# a low and a high percentile of the *whole screen*,
#
# ```{math}
# :label: eq-rescale
# u = \operatorname{clip}\!\left(\frac{v - l}{h - l},\ 0,\ 1\right) \cdot 255
# ```
#
# One pair $(l, h)$ a screen keeps what differs between batches, where it can be measured. A pair for
# each image would hide it, and with it every treatment that makes cells brighter.

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

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import yaml

from hcs_utils import experiments, runs
from hcs_utils.data import manifest, splits
from hcs_utils.data.screens import own, simulated
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures

runs.refuse_unknown(globals())

# %% [markdown]
# ## How a screen arrives
#
# As files: an image for each channel and field, a table that lists them, and tables that say what
# was in each {term}`well`. Here your machine draws them; from a microscope they look the same.

# %%
screen = experiments.prepare("simulated", size)
root = screen.root
for path in sorted(root.glob("*.csv")):
    print(path.name, list(pd.read_csv(path, nrows=0))[:6], "…")
tiffs = sorted((root / "images").rglob("*.tiff"))
print(f"{len(tiffs):,} images, such as {tiffs[0].relative_to(root)}")

# %%
raw = tifffile.imread(tiffs[0])
print(raw.dtype, raw.shape, f"values {raw.min()} to {raw.max()}")
assert raw.dtype == np.uint16 and raw.ndim == 2

# %%
platemap = pd.read_csv(root / "platemap.csv")
platemap.head(3)

# %% [markdown]
# **Read this as.** Three tables, none of which knows all: `load_data.csv` knows files, `platemap.csv`
# knows what each well got, `compounds.csv` knows what that is.

# %% [markdown]
# ## The manifest: one row a field
#
# A reader joins them. There is one reader a screen, and each gives the same columns.

# %%
table = simulated.manifest(root)
print(f"{len(table):,} rows; channels in order: {', '.join(manifest.channels(table))}")
table.iloc[0].to_frame("first row")

# %% [markdown]
# Each column has one meaning. `batch` is the lab's; `treatment` is the class to be told apart;
# `role` says which wells are {term}`controls <control>`; a path is relative to the screen's folder
# and never leaves it. Tables of the book join on `site_id`, not on position.
#
# What is wrong is told at once and all together, before anything is computed. Take six rows and
# spoil four of them:

# %%
spoilt = table.head(6).copy()
spoilt.loc[1, "well"] = "Z99"
spoilt.loc[2, "role"] = "control"
spoilt.loc[4, "site_id"] = spoilt.loc[3, "site_id"]
spoilt.loc[5, f"path_{screen.channels[0]}"] = "../elsewhere.tiff"
try:
    manifest.validate(spoilt, root)
except InputError as error:
    report = str(error)
print(report)
assert all(word in report for word in ("Z99", "control", "../elsewhere.tiff"))

# %% [markdown]
# **Read this as.** A line for each rule with the rows that break it, and what to do. On the command
# line `hcs validate` prints the same.

# %% [markdown]
# ## The store: one array
#
# One pass over all files: read, scale by {eq}`eq-rescale`, write. A file that cannot be read is left
# out and listed; a pass that was killed goes on where it stopped.

# %%
store = screen.store
print("images[site, channel, y, x]", store.shape, "uint8 in", store.path.name)
print("channels", store.channels, f"; pixel {store.pixel_size_um:g} µm")
print("made with", store.parameters)
assert store.channels == manifest.channels(table) and len(store) == len(table)
assert not store.failed

# %% mystnb={"figure": {"name": "fig-screens-channels", "caption": "Two fields as they lie in the store, a channel a column."}, "image": {"alt": "Two rows of five grey images: DNA shows nuclei, ER and RNA the cell body, AGP the outline, Mito small grains around the nucleus."}}
some = table[table["role"] == "trt"].drop_duplicates("treatment").head(2)
images = store.read(store.rows(some["site_id"]))
titles = some["compound"] + ", " + some["batch"]
figures.site_grid(images, store.channels, titles, "channels", store.pixel_size_um)

# %% [markdown]
# **Read this as.** Channels have names, and the names go with the data: a network remembers those it
# was trained on and refuses others. An array that only numbers its channels will one day be fed in
# another order, and nothing will complain.

# %% [markdown]
# ## What a simulation knows
#
# A simulated screen has a file that no real one has. `truth` gives, for each field, the traits that
# were drawn. There are eight traits, and a
# treatment is a pattern of low and high ones.

# %%
truth = simulated.truth(root).set_index("site_id").loc[table["site_id"]]
traits = [name for name in truth if name.startswith("trait_")]
by_treatment = truth[traits].groupby(table["compound"].to_numpy()).mean()
by_treatment.columns = [name.removeprefix("trait_").replace("_", " ") for name in traits]
(by_treatment.round(1) + 0.0).head(5)

# %%
looks = {"nucleus_elongation": "DNA", "er_extent": "ER", "actin": "AGP", "mito_grain": "Mito"}
calm = truth[(truth["defocus_px"] < truth["defocus_px"].median()) & (truth["cells"] > 4)]
pictures, titles = [], []
for wanted, word in ((calm[traits].min(), "low"), (calm[traits].max(), "high")):
    for trait, channel in looks.items():
        gap = (calm[f"trait_{trait}"] - wanted[f"trait_{trait}"]).abs()
        plane = store.read(store.rows([gap.idxmin()]))[0, store.channels.index(channel)]
        bright = np.clip(plane * (255 / max(1, np.percentile(plane, 99.5))), 0, 255)
        pictures.append(bright.astype(np.uint8)[None])
        titles.append(f"{trait.replace('_', ' ')} {word}\n({channel})")

# %% mystnb={"figure": {"name": "fig-screens-traits", "caption": "Four of the eight traits, low above and high below, each in the channel that shows it. Brightened for the eye, each picture by itself."}, "image": {"alt": "Two rows of four grey images. From above to below: round to long nuclei; endoplasmic reticulum close to the nucleus to spread out; actin ring to stripes; fine to coarse mitochondria."}}
figures.site_grid(np.stack(pictures), ["signal"], titles, pixel_size_um=store.pixel_size_um)

# %% [markdown]
# **Read this as.** Shapes and textures differ from above to below, brightness does not: it is equal
# by design, so that no method can win by measuring light. What differs in light is the batch, the
# plate, and each field by itself.

# %% [markdown]
# ## Split by whole batches
#
# A field of the test batches must have no neighbour in training that shares its day. So batches are
# dealt out, not fields.

# %%
part = experiments.split(table, fold, folds)
dealt = pd.crosstab(table["batch"], part).reindex(columns=["train", "val", "test"])
assert ((dealt > 0).sum(axis=1) == 1).all()  # each batch in one part
splits.assert_disjoint(table, pd.Series(part.to_numpy(), table["site_id"]), by="plate")
assert set(table.loc[part == "test", "treatment"]) <= set(table.loc[part == "train", "treatment"])
dealt.T.rename_axis(index=None)

# %% [markdown]
# **Read this as.** Each batch has its fields in one row only. A model chooses on `val` and is judged
# on `test`; no choice looks at `test`.
#
# *The null here is the easy split.* Deal fields at random, and many a test field has another field
# of its own well in training:

# %%
well = (table["plate"] + table["well"]).to_numpy()
mixed = np.random.default_rng(0).permutation(part.to_numpy())
for name, dealt_as in {"by batch": part.to_numpy(), "fields at random": mixed}.items():
    seen = np.isin(well[dealt_as == "test"], well[dealt_as == "train"]).mean()
    print(f"{name:17}{seen:.2f} of the test fields come from a well that was trained on")
assert not np.isin(well[part == "test"], well[part == "train"]).any()

# %% [markdown]
# ## Your own folder
#
# Now forget that the screen is ours. Here is a table as a colleague might send it: one row a field,
# column names of their own.

# %%
folder = Path(tempfile.mkdtemp())
theirs = table.rename(columns={"batch": "run_date", "plate": "barcode", "compound": "drug"})
theirs = theirs[["run_date", "barcode", "well", "site", "drug", "dose_um"]]
theirs["well"] = theirs["well"].str.lower()  # a01
theirs.to_csv(folder / "wells.csv", index=False)
theirs.head(3)

# %% [markdown]
# A `screen.yaml` says which column is which. Left are the manifest's names, right theirs; a text with
# braces is a pattern of their columns.

# %%
described = {
    "name": "colleague",
    "root": str(root / "images"),
    "table": "wells.csv",
    "columns": {"batch": "run_date", "plate": "barcode", "well": "well", "site": "site"}
    | {"compound": "drug", "dose_um": "dose_um"},
    "channels": {c: "{barcode}/{well_name}_s{site}_" + c + ".tiff" for c in screen.channels},
    "controls": {"negcon": ["DMSO"]},
    "pixel_size_um": 2.0,
}
path = folder / "screen.yaml"
path.write_text(yaml.safe_dump(described, sort_keys=False))
try:
    own.from_yaml(path)
except InputError as error:
    print(error)

# %% [markdown]
# There is no `well_name`. Their wells are in small letters and the files in capitals, so the table
# needs one more column. With it the file reads:

# %%
theirs.assign(well_name=theirs["well"].str.upper()).to_csv(folder / "wells.csv", index=False)
ours = own.from_yaml(path)
print(path.read_text().replace(str(root), "…"))
print(
    f"{len(ours):,} rows, {ours['treatment'].nunique()} treatments, screen {ours.attrs['screen']}"
)

# %%
paths = [f"path_{channel}" for channel in screen.channels]
images_of = [("images/" + ours[p]).tolist() == table[p].tolist() for p in paths]
assert all(images_of)  # the same images, in the same rows
for name in ("batch", "plate", "well", "site", "compound", "role"):
    assert ours[name].tolist() == table[name].tolist(), name
print("the same screen, read as a stranger's")

# %% [markdown]
# **Read this as.** The colleague's folder has become the same manifest, without a line of code. The
# path of that `screen.yaml` is all that {doc}`22_cdcl_run` wants as its parameter `screen`.

# %% [markdown]
# ## What we learned
#
# - A screen is a manifest and a store; everything after reads only these.
# - A bad table ends in one report, not in a wrong number.
# - One scale for the whole screen keeps batch effects where they can be measured.
# - Whole batches are held out, since fields of one well know each other.
#
# **What would change our mind.** If 8 bits with one scale a screen lost dim phenotypes, that scale
# would be the wrong default. `scale="plate"` in `preprocess` is the other choice; run
# {doc}`22_cdcl_run` on both.
#
# **Where paper and code disagree.** The text says that images are down-sampled to 256². The released
# code stores 512² and resizes on the fly, once for each view (`cfredinh/CDCL@54bb98b`,
# `bases.py: disentangle_resizes_from_transforms`; read, not run). Here the size is set once, when
# the store is made (`image_px`).

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* A manifest says `dose_um` = -1 for one row. What will the report say?
#
# ```{admonition} Solution
# :class: dropdown
# Set it in `spoilt` and run the cell: doses are numbers from 0 up, or empty.
# ```
#
# 2. *Change one parameter.* Set `fold = 2`. Which batches move?
#
# ```{admonition} Solution
# :class: dropdown
# The window turns by one step: what was held out for validation and test moves on by
# `len(batches) // folds` batches. Over all folds each batch is tested once.
# ```
#
# 3. *Extend.* Write a `screen.yaml` for a folder of yours and validate it with
#    `hcs validate screen.yaml`.
#
# ```{admonition} Solution
# :class: dropdown
# [The card](card-own) has a file to copy. Three things often need thought: what tells days apart
# (`batch`), which wells are controls (`controls`), and planes of one file (`file.tif#0`).
# ```

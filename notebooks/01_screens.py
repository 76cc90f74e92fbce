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
# - what is simulated, how like real cells it is, and where it is not;
# - six public screens, and splits that do not leak;
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
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import yaml

from hcs_utils import experiments, files, records, runs
from hcs_utils.data import images as pixels
from hcs_utils.data import manifest, splits
from hcs_utils.data.screens import faults, own, simulated
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures

runs.refuse_unknown(globals())
home = files.checkout() or Path.cwd()

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
# ### Molecules, doses, sources
#
# A compound is a molecule: one of 8 {term}`scaffolds <scaffold>` with two substituents. Half the
# variance of its phenotype is a sum over these three parts, so that structure can predict it; the other
# half belongs to the compound alone, so that structure cannot predict all. The phenotype grows with the
# dose by Hill's curve.

# %%
chemistry = simulated.compound_truth(root)
chemistry[["compound", "smiles", "moa", "target", "ec50_um"]].head(4)

# %%
names = [name.removeprefix("trait_") for name in traits]
latent = {
    k: chemistry[[f"{k}_{name}" for name in names]].to_numpy() for k in ("structure", "private")
}
codes = chemistry[[f"code_{name}" for name in names]].to_numpy()
for part, values in latent.items():
    r = np.corrcoef(values.ravel(), codes.ravel())[0, 1]
    print(f"correlation of the code of traits with its {part} part: {r:.2f}")
    assert 0.2 < r < 0.9  # each explains a part, neither all
apart = np.abs(codes[:, None] - codes[None]).sum(-1)[np.triu_indices(len(codes), 1)]
print(f"{len(codes)} compounds; the two most alike differ by {apart.min():.0f} of 16")

# %% [markdown]
# Sources lay out their plates each in its own way: controls in the outermost columns, as compound
# libraries are shipped, or scattered. Cells at the rim of a plate are fewer, as after an incubator:

# %% mystnb={"figure": {"name": "fig-screens-plate", "caption": "One plate seen from above: what each well holds."}, "image": {"alt": "A map of a plate's wells with marks for negative control, positive control and treatment."}}
plate = table[table["plate"] == table["plate"].iloc[0]].drop_duplicates("well")
figures.plate_map(plate["well"], plate["role"], title=plate["plate"].iloc[0])

# %% [markdown]
# **Read this as.** Every plate brings its own controls of both kinds: the negative ones set its scale, and
# an effect that is known shows whether the plate worked.

# %%
roles = pd.crosstab(table["plate"], table["role"])
assert (roles[["negcon", "poscon", "trt"]] > 0).all(axis=None)

# %% [markdown]
# ### One dial for the batch effect
#
# `batch_strength` multiplies all that differs between batches: gain, offset, stain cross-talk, uneven
# light, blur, background, seeding density. At 0 there are no batches to be seen:

# %%
base = dataclasses.replace(simulated.SIZES["smoke"], plates=1, control_wells=12)
shares = []
for strength in (0, 0.5, 1, 2):
    config = dataclasses.replace(base, batch_strength=strength)
    drawn = [simulated.plate_fields(config, k) for k in range(config.batches)]
    level = np.concatenate([np.log(image.mean((2, 3))) for _, image in drawn])
    batch = np.repeat(np.arange(len(drawn)), [len(image) for _, image in drawn])
    between = pd.DataFrame(level).groupby(batch).transform("mean").to_numpy().var(0)
    shares.append((between / level.var(0)).mean())
    print(f"batch_strength {strength:<4} batches make {shares[-1]:.2f} of the variance")
assert shares[0] < 0.1 and (np.diff(shares) > 0).all()

# %% [markdown]
# **Read this as.** A few hundredths at 0 are what averages over few fields leave by chance; from there
# the dial only turns up. It is the axis on which methods can be compared where the truth is known.

# %% [markdown]
# ### Is it hard enough?
#
# An easy simulation proves nothing. A contract says what must be possible and what must not, measured on
# batches that no training image came from (`python benchmarks/difficulty.py`):

# %%
bench = records.load_benchmarks(home / "book" / "results")
contract = bench[bench["name"].str.startswith("difficulty_")].set_index("name")
contract.index = contract.index.str.removeprefix("difficulty_").str.replace("_", " ", n=1)
shown = contract[["ratio", "goal", "unit", "met"]].rename(columns={"ratio": "measured"})
shown["met"] = shown["met"].map({True: "yes", False: "no"})
values = contract["measured"].map(lambda numbers: numbers["values"])
spread = values.map(lambda seeds: f"± {np.std(seeds, ddof=1):.3f}" if len(seeds) > 1 else "")
shown.insert(1, "sd over seeds", spread)
shown.round(3).rename_axis(None)

# %%
assert contract["met"].all()

# %% [markdown]
# **Read this as.** The truth tells all treatments, the neighbours in intensities and random weights tell next
# to none, and a trained network can learn most of quick's: there is something to be found. The contract is
# one of k-NN. Lines drawn through intensities read 0.28 on quick, by the leak audit of
# {doc}`23_cdcl_results`: a short cut that this screen still has. On size full no network was trained here.

# %% [markdown]
# ### What goes wrong in a screen
#
# Seven faults can be put into a field, drawn or real, and leave a mask of where they are. They are off
# by default (`fault_rate`): one faulty control well widens the scale that every field of its plate is
# normalised by, which is a matter for the chapters on quality control.

# %%
drawn_fields, raw_fields = simulated.plate_fields(simulated.SIZES["smoke"], 0)
clean = raw_fields[drawn_fields["cells"].to_numpy().argmax()]
low, high = pixels.percentiles(clean, 0.5, 99.8)
share = {}
faulty = [pixels.rescale(clean, low[:, None, None], high[:, None, None])]
titles = ["as drawn"]
for fault in faults.FAULTS:
    changed, mask = faults.apply(clean, fault, 0.7, np.random.default_rng(1))
    share[fault] = mask.mean()
    where = f"\n{share[fault]:.0%} of pixels" if fault in faults.LOCAL else ""
    faulty, titles = [*faulty, changed], [*titles, fault.replace("_", " ") + where]
    top = np.maximum(high, np.percentile(changed, 80, (1, 2)))
    faulty[-1] = pixels.rescale(changed, low[:, None, None], top[:, None, None])

# %% mystnb={"figure": {"name": "fig-screens-faults", "caption": "One field, and the same with each of seven faults at severity 0.7. One grey scale for all; a wider one where the light of the fault would leave nothing but white."}, "image": {"alt": "Eight colour pictures of one field: as drawn, out of focus, saturated, with debris, noisy, with autofluorescence, empty, and with dead cells."}}
figures.site_grid(np.stack(faulty), screen.channels, titles, pixel_size_um=simulated.PIXEL_SIZE_UM)

# %% [markdown]
# **Read this as.** Blur, noise, and cells that are gone concern the whole field; saturation, debris and
# glow only the pixels of their mask, and a crop beside them may still be used.

# %%
assert all((share[fault] < 1) == (fault in faults.LOCAL) for fault in faults.FAULTS)

# %% [markdown]
# ## Beside real cells
#
# A simulation is worth as much as its likeness to the real thing. Here the same measures are taken on
# our fields and on BBBC021 {cite}`ljosa2012annotated`: MCF-7 cells in three stains, four groups of three
# plates with three compounds each. It is no Cell Painting, but the nearest that was at hand; ours are
# dealt in groups of the same design. Real images are not shipped with the book: the figure shows them
# only where they lie on this machine.

# %%
measured = records.load_records(home / "book" / "results", experiment="screens")
by_screen = measured.set_index("preset")
words = {
    "share_plate": "variance of brightness: between plates",
    "share_treatment": "… between treatments",
    "share_well": "… between wells of one treatment",
    "share_field": "… between fields of one well",
    "plate_told": "plate named from intensities (chance 0.33)",
    "treatment_told": "treatment named from intensities (chance 0.33 to 0.5)",
    "dna_foreground": "share of pixels in nuclei",
    "dna_skewness": "skewness of the DNA channel",
    "spectrum_slope": "slope of its power spectrum",
    "channel_correlation": "correlation between channels",
}
likeness = by_screen[[name for name in words if name in by_screen]].T.rename(index=words)
likeness = likeness.rename(columns={"quick": "simulated", "real": "BBBC021"})
likeness.round(2).rename_axis(index=None, columns=None)

# %%
ours = table[(table["role"] == "trt")].drop_duplicates("batch").head(4)
fields = store.read(store.rows(ours["site_id"]))[:, [3, 1, 0]]  # AGP, ER, DNA
titles = ["simulated"] * len(fields)
real = files.shared_data("bbbc021_fields")
if real is not None and fields.shape[-1] == 48:
    names = [f"images/bbbc021v1_{k}.png" for k in (87, 333, 456, 538)]
    read = [[pixels.read_plane(real, f"{name}#{c}") for c in range(3)] for name in names]
    cut = pixels.resize(pixels.center_crop(np.array(read), 96), 48)
    fields = np.concatenate([fields, cut])
    titles += ["BBBC021"] * len(names)

# %% mystnb={"figure": {"name": "fig-screens-real", "caption": "Above, simulated fields of four batches (AGP, ER and DNA). Below, where the screen is on this machine, windows of BBBC021 (actin, tubulin and DNA), at half their size in pixels so that cells match."}, "image": {"alt": "Above four small colour pictures of simulated cells with bright oval nuclei. Below, if present, four of real cells: nuclei touch more often and cells fill more of the picture."}}
dim, top = np.percentile(fields, (2, 99.8), (2, 3), keepdims=True)
bright = np.clip((fields - dim) * (200 / np.maximum(top - dim, 1)), 0, 255).astype(np.uint8)
figures.site_grid(bright, ["AGP", "ER", "DNA"], titles, pixel_size_um=store.pixel_size_um)

# %% [markdown]
# **Read this as.** In their pixels the two are close: nuclei cover a like share, the spectrum falls
# alike. In what makes a field bright they are opposites: our batches are strong and our treatments do
# not show, on purpose, since a simulation in which brightness tells the treatment proves nothing. What
# no row tells: real cells touch, divide, die, have any outline, and differ from their neighbours far
# more; a real screen has structure that nobody put there.

# %%
if {"quick", "real"} <= set(by_screen.index):
    ours, real = by_screen.loc["quick"], by_screen.loc["real"]
    assert abs(ours["dna_foreground"] - real["dna_foreground"]) < 0.1
    assert abs(ours["spectrum_slope"] - real["spectrum_slope"]) < 1
    assert ours["share_plate"] > real["share_plate"]
    assert ours["treatment_told"] < real["treatment_told"]

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
# ### Other things to hold out
#
# The question decides what must not be on both sides: a new plate, a new {term}`source`, a new compound,
# a new {term}`scaffold`. Molecules that share an {term}`InChIKey` stay together, controls are dealt
# evenly by default, and whatever the question, the fields of one {term}`well` never part.

# %%
treated = table[table["role"] == "trt"]
for by in ("leaky_site", "well", "plate", "batch", "compound", "scaffold"):
    kept = splits.grouped_split(treated, by, {"train": 0.7, "test": 0.3}, seed=0)
    side = treated["site_id"].map(kept).to_numpy()
    shared = []
    for what in ("well", "plate", "batch", "compound"):
        group = splits.groups(treated, what).to_numpy()
        both = np.isin(group[side == "test"], group[side == "train"]).mean()
        shared.append(f"{what} {both:4.0%}")
    print(f"held out by {by:11} test fields whose … was trained on:  {'  '.join(shared)}")
    assert by == "leaky_site" or shared[0].endswith(" 0%")

# %% [markdown]
# **Read this as.** Each row has one zero that it promises, and the zeros that follow from it. The first
# row is the mistake: every test field has a sister in training.

# %% [markdown]
# ## Six public screens
#
# One reader each, from the screen's own tables to the same manifest. Where a paper and its code deal
# differently, the paper's way is the default and `form="released"` the other.
#
# | screen | reader | batch | what the reader knows |
# |---|---|---|---|
# | RxRx1 | `screens.rxrx1` | experiment | siRNA classes, six folds, settings I to III of CDCL's Table 2b |
# | CPG0004 (LINCS) | `screens.cpg0004` | plate | platemaps, doses, mechanisms of the Repurposing Hub, replicate folds |
# | JUMP-CP | `screens.jump` | source's batch | plates, wells, compounds, `load_data`; TARGET2 |
# | BBBC021 | `screens.bbbc021` | week | 103 compound–doses with a mechanism |
# | BBBC022 | `screens.bbbc022` | plate | compounds, channels; crops around nuclei |
# | yours | `screens.own` | you say | a table and a `screen.yaml` |
#
# `hcs fetch` brings a screen, or any part of it ({doc}`../book/fetch`). Its name is then enough for all
# that follows; where it is not on the disk, that is said before anything else:

# %%
for name in ("rxrx1", "jump"):
    try:
        there = experiments.prepare(name)
        print(name, "is here:", len(there.table), "fields")
    except InputError as error:
        print(str(error).replace(f", that is {files.data_root() / name}", ""))

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
positive = set(table.loc[table["role"] == "poscon", "compound"])
described = {
    "name": "colleague",
    "root": str(root / "images"),
    "table": "wells.csv",
    "columns": {"batch": "run_date", "plate": "barcode", "well": "well", "site": "site"}
    | {"compound": "drug", "dose_um": "dose_um"},
    "channels": {c: "{barcode}/{well_name}_s{site}_" + c + ".tiff" for c in screen.channels},
    "controls": {"negcon": ["DMSO"], "poscon": sorted(positive)},
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

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
# # Preprocessing: from 85 TB to what fits
#
# Paper: [Weakly Supervised Cross-Modal Learning in High-Content
# Screening](https://arxiv.org/abs/2311.04678) {cite}`watkinson2024crossmodal`, section 3.
#
# **The claim.** 84.7 TB of JUMP-CP become 7.4 TB in four steps: 8 bits, PNG, a smaller field, fewer
# fields. Each step throws something away, and each loss can be measured before you pay it.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 2 CPU cores | under 1 minute |
# | `quick` | 2 CPU cores | under 2 minutes, and 1 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - where a factor of eleven comes from, and which parts of it are free;
# - what grey scales by image, by plate and by screen each hide;
# - what fewer fields, a crop, and a rule for cells at the border cost;
# - to plan a screen of your own in terabytes, hours and dollars.
#
# **You need** {doc}`01_screens`: what a manifest and a store are.
#
# **The key equation** is the size of a screen of $P$ plates, with $W$ wells a plate, $F$ fields a
# well, $C$ channels, $s^2$ pixels a plane and $b$ bits a pixel; and what is left of it when $F'$
# fields and $s'^2$ pixels stay, in 8 bits, in a form that is $r$ times smaller than those:
#
# ```{math}
# :label: eq-bytes
# \text{bytes} = P\,W\,F\,C\,s^2\,\frac{b}{8}, \qquad
# \text{bytes}' = \text{bytes} \cdot \frac{F'}{F} \cdot \frac{s'^2}{s^2} \cdot \frac{8}{b} \cdot
# \frac{1}{r}
# ```
#
# Only $r$ has to be measured. It costs no information if the form is lossless; the other three
# factors do.

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
results = "book/results"  # folder of records, from the top of the checkout

# %%
import importlib.util
import inspect
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display

from hcs_utils import files, prepare, records, runs
from hcs_utils.data import cells, formats, illumination, images, manifest, nuclei, planner
from hcs_utils.data import plates as plate_jobs
from hcs_utils.data.sampling import sample_fields
from hcs_utils.evaluation import figure_planner, figure_preprocessing, figures

runs.refuse_unknown(globals())

# %%
screen = prepare.prepare("simulated", size)
table, store, root, channels = screen.table, screen.store, screen.root, screen.channels
found = records.load_records((files.checkout() or Path.cwd()) / results, experiment="preprocessing")
print(f"{screen.name}: {len(table):,} fields; {len(found)} records of forms and scales")

# %% [markdown]
# ## The paper's table, replayed
#
# The paper names four factors and two ends.

# %%
paper = planner.paper_steps()
display(pd.DataFrame(paper).set_index("name").round(2).rename_axis(None))
product = np.prod([step.factor for step in paper])
before, after = planner.PAPER_TB
print(f"factors multiplied: {product:.1f};  {before} TB / {after} TB: {before / after:.1f}")
assert round(product, 1) == 11.6 and round(before / after, 1) == 11.4

# %% [markdown]
# **Read this as.** The factors are rounded, so that they end at 7.3 TB instead of 7.4: they agree.
# "1.7" is a crop from 1000² pixels. From 1080², the size of many of JUMP's fields, the same crop gives
# 1.98. "1.8" is a share of fields, 8 million over 4.4 million. From counts alone, {eq}`eq-bytes` says:

# %%
wells = 8_000_000 / 9  # of 8 million fields, were there 9 in each
jump = dict(plates=round(wells / 384), wells=384, fields=9, channels=5, px_in=1000, bit_depth=16)
told = planner.cost(**jump, px_out=768, fields_kept=9 * 4.4 / 8, form_factor=1.9)
print(f"8 million fields of 5 × 1000² × 16 bit: {told.tb_in:.1f} TB (the paper: {before} TB)")
print(f"4.4 million of 5 × 768² in PNG: {told.tb_out:.1f} TB (the paper: {after} TB)")
assert abs(told.tb_in / before - 1) < 0.1 and abs(told.tb_out / after - 1) < 0.1

# %% [markdown]
# Within a tenth, from round numbers. Now the same four steps with factors of our own: measured here, on
# the simulated screen, and on real fields by a benchmark, whose records are read.

# %%
share = 768 / 1000  # of a field's side; of its wells' fields two and one thirds, as 6 and 3 of 9
per_well = int(table.groupby(["plate", "well"]).size().max())
keep = max(1, round(per_well * 6 / 9)), max(1, round(per_well * 3 / 9))
sampled = sample_fields(table, *keep, seed=0)
side, crop_px = store.shape[-1], round(share * store.shape[-1])
some = table.sample(min(len(table), 200), random_state=0)
raw = np.stack([images.read_site(root, row, channels) for _, row in some.iterrows()])
eight = store.read(store.rows(some["site_id"]))
in_png = sum(len(formats.encode(plane, "png")) for field in eight for plane in field)
ours = {"16 to 8 bit": raw.nbytes / eight.nbytes, "TIFF to PNG": eight.nbytes / in_png}
ours |= {"1000² to 768² px": (side / crop_px) ** 2, "fields": len(table) / len(sampled)}
assert ours["16 to 8 bit"] == 2 and ours["TIFF to PNG"] > 1
print(
    f"crop {side} to {crop_px} px; {keep[0]} of {per_well} fields a treated well, {keep[1]} a control"
)

# %%
png = found[(found["preset"] == "real") & (found["method"] == "png")].set_index("screen")
shown = {"the paper": {step.name: step.factor for step in paper[1:]}, "simulated": ours}
for name in png.index:
    deep = png.loc[name, "parameters"]["written_bits"] / 8
    shown[name] = {"16 to 8 bit": deep, "TIFF to PNG": png.loc[name, "factor"]}
    shown[name] |= {"1000² to 768² px": 1 / share**2, "fields": 8 / 4.4}
factors = pd.DataFrame(shown)
factors.loc["all"] = factors.prod()
if png.empty:
    print("Real fields: not run yet: python benchmarks/formats.py")
factors.round(2)

# %% mystnb={"figure": {"name": "fig-preprocessing-steps", "caption": "What is left of 84.7 TB after each step: with the paper's factors, with those measured on the simulated screen, and, where there are records, with those of real 16-bit fields (BBBC006)."}, "image": {"alt": "Groups of horizontal bars that shrink from 84.7 terabytes as written to about 7 after the fourth step; the rows of a group are close to each other."}}
left = {}
for name in [name for name in ("the paper", "simulated", "bbbc006") if name in shown]:
    tb, left[name] = before, {"as written": before}
    for step in paper[1:]:
        tb /= shown[name][step.name]
        left[name][step.name] = tb
figure_preprocessing.steps(left, "TB")

# %% [markdown]
# **Read this as.** *16 to 8 bit* is exact by definition, and the crop and the fields are arithmetic:
# they say nothing of cells. Only PNG's factor depends on the images. Fields that are mostly noise
# hardly shrink, since noise holds no pattern; a simulated field of few pixels is such a field. BBBC021's
# published fields have 8 bits, so their first factor is 1.

# %% [markdown]
# ## Uneven light
#
# Before grey levels are compared, the lamp has to go: it lights the middle more than the corners, or
# one side more than the other. The mean over many fields of a plate, smoothed, shows the lamp and not
# the cells. Dividing by it is {term}`illumination correction`. Here it is fitted on every other field of
# a plate, and judged on the rest.

# %%
lamp, smooth_px = {}, side / 4
for plate, rows in table.groupby("plate"):
    stack = np.stack([images.read_site(root, row, channels) for _, row in rows.iterrows()])
    function = illumination.fit(list(stack[::2]), smooth_px)
    if not lamp or function[0].max() > lamp["function"][0].max():
        lamp = {"plate": plate, "function": function, "rest": stack[1::2]}
mended = np.stack([illumination.correct(field, lamp["function"]) for field in lamp["rest"]])
uneven = {}
for name, fields in {"before": lamp["rest"], "after": mended}.items():
    light = illumination.fit(list(fields), smooth_px).reshape(len(channels), -1)
    uneven[name] = np.percentile(light, 98, axis=1) - 1
pd.DataFrame(uneven, channels).map("{:.0%}".format)

# %% mystnb={"figure": {"name": "fig-preprocessing-light", "caption": "The first channel of the plate with the most uneven light. Left: the smoothed mean of fields that were not fitted. Middle: the function fitted to the others. Right: the mean after division by it."}, "image": {"alt": "Three square maps. The first two rise in the same direction; the third is flatter."}}
shades = [illumination.fit(list(part), smooth_px)[0] for part in (lamp["rest"], mended)]
titles = ["held-out mean", "fitted function", "held-out, corrected"]
label = f"light in {channels[0]},\nrelative to the darkest"
figure_preprocessing.maps([shades[0], lamp["function"][0], shades[1]], titles, label)

# %%
print(f"plate {lamp['plate']}, {len(lamp['rest'])} fields held out")
if len(lamp["rest"]) >= 50:  # fewer, and the mean is of cells, not of the lamp
    assert uneven["after"].mean() < uneven["before"].mean()

# %% [markdown]
# **Read this as.** The table says how much brighter the brightest part is than the darkest. What the
# fields of a plate share goes away. What is left is each field's own light, which a mean over fields
# cannot see, and the cells themselves: with a few dozen fields the mean still shows where they lay.

# %% [markdown]
# ## Whose percentiles become 0 and 255?
#
# Eight bits hold 256 levels, so something must say which 16-bit level becomes 0 and which 255. The
# paper takes the 1st and 99th percentile of *each image and channel*; the store of {doc}`01_screens`
# takes one pair for the whole screen, {eq}`eq-rescale`. To see what each hides, make the first 24
# fields of the sample 1.3 times as bright, as a treatment might, and look for it afterwards.

# %%
floor = np.percentile(raw, 0.5, axis=(0, 2, 3))[:, None, None]  # background stays as it is
brighter = np.clip(floor + 1.3 * (raw[:24] - floor), 0, 65535).astype(np.uint16)
groups = {"screen": np.zeros(len(some), int), "plate": some["plate"].to_numpy()}
groups["image"] = np.arange(len(some))
scaled, seen = {}, {}
for name, group in groups.items():
    ends = np.empty((2, len(some), len(channels), 1, 1))
    for value in np.unique(group):
        rows = group == value
        ends[:, rows] = np.percentile(raw[rows], [1, 99], axis=(0, 2, 3))[:, None, :, None, None]
    scaled[name] = np.stack([images.rescale(*one) for one in zip(raw, *ends, strict=True)])
    if name == "image":  # which takes those of the brighter image
        ends = np.percentile(brighter, [1, 99], axis=(2, 3))[..., None, None]
    after = [images.rescale(*one) for one in zip(brighter, *ends[:, :24], strict=True)]
    seen[name] = np.median(np.mean(after, (2, 3)) / scaled[name][:24].mean((2, 3)))

# %%
batch = some["batch"].to_numpy()
shuffled = np.random.default_rng(0).permutation(batch)
rows = {}
for name, pixels in scaled.items():
    mean = np.log(pixels.mean((2, 3)) + 1)
    rows[name] = {"×1.3 is seen as": seen[name]}
    for title, of in {"of the batch": batch, "null: shuffled": shuffled}.items():
        grouped = pd.DataFrame(mean).groupby(of).transform("mean").to_numpy()
        rows[name][title] = (grouped.var(0) / mean.var(0)).mean()
    rows[name]["clipped pixels"] = np.isin(pixels, (0, 255)).mean()
hidden = pd.DataFrame(rows).T
assert abs(hidden.loc["image", "×1.3 is seen as"] - 1) < 0.02
assert hidden.loc["screen", "×1.3 is seen as"] > 1.15
assert hidden["of the batch"].idxmax() == "screen"
hidden.round(2)

# %% mystnb={"figure": {"name": "fig-preprocessing-scales", "caption": "One dim and one bright field, each on three grey scales. A column is one scale."}, "image": {"alt": "Two rows of three composites. By screen the upper field is dark and the lower bright; by plate they are closer; by image both fill the whole range."}}
light = np.log(scaled["screen"].mean((1, 2, 3)) + 1)
pair = [int(np.argsort(light)[len(light) // 10]), int(np.argsort(light)[-len(light) // 10])]
pictures = np.stack([scaled[name][k] for k in pair for name in scaled])
titles = [f"by {name}, {batch[k]}" for k in pair for name in scaled]
figures.site_grid(pictures, channels, titles, pixel_size_um=store.pixel_size_um, columns=3)

# %% [markdown]
# **Read this as.** *Of the batch*: the share of the variance of (log) channel means that lies between
# batches; shuffled batches give what chance gives. By screen, both the batch and the planted treatment
# are there to be measured. By plate, what a whole plate shares goes, most of the batch with it, and the
# planted treatment stays. By image, a treatment that only makes cells brighter is gone altogether, seen
# as 1.00; the batch is not: a mean still depends on how full and how sharp a field is.
#
# No scale is right for all. What an encoder loses or gains by it, the records say:

# %%
quick = found[found["screen"].astype(str).str.startswith("simulated")]
by_scale = quick[quick["method"].str.startswith("scale_")]
if by_scale.empty:
    print("Not run yet: python benchmarks/formats.py")
for preset, of in by_scale.groupby("preset"):
    named = of.assign(method=of["method"].str.removeprefix("scale_"))
    told = records.summary(named, "knn_znorm")
    told["in seeds"] = [
        sorted(named.loc[named["method"] == m, "knn_znorm"].round(3)) for m in told.index
    ]
    about = "k-NN across batches after Z-norm of a supervised encoder, trained on that scale"
    display(Markdown(f"Preset **{preset}**: {about}"), told.rename_axis(None).round(3))

# %%
if set(by_scale["method"]) == {"scale_screen", "scale_plate", "scale_image"}:
    mean, sd = told["mean"], told["sd"]
    assert mean["image"] - sd["image"] > max(mean["screen"], mean["plate"]) + sd["screen"]
    assert abs(mean["plate"] - mean["screen"]) < sd["plate"] + sd["screen"]

# %% [markdown]
# **Read this as.** Here the scale by image wins by far, and that is the simulator's doing: its treatments
# never change brightness, so brightness is nuisance and nothing else. In BBBC021 it is most of the answer
# ({doc}`01_screens`), and this scale would take it away. Between screen and plate three seeds see no
# difference, since the encoder's input is scaled by each plate's controls anyway.

# %% [markdown]
# ## Fewer fields of each well
#
# Fields are drawn by a seed that knows the plate and the well, so that the choice in one well does not
# depend on the others. The fields of a well are repeats of one experiment: with $n$ of them, the mean
# of a well varies as
#
# ```{math}
# :label: eq-fields
# \operatorname{var}(\bar{x}_n) = \sigma_{\text{well}}^2 + \frac{\sigma_{\text{field}}^2}{n}
# ```
#
# Control wells of one plate all got the same, so whatever they differ by is noise, of the two kinds.

# %%
control = table[table["role"] == "negcon"].reset_index(drop=True)
grey = store.read(store.rows(control["site_id"]))[:, channels.index("DNA")].mean((1, 2))
grey = pd.Series(grey, control["site_id"])
of_field = grey.groupby([control["plate"].to_numpy(), control["well"].to_numpy()]).var().mean()
taken = np.arange(1, per_well + 1)
measured = []
for n in taken:
    draws = [sample_fields(control, n, n, seed) for seed in range(20)]
    means = [
        grey[d["site_id"]].groupby([d["plate"].values, d["well"].values]).mean() for d in draws
    ]
    measured.append(np.mean([m.groupby(level=0).var().mean() for m in means]))
of_well = max(0.0, measured[-1] - of_field / per_well)
expected = of_well + of_field / taken
cost = expected[keep[1] - 1] / expected[-1]
print(f"variance between fields {of_field:.1f}, between wells {of_well:.1f} grey levels²")
print(f"{keep[1]} of {per_well} fields: the variance of a control well's mean is × {cost:.2f}")
if control.groupby(["plate", "well"]).ngroups >= 50:  # fewer: both are guesses
    assert np.allclose(measured, expected, rtol=0.25)

# %% mystnb={"figure": {"name": "fig-preprocessing-fields", "caption": "Variance of the means of control wells (grey level of DNA, within plates, mean over 20 draws) against the number of fields drawn from each well; the line is the sum of well and field variance."}, "image": {"alt": "Points fall steeply from one field to two and then flatten; they lie on the dashed line."}}
axes = ("fields of a well", "variance, grey levels²")
figure_preprocessing.beside_expected(taken, measured, expected, axes, "well + field / n")

# %% [markdown]
# **Read this as.** The first fields buy most. Beyond the point where $\sigma_{\text{field}}^2 / n$ is
# less than $\sigma_{\text{well}}^2$, more fields do not help: more wells do. Controls stand in many
# wells, a reason to keep fewer fields of each, as the paper does.

# %% [markdown]
# ## Single cells, and those at the border
#
# Some methods want one cell an image: nuclei are found, and a square is cut around each. A cell near
# the rim has no whole square. The rule here is stated and not silent: "drop" leaves such cells out;
# "shift", "zeros" and "reflect" keep them at a price. JUMP's 128 px of 768 are a sixth of the side.

# %%
dna, nuclear, by_size = channels.index("DNA"), [], {}
for (_, row), field in zip(some.iterrows(), raw, strict=True):
    seen = nuclei.find_nuclei(field[dna], row["site_id"], pixel_size_um=store.pixel_size_um)
    nuclear.append(seen)
    for px in (side // 12, side // 6, side // 4, side // 3, side // 2):
        kept = cells.crop(field, seen, px, border="drop")[1]
        by_size[px] = by_size.get(px, 0) + len(kept)
nuclear = pd.concat(nuclear, ignore_index=True)
lost = 1 - np.array(list(by_size.values())) / len(nuclear)
px = np.array(list(by_size))
even = 1 - (1 - px / side) ** 2
print(f"{len(nuclear):,} nuclei in {len(some)} fields; crop of a sixth of the side:")
print(f"{lost[1]:.0%} lost, {even[1]:.0%} if cells lay evenly")
assert (np.diff(lost) > 0).all() and (abs(lost - even)[1:] < 0.15).all() and lost[0] < even[0]

# %% mystnb={"figure": {"name": "fig-preprocessing-border", "caption": "Share of cells that the rule 'drop' leaves out, against the side of the crop as a share of the field's; the line is the share of the field's area that is too near to its rim."}, "image": {"alt": "Points rise from about a sixth to above two thirds, along a dashed line."}}
axes = ("side of the crop / side of the field", "share of cells lost")
figure_preprocessing.beside_expected(px / side, lost, even, axes, "cells spread evenly")

# %% [markdown]
# **Read this as.** From a sixth of the side on, the loss is what the area alone predicts. The smallest crop
# loses less: it is no wider than a nucleus, and of a nucleus that the rim cuts, the middle is found inside.
#
# Are the lost a random subset? Compare the nuclei that are kept with those that are not:

# %%
half = side // 12
place = nuclear[["y", "x"]].to_numpy() + 0.5
inside = ((place >= half) & (place <= side - half)).all(axis=1)
nuclear["which"] = np.where(inside, "kept", "lost")
columns = {"area_px": "area, px", "touches_border": "touch the rim"}
compared = nuclear.groupby("which")[list(columns)].mean().rename(columns=columns)
compared.insert(0, "nuclei", nuclear["which"].value_counts())
area, random = nuclear["area_px"].to_numpy(), np.random.default_rng(0).permutation(inside)
gap = area[inside].mean() - area[~inside].mean()
null = area[random].mean() - area[~random].mean()
print(f"difference in area {gap:.1f} px; null, the same share lost at random: {null:+.1f} px")
assert gap > 3 * abs(null)
compared.rename_axis(None).round(2)

# %% [markdown]
# **Read this as.** No. Most of the lost are cut by the rim themselves, so they measure small.
# Leaving them out is right for what a nucleus looks like, and wrong for how many there
# are: count before you cut. Where few cells stand, a field may end without a crop, and dying cells are
# few: the rule then takes from exactly those treatments.

# %% [markdown]
# ## Forms, compared
#
# Lossless forms differ in bytes and speed only. JPEG XL may also lose, by a chosen distance: 1 is meant
# to be hardly visible to people. What is it to an encoder? It was trained on lossless fields and then
# given fields that had been encoded and decoded. From the records, speeds relative to PNG:

# %%
labels = {"tiff": "TIFF", "png": "PNG", "zarr": "Zarr store", "jxl": "JPEG XL"}
labels |= {f"jxl_d{d}": f"JPEG XL, {d}" for d in ("0.5", "1", "2", "4")}
for name, of in found[~found["method"].str.startswith("scale_")].groupby("screen"):
    one = (
        of[of["seed"] == of["seed"].min()]
        .set_index("method")
        .reindex(labels)
        .dropna(subset="factor")
    )
    about = one["parameters"].iloc[0]
    shape = f"{about['channels']} × {about['size_px'][0]} × {about['size_px'][1]}"
    forms = one["bytes_per_field"].map("{:,.0f}".format).to_frame("bytes a field")
    forms["smaller than 8 bits"] = one["factor"].round(2)
    for verb in ("write", "read"):
        speed = one[f"{verb}_fields_per_sec"]
        forms[f"{verb}, × PNG"] = (speed / speed["png"]).round(2)
    about = (
        f"**{name}**: {about['fields']} fields of {shape}, written in {about['written_bits']} bits"
    )
    display(Markdown(about), forms.rename(index=labels).rename_axis(None))
if found.empty:
    print("Not run yet: python benchmarks/formats.py")

# %% [markdown]
# **Read this as.** *Smaller than 8 bits*: above 1 it saves; a 16-bit TIFF stands near 0.5. The store
# trades bytes for speed: a field is read several times as fast as from PNG, in any order, which is what
# training does. Its zstd looks for repeats, and in noise there are none: on BBBC006's fields it is the
# larger of the two, on BBBC021's smoother ones the smaller. JPEG XL is smallest and slowest.

# %%
of = found[found["method"].isin(labels)].set_index("method")
for name in of["screen"].unique():
    one = of[of["screen"] == name].groupby("method")[["factor", "read_fields_per_sec"]].mean().T
    read_of, size_of = one.loc["read_fields_per_sec"], one.loc["factor"]
    assert read_of["zarr"] > 1.2 * read_of["png"] > read_of["jxl"], name
    assert size_of["jxl"] > size_of["png"] > size_of["tiff"], name

# %%
losses = {}
for column, of in {
    "knn_znorm_lost": quick,
    "accuracy_lost": found[found["preset"] == "real"],
}.items():
    of = of[of["method"].isin(labels) & (of["method"] != "tiff")]
    of = of.dropna(subset=[c for c in [column] if c in of])
    if column not in of or of.empty:
        continue
    of = of[of["preset"] == of["preset"].iloc[-1]]
    grouped = of.groupby("method")[[column, f"{column}_low", f"{column}_high", "factor"]].mean()
    grouped.columns = ["lost", "low", "high", "factor"]
    spread = of.groupby("method")[column].agg(["min", "max"])
    grouped[["low", "high"]] = np.where(
        spread["min"].to_numpy()[:, None] < spread["max"].to_numpy()[:, None],
        spread,
        grouped[["low", "high"]],
    )
    losses[column] = grouped.rename(index=labels)
    losses[column].index = losses[column].index.str.replace("JPEG XL, ", "XL ")
print(f"{len(losses)} of 2 comparisons of accuracy are on record")

# %% mystnb={"figure": {"name": "fig-preprocessing-forms", "caption": "Accuracy lost against bytes saved, simulated screen: k-NN across batches after Z-norm by a supervised encoder, paired with the lossless fields, mean and range over seeds. XL 1: JPEG XL at distance 1. Lossless forms lose nothing by definition."}, "image": {"alt": "Points from PNG and the store on the zero line to JPEG XL at growing distance, which is further right; vertical lines show the range over seeds."}}
if "knn_znorm_lost" in losses:
    display(figure_preprocessing.bytes_and_loss(losses["knn_znorm_lost"], "k-NN accuracy lost"))

# %% mystnb={"figure": {"name": "fig-preprocessing-forms-real", "caption": "The same for real fields (BBBC021, three plates of one week, three compounds): colour and texture with logistic regression, a plate left out in turn; 95 % intervals over wells."}, "image": {"alt": "Points from PNG on the zero line to JPEG XL at growing distance; the vertical intervals are wide and cross zero or lie below it."}}
if "accuracy_lost" in losses:
    display(figure_preprocessing.bytes_and_loss(losses["accuracy_lost"], "accuracy lost"))

# %% [markdown]
# **Read this as.** A point on the zero line is free. Below it a lossy form did *better* than lossless.
# That is possible, since what it takes away first is noise, which simple texture features count; read it
# with its interval, on 84 fields. What holds for one task and one screen may not for the next: measure
# on yours before the originals are gone.

# %% [markdown]
# ## A plate, a job
#
# Nothing of the above needs two plates at a time. So each plate is a job of its own: it can run on this
# machine or on a cluster, be killed, and be run again. First the plan, which samples the fields and
# takes the grey levels; here for two plates, with the paper's recipe at this screen's scale.

# %%
print(inspect.getsource(plate_jobs.Recipe).split('"""')[-3] + "…")

# %%
out = Path(tempfile.mkdtemp()) / "out"
two = table[table["plate"].isin(sorted(table["plate"].unique())[:2])].reset_index(drop=True)
manifest.write(two, out.with_name("manifest.parquet"))
asked = {"screen": str(out.with_name("manifest.parquet")), "root": str(root), "form": "png"}
asked |= {"crop_px": crop_px, "treatment_fields": keep[0], "control_fields": keep[1]}
command = [sys.executable, "workflow/job.py", "plan", str(out), json.dumps(asked)]
print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# Snakemake reads from it what is to be done. `--dry-run` only says so:

# %%
tool = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/preprocess.smk"]
tool += ["--profile", "workflow/profiles/local", "--dry-run", "--config", f"out={out}"]
if importlib.util.find_spec("snakemake"):
    given = [f"{name}={value}" for name, value in asked.items()]
    told = subprocess.run([*tool, *given], capture_output=True, text=True)
    plan = (told.stdout + told.stderr).replace(str(out.parent), "…")
    start = plan.index("Job stats:")
    print(plan[start : plan.index("\n\n", start)])
    wanted = ("rule ", "    input:", "    output:")
    print("\n".join(x[:100] for x in plan[start:].splitlines() if x.startswith(wanted)))
    assert told.returncode == 0, told.stderr
else:
    print("Snakemake is not installed here: pip install hcs-utils[scale]")

# %% [markdown]
# Without `--dry-run` it runs; with `workflow/profiles/slurm` the same jobs go to a cluster's queue.
# Killed, the same command finishes what is left. Here the two jobs run in this process:

# %%
for plate in sorted(two["plate"].unique()):
    done = plate_jobs.run_plate(out, plate)
    print(f"{plate}: {done.done} fields, {len(done.failed)} failed")
plate_jobs.join(out)
report = pd.read_csv(out / "report.csv")
whole = sum(os.path.getsize(root / row[f"path_{c}"]) for _, row in two.iterrows() for c in channels)
fetched, written = report["bytes_in"].sum(), report["bytes_out"].sum()
print(f"{whole:,} bytes as written, {fetched:,} of the fields kept, {written:,} stored")
print(
    f"÷ {whole / written:.1f} in all; factors of the steps, multiplied: {np.prod(list(ours.values())):.1f}"
)
assert done.failed == [] and (out / "images").is_dir()
assert whole > fetched > written

# %% [markdown]
# **Read this as.** The two numbers differ by what the table of steps left out: headers of small files,
# and that an image on its own scale, clipped at both ends, fills all 256 levels with noise and shrinks
# less. On fields of 768 pixels the first hardly counts; the second does.

# %% [markdown]
# ## The planner
#
# {eq}`eq-bytes` with the measured rates, and time and money beside it. This is the arithmetic:

# %%
print(inspect.getsource(planner.formula).partition('"""\n')[2])

# %% [markdown]
# And this the same arithmetic to play with. *Measured* rates are of one core of our machine, on real
# fields (BBBC006). Network and prices are assumptions of ours, round numbers of the usual order; a public
# bucket asks nothing for the download. Put in yours.

# %%
HTML(figure_planner.widget())

# %%
jump_cost = planner.cost(**jump, px_out=768, fields_kept=9 * 4.4 / 8, form="png")
small = planner.cost(**figure_planner.EXAMPLE)
for name, one in {"JUMP-CP": jump_cost, "fifty plates": small}.items():
    print(
        f"{name:13}{one.tb_in:6.1f} TB → {one.tb_out:.2f} TB, {one.cpu_hours:,.0f} CPU-hours,",
        end=" ",
    )
    print(f"{one.download_hours:,.0f} h to download, ${one.dollars_cpu:,.0f} of CPU")
assert jump_cost.download_hours > jump_cost.hours / 100

# %% [markdown]
# **Read this as.** Preprocessing costs little beside waiting for the network and keeping what was
# written: the CPU-hours, of decoding, rescaling and encoding without the wait for disks, are counted in
# dollars, not thousands. So it is worth doing once and well, and
# worth doing where the data lie.

# %% [markdown]
# ## What we learned
#
# - Of the paper's factor of eleven, two come from bits, two from PNG, and three from leaving things out.
# - A grey scale by image hides brightness: batch effects, and treatments that act by it.
# - Fewer fields cost variance, by a formula; a crop costs cells, and not at random.
# - Bytes, speed and accuracy are three questions; the store answers the second, JPEG XL the first.
#
# **What would change our mind.** If encoders trained by image were better across batches on real screens
# with strong batch effects and without control wells, the scale by screen would be the wrong default. If
# a lossy form at a distance of 1 lost nothing on several screens and tasks, PNG would be waste.
#
# **Where paper and code disagree** (`gwatkinson/jump_download@304339a` and
# `gwatkinson/jump_models@b9a3653`; read, not run).
#
# - The text crops *and resizes* to 768². The code crops only, and takes the percentiles on the crop
#   (`final_image_class.py: image_processing`). So does `Recipe`.
# - Three fields of a control well: the code passes the lists of positive and negative controls swapped,
#   so that DMSO wells get four and positive controls three. On compound plates it compares InChI with
#   JUMP identifiers, nothing matches, and controls are sampled as treatments, six. The choice has no
#   seed (`sample_load_data.py: sample_load_data, sample_compound`). Its README shows wells of three
#   fields, so the run behind the paper used another version.
# - 4.4 million fields of 13 sources in the text. The notebook that counts them (`jump_models`,
#   notebook 0.1) has 5,121,200 fields, 3,987,038 of them on compound plates, of nine sources.
# - The README's command is `download_images_from_csv`, the package's `download_images_from_job`; and
#   file names begin with the source, not with the plate.
# - The text gives the size before as 84.7 TB and, a section earlier, as above 100.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* A screen has 4 fields a well instead of 9, of 2160² pixels instead of 1080². Is it larger?
#
# ```{admonition} Solution
# :class: dropdown
# Yes, {eq}`eq-bytes`: $4/9 \cdot 4 = 1.8$ times. The planner says the same. If the larger image is of the
# same place, it only samples it more finely, and `image_px` gives most of it back.
# ```
#
# 2. *Change one parameter.* Set the percentiles of the cell that rescales to `[0, 100]`. What happens to
#    the clipped pixels, and to ×1.3?
#
# ```{admonition} Solution
# :class: dropdown
# Nothing is clipped but the extremes themselves, and a single hot pixel now sets the scale of its image.
# By image, ×1.3 is hidden all the same.
# ```
#
# 3. *Extend.* Measure $r$ on ten fields of yours: `formats.encode(images.to_uint8(plane), "png")`, and
#    put it into the planner as "8-bit bytes over stored".
#
# ```{admonition} Solution
# :class: dropdown
# `plane.size / len(encoded)`, plane by plane. Channels differ: dim ones are mostly noise, and noise
# does not shrink. Take the mean of the bytes, not of the ratios.
# ```

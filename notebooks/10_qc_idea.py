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
# # What goes wrong in a screen, seen
#
# Paper: Comparison of semi-supervised learning methods for High Content Screening quality control
# {cite}`masud2022qc`, sections 1 and 2. The measures are those of {cite}`bray2018qc`, its reference 2.
#
# **The claim.** Images that are blurred, saturated, dirty, noisy, glowing or empty "can seriously
# hamper downstream image processing tasks and hinder detection of subtle phenotypes". So it does here:
# a third of faulty fields costs more than half of what a screen can tell.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 1 CPU core | under 1 minute |
# | `quick` | 1 CPU core | under 1 minute |

# %% [markdown]
# **You will learn**
#
# - seven faults, from just visible to severe, and which numbers each of them moves;
# - why the usual measure of focus cannot be read alone;
# - how 8 bits, taken image by image, hide the faults that are easiest to see;
# - what faults do to profiles and to the search for treatments, and what it brings to drop them.
#
# **You need** {doc}`01_screens`, for what a {term}`field` and a plate are, and the grey scales of
# {doc}`02_preprocessing`.
#
# **The key equation** is the oldest measure of focus. An image $I$ of $N$ pixels with mean $\bar I$ has
# the *normalised variance*
#
# ```{math}
# :label: eq-focus
# F = \frac{1}{N\,\bar I} \sum_{p} \big(I_p - \bar I\big)^2
# ```
#
# Blur lowers it. So does an empty field; noise and a longer exposure raise it.

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
qc_size = "qc-quick"  # of the simulated screen: qc-smoke, qc-quick, qc-standard or qc-full
seed = 0  # of the faults that are put in by hand
plates = 6  # of the screen, measured here
examples = 10  # fields that each fault is put into by hand

# %%
import dataclasses
import inspect
import textwrap

import numpy as np
import pandas as pd
from IPython.display import Code
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hcs_utils import prepare, runs
from hcs_utils.data import image_quality, images, qc_crops
from hcs_utils.data.screens import faults, simulated
from hcs_utils.data.screens.drawing import CHANNELS
from hcs_utils.evaluation import figure_crops, intervals
from hcs_utils.evaluation.classification import knn_predict

runs.refuse_unknown(globals())
prepare.one_of("qc_size", qc_size, [name for name in simulated.SIZES if name.startswith("qc-")])

# %% [markdown]
# ## A screen, and its twin without faults
#
# In this simulated screen a third of the fields has one of seven faults. Each plate is drawn twice:
# as it is, and with `fault_rate=0`. What has no fault is the same picture in both, to the pixel, so
# every difference below is the work of the faults.

# %%
config = simulated.SIZES[qc_size]
count = min(plates, config.batches * config.plates)
chosen = np.linspace(0, config.batches * config.plates - 1, count).round().astype(int)
drawn = [simulated.draw_plate(config, plate)[:2] for plate in chosen.tolist()]
without = dataclasses.replace(config, fault_rate=0)
clean = np.concatenate([simulated.plate_fields(without, k)[1] for k in chosen.tolist()])
table = pd.concat([fields for fields, _ in drawn], ignore_index=True)
raw = np.concatenate([pixels for _, pixels in drawn])  # n c y x, 16 bit
bad = (table["fault"] != "").to_numpy()
assert (raw[~bad] == clean[~bad]).all() and (raw[bad] != clean[bad]).any((1, 2, 3)).all()
names = {fault: fault.replace("_", " ") for fault in faults.FAULTS}
print(f"{len(table)} fields of {count} plates, {bad.mean():.0%} with a fault:")
print(", ".join(f"{names[k]} {n}" for k, n in table["fault"][bad].value_counts().items()))

# %% [markdown]
# Three stains are shown as red (actin and Golgi), green (mitochondria) and blue (DNA), as in figure 1 of
# the paper. Black and white are those of the *plate*: the medians over its fields of their 1st and 99.5th
# percentiles, and half as much again to leave room for what is bright.

# %%
code = inspect.getsource(qc_crops._levels)
Code(textwrap.dedent(code), language="python")

# %%
composite = [CHANNELS.index(name) for name in ("AGP", "Mito", "DNA")]
ends = np.array([images.percentiles(field[composite], *qc_crops.LEVELS) for field in raw])
scale = {}
for plate in table["plate"].unique():
    low, high = np.median(ends[table["plate"] == plate], axis=0)
    scale[plate] = low[:, None, None], (low + qc_crops.HEADROOM * (high - low))[:, None, None]
print({plate: high.ravel().astype(int).tolist() for plate, (_, high) in scale.items()})
assert max(high.max() for _, high in scale.values()) < 30_000  # saturated fields do not set it

# %% [markdown]
# ## Seven faults
#
# One field without a fault, and each fault put into it at four severities: from just visible (0) to as
# bad as it comes (1).

# %%
severities = (0.0, 0.35, 0.7, 1.0)
whole = np.flatnonzero(~bad & table["cells"].between(18, 40))
one = int(whole[len(whole) // 2])
low, high = scale[table["plate"][one]]
pictures, outlines = [], []
for fault in faults.FAULTS:
    made = [faults.apply(raw[one], fault, s, np.random.default_rng(seed + 5)) for s in severities]
    shown = [images.rescale(raw[one][composite], low, high)]
    pictures.append(shown + [images.rescale(field[composite], low, high) for field, _ in made])
    clear = fault in ("debris", "autofluorescence")
    outlines.append([None] + [mask if clear else None for _, mask in made])

# %% mystnb={"figure": {"name": "fig-qc-faults", "caption": "One field, and seven faults put into it at four severities. Outlines: where the simulation knows debris and autofluorescence to lie. Saturation has a mask, too, of the pixels that are clipped; the others are everywhere in a field."}, "image": {"alt": "Seven rows of five pictures. The first picture of each row is the same sharp field of cells. Along the rows it becomes blurred; white; crossed by bright fragments; grainy; covered by a bluish cloud; black; and black with a few small blue dots."}}
columns = ["no fault", *(f"{s:g}" for s in severities)]
figure_crops.grid(pictures, list(names.values()), columns, masks=outlines)

# %% [markdown]
# **Read this as.** {numref}`fig-qc-faults`: blur takes the texture and leaves the brightness; saturation
# lifts everything to white; noise hides texture under grain; an empty field and one of dead cells are
# nearly black. Debris and the cloud of autofluorescence are local: most of such a field is in order. That
# is why the next chapter asks of each *crop* whether a fault is in it.

# %% [markdown]
# ## In numbers
#
# CellProfiler's measures of image quality need no training and no labels. These are ours, in its manner;
# {eq}`eq-focus` is the first.

# %%
print(inspect.getdoc(image_quality.measures).partition("What is undefined")[0])

# %%
measured = image_quality.measures(raw, CHANNELS)  # of every field, 5 channels
again = image_quality.measures(clean[bad], CHANNELS)
of_clean = measured.copy()
of_clean.loc[bad] = again.to_numpy()
print(f"{measured.shape[1]} measures of {len(measured)} fields")
assert np.isfinite(measured.to_numpy()).all()
by_hand = ((raw[0, 0] - raw[0, 0].mean()) ** 2).mean() / raw[0, 0].mean()
assert np.isclose(measured["FocusScore_DNA"][0], by_hand, rtol=1e-4)

# %% [markdown]
# How far does each fault move them? In units of the spread among fields without a fault: the difference of
# medians over the robust standard deviation of the latter, channel DNA.

# %%
kinds = ["FocusScore", "PowerLogLogSlope", "Correlation", "Noise", "PercentMaximal",
         "MeanIntensity", "StdIntensity", "ObjectCount", "ObjectArea"]  # fmt: skip
columns_of = [f"{kind}_DNA" + "_5" * (kind == "Correlation") for kind in kinds]
normal = measured.loc[~bad, columns_of]
middle = normal.median()
spread = (1.4826 * (normal - middle).abs().median()).clip(lower=0.01)
shift = {
    name: (measured.loc[table["fault"] == fault, columns_of].median() - middle) / spread
    for fault, name in names.items()
}
shift = pd.DataFrame(shift).set_axis(kinds)

# %% mystnb={"figure": {"name": "fig-qc-moved", "caption": "What each fault does to measures of the DNA channel: difference of the medians, in robust standard deviations of fields without a fault. Correlation is that at 5 px. Colours end at 8, numbers at 99."}, "image": {"alt": "A table of nine measures by seven faults with numbers on blue for lower and red for higher. Blur raises correlation and the area of objects, grain raises noise, saturation raises nearly everything, empty fields lower intensity and its spread, debris moves little."}}
figure_crops.moved(shift, "shift, robust sd")

# %%
blur = shift["out of focus"].drop("ObjectArea").abs()
focus, weak = shift.loc["FocusScore"], shift["debris"].abs().max()
print("focus score:", ", ".join(f"{k} {v:+.1f}" for k, v in focus.items()))
print(f"blur: correlation {blur['Correlation']:.1f} sd, focus score {blur['FocusScore']:.1f} sd")
print(f"debris moves none of the nine by more than {weak:.1f} sd")
assert blur.idxmax() == "Correlation" and blur["Correlation"] > 2 * blur["FocusScore"]
assert shift.loc["Noise", "noise"] > 5 and shift.loc["PercentMaximal", "saturation"] > 20
assert focus["empty"] < focus["out of focus"] < 0 < focus["saturation"]
assert weak < shift.drop(columns="debris").abs().max().min()

# %% [markdown]
# **Read this as.** No row of {numref}`fig-qc-moved` finds all faults, and every fault but one has a row that
# finds it. Debris has none: a few bright fragments among thousands of bright pixels hardly move a mean over
# a field. Read the first row along: the focus score falls by blur, and more so by an empty field; it rises by
# exposure. Blur shows far better in the correlation of pixels 5 px apart, just less than a nucleus. The
# slope of the power spectrum, a favourite on real screens, hardly moves here: the camera's grain is drawn
# after the blur, and fine detail is then all grain. A low focus score says that something is wrong, not
# what.

# %% [markdown]
# With severity, the same field by field:

# %%
rng = np.random.default_rng(seed)
some = rng.choice(whole, min(examples, len(whole)), replace=False)
steps, curves = np.linspace(0, 1, 4), {}
base = image_quality.measures(raw[some][:, composite], ("AGP", "Mito", "DNA"))
for fault, name in names.items():
    for s in steps.tolist():
        made = [faults.apply(field, fault, s, rng)[0][composite] for field in raw[some]]
        found = image_quality.measures(np.stack(made), ("AGP", "Mito", "DNA"))
        curves[name, s] = (found / base.replace(0, np.nan)).median()
curves = pd.DataFrame(curves).T
panels = {
    "focus score": "FocusScore_DNA", "noise": "Noise_DNA", "mean intensity": "MeanIntensity_DNA",
    "correlation at 5 px": "Correlation_DNA_5",
}  # fmt: skip
panels = {
    title: curves[column].unstack(0)[list(names.values())] for title, column in panels.items()
}

# %% mystnb={"figure": {"name": "fig-qc-severity", "caption": "Four measures of the DNA channel over severity, relative to the same fields without a fault; medians. Focus score, noise and intensity on a logarithmic scale."}, "image": {"alt": "Four panels with seven lines each. Blur lowers the focus score and raises correlation, noise raises noise and lowers correlation, saturation raises intensity far above the others, empty and dead lie below one."}}
figure = figure_crops.curves(panels, "severity", columns=2)
for ax, title in zip(figure.axes, panels, strict=False):
    ax.set_yscale("log" if title != "correlation at 5 px" else "linear")
figure

# %%
focus, grain = panels["focus score"], panels["noise"]
print(focus.round(2).to_string())
assert (focus["out of focus"] < 0.8).all() and (grain["noise"] > 1.5).all()
assert focus["saturation"].min() > 1 > focus["empty"].max()

# %% [markdown]
# **Read this as.** {numref}`fig-qc-severity`: exposure by itself multiplies the focus score, so a field that
# is both blurred and bright can score as one in focus. Correlation does not know exposure. All measures
# that are not ratios follow it, and it differs between plates of every screen anyway: compare within a
# plate, never across.

# %% [markdown]
# ## What 8 bits hide
#
# Encoders want 8 bits. If each image is scaled by its *own* percentiles, an empty field is stretched until
# its grain looks like something, and a dim or an overexposed one looks like any other.

# %%
by_plate = np.stack([
    images.rescale(field[composite], *scale[p]) for field, p in zip(raw, table["plate"], strict=True)
])  # fmt: skip
by_plane = np.stack([images.to_uint8(field[composite], *qc_crops.LEVELS) for field in raw])
grey = {
    name: pd.Series(of.mean((1, 2, 3))).groupby(table["fault"].to_numpy()).mean()
    for name, of in (("by plate", by_plate), ("by plane", by_plane))
}
grey = pd.DataFrame(grey).rename(index={"": "no fault"} | names)
assert grey["by plate"]["empty"] < grey["by plate"]["no fault"] / 2
assert grey["by plane"]["empty"] > grey["by plane"]["no fault"]
grey.loc[["no fault", *names.values()]].round(0).astype(int)

# %% mystnb={"figure": {"name": "fig-qc-scales", "caption": "A field of each kind, on the scale of its plate and each plane on its own."}, "image": {"alt": "Two rows of eight pictures. Above, the empty field is black and the saturated one white. Below, the empty field is a coloured grain as bright as any, cells stand out in the saturated one, and the blurred one is as bright as a sharp one."}}
kinds_of = ["", *faults.FAULTS]
first = [int(np.flatnonzero(table["fault"] == kind)[1]) for kind in kinds_of]
titles = [name.replace("fluor", "-\nfluor") for name in ("no fault", *names.values())]
figure_crops.grid(
    [[of[k] for k in first] for of in (by_plate, by_plane)], ["by plate", "by plane"], titles
)

# %% [markdown]
# Does it matter to a classifier? Logistic regression on measures of the three 8-bit planes, trained on
# half of the plates and judged on the other half, in turn; what is counted is the share of faulty fields
# above the score that 5 % of the normal ones exceed. Once with all measures, once with intensities alone.

# %%
truth, plate = table["fault"].to_numpy(), table["plate"].to_numpy()
half, score = np.isin(plate, np.unique(plate)[::2]), {}
for name, of in (("by plate", by_plate), ("by plane", by_plane)):
    full = image_quality.measures(of, qc_crops.COLOURS)
    for kind, chosen in (("all measures", full), ("intensities", full.filter(regex="Intensity"))):
        for null in (False, True):
            label = np.random.default_rng(seed).permutation(bad) if null else bad
            caught = np.empty(len(bad), bool)
            for side in (half, ~half):
                model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
                value = model.fit(chosen[side], label[side]).decision_function(chosen[~side])
                caught[~side] = value > np.quantile(value[~bad[~side]], 0.95)
            score[f"{name}, {kind}", null] = caught

# %%
shown = {}
for name in dict.fromkeys(name for name, _ in score):
    per = pd.Series(score[name, False][bad]).groupby(truth[bad]).agg(["sum", "size"])
    low, high = intervals.wilson_interval(per["sum"], per["size"])
    of = pd.DataFrame({"value": per["sum"] / per["size"], "low": low, "high": high})
    shown[name] = of.loc[list(names)].rename(index=names)
mean = pd.DataFrame({
    "faulty fields found": {name: score[name, False][bad].mean() for name in shown},
    "null, labels shuffled": {name: score[name, True][bad].mean() for name in shown},
})  # fmt: skip
assert (mean["faulty fields found"] > mean["null, labels shuffled"]).all()
mean.round(2)

# %% mystnb={"figure": {"name": "fig-qc-scales-recall", "caption": "Share of faulty fields found at 5 % false alarms, by fault, from measures of 8-bit fields on two scales; 95 % Wilson intervals. Dashed: chance."}, "image": {"alt": "A row a fault with four marks. Blur, saturation, noise, empty and dead are found nearly always, debris far less often."}}
figure_crops.intervals(shown, "faulty fields found", {"chance": 0.05})

# %% [markdown]
# **Read this as.** A scale by plane hides faults from the eye and from intensities
# ({numref}`fig-qc-scales`, below: an empty field is the brightest of all). Measures that read texture lose
# nothing by it, here ({numref}`fig-qc-scales-recall`): grain without cells differs from cells at any
# brightness. Debris is hardest on either. So the scale is a choice that belongs into a methods section. The
# paper does not say how it scaled its crops. We scale by plate, since whoever labels crops must see what is
# empty, and keep the other as a switch. The null is above 5 %: faults lie so far out that even a random
# direction finds some of them.

# %% [markdown]
# ## What faults do downstream
#
# A screen is there to tell treatments apart. So take the measures as a plain profile: average the fields of
# each well, express it in deviations of its plate's controls, and look for each treatment in the other
# batches by nearest neighbours. Then take out the faults.

# %%
signed = np.sign(measured) * np.log1p(measured.abs())
signed_clean = np.sign(of_clean) * np.log1p(of_clean.abs())
keys = [table[name] for name in ("plate", "batch", "well", "compound")]
lot = np.random.default_rng(seed).permutation(~bad)  # as many fields, drawn at random
whole_screen = np.ones(len(table), bool)
cases = {"no faults": (signed_clean, whole_screen, "mean"),
         "faults, all fields": (signed, whole_screen, "mean"),
         "faults dropped": (signed, ~bad, "mean"),
         "as many dropped by lot": (signed, lot, "mean"),
         "all fields, median of a well": (signed, whole_screen, "median")}  # fmt: skip
for fault, name in names.items():  # this one alone, the other faults undone
    only = signed_clean.copy()
    only.loc[table["fault"] == fault] = signed.loc[table["fault"] == fault]
    cases[f"{name} only"] = only, whole_screen, "mean"

# %%
found = {}
for name, (values, keep, how) in cases.items():
    well = values[keep].groupby([key[keep] for key in keys]).agg(how)
    about = well.index.to_frame(index=False)
    control = (about["compound"] == "DMSO").to_numpy()
    of_control = well.reset_index(drop=True)[control].groupby(about["plate"][control])
    mean, sd = (getattr(of_control, f)().loc[about["plate"]].to_numpy() for f in ("mean", "std"))
    z = np.clip((well.to_numpy() - mean) / np.maximum(sd, 1e-3), -20, 20)
    right = []
    for batch in about["batch"].unique():
        own = (about["batch"] == batch).to_numpy() & ~control
        bank, label = (about["batch"] != batch).to_numpy() & ~control, about["compound"].to_numpy()
        right.append((knn_predict(z[bank], label[bank], z[own], k=5) == label[own]).mean())
    error = np.std(right, ddof=1) / np.sqrt(len(right))
    found[name] = np.mean(right), np.mean(right) - 1.96 * error, np.mean(right) + 1.96 * error
found = pd.DataFrame(found, index=["value", "low", "high"]).T
found[["low", "high"]] = found[["low", "high"]].clip(0, 1)

# %% mystnb={"figure": {"name": "fig-qc-downstream", "caption": "Treatment of a well, found by 5 nearest neighbours among wells of other batches: mean over batches and 1.96 standard errors. Below: one fault at a time, the others undone."}, "image": {"alt": "A row a case. Without faults the accuracy is near one, with all faults less than half of that, with faulty fields dropped near one again, with as many dropped by lot no better than with all."}}
treatments = table.loc[table["compound"] != "DMSO", "compound"].nunique()
figure_crops.intervals({"k-NN": found}, "accuracy across batches", {"chance": 1 / treatments})

# %%
value = found["value"]
for name in list(cases)[:5]:
    print(f"{name:30} {value[name]:.2f}")
worst = value[[f"{name} only" for name in names.values()]].sort_values()
print(
    f"worst alone: {worst.index[0]} ({worst.iloc[0]:.2f}), {worst.index[1]} ({worst.iloc[1]:.2f})"
)
assert value["no faults"] > value["faults, all fields"] + 0.15
assert value["faults dropped"] > value["faults, all fields"] + 0.1
assert value["as many dropped by lot"] < value["faults dropped"]
gap = value["no faults"] - value["faults, all fields"]
lost = gap / (value["no faults"] - 1 / treatments)
back = (value["faults dropped"] - value["faults, all fields"]) / gap
print(
    f"faults take {lost:.0%} of what is above chance; dropping them brings {back:.0%} of that back"
)
assert lost > 0.5 and back > 0.5

# %% [markdown]
# **Read this as.** {numref}`fig-qc-downstream`, top: with every third field faulty, more than half of what the
# screen could tell is gone; dropping the faulty fields brings nearly all of it back, and dropping as many by
# lot, the null, brings nothing. The median of a well's fields is a good part of the cure, as long as most of
# them are in order, and needs no labels. Bottom: a few fields of one kind suffice, when they are far from
# all others. Empty fields and dead cells spoil most, and are the easiest to see.

# %% [markdown]
# ## What we learned
#
# - Seven faults move different numbers; no single measure finds them all, and debris escapes measures of a
#   whole field.
# - A focus score follows exposure, noise and the number of cells as well. Compare within a plate.
# - Percentiles of each image hide from the eye what is empty, dim or overexposed; those of a plate show it.
# - Faults are not a cosmetic matter: dropping them recovers most of what they took.
#
# **What would change our mind.** If a median over fields and a robust scale recovered all that dropping
# does on real screens with four fields a well, labelling crops would be a luxury.
#
# **Where the simulation is kind.** A saturated field is white nearly everywhere, since exposure is raised
# until a fixed share of pixels is clipped at 16 bits; cameras of 12 bits clip earlier, and real saturation
# is subtler. Each field has one fault at most; in real screens they come together, and by the plate.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* A plate was exposed twice as long, none of its pixels clipped. What happens to $F$ of
#    {eq}`eq-focus`, and to the correlation?
#
# ```{admonition} Solution
# :class: dropdown
# $F$ doubles: the variance is four times, the mean twice what it was. The correlation stays, for it
# ignores a factor. Photon noise apart, which becomes smaller relative to the signal.
# ```
#
# 2. *Change one parameter.* In the last analysis, replace the mean over fields by the median *and* drop the
#    faulty fields. Is it better than either?
#
# ```{admonition} Solution
# :class: dropdown
# Add `"both": (signed, ~bad, "median")` to `cases`. Compare with "faults dropped": with no faults left,
# the median has nothing to guard against and uses less of the data.
# ```
#
# 3. *Extend.* Put `out_of_focus` into all fields of one plate in ten. Does `MeanIntensity` tell? Which
#    measure would you plot plate by plate while a screen runs?
#
# ```{admonition} Solution
# :class: dropdown
# Blur keeps the mean. Plot the median of `Correlation_DNA_5` over a plate's fields:
# a plate out of focus stands apart from its neighbours by more than any field within them.
# ```

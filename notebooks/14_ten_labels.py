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
# # Ten labels: quality control of your own screen
#
# Paper: Comparison of semi-supervised learning methods for High Content Screening quality control
# {cite}`masud2022qc`, whose smallest budget is ten labels.
#
# **The claim.** A detector of spoilt images needs "a limited amount of data per assay". *Which* crops
# you label matters as much as how many: ten that were chosen to be unlike each other are worth several
# times as many that were drawn by lot. On real images it depends on how rare faults are.
#
# | preset | hardware | time |
# |---|---|---|
# | `smoke` | 1 CPU core | under 1 minute |
# | `quick` | 1 CPU core | 2 minutes |
# | `standard` | 1 CPU core | 6 minutes; 3 more the first time, to draw the screen |

# %% [markdown]
# **You will learn**
#
# - to choose the crops that are worth a look, and to judge a whole screen from ten answers;
# - to read plate maps of what is abnormal, and to decide what to drop;
# - to write that decision beside the screen, so that every other chapter honours it;
# - to do all this by clicking, on a screen of your own.
#
# **You need** {doc}`10_qc_idea`, for what goes wrong and the measures that show it.
#
# **The key equation** chooses what to ask. Let $z_i$ be the first five principal components of the
# standardised measures of crop $i$, and $A$ the crops asked about so far. The next one is the farthest from all of them:
#
# ```{math}
# :label: eq-farthest
# i^\ast = \arg\max_{i \in U} \; \min_{j \in A} \; \lVert z_i - z_j \rVert
# ```
#
# At first $U$ is all crops: faults are rare and unlike one another, so they stand far out. Once there
# are answers of both kinds, $U$ is the half of the crops about which the model is least sure.

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
qc_size = "qc-quick"  # simulated screen: qc-smoke, qc-quick, qc-standard or qc-full
qc_composite = "AGP,Mito,DNA"  # stains shown as red, green, blue
qc_crop_px = 48  # px, side of a crop
qc_max_per_field = 4  # crops of a field, drawn by lot; 0: one of each nucleus
seed = 0  # of everything drawn by lot
labels = 10  # answers that the tool is given
drop_from = 0.7  # qc_score from which a field is dropped
sessions = 6  # times that choosing is compared with drawing by lot
live = False  # True: show the widget here, where somebody sits and clicks
results = "book/results"  # folder of records, from the top of the checkout

# %%
import inspect
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Code, display
from sklearn.metrics import roc_auc_score

from hcs_utils import files, qc_assemble, qc_tables, records, runs, ten_labels
from hcs_utils.data import qc_crops, quality
from hcs_utils.data.screens import simulated
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figure_ten_labels, suggestions
from hcs_utils.qc_settings import QCSettings

runs.refuse_unknown(globals())
settings = QCSettings(
    size=qc_size, composite=qc_composite, crop_px=qc_crop_px, max_per_field=qc_max_per_field
)

# %% [markdown]
# ## Crops and measures
#
# A third of the fields of this simulated screen is spoilt, in seven ways. The tool sees crops of the
# fields, and of each crop the measures of image quality of {doc}`10_qc_idea`. An encoder's embedding
# would do as well: anything with a row of numbers for each crop.

# %% tags=["remove-output"]
crops = qc_assemble.cut(settings, "simulated", qc_size, settings.channels, progress=True)

# %%
measures = ten_labels.measured(crops.store)
table = crops.table[["site_id", "parent", "plate", "well"]]
known = qc_crops.truth(crops.table, crops.root)
truth = pd.Series(known["abnormal"].to_numpy(), crops.table["site_id"])
fault = pd.Series(known["fault"].to_numpy(), crops.table["site_id"])
assert len(measures) == len(table) == len(truth) and table["site_id"].is_unique
print(f"{len(table):,} crops of {table['parent'].nunique():,} fields on {table['plate'].nunique()}")
print(f"plates; {measures.shape[1] - 1} measures each; {truth.mean():.0%} of the crops abnormal")

# %% [markdown]
# **Whose answers?** From here on the answers come from the *table of truth* that only a simulation
# has, so that this page can run without anybody at the keyboard. Where it stops, with `live = True`, you
# answer. Nothing else differs: the same functions, the same file of labels.
#
# ## Which crops to ask about
#
# This is all there is to {eq}`eq-farthest`; `group` is the field, so that no field is asked about twice
# while another was never looked at.

# %%
Code(inspect.getsource(suggestions.farthest_first), language="python")

# %% [markdown]
# A session is a folder. `begin` reads the answers that are in it, `suggest` names crops, `answer` puts one
# line on the disk before it returns. Ten times:

# %%
folder = Path(tempfile.mkdtemp())
session = ten_labels.begin(folder / "chosen", table, measures, seed)
ten_labels.answer_by(session, truth, labels)
given = session.labels.table()
images = ten_labels.pictures(session, crops.store, given["site_id"].tolist())
figure_ten_labels.sheet(images, given["label"].tolist(), columns=5)

# %%
kinds = fault[given["site_id"]].replace("", "none").value_counts()
print("Faults among them:", ", ".join(f"{name} {n}" for name, n in kinds.items()))
lot = ten_labels.begin(folder / "lot", table, measures, seed)
ten_labels.answer_by(lot, truth, labels, how="random")
drawn = fault[lot.labels.table()["site_id"]].replace("", "none").value_counts()
print("Faults among ten by lot:", ", ".join(f"{name} {n}" for name, n in drawn.items()))
assert len(given) == labels and (kinds.index != "none").sum() >= 2

# %% [markdown]
# **Read this as.** The first crop is the most ordinary one of the screen; each of the next is unlike
# all before, and so most kinds of fault are met within ten looks. By lot, most looks go to crops that
# tell you nothing new.
#
# The file is plain text, and holds who said what, and when:

# %%
print(*(folder / "chosen" / ten_labels.FILE).read_text("utf-8").splitlines()[:4], sep="\n")
again = ten_labels.begin(folder / "chosen", table, measures, seed)  # as after a restart
assert ten_labels.suggest(again) == ten_labels.suggest(session)
assert ten_labels.so_far(again) == ten_labels.so_far(session)
print(ten_labels.so_far(again))

# %% [markdown]
# ## All the other crops
#
# Logistic regression on the measures, both classes weighing the same, gives every crop a probability of
# being abnormal, its `qc_score`. AUC over the crops that were *not* asked about: 0.5 is chance, and with
# the ten answers shuffled it is what chance looks like here.

# %%
found = ten_labels.scores(session)
free = found["label"].eq("").to_numpy()
auc = roc_auc_score(truth[free], found["qc_score"][free])
rng, null = np.random.default_rng(seed), []
rows = pd.Index(table["site_id"]).get_indexer(given["site_id"])
for _ in range(20):
    shuffled = rng.permutation(given["label"].eq("abnormal").to_numpy())
    score = suggestions.probability(session.x, rows, shuffled)
    null.append(roc_auc_score(truth[free], score[free]))
print(f"AUC from {labels} labels: {auc:.3f}; with shuffled labels {np.mean(null):.3f}", end="")
print(f" ± {np.std(null):.3f}")
assert auc > np.mean(null) + np.std(null)

# %%
called = pd.Series(found["qc_score"].to_numpy() >= drop_from, found["site_id"])
by = pd.DataFrame({"called": called, "fault": fault.replace("", "none"), "free": free})
by = by[by["free"]].groupby("fault")["called"].agg(["mean", "size"])
by.columns = [f"called abnormal (score ≥ {drop_from})", "crops"]
by.sort_values("crops", ascending=False).round(2)

# %% [markdown]
# **Read this as.** Down the first column, the row *none* is the share of good crops that would be lost,
# the others the share of each fault that would be caught. Ten answers catch the loud faults almost all,
# saturation, noise and empty fields; dead cells and autofluorescence in part, debris hardly ever, for it
# covers little of a crop. That is what ten labels are: a first sieve. The next answers go to what the model
# is unsure of, and these are just such crops.
#
# ## Plates
#
# A field is as bad as its worst crop. Faults that follow a plate, a row or an edge show up at a glance.

# %%
figure_ten_labels.plates(ten_labels.plate_map(session, drop_from))

# %%
rate = simulated.truth(crops.root).assign(spoilt=lambda t: t["fault"] != "")
rate = rate.groupby("plate")["spoilt"].mean()
seen = ten_labels.plate_map(session, drop_from).groupby("plate")["abnormal"].mean()
print(f"Fields called abnormal: {seen.mean():.0%}; with a fault in truth: {rate.mean():.0%}")
print(f"Over plates the two correlate by {np.corrcoef(seen[rate.index], rate)[0, 1]:.2f}")
ten_labels.to_drop(session, drop_from).head(5).round(3)

# %% [markdown]
# Each map is a plate from above, its title the mean over its wells. Here faults are put in by lot, so no
# pattern is to be found; the correlation tells how well ten answers rank the plates.
#
# ## What to drop, and where it is written
#
# `write` keeps `qc_flag` and `qc_score` of every field beside the screen, in `quality.parquet`; `prepare`
# leaves flagged fields out of the table *and* of the images from then on, so every other chapter does,
# and the record of a run carries the digest of what was left. Here they go to a folder of their own, so
# that the screen of the other chapters stays whole.

# %%
(folder / "screen").mkdir()
ten_labels.write(session, folder / "screen", drop_from)
fields = quality.with_quality(simulated.manifest(crops.root), folder / "screen")
print(quality.told(fields, "drop"))
spoilt = simulated.truth(crops.root).set_index("site_id")["fault"].ne("")
spoilt = spoilt[fields["site_id"]].to_numpy()
kept = ~fields["qc_flag"].to_numpy()
print(f"With a fault: {spoilt.mean():.0%} of all fields, {spoilt[kept].mean():.0%} of those kept.")
assert spoilt[kept].mean() < spoilt.mean()

# %% [markdown]
# Where to cut is yours to say. What each score would have cost and caught here:

# %%
judged = fields["qc_score"].to_numpy()
cuts = pd.DataFrame({"drop from": [0.5, 0.6, 0.7, 0.8, 0.9]})
dropped = [judged >= at for at in cuts["drop from"]]
cuts["fields dropped"] = [d.mean() for d in dropped]
cuts["spoilt fields caught"] = [d[spoilt].mean() for d in dropped]
cuts["good fields lost"] = [d[~spoilt].mean() for d in dropped]
cuts.set_index("drop from").round(2)

# %% [markdown]
# **Read this as.** A low score catches more and loses more. A field that is lost costs a replicate; one
# that is kept costs a wrong profile: with many replicates cut low, with few cut high, and look at the
# list in between.
#
# ## What labels buy
#
# The same over several sessions, each on half of the fields, for more and more labels. The baseline is to
# label crops drawn by lot.

# %%
counts, rows, parents = (10, 25, 50, 100), [], table["parent"].unique()
words = {"informative": "chosen", "random": "by lot"}
for k in range(sessions):
    half = np.random.default_rng([seed, k]).permutation(parents)[: len(parents) // 2]
    own = table["parent"].isin(half).to_numpy()
    for how, word in words.items():
        one = ten_labels.begin(folder / f"{how}{k}", table[own], measures[own], seed + k)
        for count in (c for c in counts if c < own.sum() // 4):
            ten_labels.answer_by(one, truth, count, how)
            try:
                scored = ten_labels.scores(one)
            except InputError:  # one class only: nothing learned
                scored = one.crops.assign(qc_score=0.5, label="")
            left = scored["label"].eq("").to_numpy()
            right = truth[scored["site_id"]].to_numpy()[left]
            value = roc_auc_score(right, scored["qc_score"][left])
            rows.append({"session": k, "labels": count, "how": word, "value": value})
bought = pd.DataFrame(rows)
figure_ten_labels.bought(bought, "AUC over crops not asked about")

# %%
mean = bought.pivot_table(index="how", columns="labels", values="value", aggfunc=["mean", "std"])
display(mean.round(3))
ten = bought[bought["labels"] == counts[0]].pivot(index="session", columns="how", values="value")
gain = ten["chosen"] - ten["by lot"]
print(
    f"Gain of choosing, at {counts[0]} labels: {gain.mean():.3f} ± {gain.std():.3f} (sd over ",
    end="",
)
print(f"{len(gain)} sessions); better in {(gain > 0).sum()}")
if sessions >= 6:
    assert gain.mean() > 0
by_lot = bought[bought["how"] == "by lot"].groupby("labels")["value"].mean()
as_good = by_lot.index[by_lot >= ten["chosen"].mean()]
print(f"As good as {counts[0]} chosen: ", end="")
print(f"{as_good[0]} by lot" if len(as_good) else f"more than {by_lot.index[-1]} by lot")

# %% [markdown]
# **Read this as.** Dots are sessions, the band is ± one standard deviation. The curves are furthest apart
# at ten labels, and what choosing saves you from is the bad draw: by lot, ten labels can all be normal,
# or the few abnormal ones of one kind, and then less than nothing is learned. Some draws by lot are as good
# as choosing; you cannot know which. With more labels the two come together.
#
# ## On real images
#
# The same by `benchmarks/real_ten_labels.py` on three small pieces of public screens, twenty sessions
# each: mean AUC over the crops not asked about ± standard deviation over sessions. *gain* is that of choosing
# over a lot, *better* the share of sessions with a gain; *null* has the chosen answers shuffled. The
# tool's two constants were settled on MitoCheck and on simulated screens, and the other two trials were not
# looked at for that.

# %%
root = (files.checkout() or Path.cwd()) / results
real = records.load_records(root, preset="real", experiment="ten_labels")
trials = {"mitocheck_cells": "MitoCheck", "bbbc006_focus": "BBBC006, out of focus",
          "bbbc021_fields": "BBBC021, drawn faults"}  # fmt: skip
rows = {}
for (screen, _), of in real.groupby(["screen", "variant"]) if len(real) else ():
    of = of.set_index("method")
    title = f"{trials[screen]}, {of.loc['chosen', 'share']:.0%} abnormal"
    for count in [c for c in counts if f"auc_{c}" in of and of[f"auc_{c}"].notna().all()]:
        key, one = f"auc_{count}", of.loc["chosen"]
        rows[title, count] = {
            "chosen": qc_tables.spread(*one[[key, f"{key}_sd"]], 3),
            "by lot": qc_tables.spread(*of.loc["lot", [key, f"{key}_sd"]], 3),
            "gain": qc_tables.spread(*one[[f"gain_{key}", f"gain_{key}_sd"]], 3),
            "better": f"{one[f'better_{key}']:.0%}",
            "null": f"{one[f'auc_null_{count}']:.3f}",
        }  # fmt: skip
if rows:
    assert real["gain_auc_10"].min() > -0.01 and real["gain_auc_10"].max() > 0.05
pd.DataFrame(rows).T.rename_axis(["", "labels"]) if rows else print("not run")

# %% [markdown]
# **Read this as.** Choosing pays where faults are rare and of several kinds: ten by lot then often miss them,
# which the spread shows more than the mean. Where half of the crops or more are abnormal, or where one
# fault looks alike everywhere, a lot meets it by itself, and choosing brings nothing. At ten labels it cost
# nothing in any trial; at 25 and 50 it can cost a few hundredths, perhaps because the oddest crops are not
# the typical ones.
#
# ## What is refused
#
# Answers that cannot teach are told, not guessed at.

# %%
trial = ten_labels.begin(folder / "trial", table, measures)
first, second = table["site_id"].iloc[:2]
for step in ("one label", "one class", "contradiction"):
    site = first if step != "one class" else second
    ten_labels.answer(trial, site, "abnormal" if step == "contradiction" else "normal")
    try:
        ten_labels.write(trial, folder / "screen")
    except InputError as error:
        print(f"{step}: {error}\n")
shown = trial.labels.contradictions()[["site_id", "label"]]
assert shown["label"].tolist() == ["normal", "abnormal"]
shown

# %% [markdown]
# ## The tool
#
# The same functions behind buttons. Run this notebook in JupyterLab with `live = True`: pictures of six
# crops appear, each with *Normal* and *Abnormal*; after the sixth answer come the next six. Buttons are
# reached by Tab and pressed by Space. Each click is on the disk before the next; close the
# browser or restart the kernel, run the cells again, and you go on where you were.
#
# ```{figure} ../book/figures/ten_labels.png
# :alt: Six crops with two buttons each, a slider, heat maps of plates, a list of fields to drop, a button to write
# :width: 100%
#
# The tool in JupyterLab after thirteen answers.
# ```

# %%
if live:
    from hcs_utils.ten_labels_widget import panel

    place = files.data_root() / "ten_labels" / qc_size
    place.mkdir(parents=True, exist_ok=True)
    mine = ten_labels.begin(place / "labels", table, measures)
    tool = panel(mine, crops.store, place, at=drop_from)
    display(tool.box)
else:
    print("Nobody sits here: set live = True in JupyterLab, and answer by clicking.")

# %% [markdown]
# ## Your own screen
#
# Describe it in a `screen.yaml` ({doc}`01_screens`), with three channels to look at; nuclei are found in
# the channel `DNA`. Five steps, in a notebook of your own:
#
# ```python
# from hcs_utils import qc_assemble, ten_labels
# from hcs_utils.qc_settings import QCSettings
# from hcs_utils.ten_labels_widget import panel
#
# settings = QCSettings(screen="my/screen.yaml", composite="Actin,Tubulin,DNA", crop_px=128)
# crops = qc_assemble.cut(settings, settings.screen, "", settings.channels, progress=True)
# session = ten_labels.begin("my/labels", crops.table, ten_labels.measured(crops.store))
# tool = panel(session, crops.store, crops.root)
# tool.box
# ```
#
# *Write to the screen* puts `quality.parquet` into the screen's folder. After that
# `prepare.prepare("my/screen.yaml")`, and with it every notebook and every run on this screen, leaves
# the flagged fields out and says how many; `flagged="keep"` takes them in. From a terminal:
#
# ```bash
# hcs quality show my/screen.yaml     # how many are flagged, plate by plate
# hcs quality write my/screen.yaml flags.csv   # site_id,qc_flag,qc_score from elsewhere
# hcs quality clear my/screen.yaml    # as if nothing had been judged
# ```

# %% [markdown]
# ## What we learned
#
# - Which crops are labelled matters most when there are few: ten that are unlike each other find most
#   kinds of fault, ten by lot find few.
# - A score for every field follows from measures anybody can compute, without a GPU and without training.
# - Plates are judged by maps and lists, and the decision is a file beside the screen that every chapter
#   honours.
# - What is contradictory, or of one class only, is shown and refused.
#
# **What would change our mind.** If on real screens the crops that are far out were rare phenotypes and
# not faults, choosing them would waste answers, and dropping by their scores would drop biology. Look at
# what you drop: the list is there for that, and positive controls should not be on it.
#
# **Not chosen blind.** The five components and the half that is least sure were settled by comparing
# variants on this simulated screen and on MitoCheck's nuclei, so these two gains may flatter.
#
# **Paper and tool differ.** The paper labels 350 crops, half of them abnormal, and draws smaller budgets
# from these: it knew which were abnormal before it drew. At the bench nobody does, so the baseline here
# is a draw by lot, and the score is the AUC, which does not depend on the share of faults.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* With `labels = 25`, which faults gain most? Write it down, run, compare the table by fault.
# 2. *Change one parameter.* Set `qc_max_per_field = 1`. Does a field's score get better or worse, and why?
# 3. *Extend.* Give `begin` the embedding of an encoder in place of the measures.
#
# ```{admonition} Solutions
# :class: dropdown
#
# 1. Those that lag behind at ten: dead cells, autofluorescence, debris. Noise and saturation have little
#    left to gain.
# 2. Worse for debris: it lies in one part of the field, and a single crop mostly misses it. Faults of the
#    whole field do not change.
# 3. `embed.embed` with the images, `crops.table["site_id"]` and `crops.normaliser` gives a table with
#    `site_id`, and `begin` joins it by that. Compare the curves.
# ```

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
# # The scoreboard: paper, ours, verdict
#
# Papers: [CDCL](https://arxiv.org/abs/2212.11595) {cite}`haslum2023cdcl`, cross-modal learning
# {cite}`watkinson2024crossmodal`, quality control {cite}`masud2022qc`.
#
# **The claim** of this page: none of its own. It lists what three papers say, what our records say,
# and a verdict by rule.
#
# | preset | hardware | time |
# |---|---|---|
# | all | 1 CPU core | seconds: this page trains nothing, it reads committed records |

# %% [markdown]
# **You will learn**
#
# - which headline claims were reproduced, which were not, and which nobody has run yet;
# - which of the papers' numbers cannot be compared, because they are missing in the text we have.
#
# **You need** nothing; {doc}`23_cdcl_results` has the details of CDCL.
#
# **The key equation** is the interval of {doc}`23_cdcl_results`: *reproduced* if it lies above zero, *partly* if
# its middle does, *not* otherwise, *not run* if there is nothing to compare.

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
results = "book/results"  # folder of records, from the top of the checkout
presets = "quick,standard,full"  # whose records to use: the last one that has any

# %%
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from hcs_utils import files, records, runs
from hcs_utils.evaluation import leaks

runs.refuse_unknown(globals())

# %% [markdown]
# ## What the papers say
#
# Each line is a claim that one method is better than another: the metric as our records name it, the
# two methods, and the paper's two values. An empty value is missing in the text we have.
#
# **CDCL** (RxRx1-HUVEC and CPG0004; accuracy and kBET in per cent):

# %%
cdcl = [
    ("Supervised far above plain DINO", "knn_znorm", "supervised", "dino", 53.52, 25.04),
    ("Cross-batch pairs lift DINO", "knn_znorm", "dino_cb", "dino", 55.3, 25.04),
    ("Cross-batch pairs lift BYOL", "knn_znorm", "byol_cb", "byol", 47.44, 15.1),
    ("Centres and Barlow lift DINO-CB", "knn_znorm", "cdcl", "dino_cb", 63.1, 55.3),
    ("CDCL beats supervised", "knn_znorm", "cdcl", "supervised", 63.1, 53.52),
    ("Barlow alone does not help DINO", "knn_znorm", "dino", "dino_bl", 25.04, 21.20),
    ("DINO sets training batches apart", "kbet_train", "supervised", "dino", 15.78, 0.00),
    ("CDCL finds mechanisms better", "nsc_moa", "cdcl", "supervised", 14.3, 11.3),
    ("So with controls only (I)", "knn_znorm_I", "cdcl", "supervised", 20.8, 18.5),
    ("So with treatments only (II)", "knn_znorm_II", "cdcl", "supervised", 61.43, 51.68),
    ("So with half the treatments (III)", "knn_znorm_III", "cdcl", "supervised", 54.47, 42.2),
]

# %% [markdown]
# **Cross-modal learning** (JUMP-CP; molecule to image among 100, and generalisation across sources; in per cent):

# %%
crossmodal = [
    ("CLIP above chance", "hr_at_1", "clip", "random", 6.6, 1.0),
    ("Several images lift CLIP (EMM)", "hr_at_1", "emm", "clip", 10.3, 6.6),
    ("So in mean reciprocal rank", "mrr", "emm", "clip", 22.5, 17.6),
    ("IMM lies above CLIP", "mrr", "imm", "clip", 20.1, 17.6),
    ("Image to molecule: EMM above CLIP", "hr_at_1_image", "emm", "clip", None, None),
    ("EMM generalises better than CLIP", "g_nss", "emm", "clip", 83, 72),
    ("IMM generalises best", "g_nss", "imm", "emm", 93, 83),
    ("Accuracy on unseen sources", "accuracy_nss", "imm", "clip", None, None),
]

# %% [markdown]
# **Quality control** (BBBC022, then BBBC021; accuracy in per cent):

# %%
qc = [
    ("Transfer beats SSL: k-NN", "knn", "resnet18", "simclr", 97.66, 90.62),
    ("With a linear layer", "linear", "convnext", "deepcluster", 98.47, 94.57),
    ("Fine-tuned on 350, by a little", "finetuned_350", "convnext", "simclr", 99.39, 98.44),
    ("Fine-tuned on 10, by much", "finetuned_10", "convnext", "simclr", 96.87, 84.89),
    ("On another cell line", "shifted", "convnext", "simclr", 98.66, 73.66),
]
print(len(cdcl), len(crossmodal), len(qc), "claims")

# %% [markdown]
# ## What our records say
#
# From the preset with the strongest evidence that has records. The CDCL lines are of a simulated
# screen: **the sign of a difference can be compared, its size cannot.**

# %%
found = records.load_records((files.checkout() or Path.cwd()) / results)
wanted = [name.strip() for name in presets.split(",")]
there = [name for name in wanted if (found["preset"] == name).any()]
of_screen = found["screen"].astype(str).str.startswith("simulated")
found = found[of_screen & (found["preset"] == there[-1])] if there else found[:0]
print(f"{len(found)} records" + (f" of preset {there[-1]}" if there else f" in {results}"))
for experiment, one in found.groupby("experiment"):
    print(
        f"{experiment}: {one['method'].nunique()} methods, {one['seed'].nunique()} seeds", end=", "
    )
    print(f"{one['fold'].nunique()} folds")

# %%
papers = {"CDCL": cdcl, "Cross-modal": crossmodal, "Quality control": qc}
lines = []
for paper, rows in papers.items():
    claims = [records.Claim(*row[:4]) for row in rows]
    names = {"CDCL": "cdcl", "Cross-modal": "crossmodal", "Quality control": "qc"}
    own = found[found["experiment"] == names[paper]]
    judged = records.verdict(claims, own).to_dict("records")
    lines += [(paper, row, line) for row, line in zip(rows, judged, strict=True)]

# %%
table = pd.DataFrame(
    {
        "paper": [paper for paper, _, _ in lines],
        "claim": [row[0] for _, row, _ in lines],
        "compared": [f"{row[2]} / {row[3]}, {row[1]}" for _, row, _ in lines],
        "paper says": [
            "missing in the text we have" if row[4] is None else f"{row[4]:g} / {row[5]:g}"
            for _, row, _ in lines
        ],
        "our difference": [
            "" if np.isnan(line["difference"]) else f"{100 * line['difference']:+.1f} points"
            for _, _, line in lines
        ],
        "pairs": [line["pairs"] for _, _, line in lines],
        "verdict": [line["verdict"] for _, _, line in lines],
    }
)
for paper in papers:
    part = table[table["paper"] == paper].drop(columns="paper").set_index("claim").rename_axis(None)
    display(Markdown(f"### {paper}"), part)

# %%
words = ["reproduced", "partly", "not", "not run"]
assert len(table) == len(cdcl) + len(crossmodal) + len(qc)
assert table["verdict"].isin(words).all()
assert ((table["pairs"] == 0) == (table["verdict"] == "not run")).all()
counted = pd.crosstab(table["paper"], table["verdict"])
counted.reindex(index=papers, columns=words, fill_value=0).rename_axis(index=None, columns=None)

# %% [markdown]
# **Read this as.** Four words, by one rule, whoever likes the outcome. *not run* is by far the most
# frequent while the book is young: the cross-modal and quality-control chapters are not built yet,
# and BYOL is not in the package. A claim about mechanisms needs a screen with mechanisms.

# %% [markdown]
# ## Baseline and null
#
# A verdict compares two methods with each other. That both have learned anything is a comparison of
# its own, with random weights (the null) and intensity statistics (the baseline):

# %%
floor = [
    records.Claim(f"{method} above {other}", "knn_znorm", method, other)
    for method in ("dino", "dino_cb", "cdcl", "supervised")
    for other in ("random", "intensity")
]
floor = records.verdict(floor, found[found["experiment"] == "cdcl"])
floor["difference"] = (100 * floor["difference"]).map("{:+.1f} points".format)
floor.loc[floor["pairs"] == 0, "difference"] = ""
floor[["claim", "difference", "pairs", "verdict"]].set_index("claim").rename_axis(None)

# %% [markdown]
# And that the task has no side door is a comparison, too: what the same question gets answered from
# position, plate, counts and intensities alone, the {term}`leak audit` of {doc}`23_cdcl_results`:

# %%
told = leaks.from_records(found[found["experiment"] == "cdcl"])
assert told.empty or told["value"].between(0, 1).all()
told = told.assign(above_its_null=told["leaks"].map({True: "yes", False: "no"}))
told[["value", "low", "high", "null", "above_its_null"]].round(3).rename_axis(None)

# %% [markdown]
# ## How fast
#
# Speed is a claim too. Ours is compared with a reference way in one run on one machine, so that a slow
# machine slows both. `make bench` measures again.

# %%
bench = records.load_benchmarks((files.checkout() or Path.cwd()) / results)
bench = bench[~bench["name"].str.startswith("difficulty_")]  # of the screen: chapter 01
speed = pd.DataFrame(
    {
        "measured": bench["ratio"].map("{:.3g}".format)
        + " "
        + bench["unit"].str.split(", ").str[-1],
        "goal": bench["unit"].str.startswith("at most").map({True: "≤ ", False: "≥ "})
        + bench["goal"].map("{:g}".format),
        "met": bench["met"].map({True: "yes", False: "no"}),
    }
).set_axis(bench["name"].str.replace("_", " "))
assert speed["met"].isin(["yes", "no"]).all()
display(speed.rename_axis(None))
print("Measured on:", ", ".join(bench["device"].unique()) or "nothing yet")

# %% tags=["hide-input"]
of = bench.groupby("reference", sort=False)["name"].agg(", ".join).str.replace("_", " ")
display(Markdown("\n".join(f"- *{names}*: {reference}" for reference, names in of.items())))

# %% [markdown]
# **Read this as.** The list names what each was measured against. The goal of transfer was set after a
# first look, the others before any; and for many small files fsspec's plain `get`, which neither asks
# for sizes nor verifies, is still faster than ours.

# %% [markdown]
# ## What we learned
#
# - What is known is what has a record; the rest says *not run*.
# - The rule is the same for claims we like and claims we do not.
# - Two of the papers' tables are missing in the text we have, and no number was put in their place.
#
# **What would change our mind.** A verdict changes with evidence: more folds, more seeds, real
# screens. {doc}`../book/reproduce` says how to add a record.
#
# **Where paper and code disagree.** For CDCL see {doc}`23_cdcl_results`. For cross-modal learning the
# released EMM loss is a mean of logarithms where the paper has the logarithm of a sum
# (`gwatkinson/jump_models@b9a3653`, `multiview_losses.py: NTXentMultiplePositives`; read, not run).
# For quality control no code was found.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* A claim has one pair of runs, and the better method wins by 30 points. The verdict?
#
# ```{admonition} Solution
# :class: dropdown
# *partly*: one pair has no spread, so there is no interval.
# ```
#
# 2. *Change one parameter.* Point `results` to `build/results`, where your own runs are.
#
# ```{admonition} Solution
# :class: dropdown
# `papermill notebooks/90_scoreboard.ipynb out.ipynb -p results build/results`. Runs of yours that
# are not published are judged in the same way.
# ```
#
# 3. *Extend.* Add a claim of your own about two methods that have records.
#
# ```{admonition} Solution
# :class: dropdown
# One line in `cdcl`: text, metric, better, worse, and `None, None` for a paper that says nothing.
# ```

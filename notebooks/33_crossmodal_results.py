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
# # The results: molecules and images, and what a space answers
#
# Paper: Weakly Supervised Cross-Modal Learning in High-Content Screening
# {cite}`watkinson2024crossmodal`, tables 1 to 3 and figure 2.
#
# **The claim.** Several images of a compound, from several labs, teach a better space of molecules and
# images than one: EMM and IMM find more than CLIP, both ways, and lose less from lab to lab.
#
# | preset | hardware | time |
# |---|---|---|
# | smoke | 1 CPU core | half a minute |
# | quick | 1 CPU core | 4 min, nearly all of them to train and judge the space that is asked at the end |
# | standard | 1 CPU core | 4 min |
# | full | 1 GPU | 3 min |

# %% [markdown]
# **You will learn**
#
# - what came out, table by table, beside what the paper says, with the cells that are missing in it;
# - which claims hold here, by a rule fixed beforehand, and how far fingerprints and positions get;
# - what the paper's code does otherwise, and what that changes;
# - how to ask a space: a molecule for wells, a well for molecules.
#
# **You need** {doc}`32_crossmodal_run`: one of its runs made each of these records.
#
# **The key equations.** Of $n$ questions, the partner of question $i$ stands at rank $r_i$ among the `pool`
# candidates; of a task that is split at random or with whole sources apart, the accuracies:
#
# ```{math}
# :label: eq-found-again
# \mathrm{HR@}k = \frac{1}{n} \sum_{i=1}^{n} [\, r_i \le k \,] , \qquad
# \mathrm{MRR} = \frac{1}{n} \sum_{i=1}^{n} \frac{1}{r_i} , \qquad
# G_{NSS} = \frac{\mathrm{Acc}_{NSS}}{\mathrm{Acc}_{\mathrm{Rand}}}
# ```
#
# Verdicts are by the interval {eq}`eq-verdict` of {doc}`23_cdcl_results`.

# %% [markdown]
# ```{admonition} Not the paper's screen
# :class: important
# The paper's numbers are from JUMP-CP, 117,000 compounds in 13 labs. Ours are from a
# [simulated screen](card-simulated) of some hundreds or thousands of compounds, whose phenotypes depend
# in part on the molecule and in part on nothing that can be known. **The order of methods can be
# compared, absolute numbers cannot.**
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
results = "book/results"  # folder of records, from the top of the checkout
presets = "quick,standard,full"  # whose records to show, the strongest evidence last
preset = "quick"  # of the space that is asked at the end: its size, its training
seed = 0  # of that space
ask = True  # train a space here and ask it; otherwise the page ends with the ledger
asked_method = "emm"  # clip, emm, imm or ecfp
asked_steps = 400  # optimiser steps at most; its record is named "asked" where the preset has more
asked_smiles = ""  # SMILES to find wells for; "": of a compound that was held out
asked_plate = ""  # plate of a well to find molecules for; "": of a compound that was held out
asked_well = ""  # its well, as "B02"

# %%
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from sklearn.neighbors import NearestNeighbors

from hcs_utils import (
    crossmodal_switches,
    crossmodal_tables,
    files,
    paper_tables,
    records,
    runs,
    switches,
)
from hcs_utils.crossmodal_tables import BASELINES, GENERAL, HITS, METHODS, WAYS
from hcs_utils.evaluation import figure_crossmodal, figure_ledger, figure_results, figures

runs.refuse_unknown(globals())
warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated", FutureWarning)

# %% [markdown]
# ## The records
#
# One small file a run. Whatever is printed below was computed from them, now.

# %%
root = (files.checkout() or Path.cwd()) / results
loaded = records.load_records(root)
own = [crossmodal_tables.EXPERIMENT, crossmodal_tables.VARIANTS]
simulated = loaded["screen"].astype(str).str.startswith("simulated")
wanted = [name.strip() for name in presets.split(",")]
found = loaded[simulated & loaded["experiment"].isin(own) & loaded["preset"].isin(wanted)]
normal = found[found["variant"] == ""]
there = [name for name in wanted if (normal["preset"] == name).any()]
every = METHODS | BASELINES
count = pd.crosstab(normal["method"], normal["preset"])
count = count.reindex(index=[*every], columns=wanted, fill_value=0)
count.rename(index=every).rename_axis(index=None, columns=None)

# %% [markdown]
# **Read this as.** Number of runs, over seeds. A zero is a gap in what we know; a preset without any run
# has no column below. The first three are the paper's. *CLIP on ECFP* reads molecules as
# {term}`ECFP` bits, not as graphs. The others are no spaces that were learned together: an untrained
# one; images known by their place on the plate, by their brightness, or by a network that CDCL trained
# and that has seen no molecule, to which a ridge regression maps the fingerprints.
#
# Runs are only compared when they differ in method and seed and in nothing else. That is checked.

# %%
for name in there:
    of = normal[normal["preset"] == name]
    full = pd.DataFrame([*of["parameters"]]).drop(columns=["method", "seed", "variant"])
    differing = [column for column in full if full[column].astype(str).nunique() > 1]
    assert not differing, f"records of preset {name} differ in {differing}"
    assert of["manifest_sha256"].nunique() == 1, f"records of {name} are of different screens"
    first = of.iloc[0]
    print(
        f"{name}: {len(of)} runs, one screen; {first['compounds']:.0f} compounds held out, ", end=""
    )
    print(f"pools of {first['pool']:.0f}; {of['seconds'].sum() / 60:.0f} min of training")
if not there:
    print("not run: there are no records of cross-modal runs in", root.name)

# %%
best_known = paper_tables.strongest(normal, "m2i_mrr", there, ("clip", "emm"))
best_known = best_known or (there[-1] if there else wanted[0])
strongest, shown = normal[normal["preset"] == best_known], there or wanted[:1]
paper, several = crossmodal_tables.tables(), strongest["seed"].nunique()
print(f"strongest evidence: preset {best_known}, {several} seeds")

# %% [markdown]
# ## Tables 2 and 1, paper beside ours
#
# Molecule to image first, of which the text that we have holds every number; then image to molecule, of
# which it holds none. Shares of 1 in random {term}`pools <pool>`, one field of each compound drawn anew for each;
# ours mean ± standard deviation over seeds, their number in brackets. The paper's *Random* is what guessing
# gives; our row of that place is a space before training.

# %%
names = {"random": "Random"} | METHODS | {"ecfp": BASELINES["ecfp"]}
for way, number in (("m2i", 2), ("i2m", 1)):
    metrics = {f"{way}_{key}": title for key, title in HITS.items()}
    table = crossmodal_tables.beside(paper, normal, metrics, names, shown)
    assert (table.loc["paper"].iloc[:4] == "missing").all(axis=None) == (number == 1)
    display(Markdown(f"**Table {number}: {WAYS[way]}**"), table.rename_axis([None, None]))

# %% mystnb={"figure": {"name": "fig-found-again", "caption": "Retrieval on compounds that were held out, preset with the strongest evidence. Bars: mean over seeds; lines on them: interval over compounds; dashed: what guessing gives; ticks: the paper, of which image to molecule is missing."}, "image": {"alt": "Six panels, two directions by three metrics; a bar for each method and baseline, a dashed line at chance, ticks at the paper's values."}}
metrics = {f"{way}_{key}": f"to {title.split()[-1]}, {HITS[key]}" for way, title in WAYS.items()
           for key in ("hr1", "hr10", "mrr")}  # fmt: skip
lines = {metric: f"chance_{metric[4:]}" for metric in metrics}
if there:
    table = crossmodal_tables.for_bars(paper, strongest, metrics, every, lines)
    known = table.dropna(subset=["value"])
    assert known["value"].between(0, 1).all() and known["line"].gt(0).all()
    display(
        figure_crossmodal.bars(table, f"of 1, preset {best_known}", floors=[*BASELINES.values()])
    )

# %%
if there:
    mrr = {way: strongest.groupby("method")[f"{way}_mrr"].mean() for way in WAYS}
    lines = [
        f"{WAYS[way]}: "
        + ", ".join(f"{every[m]} {v:.3f}" for m, v in of.sort_values(ascending=False).items())
        for way, of in mrr.items()
    ]
    chance = strongest["chance_mrr"].mean()
    display(Markdown(f"**Read this as.** MRR, best first. {'; '.join(lines)}. "
                     f"Guessing gives {chance:.3f}. Compare orders, not sizes."))  # fmt: skip

# %% [markdown]
# ## Is it the molecule, or only its size and grease?
#
# Random pools hold small molecules and large ones, greasy and polar. A space that knows those seven
# numbers only would be far above guessing. In *matched* pools all candidates are like the partner in
# them; in *unmatched* ones, of the same number, they are random. *Shuffled* gives molecules to images at
# random: the null of the whole judgement. *Well* and *compound* ask with the mean of several fields.

# %%
forms = {"unmatched": "random, small", "matched": "matched", "": "random", "well": "well",
         "mean": "compound", "1000": "1:1000", "shuffled": "shuffled"}  # fmt: skip
for way, title in WAYS.items():
    metrics = {f"{way}_mrr{'_' * bool(form)}{form}": name for form, name in forms.items()}
    metrics = {metric: name for metric, name in metrics.items() if metric in strongest}
    table = crossmodal_tables.beside(paper, strongest, metrics, every, [best_known])
    if there:
        display(Markdown(f"**MRR, {title}**"), table.loc[best_known].rename_axis(None))

# %%
if there:
    small, size = strongest["chance_mrr_matched"].mean(), strongest["matched_pool"].mean()
    lost = {}
    for way in WAYS:
        of = (
            strongest.groupby("method")[[f"{way}_mrr_unmatched", f"{way}_mrr_matched"]].mean()
            - small
        )
        lost[way] = (1 - of.iloc[:, 1] / of.iloc[:, 0]).reindex([*METHODS]).dropna()
    means = (
        strongest.groupby("method")[["m2i_mrr", "m2i_mrr_mean"]]
        .mean()
        .reindex([*lost["m2i"].index])
    )
    gain = ", ".join(f"{METHODS[m]} {b:.2f} in place of {a:.2f}" for m, (a, b) in means.T.items())
    null = strongest["m2i_mrr_shuffled"].mean() - strongest["chance_mrr"].mean()
    assert abs(null) < 0.05
    said = "; ".join(f"{title}: " + ", ".join(f"{METHODS[m]} {round(100 * v)} %" for m, v in lost[w].items())
                     for w, title in WAYS.items())  # fmt: skip
    display(Markdown(
        f"**Read this as.** Small pools have {size:.0f} candidates (guessing: MRR {small:.3f}). Of what "
        f"each finds beyond guessing, matching takes away: {said}. What stays is knowledge of more than "
        f"size and grease. With the mean of a compound's fields for one field, MRR to images is {gain}; "
        f"shuffled pairs lie {null:+.3f} from guessing."))  # fmt: skip

# %% [markdown]
# ## The floors
#
# A method that reads cells must beat what needs no cell. *Well position* knows where a well lies and
# nothing else: if it found compounds, layouts would leak. *Untrained* is the null, *intensity* the
# baseline, *CDCL's images* say what joint training adds to images that were learned alone, *ECFP* what
# a graph adds to bits.

# %%
floors = [
    ("ours", f"{METHODS[m]} above: {BASELINES[b]}, {WAYS[way]}", f"{way}_mrr", m, b)
    for way in WAYS
    for m in METHODS
    for b in BASELINES
]
floors = pd.DataFrame(floors, columns=["part", "claim", "metric", "better", "worse"])
floors = crossmodal_tables.judge(floors, paper, normal, wanted)
words = [*paper_tables.WORDS]
for way, title in WAYS.items():
    of = floors[floors["metric"] == f"{way}_mrr"]
    text = of["difference"].map("{:+.3f} ".format).replace("+nan ", "") + of["verdict"]
    table = of.assign(text=text).pivot(index="worse", columns="better", values="text")
    table = table.loc[[*BASELINES], [*METHODS]].rename(index=BASELINES, columns=METHODS)
    display(Markdown(f"**More MRR than, {title}**"), table.rename_axis(index=None, columns=None))

# %% [markdown]
# **Read this as.** Differences in MRR over the same seeds, and the verdict of the one rule on "above". *partly*
# says that the mean is above and the interval is not.

# %% [markdown]
# ## Table 3: the batch effect
#
# The {term}`target` of a compound from its image, by logistic regression on the raw projections. *Random*
# splits fields, so that fields of one well are on both sides; then whole wells, plates, batches and sources
# are held out, each a fifth of them, five times. Rows are fields of compounds that the space has not seen.
# The paper gives $G_{NSS}$ only.

# %%
rest = METHODS | {m: BASELINES[m] for m in ("random", "intensity", "cdcl", "ecfp")}
metrics = {"target_random_logistic": "Acc, random", "target_well_logistic": "Acc, wells apart"}
for classifier, title in (("logistic", "logistic regression"), ("knn", "3-NN")):
    chosen = {m.replace("logistic", classifier): name for m, name in (metrics | GENERAL).items()}
    said = paper if classifier == "logistic" else paper[:0]
    table = crossmodal_tables.beside(said, normal, chosen, rest, shown)
    if classifier == "knn":
        table = table.drop(index="paper")
    display(Markdown(f"**{title}**"), table.rename_axis([None, None]))

# %% mystnb={"figure": {"name": "fig-labs-apart", "caption": "Generalisation: the accuracy that is left with wells, plates, batches or sources apart, over that of the random split. Logistic regression; bars: mean over seeds, lines on them: mean t interval over five splits. Dashed: nothing lost. Ticks: the paper."}, "image": {"alt": "Four panels, G of wells, plates, batches and sources; a bar a method and a dashed line at one."}}
if there and "target_chance" in strongest:
    table = crossmodal_tables.for_bars(paper, strongest, GENERAL, rest, dict.fromkeys(GENERAL, 1.0))
    display(
        figure_crossmodal.bars(
            table, f"preset {best_known}", "nothing lost", 2, [*BASELINES.values()]
        )
    )

# %%
if there and "target_chance" in strongest:
    splits = ("random", "well", "plate", "batch", "source")
    table = strongest.groupby("method")[[f"target_{s}_logistic" for s in splits]].mean()
    table = table.set_axis(splits, axis=1).reindex([*rest]).dropna(how="all").rename(index=rest)
    chance, fields = (strongest[f"target_{c}"].mean() for c in ("chance", "fields"))
    assert table.stack().between(0, 1).all()
    print(f"{strongest['targets'].mean():.0f} targets, {fields:.0f} fields; ", end="")
    print(f"the largest target alone: {chance:.3f}; targets shuffled among wells, 3-NN: ", end="")
    print(f"{strongest['target_well_knn_shuffled'].mean():.3f}")
    display(table.round(3).rename_axis(None))

# %% [markdown]
# **Read this as.** Read both tables: $G$ is a ratio, and who finds nothing has nothing to lose, so that a
# poor encoder can have a $G$ near 1. And it is small questions that are asked: two labs of ten held out in
# the paper, one of few here, five times; intervals are long. Which split is the base matters, too (32 in the
# ledger):

# %%
if there and "g_nss_logistic_wells" in strongest:
    of = strongest.groupby("method")[["g_nss_logistic", "g_nss_logistic_wells"]].mean()
    table = of.reindex([*rest]).dropna(how="all").rename(index=rest).round(3)
    display(table.set_axis(["over fields, as released", "over wells"], axis=1).rename_axis(None))

# %% [markdown]
# **Read this as.** $G_{NSS}$ over either base. Where the second is larger, what fields of one well share had
# raised the accuracy of the random split, and with it the denominator.

# %%
if there and "g_nss_logistic" in strongest:
    ours = strongest.groupby("method")["g_nss_logistic"].mean().reindex([*METHODS]).dropna()
    theirs = paper[paper["metric"] == "g_nss_logistic"].set_index("method")["mean"]
    said = ", ".join(
        f"{METHODS[m]} {value:.2f} (paper {theirs[m]:.2f})" for m, value in ours.items()
    )
    more = "less is lost here" if ours.mean() > theirs.mean() else "more is lost here"
    display(Markdown(
        f"**Why we think so.** {said}: on average {more} than in the paper. One difference is known: our "
        "pixels are scaled plate by plate by control wells before any network sees them, the paper's only "
        "from 0 to 1. How much that does for EMM is in the ledger (*pixels*); that it explains the "
        "paper's numbers is a guess. Ours also has fewer labs."))  # fmt: skip

# %% [markdown]
# ## Figure 2: a map by source
#
# Fields of compounds that were held out, placed by UMAP of cosines, coloured by lab. Made once from
# trained weights by `workflow/crossmodal_maps.py`.

# %% mystnb={"figure": {"name": "fig-crossmodal-sources", "caption": "As figure 2 of the paper: fields of compounds that were held out, by source, in the spaces of CLIP, EMM and IMM."}, "image": {"alt": "Three maps of fields, one a method, coloured by source."}}
having = [name for name in wanted if (root / name / "crossmodal_maps.parquet").exists()]
maps, points = pd.DataFrame(), {}
if having:
    maps = pd.read_parquet(root / having[-1] / "crossmodal_maps.parquet")
    points = {
        METHODS[m]: maps[[f"{m}.x", f"{m}.y"]].to_numpy(float) for m in METHODS if f"{m}.x" in maps
    }
    display(figures.umap_panels(points, maps["source"].astype(str), what="source"))
else:
    print(
        "No map is stored here; workflow/crossmodal_maps.py makes them from the weights of a grid."
    )

# %%
rows = {}
for name, xy in points.items():
    assert np.isfinite(xy).all()
    near = NearestNeighbors(n_neighbors=11).fit(xy).kneighbors(xy, return_distance=False)[:, 1:]
    for column in ("source", "compound"):
        code = maps[column].cat.codes.to_numpy()
        rows.setdefault(name, {})[column] = f"{100 * (code[near] == code[:, None]).mean():.1f} %"
if rows:
    any_two = {c: f"{100 * (maps[c].value_counts(normalize=True) ** 2).sum():.1f} %"
               for c in ("source", "compound")}  # fmt: skip
    display(pd.DataFrame(rows | {"any two fields": any_two}).T)

# %% [markdown]
# **Read this as.** What the ten nearest fields on the map share with a field. Sources mix where the first column is
# near its last line; the second says whether what they mix around is the compound. A map shows what is
# loud, and is no evidence beside the tables.

# %% [markdown]
# ## At equal images
#
# In a step CLIP sees one image of each compound, EMM and IMM as many as they have views. Here CLIP gets
# minibatches with as many images as theirs, and so as many times the compounds, whose molecules are more
# negatives for each image, too. If several views are worth something beyond more images,
# EMM and IMM stay above it.

# %%
wide = found[found["variant"].eq("clip-wide")].assign(method="clip_wide")
titles = METHODS | {"clip_wide": "CLIP, as many images"}
for name in wanted:
    here = pd.concat([normal[normal["preset"] == name], wide[wide["preset"] == name]])
    if not (here["method"] == "clip_wide").any():
        print(f"{name}: CLIP with as many images was not run")
        continue
    rows = {}
    for method in ("emm", "imm", "clip"):
        for way, title in WAYS.items():
            pairs = here.pivot_table(index="seed", columns="method", values=f"{way}_mrr")
            pairs = pairs.reindex(columns=[method, "clip_wide"]).dropna()
            d, low, high = records.t_interval((pairs[method] - pairs["clip_wide"]).to_numpy())
            text = f"{d:+.3f}" + ("" if np.isnan(low) else f" ({low:+.3f} to {high:+.3f})")
            rows.setdefault(titles[method], {})[title] = text
    table = pd.DataFrame(rows).T.assign(seeds=len(pairs))
    own = [f"{here.loc[here['method'] == 'clip_wide', f'{way}_mrr'].mean():.3f}" for way in WAYS]
    display(Markdown(f"**MRR above CLIP with as many images, preset {name}** (its own: "
                     f"{own[0]} {WAYS['i2m']}, {own[1]} {WAYS['m2i']})"), table)  # fmt: skip

# %% [markdown]
# **Read this as.** The last line is what more images, and more negatives, give CLIP itself, with its sign
# turned. A line whose interval holds 0 says that this loss and CLIP could not be told apart once both had
# seen as many images; one that lies above 0 is what several views of a compound add.

# %% [markdown]
# ## Real cells: seven plates of CPJUMP1
#
# Does any of it hold on a real screen? The image side is the CellProfiler profile of a well through
# a small network, the molecule side the compound's real SMILES, as bits or as a graph; U2OS cells, 24 and 48
# hours. A third of the compounds is held out, a hundred are a pool. *Shuffled pairs* is the whole of it with
# molecules given to wells at random, *position* EMM with a well's row and column in place of its profile:
# every plate has the same layout. `benchmarks/real_cpjump1_crossmodal.py` makes these records.

# %%
real = loaded[loaded["screen"].eq("cpjump1") & loaded["experiment"].eq("crossmodal")]
kinds = {f"{m}_{e}": f"{title}, {bits}" for e, bits in (("ecfp", "bits"), ("gin_small", "graphs"))
         for m, title in METHODS.items()}  # fmt: skip
kinds |= {f"shuffled_{m}_ecfp": f"shuffled pairs, {title}" for m, title in METHODS.items()}
kinds |= {"position_emm_ecfp": "position", "random_ecfp": "untrained"}
metrics = {f"{way}_{key}": f"{HITS[key]}, {way}" for way in WAYS for key in ("hr1", "hr10", "mrr")}
if len(real):
    table = crossmodal_tables.beside(paper[:0], real, metrics, kinds, ["real"])
    display(table.loc["real"].rename_axis(None))
else:
    print("not run: there are no records of this screen")

# %%
if len(real):
    mrr = real.pivot_table(index="seed", columns="method", values="m2i_mrr")
    above = {m: records.t_interval((mrr[f"{m}_ecfp"] - mrr[f"shuffled_{m}_ecfp"]).to_numpy())
             for m in METHODS}  # fmt: skip
    place = {m: records.t_interval((mrr[f"{m}_ecfp"] - mrr["position_emm_ecfp"]).to_numpy())
             for m in METHODS}  # fmt: skip
    lines = {m: [f"{d:+.3f} ({low:+.3f} to {high:+.3f})" for d, low, high in (above[m], place[m])]
             for m in METHODS}  # fmt: skip
    columns = ["above shuffled pairs", "above position"]
    display(pd.DataFrame(lines, columns).T.rename(index=METHODS))
    nulls = mrr[[f"shuffled_{m}_ecfp" for m in METHODS]].mean()
    assert (nulls - real["chance_mrr"].mean()).abs().max() < 0.02  # shuffled pairs teach nothing
    sure = [METHODS[m] for m, (_, low, _) in above.items() if low > 0]
    far = [METHODS[m] for m, (_, low, _) in place.items() if low > 0]
    print(f"certainly above shuffled pairs: {', '.join(sure) or 'none'}; above position: ", end="")
    print(f"{', '.join(far) or 'none'} (MRR, molecule to image, bits, {len(mrr)} seeds)")

# %% [markdown]
# **Read this as.** In brackets 95 % over seeds, each of which holds other compounds out. A line above 0 says
# that something was learned that carries over to compounds never seen; its size says how little, on a few
# hundred compounds. Steps, width and dropout were **not chosen blind**: four or five settings were tried on
# other splits of the same compounds, so the level may flatter. The nulls had the same settings.

# %% [markdown]
# ## Verdicts, by rule
#
# The claims stand in `book/paper/crossmodal_claims.csv` and were written before the first record was made.
# "Neither wins everywhere" is that each of EMM and IMM is ahead of the other in MRR of one direction, or in
# $G_{NSS}$. That IMM is ahead from image to molecule is read from the text's words: its table is missing.

# %%
asked = crossmodal_tables.claims()
judged = crossmodal_tables.judge(asked, paper, normal, wanted)
judged["paper's"] = judged["paper"] - judged["paper_worse"]
ours = judged[["difference", "low", "high"]].to_numpy()
judged["ours (95 %)"] = [
    "" if np.isnan(d) else f"{d:+.3f}" + ("" if np.isnan(low) else f" ({low:+.3f} to {high:+.3f})")
    for d, low, high in ours
]
judged["pairs"] = judged["pairs"].astype(str).replace("0", "") + judged["preset"].map(" {}".format)
said = judged["paper's"].map("{:+.3f}".format).replace("+nan", "missing")
columns = ["metric", "paper", "ours (95 %)", "pairs", "verdict"]
judged.assign(paper=said).set_index("claim")[columns].rename_axis(None)

# %% mystnb={"figure": {"name": "fig-crossmodal-gains", "caption": "Each claim's difference between two methods, in MRR or in G: ours with its 95 % interval over seeds, and the paper's as a tick where the text has it."}, "image": {"alt": "One row a claim with our difference, its interval, the paper's difference and the verdict."}}
drawn = judged[["claim", "difference", "low", "high", "verdict"]]
figure_results.gains(drawn.assign(paper=judged["paper's"]), "difference")

# %%
titles = {"retrieval": "EMM and IMM beat CLIP in both directions", "neither": "neither wins everywhere",
          "sources": "source generalisation rises CLIP < EMM < IMM"}  # fmt: skip
assert set(judged["part"]) == set(titles) and judged["verdict"].isin(words).all()
for part in ("retrieval", "sources"):
    word = paper_tables.weakest([*judged.loc[judged["part"] == part, "verdict"]])
    print(f"{titles[part]}: {word} (all its claims must hold)")
print(
    f"{titles['neither']}: {crossmodal_tables.neither(normal, wanted)} (each ahead in one metric)"
)
winners = crossmodal_tables.ahead(strongest, [*GENERAL, *(f"{w}_{k}" for w in WAYS for k in HITS)])
counted = winners["best"].map(METHODS).value_counts()
print(
    "highest mean of the three:",
    ", ".join(f"{m} in {n} metrics" for m, n in counted.items()) or "–",
)
paper_tables.by_preset(asked, normal, shown)

# %% [markdown]
# **Read this as.** A verdict sees the direction and its certainty over seeds, not the size, and seeds hold the
# same compounds out unless the fold changes. CLIP sees one image of a compound in a step and EMM as many as
# it has views: at equal steps they do not see equally many. **A verdict above is of equal
# compounds, not of equal images**: the tables of the section *At equal images* say what then is left.

# %% [markdown]
# ## The ledger: paper says, code does
#
# Numbers 23 to 38 go on where {doc}`24_cdcl_ledger` ends. In brackets the 95 % interval over pairs of runs,
# then their number and the preset. Unless said otherwise the number is of MRR, molecule to image, in
# points: hundredths.

# %%
ledger = crossmodal_switches.LEDGER
changed = switches.effects(
    found, ledger, crossmodal_switches.OUTCOMES, crossmodal_switches.EXPERIMENT,
    crossmodal_switches.VARIANTS,
)  # fmt: skip
main = {s.name: s.metrics[0][0] if s.metrics else crossmodal_switches.OUTCOMES[0] for s in ledger}
first = changed[changed["metric"] == changed["switch"].map(main)].copy()
first[["difference", "low", "high"]] *= 100
told = {}
for row in first.itertuples():
    ends = "" if np.isnan(row.low) else f" ({row.low:+.1f} to {row.high:+.1f})"
    text = (
        f"{METHODS[row.method]} <b>{row.difference:+.1f}</b>{ends}, n = {row.pairs}, {row.preset}"
    )
    told.setdefault(row.switch, []).append(text if row.pairs else f"{METHODS[row.method]} not run")

# %%
lines = {}
for switch in ledger:
    effect = f"not measured: {switch.reason}" if switch.reason else "<br>".join(told[switch.name])
    line = lines.setdefault(switch.number or switch.name, {"paper": [], "code": [], "effect": []})
    line["paper"].append(switch.paper)
    line["code"].append(f"{switch.code} <i>{switch.evidence}</i>: {switch.where}")
    here = f"<br><code>{switch.setting}</code>" if switch.setting != "none" else ""
    line["effect"].append(f"{switch.label}{here}<br>{effect}" if switch.label else effect)
table = {
    key: {column: "<br><br>".join(dict.fromkeys(texts)) for column, texts in line.items()}
    for key, line in lines.items()
}
table = pd.DataFrame(table).T.replace(r"`([^`]+)`", r"<code>\1</code>", regex=True)
table.columns = ["the paper says", "the code does", "here, and what it changes (points)"]
fits = "text-align: left; vertical-align: top; overflow-wrap: anywhere"
left = [
    {"selector": "", "props": "display: table; table-layout: fixed; width: 100%"},
    {"selector": "td, th", "props": fits},
    {"selector": "code", "props": "white-space: normal"},
    {"selector": "th.blank, th.row_heading", "props": "width: 8em"},
]
display(table.style.set_uuid("crossmodal-ledger").set_table_styles(left))

# %% mystnb={"figure": {"name": "fig-crossmodal-ledger", "caption": "What each measured switch changes, code minus paper or as labelled, in points: mean of paired differences and 95 % t interval. Full marks: the interval leaves 0 out. MRR, molecule to image, or G of sources where the label says so. Grey band: the interval of arithmetic alone, CLIP."}, "image": {"alt": "A row for each measured switch and method with its difference, interval and number of pairs; a vertical line at 0."}}
numbers = [name for name in lines if name[0].isdecimal()]
assert numbers == [*map(str, range(23, 39))]
labels = {s.name: f"{s.number} {s.label}".strip() for s in ledger}
of = first[(first["pairs"] > 0)].copy()
null = (
    of[(of["switch"] == "bf16") & (of["method"] == "clip")][["low", "high"]].to_numpy(float).ravel()
)
of["name"] = of["switch"].map(labels) + ", " + of["method"].map(METHODS)
of["kind"] = np.where(of["switch"].isin([s.name for s in ledger if s.metrics]),
                      "same weights, judged twice", "trained twice")  # fmt: skip
band = tuple(null) if len(null) == 2 and np.isfinite(null).all() else None
if len(of):
    drawn = of[of["switch"] != "bf16"]
    display(figure_ledger.forest(drawn, "difference, points", band, "arithmetic, 16 − 32 bits"))

# %%
print(f"{of['switch'].nunique()} of {first['switch'].nunique()} switches measured, ", end="")
print(f"{sum(bool(s.reason) for s in ledger)} places with no number to measure")

# %% [markdown]
# **Read this as.** As in {doc}`24_cdcl_ledger`: where the same weights are judged twice only the judge differs, and
# small effects are seen; where a space is trained twice, each pair holds the luck of two trainings, and 0
# inside an interval means *not told apart*. What counts as large here is a change beside the differences
# between methods above: a paper's table says what its judge and its settings made of it, too.

# %% [markdown]
# ## Ask the space
#
# Numbers say how often a partner is found. Now one space is trained on the preset's screen, for
# `asked_steps` at most, and asked.

# %%
network = None
if ask:
    from hcs_utils import crossmodal, crossmodal_assemble, crossmodal_settings, prepare

    given = runs.preset(preset) | {"crossmodal_method": asked_method, "seed": seed}
    if given["crossmodal_steps"] > asked_steps:
        given |= {"crossmodal_steps": asked_steps, "crossmodal_variant": "asked"}
    settings = crossmodal_settings.from_parameters(given)
    screen = prepare.prepare(settings.screen, settings.size, settings.image_px)
    result = crossmodal.run(settings, screen, progress=False)
    weights = crossmodal.run_folder(settings, screen) / "model.safetensors"
    network = crossmodal.load(settings, screen, weights)
    print(
        f"{len(screen.table)} fields, {result.seconds:.0f} s of training; MRR, molecule to image: ",
        end="",
    )
    print(f"{result.metrics['m2i_mrr'][0]:.3f}, by chance {result.metrics['chance_mrr']:.3f}")
    print(os.path.relpath(result.record))

# %% [markdown]
# ### A molecule for its wells
#
# Any SMILES will do: `crossmodal_assemble.molecules` makes of it what the encoder reads, and what cannot be
# read is refused by name. By default, a compound that was held out, so that its wells are known and were
# not learned. Negative controls are left out.

# %%
from hcs_utils.evaluation import space_queries
from hcs_utils.learning.embed import features

if network is not None:
    treated = result.table["role"].ne("negcon").to_numpy()
    table = result.table[treated].reset_index(drop=True)
    z_wells, wells = space_queries.wells(features(result.embedding)[treated], table)
    unseen = wells[wells["split"] == "test"].drop_duplicates("compound")
    smiles = asked_smiles or unseen["smiles"].iloc[len(unseen) // 2]
    z = crossmodal.embed_molecules(
        network, crossmodal_assemble.molecules(settings, [smiles]), np.array([0])
    )
    answer = space_queries.answer(z[0], z_wells, wells, k=6)
    assert (
        answer["similarity"].is_monotonic_decreasing and answer["similarity"].between(-1, 1).all()
    )
    display(answer.drop(columns="site_id").set_index("rank"))

# %% mystnb={"figure": {"name": "fig-ask-molecule", "caption": "A molecule, and the field that stands for each of the six wells nearest to it."}, "image": {"alt": "A drawn molecule at the left; six fields of cells at the right, with well, compound and similarity."}}
if network is not None:
    rows = pd.Index(screen.table["site_id"]).get_indexer(answer["site_id"])
    captions = [
        f"{a.compound}, {a.plate} {a.well}  {a.similarity:.2f}" for a in answer.itertuples()
    ]
    fields = screen.store.read(rows)
    display(figure_crossmodal.wells_of_molecule(smiles, fields, screen.channels, captions, smiles))

# %%
if network is not None:
    own = wells["smiles"].eq(smiles).to_numpy()
    where = f"{smiles} was not on any plate: there is no right answer to check by."
    if own.any():
        place = space_queries.place(z[0], z_wells, own)
        by_luck = (len(wells) + 1) / (own.sum() + 1)
        part = wells.loc[own, "split"].iloc[0]
        where = (
            f"The compound has {own.sum()} wells of {len(wells)}, in the part *{part}*. The first of them "
            f"is number {place}; by chance it would be number {by_luck:.0f} on average."
        )
    alike = answer["smiles"].eq(smiles).sum()
    display(Markdown(f"**Read this as.** {where} Of the six shown {alike} are its own."))

# %% [markdown]
# ### A well for its molecules
#
# The other way: a well's fields are averaged, and all compounds of the library are ranked.

# %%
if network is not None:
    plate, well = asked_plate or unseen["plate"].iloc[0], asked_well or unseen["well"].iloc[0]
    row = space_queries.well_of(plate, well, wells)
    about = result.table.drop_duplicates("compound").set_index("compound")[
        ["smiles", "split", "role"]
    ]
    known = about.loc[result.molecules["compound"]].reset_index()
    some = known["role"].ne("negcon").to_numpy()
    z_molecules, known = features(result.molecules)[some], known[some].reset_index(drop=True)
    answer = space_queries.answer(z_wells[row], z_molecules, known, k=6)
    place = space_queries.place(
        z_wells[row], z_molecules, known["compound"].eq(wells["compound"][row])
    )
    display(answer.set_index("rank"))

# %% mystnb={"figure": {"name": "fig-ask-well", "caption": "A well's field, and the six molecules nearest to it."}, "image": {"alt": "A field of cells at the left; six drawn molecules at the right, with name and similarity."}}
if network is not None:
    at = pd.Index(screen.table["site_id"]).get_indexer([wells["site_id"][row]])
    captions = [f"{a.compound}  {a.similarity:.2f}" for a in answer.itertuples()]
    title = f"{plate} {well}"
    image = screen.store.read(at)[0]
    display(
        figure_crossmodal.molecules_of_well(
            image, screen.channels, answer["smiles"], captions, title
        )
    )

# %%
if network is not None:
    assert 1 <= place <= len(known)
    display(Markdown(
        f"**Read this as.** The well got {wells['compound'][row]}, which stands at place {place} of "
        f"{len(known)}; by chance it would be {(len(known) + 1) / 2:.0f} on average. Look at what the six "
        "have in common: a scaffold, a substituent? A space that has learned from molecules that are "
        "sums of parts can be near without being right."))  # fmt: skip

# %% [markdown]
# ## What we learned
#
# - The tables above are the answer, with their spread; what has no record says *not run*.
# - The paper's only floor is guessing. Molecules as bits and images learned without molecules are floors,
#   too: what a loss is worth is what lies above them.
# - Random pools can flatter whoever knows size and grease; a ratio can flatter whoever knows little.
# - The released code trains CLIP, EMM and IMM with other temperatures, heads, minibatches and directions.
# - Part of what several views seem to bring is that there are more images in a step: compare CLIP with as many.
#
# **What would change our mind.** More seeds and folds shorten the intervals. On a real screen positions and
# batches may tell what they cannot tell here. {doc}`../book/reproduce` says how to run preset paper.
#
# **Where paper and code disagree.** The ledger above. What we chose: losses as the equations have them,
# symmetric CLIP, one temperature for all, controls left out of training, pools drawn at random.

# %% [markdown]
# ## Exercises
#
# 1. *Predict.* Matched pools take something away from every method. From which of the floors least?
#
# ```{admonition} Solution
# :class: dropdown
# From those that find nothing in random pools, who have nothing to lose: untrained, position. Read the
# table of forms: a share of what lies above guessing means something only where there is some.
# ```
#
# 2. *Change one parameter.* Ask with `-p asked_smiles CCO`, which was on no plate.
#
# ```{admonition} Solution
# :class: dropdown
# There is always a nearest well, even for nonsense. Compare its similarity with that of a compound that
# was held out, and with the similarities of random pairs, before you believe an answer.
# ```
#
# 3. *Extend.* Add a claim of your own: CLIP on graphs finds more than CLIP on fingerprints.
#
# ```{admonition} Solution
# :class: dropdown
# One line in `book/paper/crossmodal_claims.csv`: `ours,Graphs beat bits,m2i_mrr,clip,ecfp`, and its part in
# the cell of the verdicts.
# ```

"""Slow loops of grit, average precision and not-same-compound accuracy; cytominer-eval's grit."""

import statistics

import numpy as np
import pandas as pd

from tests.oracles import cosine


def pearson(a, b) -> float:
    return cosine(np.asarray(a) - np.mean(a), np.asarray(b) - np.mean(b))


def grit(features, treatment, is_control, profile=None, form=np.mean):
    """Each profile's correlations with its mates, in sd of those with controls; pooled by id."""
    n = range(len(features))
    profile = list(n) if profile is None else list(profile)
    scores = []
    for p in n:
        own = [i for i in n if profile[i] == profile[p]]
        mates = [i for i in n if treatment[i] == treatment[p] and profile[i] != profile[p]]
        if is_control[p] or not mates:
            scores.append(float("nan"))
            continue
        controls = [pearson(features[i], features[c]) for i in own for c in n if is_control[c]]
        replicates = [pearson(features[i], features[m]) for i in own for m in mates]
        sd = statistics.pstdev(controls)
        scores.append(form([(r - statistics.fmean(controls)) / sd for r in replicates]))
    return np.array(scores)


def cytominer_grit(patch, features, treatment, is_control, profile, form):
    """The package itself, but for its groupby, whose groups pandas 3 strips of their own name."""
    patch.setitem(vars(np), "float", float)  # names that NumPy has dropped
    patch.setitem(vars(np), "str", str)
    fill = np.fill_diagonal
    patch.setattr(np, "fill_diagonal", lambda a, value: (a.setflags(write=True), fill(a, value)))
    from cytominer_eval.operations.util import assign_replicates, calculate_grit
    from cytominer_eval.transform import metric_melt
    from cytominer_eval.transform.util import set_grit_column_info

    table = pd.DataFrame(features).rename(columns="f{}".format)
    names = list(table)
    table["id"], table["group"] = profile, treatment
    melted = metric_melt(table, names, ["id", "group"], eval_metric="grit")
    melted = assign_replicates(melted, ["id", "group"])
    info = set_grit_column_info(profile_col="id", replicate_group_col="group")
    controls = sorted(set(table.id[is_control]))
    scores = {
        name: calculate_grit(rows, controls, info, replicate_summary_method=form).grit
        for name, rows in ((name, melted[melted.id_pair_a == name]) for name in set(table.id))
    }
    return np.where(is_control, np.nan, [scores[name] for name in table.id])


def average_precision(features, treatment, batch=None, is_control=None):
    """Walk down each row's list of positives and negatives; at a tie positives come first."""
    n = range(len(features))
    out = []
    for i in n:
        if is_control is not None and is_control[i]:
            out.append((float("nan"), 0, 0))
            continue
        ranked = []
        for j in n:
            similarity = round(cosine(features[i], features[j]), 6)
            if treatment[j] == treatment[i]:
                if j != i and (batch is None or batch[j] != batch[i]):
                    ranked.append((-similarity, 0))
            elif is_control is None or is_control[j]:
                ranked.append((-similarity, 1))
        found, precisions = 0, []
        for rank, (_, negative) in enumerate(sorted(ranked), start=1):
            if not negative:
                found += 1
                precisions.append(found / rank)
        out.append((np.mean(precisions) if found else float("nan"), found, len(ranked)))
    return np.array(out)


def nsc(features, compound, moa, batch=None):
    """For each row whether its nearest row of another compound (and batch) shares its mechanism,
    and whether any does."""
    right, possible = [], []
    for i in range(len(features)):
        others = [
            j
            for j in range(len(features))
            if compound[j] != compound[i] and (batch is None or batch[j] != batch[i])
        ]
        best = max(others, key=lambda j: cosine(features[i], features[j]), default=None)
        right.append(best is not None and moa[best] == moa[i])
        possible.append(any(moa[j] == moa[i] for j in others))
    return np.array(right), np.array(possible)

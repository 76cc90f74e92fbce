"""The CDCL paper's tables and claims (`book/paper/`), and our records beside them.

Haslum et al. 2023, tables 1 to 5. Shares are in per cent, grit is as it is; a metric has the name
that it has in our records.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hcs_utils import files, records
from hcs_utils.errors import InputError

METHODS = {
    "supervised": "Supervised", "dino": "SSL-DINO", "byol": "SSL-BYOL", "dino_cb": "SSL-DINO-CB",
    "byol_cb": "SSL-BYOL-CB", "cdcl": "CDCL",
}  # fmt: skip
BARLOW = {"dino_bl": "SSL-DINO-BL", "byol_bl": "SSL-BYOL-BL"}
BASELINES = {
    "random": "Random weights", "intensity": "Intensity statistics", "leaks": "All leaks joined",
}  # fmt: skip
SETTINGS = {  # of table 2b, by the variant that our records of them have
    "controls-only": "I", "treatments-only": "II", "half-treatments": "III",
    "half-images": "III_images",
}  # fmt: skip
WORDS = ("reproduced", "partly", "not", "not run")


def tables() -> pd.DataFrame:
    """Every number of tables 1 to 5: `table`, `metric`, `method`, `mean`, `sd`."""
    return _read("cdcl_tables.csv", ["table", "metric", "method", "mean", "sd"])


def claims() -> pd.DataFrame:
    """The paper's claims as comparisons: `part`, `claim`, `metric`, `better`, `worse`.

    Beside a method, `better` and `worse` may be a level, such as 0.05, or a method with a
    margin, such as "dino + 0.01": "not higher than DINO by more than one point".
    """
    return _read("cdcl_claims.csv", ["part", "claim", "metric", "better", "worse"])


def _read(name: str, columns: list[str]) -> pd.DataFrame:
    home = files.checkout()
    path = home and home / "book" / "paper" / name
    if path is None or not path.exists():
        raise InputError(
            f"book/paper/{name} holds the paper's numbers and is part of the project's checkout; "
            "run from inside it."
        )
    table = pd.read_csv(path, dtype={"table": str, "better": str, "worse": str})
    if list(table.columns) != columns or table.isna().any(axis=None):
        raise InputError(f"{path} must have the columns {', '.join(columns)}, all of them filled.")
    return table


# Our records


def with_settings(found: pd.DataFrame) -> pd.DataFrame:
    """Records of normal runs, and of the variants that tables 2a and 2b need, as one table.

    Of a run in setting I (II, III) only `knn_znorm` is kept, as `knn_znorm_I`; of one that was
    fine-tuned, what `nsc_moa` became. Column `setting` has the variant's name. Adds the metric
    `lift`, k-NN after Z-norm less k-NN before. `found` is what `records.load_records` gives.
    """
    keys = [*(key for key in records.KEYS if key != "metrics"), "variant"]
    normal = found[found["variant"] == ""].copy()  # else pandas warns of fragments
    parts = [normal.assign(lift=_column(normal, "knn_znorm") - _column(normal, "knn"))]
    for variant, setting in SETTINGS.items():
        of = found[found["variant"] == variant]
        name = f"knn_znorm_{setting}"
        parts.append(of[keys].assign(**{name: _column(of, "knn_znorm")}))
    tuned = found[found["variant"] == "finetuned"]
    parts.append(
        tuned[keys].assign(
            nsc_moa_finetuned=_column(tuned, "nsc_moa_finetuned"),
            nsc_moa_chance=_column(tuned, "nsc_moa_chance"),
        )
    )
    parts = [part.assign(setting=part["variant"], variant="", experiment="cdcl") for part in parts]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    return table[name] if name in table else pd.Series(np.nan, table.index, dtype=float)


def beside(
    paper: pd.DataFrame,
    found: pd.DataFrame,
    metric: str,
    names: Mapping[str, str],
    presets: Sequence[str],
) -> pd.DataFrame:
    """One metric, a row a method: what the paper says, and ours with each preset, as text.

    `names` maps methods to the rows' titles. Mean ± standard deviation; ours with the number of
    runs in brackets, or "not run". Where the paper has no number, a dash.
    """
    scale, digits = _scale(metric)
    said = paper[paper["metric"] == metric].drop_duplicates("method").set_index("method")
    table = {
        "paper": [
            f"{_printed(said.at[m, 'mean'])} ± {_printed(said.at[m, 'sd'])}"
            if m in said.index
            else "–"
            for m in names
        ]
    }
    for preset in presets:
        ours = records.summary(found[found["preset"] == preset], metric)
        table[preset] = [_told(ours, method, scale, digits) for method in names]
    return pd.DataFrame(table, index=list(names.values()))


def _printed(number: float) -> str:
    """One decimal, or two where the paper has two."""
    return f"{number:.1f}" if round(number, 1) == number else f"{number:.2f}"


def _told(ours: pd.DataFrame, method: str, scale: float | int, digits: int) -> str:
    if method not in ours.index:
        return "not run"
    mean, sd, n = ours.loc[method, ["mean", "sd", "n"]]
    spread = "" if np.isnan(sd) else f" ± {scale * sd:.{digits}f}"
    return f"{scale * mean:.{digits}f}{spread} ({n:.0f})"


def _scale(metric: str) -> tuple[int, int]:
    """What a metric of our records is multiplied by to stand beside the paper's, and digits."""
    return (1, 2) if metric.startswith("grit") else (100, 1)


def strongest(
    found: pd.DataFrame, metric: str, presets: Sequence[str], methods: Sequence[str] = ("cdcl",)
) -> str | None:
    """The last of `presets` in which all `methods` have the metric in two runs or more, else once.

    None where there is no such preset.
    """
    if metric not in found:
        return None
    counted = found.dropna(subset=[metric]).groupby(["preset", "method"]).size().to_dict()
    for least in (2, 1):
        having = [
            p for p in presets if all(counted.get((p, method), 0) >= least for method in methods)
        ]
        if having:
            return having[-1]
    return None


# Claims


def judge(
    asked: pd.DataFrame, paper: pd.DataFrame, found: pd.DataFrame, presets: Sequence[str]
) -> pd.DataFrame:
    """Each claim of `asked` by `records.verdict`, with the strongest of `presets` that can.

    That is the last in which both methods ran in two folds or seeds or more, else in one. Adds
    `preset` ("" where not run), `paper` and `paper_worse` (the paper's numbers, NaN where it has
    none), and `factor`: the mean of `better` over that of `worse`.
    """
    rows = []
    for claim in asked.itertuples():
        claimed = records.Claim(claim.claim, claim.metric, claim.better, claim.worse)
        leveled = with_levels(found, claim.metric, (claim.better, claim.worse))
        judged = {
            preset: records.verdict([claimed], leveled[leveled["preset"] == preset]).iloc[0]
            for preset in presets
        }
        able = [p for p in presets if judged[p]["pairs"] > 1]
        able = able or [p for p in presets if judged[p]["pairs"]]
        row = judged[able[-1] if able else presets[0]].to_dict()
        means = records.summary(leveled[leveled["preset"].isin(able[-1:])], claim.metric)["mean"]
        ours = [means.get(m, np.nan) for m in (claim.better, claim.worse)]
        row |= {"part": claim.part, "better": claim.better, "worse": claim.worse}
        row |= {"preset": able[-1] if able else "", "factor": _over(*ours)}
        row["paper"], row["paper_worse"] = (
            said(paper, claim.metric, name) for name in (claim.better, claim.worse)
        )
        rows.append(row)
    return pd.DataFrame(rows)


def by_preset(asked: pd.DataFrame, found: pd.DataFrame, presets: Sequence[str]) -> pd.DataFrame:
    """The verdict on each claim (rows) with each preset (columns)."""
    words = {}
    for preset in presets:
        of = found[found["preset"] == preset]
        words[preset] = [
            records.verdict(
                [records.Claim(c.claim, c.metric, c.better, c.worse)],
                with_levels(of, c.metric, (c.better, c.worse)),
            )["verdict"].item()
            for c in asked.itertuples()
        ]
    return pd.DataFrame(words, index=asked["claim"].tolist())


def with_levels(found: pd.DataFrame, metric: str, names: Sequence[str]) -> pd.DataFrame:
    """Records, and for every name that is a level or has a margin, one such row a run.

    "0.05" is a method that has 0.05 in every run, "dino + 0.01" one that has DINO's and 0.01 more.
    A claim about it is then judged by the one rule.
    """
    parts = [found]
    for name in names:
        method, margin = _parsed(name)
        if metric not in found or (method and not margin):
            continue
        of = found[found["method"] == method] if method else found.drop_duplicates(_RUN)
        value = of[metric] + margin if method else margin
        parts.append(of.assign(method=name, **{metric: value}))
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else found


_RUN = ["screen", "preset", "experiment", "variant", "fold", "seed"]


def _parsed(name: str) -> tuple[str, float]:
    """A method and a margin; a level has no method."""
    matched = re.fullmatch(r"(?:([a-z_]+)(?: \+ )?)?(\d+(?:\.\d+)?)?", name.strip())
    if not matched or not name.strip():
        raise InputError(f"{name!r} is no method, level, or method with a margin ('dino + 0.01').")
    return matched[1] or "", float(matched[2] or 0)


def said(paper: pd.DataFrame, metric: str, name: str) -> float:
    """The paper's mean for a method, or the level itself; NaN where there is none.

    A margin is left out: it is ours. `lift` is k-NN after Z-norm less k-NN before.
    """
    method, margin = _parsed(name)
    scale, _ = _scale(metric)
    if not method:
        return scale * margin
    if metric == "lift":
        return said(paper, "knn_znorm", method) - said(paper, "knn", method)
    here = paper.loc[(paper["metric"] == metric) & (paper["method"] == method), "mean"]
    return float(here.iloc[0]) if len(here) else np.nan


def _over(better: float, worse: float) -> float:
    return better / worse if worse > 0 else np.nan


def weakest(verdicts: Sequence[str]) -> str:
    """The verdict on several claims that must hold together."""
    if unknown := set(verdicts) - set(WORDS):
        raise InputError(f"{sorted(unknown)[0]!r} is no verdict; there are: {', '.join(WORDS)}.")
    if "not" in verdicts:
        return "not"
    return max(verdicts, key=WORDS.index)

"""Ten labels on real images: crops chosen by the tool beside crops drawn by lot.

The trials are those of `real_qc.py`, judged by measures of image quality: MitoCheck's nuclei with
one abnormal in five and with three in five, BBBC006's squares with three in ten out of focus (nine
fields are in focus, so that half of them allow for 25 labels at most), and BBBC021's fields with
drawn faults. The tool's two constants (five components, the half that is least sure) were settled
on MitoCheck and on simulated screens; BBBC006 and BBBC021 were not looked at for that.

A session has half of the fields, by lot, and of the larger class as many crops as the share asks
for. Truth answers in place of a person, 10 to 100 times, in both ways; then every crop without an
answer is scored, and their AUC is kept. Twenty sessions; halves overlap, so their spread says how
one session may go, and not how sure a mean is. The null has the answers shuffled. A session whose
answers are of one class has learned nothing: 0.5.

Four minutes on one core for all; each trial where its folder is in $HCS_SHARED:

    python benchmarks/real_ten_labels.py --trials mitocheck,focus,drawn
"""

import argparse
import sys
import tempfile
import time

import numpy as np
import pandas as pd
import real_qc
from sklearn.metrics import roc_auc_score

from hcs_utils import files, records, ten_labels
from hcs_utils.data import image_quality
from hcs_utils.errors import InputError
from hcs_utils.evaluation import suggestions
from hcs_utils.qc_assemble import CHANNELS

SHARES = {"mitocheck": (0.2, 0.6), "focus": (0.3,), "drawn": (None,)}  # None: as it is
COUNTS = (10, 25, 50, 100)
WAYS = {"chosen": "informative", "lot": "random"}
EXPERIMENT = "ten_labels"


def part(crops: real_qc.Crops, share: float | None, session: int) -> np.ndarray:
    """Rows of half of the fields, with so large a share of abnormal crops."""
    rng = np.random.default_rng(session)
    fields = np.unique(crops.field)
    half = rng.permutation(fields)[: len(fields) // 2]
    rows = rng.permutation(np.flatnonzero(np.isin(crops.field, half)))
    wrong = crops.fault[rows] != ""
    if share is None:
        return rows
    bad, good = rows[wrong], rows[~wrong]
    few = min(len(bad) / share, len(good) / (1 - share))
    return rng.permutation(
        np.concatenate([bad[: round(share * few)], good[: round((1 - share) * few)]])
    )


def curve(crops, x: np.ndarray, rows: np.ndarray, how: str, seed: int, counts: list[int]) -> dict:
    """AUC of the crops without an answer, after each number of answers; and its null."""
    table = pd.DataFrame({
        "site_id": rows.astype(str), "parent": crops.field[rows].astype(str),
        "plate": crops.held[rows], "well": "A01",
    })  # fmt: skip
    wrong, found = crops.fault[rows] != "", {}
    truth = pd.Series(wrong, table["site_id"])
    with tempfile.TemporaryDirectory() as folder:
        session = ten_labels.begin(folder, table, x[rows], seed)
        for count in counts:
            ten_labels.answer_by(session, truth, count, how)
            given = pd.Index(table["site_id"]).get_indexer(session.labels.table()["site_id"])
            free = np.setdiff1d(np.arange(len(rows)), given)
            found[f"abnormal_{count}"] = float(wrong[given].mean())
            found[f"auc_{count}"] = found[f"auc_null_{count}"] = 0.5
            if 0 < wrong[given].sum() < count:
                score = ten_labels.scores(session)["qc_score"].to_numpy()
                found[f"auc_{count}"] = roc_auc_score(wrong[free], score[free])
                rng = np.random.default_rng([seed, count])
                score = suggestions.probability(session.x, given, rng.permutation(wrong[given]))
                found[f"auc_null_{count}"] = roc_auc_score(wrong[free], score[free])
    return found


def run(trial: str, crops: real_qc.Crops, share: float | None, sessions: int) -> pd.DataFrame:
    """One record for each way to choose; the means, as a table.

    Numbers of labels of which the smallest session has four times as many crops.
    """
    began = time.perf_counter()
    channels = CHANNELS if crops.images.shape[1] == 3 else ("DNA",)
    x = image_quality.measures(crops.images, channels).to_numpy(float)
    split = [part(crops, share, k) for k in range(sessions)]
    counts = [count for count in COUNTS if 4 * count <= min(len(rows) for rows in split)]
    if not counts:
        raise InputError(f"{trial}: a session has too few crops for {COUNTS[0]} labels.")
    got = {
        way: pd.DataFrame([curve(crops, x, rows, how, k, counts) for k, rows in enumerate(split)])
        for way, how in WAYS.items()
    }
    means = {}
    for way, of in got.items():
        metrics = {**of.mean()} | {f"{name}_sd": sd for name, sd in of.std().items()}
        if way == "chosen":
            gain = (of - got["lot"])[[f"auc_{count}" for count in counts]]
            metrics |= {f"gain_{name}": v for name, v in gain.mean().items()}
            metrics |= {f"gain_{name}_sd": v for name, v in gain.std().items()}
            metrics |= {f"better_{name}": v for name, v in (gain > 0).mean().items()}
        crops_each = float(np.mean([len(rows) for rows in split]))
        shares = np.mean([(crops.fault[rows] != "").mean() for rows in split])
        records.save_record(
            experiment=EXPERIMENT, screen=real_qc.FOLDERS[trial], method=way,
            preset=real_qc.PRESET, fold=1, seed=0,
            parameters={"share": share, "sessions": sessions, "counts": counts},
            metrics=metrics | {"crops": crops_each, "share": float(shares)},
            variant="" if share is None else f"share-{share:.0%}".rstrip("%"),
            device="CPU, 1 thread", seconds=time.perf_counter() - began,
            manifest_sha256=files.sha256(crops.images.tobytes()),
        )  # fmt: skip
        means[way] = {
            count: f"{of[f'auc_{count}'].mean():.3f} ± {of[f'auc_{count}'].std():.3f}"
            for count in counts
        }
        means[f"{way}, shuffled"] = {
            count: f"{of[f'auc_null_{count}'].mean():.3f}" for count in counts
        }
    return pd.DataFrame(means).T


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", default=",".join(SHARES))
    parser.add_argument("--sessions", type=int, default=20)
    asked = parser.parse_args(arguments)
    for trial in asked.trials.split(","):
        root = files.shared_data(real_qc.FOLDERS[trial])
        if root is None:
            print(f"{real_qc.FOLDERS[trial]} is not on this machine; see $HCS_SHARED.")
            continue
        crops = real_qc.TRIALS[trial](root)
        for share in SHARES[trial]:
            print(f"\n{trial}, abnormal: {share or 'as it is'}; AUC by number of labels")
            print(run(trial, crops, share, asked.sessions).to_string(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory of judging n sites of 384 features, beside the naive way, from 1,000 to 100,000.

Four scores: k-NN (k = 10, each site left out of its own vote), k-BET (0.5 %), grit, replicate mAP
(positives from other batches, 10,000 draws for the null). The naive ways, with as many threads:

k-NN, k-BET   all n x n similarities at once and torch.topk, as CDCL's released k-BET does
grit          all n x n correlations melted into a table of pairs with their metadata, and grouped,
              as cytominer-eval 0.1 does, written anew
mAP           copairs 0.5 itself, with an empty cache of nulls

Data: 1,139 planted treatments (at most n / 10) in 24 batches, 10 % controls (none for mAP), noise
on top. Each point is a process of its own with two threads: the score is called once on 600 sites,
so that imports and data are its baseline, then timed (median of three where it takes < 2 s);
memory is the peak resident size above that baseline. A naive way that asks for more than 6 GiB,
or takes more than two minutes, has no point there and beyond. Where both ways ran, their scores
must agree. About ten minutes on two quiet cores, one for --quick, which stops at 10,000 and
writes nothing:

    python benchmarks/judging.py [--quick]
    python benchmarks/judging.py point kbet ours 59050     one point, as JSON
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from hcs_utils import files, records

SIZES = (1_000, 3_000, 10_000, 30_000, 59_050, 100_000)
RXRX1, BANK = 59_050, (39_367, 9_842)  # sites of the screen; of its training and test folds
METRICS = {"knn": "k-NN", "kbet": "k-BET", "grit": "grit", "map": "mAP"}
NAIVE = {
    "knn": "n x n similarities at once, torch.topk",
    "kbet": "n x n similarities at once, torch.topk, as released by CDCL",
    "grit": "n x n correlations melted into a table, as cytominer-eval does",
    "map": "copairs 0.5 itself",
}
D, K, TREATMENTS, BATCHES, CONTROLS = 384, 10, 1_139, 24, 0.1
SECONDS, GIB = 60, 3  # goals at 59,050
MOST_GIB, MOST_SECONDS = 6, 120  # of a naive way
THREADS = 2
OVER = 3  # exit status of a point that asks for too much memory

Table = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def planted(n: int, controls: float = CONTROLS, seed: int = 0) -> Table:
    """Features, treatments (0: control), batches, and which rows are controls."""
    rng = np.random.default_rng(seed)
    treatments = min(TREATMENTS, n // 10)
    label, batch = np.arange(n) % treatments, rng.integers(0, BATCHES, n)
    if controls:
        label[rng.random(n) < controls] = 0
    features = rng.standard_normal((n, D), dtype=np.float32)
    centers = 0.3 * rng.standard_normal((treatments, D), dtype=np.float32)
    shift = 0.1 * rng.standard_normal((BATCHES, D), dtype=np.float32)
    centers[0] = 0
    for rows in np.array_split(np.arange(n), max(1, n // 5_000)):
        features[rows] += centers[label[rows]] + shift[batch[rows]]
    return features, label, batch, label == 0  # 0: the control


def ours_knn(x: np.ndarray, label: np.ndarray, *_: np.ndarray) -> float:
    from hcs_utils.evaluation.classification import knn_predict

    return float(np.mean(knn_predict(x, label, x, K, exclude_self=True) == label))


def ours_kbet(x: np.ndarray, _: np.ndarray, batch: np.ndarray, *__: np.ndarray) -> float:
    from hcs_utils.evaluation.mixing import kbet

    return kbet(x, batch)


def ours_grit(x: np.ndarray, label: np.ndarray, _: np.ndarray, control: np.ndarray) -> float:
    from hcs_utils.evaluation.grit import grit

    return float(np.nanmean(grit(x, label, control)))


def ours_map(x: np.ndarray, label: np.ndarray, batch: np.ndarray, *_: np.ndarray) -> float:
    from hcs_utils.evaluation.replicates import replicate_map

    return float(replicate_map(x, label, batch).mean_average_precision.mean())


def naive_knn(x: np.ndarray, label: np.ndarray, *_: np.ndarray) -> float:
    import torch

    rows = torch.nn.functional.normalize(torch.from_numpy(x))
    cosine, near = (rows @ rows.T).fill_diagonal_(-2).topk(K)
    vote = torch.zeros(len(x), int(label.max()) + 1)
    vote.scatter_add_(1, torch.from_numpy(label)[near], (cosine / 0.1).exp())
    return float(np.mean(vote.argmax(dim=1).numpy() == label))


def naive_kbet(x: np.ndarray, _: np.ndarray, batch: np.ndarray, *__: np.ndarray) -> float:
    import torch
    from scipy.stats import chi2

    k = max(5 * BATCHES, len(x) // 200)
    rows = torch.nn.functional.normalize(torch.from_numpy(x))
    near = torch.from_numpy(batch)[(rows @ rows.T).fill_diagonal_(-2).topk(k).indices]
    observed = np.stack([(near == b).sum(dim=1).numpy() for b in range(BATCHES)], axis=1)
    expected = k * np.bincount(batch) / len(batch)
    statistic = ((observed - expected) ** 2 / expected).sum(axis=1)
    return float(np.mean(chi2.sf(statistic, BATCHES - 1) >= 0.05))


def naive_grit(x: np.ndarray, label: np.ndarray, _: np.ndarray, control: np.ndarray) -> float:
    similarity = np.corrcoef(x)
    np.fill_diagonal(similarity, np.nan)
    wide = pd.DataFrame(similarity).rename_axis("pair_a").reset_index()
    table = wide.melt(id_vars="pair_a", var_name="pair_b", value_name="similarity").dropna()
    meta = pd.DataFrame({"group": label.astype(str), "control": control})
    for side in "ab":
        about = meta.add_suffix(f"_{side}").rename_axis(f"pair_{side}").reset_index()
        table = table.merge(about, on=f"pair_{side}")

    def score(rows: pd.DataFrame) -> float:
        own = rows.similarity[rows.group_a == rows.group_b]
        against = rows.similarity[rows.control_b]
        return float(((own - against.mean()) / against.std(ddof=0)).mean())

    judged = table[~table.control_a].groupby("pair_a")
    return float(np.mean([score(rows) for _, rows in judged]))


def naive_map(x: np.ndarray, label: np.ndarray, batch: np.ndarray, *_: np.ndarray) -> float:
    from copairs.map import average_precision, mean_average_precision

    meta = pd.DataFrame({"treatment": label, "batch": batch})
    found = average_precision(
        meta, x, ["treatment"], ["batch"], [], ["treatment"], progress_bar=False
    )
    with tempfile.TemporaryDirectory() as cache:
        table = mean_average_precision(
            found, ["treatment"], 10_000, 0.05, 0, progress_bar=False, max_workers=THREADS,
            cache_dir=cache,
        )  # fmt: skip
    return float(table.mean_average_precision.mean())


def ours_fold(x: np.ndarray, label: np.ndarray, *_: np.ndarray) -> float:
    """k-NN of a test fold in a training fold, as CDCL judges RxRx1."""
    from hcs_utils.evaluation.classification import knn_accuracy

    cut = len(x) * BANK[0] // sum(BANK)
    return knn_accuracy(x[:cut], label[:cut], x[cut:], label[cut:])


def point(metric: str, way: str, n: int) -> dict:
    """One measurement in this process."""
    score = globals()[f"{way}_{metric}"]
    controls = 0.0 if metric == "map" else CONTROLS
    score(*planted(600, controls))
    data = planted(n, controls)
    if way == "naive":
        limit_memory(MOST_GIB * 2**30)
    baseline = resident(reset=True)
    seconds: list[float] = []
    while len(seconds) < (3 if sum(seconds) < 2 else 1):
        began, cpu = time.perf_counter(), time.process_time()
        value = score(*data)
        seconds.append(time.perf_counter() - began)
    peak = resident()
    return {
        "metric": metric, "way": way, "n": n, "seconds": float(np.median(seconds)),
        "cpu_seconds": time.process_time() - cpu,
        "gib": max(0.0, peak - baseline), "baseline_gib": baseline, "value": value,
    }  # fmt: skip


def resident(reset: bool = False) -> float:
    """Peak resident size of this process in GiB; `reset` first forgets the past peak."""
    status = Path("/proc/self/status")
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        kib = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(kib.split()[1]) / 2**20
    except OSError:  # another system: the peak since the start, imports and data included
        unit = 1 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def limit_memory(more: int) -> None:
    """Refuse this process more than so many bytes on top of what it has."""
    data = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (data + more, data + more))


def measured(metric: str, way: str, n: int) -> dict | str:
    """One point in a process of its own, or why there is none."""
    threads = {f"{k}_NUM_THREADS": str(THREADS) for k in ("OMP", "OPENBLAS", "MKL")}
    try:
        done = subprocess.run(
            [sys.executable, __file__, "point", metric, way, str(n)], capture_output=True,
            text=True, env={**os.environ, **threads}, check=False,
            timeout=MOST_SECONDS if way == "naive" else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"more than {MOST_SECONDS} s"
    if done.returncode == OVER:
        return f"more than {MOST_GIB} GiB"
    if done.returncode:
        raise RuntimeError(f"{metric} {way} {n}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def alone(metric: str, way: str, n: int) -> None:
    """The point asked for on the command line, as JSON; status OVER if memory was refused."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-THREADS:])
    try:
        print(json.dumps(point(metric, way, n)))
    except (MemoryError, RuntimeError) as error:  # torch: "can't allocate memory"
        if way == "naive" and (isinstance(error, MemoryError) or "allocate" in str(error)):
            sys.exit(OVER)
        raise


def main(quick: bool = False) -> None:
    points, ended = [], {}
    print(f"{'metric':8}{'way':8}{'n':>8}{'s':>9}{'GiB':>8}{'baseline':>10}{'score':>9}")
    for n in SIZES[: 3 if quick else None]:
        for metric in METRICS:
            for way in ("ours", "naive"):
                if (metric, way) in ended:
                    continue
                found = measured(metric, way, n)
                if isinstance(found, str):
                    ended[metric, way] = found
                    print(f"{metric:8}{way:8}{n:8}  {found}: no point here or beyond", flush=True)
                    continue
                points.append(found)
                print(
                    f"{metric:8}{way:8}{n:8}{found['seconds']:9.2f}{found['gib']:8.2f}"
                    f"{found['baseline_gib']:10.2f}{found['value']:9.4f}",
                    flush=True,
                )
    table = pd.DataFrame(points)
    agree(table)
    if quick:
        return
    fold = measured("fold", "ours", sum(BANK))
    print(f"k-NN of {BANK[1]} in {BANK[0]}: {fold['seconds']:.1f} s, {fold['gib']:.2f} GiB")
    save(table, fold, ended)


def agree(table: pd.DataFrame) -> None:
    """That both ways found the same, at every size where both ran."""
    both = table.pivot(index=["metric", "n"], columns="way", values="value").dropna()
    apart = (both.ours - both.naive).abs()
    assert (apart <= 2e-3).all(), f"the ways differ:\n{both[apart > 2e-3]}"


def save(table: pd.DataFrame, fold: dict, ended: dict) -> None:
    """The points for the book's figure, and what they say of the goals."""
    root = records.results_root()
    with files.replacing(root / "judging.parquet") as temporary:
        named = table.assign(metric=table["metric"].map(METRICS))
        named.to_parquet(temporary, index=False)
    for metric in METRICS:
        own = table[table["metric"] == metric].set_index(["way", "n"]).sort_index()
        at = own.loc[("ours", RXRX1)]
        common = max(set(own.loc["ours"].index) & set(own.loc["naive"].index))
        numbers = {
            "sec": at.seconds, "gib_above_baseline": at.gib, "baseline_gib": at.baseline_gib,
            "largest_common_n": common, "ours_sec_there": own.loc[("ours", common)].seconds,
            "naive_sec_there": own.loc[("naive", common)].seconds,
            "ours_gib_there": own.loc[("ours", common)].gib,
            "naive_gib_there": own.loc[("naive", common)].gib,
            "naive_ended_by": ended.get((metric, "naive"), ""),
        }  # fmt: skip
        if metric == "knn":
            numbers |= {"rxrx1_fold_sec": fold["seconds"], "rxrx1_fold_gib": fold["gib"]}
        where = f"{METRICS[metric]} of 59,050 x 384 on two threads"
        records.save_benchmark(
            f"judging_{metric}_seconds", ratio=at.seconds, goal=SECONDS, unit="at most seconds",
            reference=where, measured=numbers,
        )  # fmt: skip
        records.save_benchmark(
            f"judging_{metric}_memory", ratio=at.gib + at.baseline_gib, goal=GIB,
            unit="at most GiB", reference=f"{where}: peak of the process, imports and data in it",
            measured=numbers,
        )  # fmt: skip
        records.save_benchmark(
            f"judging_{metric}_naive", ratio=numbers["naive_sec_there"] / numbers["ours_sec_there"],
            goal=1, reference=f"{NAIVE[metric]}, at {common:,} rows, the most it takes in "
            f"{MOST_GIB} GiB and {MOST_SECONDS} s", measured=numbers,
        )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["point"]:
        alone(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main("--quick" in sys.argv[1:])

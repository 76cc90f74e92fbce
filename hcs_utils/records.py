"""One small JSON record a run, the tables made of them, and verdicts on claims by rule."""

import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from hcs_utils import files
from hcs_utils.errors import InputError

KEYS = (
    "experiment", "screen", "method", "preset", "parameters", "fold", "seed", "metrics", "device",
    "seconds", "peak_memory_mib", "versions", "git_revision", "manifest_sha256",
)  # fmt: skip
_PACKAGES = (
    "hcs-utils", "numpy", "pandas", "scipy", "scikit-learn", "umap-learn", "zarr", "torch", "timm",
    "lightly",
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """That one method has a larger metric than another."""

    text: str
    metric: str
    better: str  # method
    worse: str  # method


def results_root() -> Path:
    """Where records go: `$HCS_RESULTS`, else `build/results` in the checkout or here."""
    if os.environ.get("HCS_RESULTS"):
        return Path(os.environ["HCS_RESULTS"]).expanduser()
    return (files.checkout() or Path.cwd()) / "build" / "results"


def record_path(
    root: Path, preset: str, experiment: str, screen: str, method: str, fold: int, seed: int,
    variant: str = "",
) -> Path:  # fmt: skip
    """The one place of a run's record.

    A screen that is not simulated has a folder of its own, and in it has a `variant`: a run in
    which a switch of the ledger (`switches`) is set otherwise.
    """
    for name in (preset, experiment, method, *([variant] if variant else [])):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise InputError(f"{name!r} cannot name a part of a record; use letters and digits.")
    folder = root / preset / experiment
    if not screen.startswith("simulated"):  # may be the path of a screen.yaml
        folder /= re.sub(r"[^\w.-]+", "-", screen.removesuffix(".yaml")).strip("-.") or "own"
    return folder / variant / f"{method}-f{fold}-s{seed}.json"


def save_record(
    *,
    experiment: str,
    screen: str,
    method: str,
    preset: str,
    parameters: Mapping,
    fold: int,
    seed: int,
    metrics: Mapping,
    device: str,
    seconds: float,
    manifest_sha256: str,
    peak_memory_mib: float | None = None,
    variant: str = "",
    trained_git_revision: str = "",
    root: str | Path | None = None,
) -> Path:
    """Write the record of one run and give its path; a record of the same run is replaced.

    A metric is a number, (value, low, high), or such a mapping. Without `peak_memory_mib`, the
    peak of this process is taken: GPU memory where torch has used a GPU, else resident memory.
    A `variant` has a folder of its own. `trained_git_revision`: of the training, if judged again.
    """
    if taken := sorted(set(metrics) & {*KEYS, "variant"}):
        raise InputError(f"{taken[0]!r} is a field of every record and cannot name a metric.")
    record = {
        "experiment": experiment, "screen": screen, "method": method, "preset": preset,
        "parameters": _plain(dict(parameters) | ({"variant": variant} if variant else {})),
        "fold": int(fold), "seed": int(seed),
        "metrics": {name: _interval(value) for name, value in metrics.items()},
        "device": device, "seconds": round(float(seconds), 2),
        "peak_memory_mib": round(peak_memory() if peak_memory_mib is None else peak_memory_mib, 1),
        "versions": versions(), "git_revision": git_revision(), "manifest_sha256": manifest_sha256,
    }  # fmt: skip
    record |= {"trained_git_revision": trained_git_revision} if trained_git_revision else {}
    root = results_root() if root is None else Path(root)
    path = record_path(root, preset, experiment, screen, method, int(fold), int(seed), variant)
    with files.replacing(path) as temporary:
        text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", "utf-8")
    return path


def load_records(
    root: str | Path | None = None, preset: str | None = None, experiment: str | None = None
) -> pd.DataFrame:
    """All records below a folder, a row each; a metric m fills the columns m, m_low and m_high.

    Column `variant` is that of the parameters, "" in records that name none. No records give an
    empty table. Raises `InputError` naming a file that is no record.
    """
    root = results_root() if root is None else Path(root)
    rows = []
    for path in sorted(root.glob(f"{preset or '*'}/{experiment or '*'}/**/*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            metrics = record.pop("metrics")
            row = {key: record[key] for key in KEYS if key != "metrics"}
            row["variant"] = record["parameters"].get("variant") or ""
            for name, metric in metrics.items():
                row |= {name: metric["value"], f"{name}_low": metric["low"]}
                row |= {f"{name}_high": metric["high"]}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is no record ({error!r}); delete it and run again."
            ) from error
        rows.append(row)
    columns = [*(key for key in KEYS if key != "metrics"), "variant"]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    numbers = [name for name in table.columns if name not in columns]
    return table.astype({name: float for name in numbers})


def summary(records: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean, standard deviation (ddof 1) and number of runs of each method, best first."""
    if metric not in records:
        return pd.DataFrame({"mean": [], "sd": [], "n": []}, index=pd.Index([], name="method"))
    grouped = records.dropna(subset=[metric]).groupby("method")[metric]
    table = grouped.agg(mean="mean", sd="std", n="count")
    return table.sort_values("mean", ascending=False)


def verdict(claims: Iterable[Claim], records: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Judge each claim by the paired difference of its two methods, in the same fold and seed.

    reproduced: the t interval of the mean difference over folds and seeds lies above 0. partly:
    the mean is above 0 and the interval is not, or there is one pair only. not: the mean is 0 or
    below. not run: no fold and seed has both. Give the records of one preset and screen.
    """
    rows = []
    for claim in claims:
        gain = _paired_difference(claim, records)
        mean, low, high = t_interval(gain, level)
        if not len(gain):
            word = "not run"
        elif low > 0:
            word = "reproduced"
        else:
            word = "partly" if mean > 0 else "not"
        rows.append((claim.text, claim.metric, mean, low, high, len(gain), word))
    columns = ["claim", "metric", "difference", "low", "high", "pairs", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _paired_difference(claim: Claim, records: pd.DataFrame) -> np.ndarray:
    if claim.metric not in records:
        return np.array([])
    same_run = ["screen", "preset", "experiment", "variant", "fold", "seed"]
    methods = records[records["method"].isin([claim.better, claim.worse])]
    table = methods.pivot_table(claim.metric, same_run, "method")
    if not {claim.better, claim.worse} <= set(table.columns):
        return np.array([])
    return (table[claim.better] - table[claim.worse]).dropna().to_numpy()


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its t interval; the ends are NaN for fewer than two values."""
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return mean, math.nan, math.nan
    reach = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return mean, mean - float(reach), mean + float(reach)


def save_benchmark(
    name: str,
    *,
    ratio: float | int,
    goal: float | int,
    reference: str,
    unit: str = "times as fast",
    measured: Mapping | None = None,
    root: str | Path | None = None,
) -> dict:
    """Write one row of `bench.json`, in place of the row of that name, and give it back.

    `ratio` is ours against `reference` in one run, in `unit`; at least `goal` meets it. With a
    `unit` that begins with "at most", a `ratio` of at most `goal` does. `measured` holds the
    numbers behind it, each with its unit in its name.
    """
    row = {
        "name": name, "ratio": float(ratio), "goal": float(goal), "unit": unit,
        "met": bool(ratio <= goal if unit.startswith("at most") else ratio >= goal),
        "reference": reference, "measured": _plain(measured or {}), "device": device(),
        "versions": versions(), "git_revision": git_revision(),
    }  # fmt: skip
    root = results_root() if root is None else Path(root)
    with files.locked(root):
        rows = (files.read_json(root / "bench.json") or {"rows": []})["rows"]
        rows = sorted([r for r in rows if r["name"] != name] + [row], key=lambda r: r["name"])
        files.write_json(root / "bench.json", {"rows": rows})
    return row


def load_benchmarks(root: str | Path | None = None) -> pd.DataFrame:
    """The rows of `bench.json`, as `save_benchmark` wrote them; empty where there is none."""
    root = results_root() if root is None else Path(root)
    rows = (files.read_json(root / "bench.json") or {"rows": []})["rows"]
    columns = ["name", "ratio", "goal", "unit", "met", "reference", "measured", "device"]
    return pd.DataFrame(rows, columns=[*columns, "versions", "git_revision"])


def device() -> str:
    """The processor of this machine, with its number of cores."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8")
        model = next(iter(re.findall(r"model name\s*: (.+)", text)), model)
    return f"{model}, {os.cpu_count()} cores"


def peak_memory() -> float:
    """Most memory held so far, in MiB: on the GPU where torch used one, else by this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, as installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Commit of the checkout, with "+dirty" if tracked code differs; None outside of git."""
    root = files.checkout()
    if root is None:
        return None
    code = ["--", "hcs_utils", "notebooks", "workflow", "benchmarks", "pyproject.toml"]
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", *code])
    try:
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, check=True,
                timeout=20,
            ).stdout.strip()
            for command in commands
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+dirty" if changes else "")


def _interval(metric: object) -> dict[str, float | None]:
    if isinstance(metric, Mapping):
        values = [metric["value"], metric.get("low"), metric.get("high")]
    else:
        values = [*np.atleast_1d(np.asarray(metric, dtype=float)), None, None]
    return dict(zip(("value", "low", "high"), map(_plain, values), strict=False))


def _plain(value: object) -> object:
    """What JSON can hold: NumPy as Python, NaN and infinity as null, other things as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

"""A place where a paper and its released code disagree, how it is set here, what it changes.

The switches of CDCL are in `cdcl_ledger`, those of the cross-modal paper in `crossmodal_switches`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from hcs_utils import records
from hcs_utils.errors import InputError

PRESETS = ("paper", "full", "standard", "quick", "smoke")  # the strongest evidence first
OUTCOMES = (  # of a switch of CDCL that trains anew
    "knn_znorm", "knn", "linear", "linear_znorm", "nsc_moa", "kbet_train", "kbet", "kbet_znorm",
    "grit", "grit_znorm",
)  # fmt: skip
BASE = "bf16"  # the variant in which nothing is changed but the arithmetic, which all share


@dataclass(frozen=True)
class Switch:
    """One disagreement and one way to see what it changes; several may share a number.

    Either `parameters` are changed and the run of variant `variant` is compared with that of
    `against` ("": a normal run); or `metrics` (as in the paper, as released) judge the same
    weights; or there is a `reason` why there is no number. `towards`: whose way the changed
    parameters are, "code", "paper" or "neither"; a difference is always code − paper, for
    "neither" changed − unchanged.
    """

    name: str
    number: str  # in the ledger; "" for a choice of ours that the two do not speak of
    paper: str
    code: str
    where: str
    label: str = ""  # what the difference is
    parameters: Mapping[str, object] = field(default_factory=dict)
    metrics: tuple[tuple[str, str], ...] = ()
    methods: tuple[str, ...] = ("cdcl",)
    variant: str = ""
    against: str = BASE
    towards: str = "code"
    reason: str = ""
    evidence: str = "read, not run"

    @property
    def setting(self) -> str:
        """How it is set here, in the words of a notebook's parameters or of its metrics."""
        if self.metrics:
            return "; ".join(f"{one}, {other}" for one, other in self.metrics)
        return ", ".join(f"{name}={value}" for name, value in self.parameters.items()) or "none"


Changed = Mapping[str, tuple[dict, tuple[str, ...]]]  # parameters changed, methods, by name


def trained_anew(changed: Changed) -> dict[str, dict]:
    """For each variant its `parameters`, `methods`, `preset` and `seeds`, as a grid wants them."""
    return {
        name: {
            "parameters": dict(parameters), "methods": methods, "preset": "quick",
            "seeds": (0, 1, 2),
        }
        for name, (parameters, methods) in changed.items()
    }  # fmt: skip


def switch_of(changed: Changed, name: str, *said: str, label: str, **given) -> Switch:
    """The switch whose variant has its name, against normal runs."""
    parameters, methods = changed[name]
    return Switch(
        name, *said, label=label, parameters=parameters, methods=methods, variant=name, against="",
        **given,
    )  # fmt: skip


def effects(
    found: pd.DataFrame,
    ledger: Iterable[Switch],
    outcomes: tuple[str, ...] = OUTCOMES,
    experiment: str = "cdcl",
    variants: str = "ledger",
) -> pd.DataFrame:
    """What each switch changes, a row a switch, method and metric, over runs of one fold and seed.

    `found` as `records.load_records` gives it, of one screen; normal runs are of `experiment`, and
    those of variants of the experiment `variants`. Weights trained anew are judged by `outcomes`.
    `difference` with its t interval `low` to `high` over `pairs`, of the strongest preset
    (`PRESETS`) with two pairs, else with one; NaN and 0 where none has any. `unit`:
    "share" (of 1) or "grit".
    """
    runs = {
        key: one.set_index(["screen", "fold", "seed"])
        for key, one in found.groupby(["preset", "experiment", "variant", "method"])
    }
    names, rows = (experiment, variants), []
    for switch in ledger:
        pairs = switch.metrics or tuple((metric, metric) for metric in outcomes)
        for method in switch.methods:
            for paper, code in () if switch.reason else pairs:
                gain, preset = _strongest(runs, names, switch, method, paper, code)
                row = (switch.name, switch.number, method, paper, *records.t_interval(gain))
                unit = "grit" if paper.startswith("grit") else "share"
                rows.append((*row, len(gain), preset, unit))
    columns = ["switch", "number", "method", "metric", "difference", "low", "high", "pairs"]
    return pd.DataFrame(rows, columns=[*columns, "preset", "unit"])


def _strongest(runs: Mapping, names: tuple, switch: Switch, method: str, paper: str, code: str):
    asked = (names, switch, method, paper, code)
    gains = {preset: _differences(runs, preset, *asked) for preset in PRESETS}
    for least in (2, 1):
        for preset, gain in gains.items():
            if len(gain) >= least:
                return gain, preset
    return np.array([]), ""


def _differences(
    runs: Mapping, preset: str, names: tuple, switch: Switch, method: str, paper: str, code: str
):
    """Code − paper in each fold and seed that has both; for "neither", changed − unchanged."""
    places = [("", method, code), ("", method, paper)]
    if not switch.metrics:
        changed = switch.parameters.get("method", method)
        places = [(switch.variant, changed, paper), (switch.against, method, paper)]
    sides = []
    for variant, name, metric in places:
        one = runs.get((preset, names[bool(variant)], variant, name))
        if one is None or metric not in one:
            return np.array([])
        if not one.index.is_unique:
            raise InputError(f"There are two records of one run of {switch.name}; give each once.")
        sides.append(one[metric])
    gain = (sides[0] - sides[1]).dropna().to_numpy()
    return -gain if switch.towards == "paper" else gain

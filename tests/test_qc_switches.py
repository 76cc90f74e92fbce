"""The ledger of quality control: numbers, variants, and what a difference is made of."""

import pandas as pd
import pytest

from hcs_utils import qc_switches, runs, switches
from hcs_utils.qc_judging import METRICS, TASKS
from hcs_utils.qc_settings import METHODS, from_parameters
from hcs_utils.qc_tables import BUDGETS


def test_numbers_go_on_to_42_and_names_are_unique():
    numbers = [switch.number for switch in qc_switches.LEDGER if switch.number]
    assert numbers == ["39", "40", "41", "42"]
    names = [switch.name for switch in qc_switches.LEDGER]
    assert len(set(names)) == len(names) and set(qc_switches.variants()) <= set(names)


def test_every_switch_is_measured_in_one_way_or_says_why_not():
    for switch in qc_switches.LEDGER:
        ways = (bool(switch.variant), bool(switch.metrics), bool(switch.reason))
        assert sum(ways) == 1, switch.name
        assert switch.reason or switch.label
        assert set(switch.methods) <= {*METHODS, "cdcl"}


@pytest.mark.parametrize("name", qc_switches.variants())
def test_a_variant_changes_what_it_says_and_nothing_else(name):
    of, base = qc_switches.variants()[name], runs.preset("quick")
    for method in of["methods"]:
        own = {"qc_method": method}
        changed, plain = (from_parameters(base | own | more) for more in (of["parameters"], {}))
        differing = {
            f"qc_{key}" for key, value in vars(changed).items() if value != getattr(plain, key)
        }
        assert differing == set(of["parameters"]) and of["preset"] == "quick"


def test_outcomes_are_metrics_of_a_run():
    known = {f"{p}{t}_{m}_{b}" for p in ("", "shift_") for t in TASKS for m in METRICS
             for b in BUDGETS}  # fmt: skip
    for outcome in qc_switches.OUTCOMES:
        assert outcome in known or outcome.startswith("recall_")


def test_a_difference_is_changed_less_unchanged_in_the_same_seed():
    rows = [
        {"experiment": experiment, "variant": variant, "preset": "quick", "screen": "simulated",
         "fold": 1, "seed": seed, "method": "swav", "linear_accuracy_350": value + 0.01 * seed}
        for experiment, variant, value in (("qc", "", 0.8), ("qc-ledger", "swav-queue-late", 0.75))
        for seed in (0, 1)
    ]  # fmt: skip
    table = switches.effects(
        pd.DataFrame(rows), qc_switches.LEDGER, qc_switches.OUTCOMES, "qc", "qc-ledger"
    )
    row = table[(table["switch"] == "swav-queue-late") & (table["pairs"] > 0)].iloc[0]
    assert row["difference"] == pytest.approx(-0.05) and row["pairs"] == 2

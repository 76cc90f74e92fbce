"""The ledger's switches: every disagreement, real settings and metrics, signs and intervals."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from hcs_utils import experiments, records, runs, switches
from hcs_utils.cdcl_ledger import LEDGER, variants
from hcs_utils.errors import InputError
from hcs_utils.settings import from_parameters
from hcs_utils.switches import Switch, effects

NUMBERS = ["1", "1b", *map(str, range(2, 23))]  # facts on CDCL, part D
each_variant = pytest.mark.parametrize("name", variants())


def record(value, variant="", method="cdcl", seed=0, preset="quick", **metrics):
    """A row of `load_records`."""
    return {
        "experiment": "ledger" if variant else "cdcl", "screen": "simulated-quick",
        "method": method, "preset": preset, "fold": 1, "seed": seed, "variant": variant,
        "knn_znorm": value,
    } | metrics  # fmt: skip


def effect(found, name, metric="knn_znorm", method="cdcl"):
    table = effects(pd.DataFrame(found), LEDGER)
    chosen = table["switch"].eq(name) & table["metric"].eq(metric) & table["method"].eq(method)
    return table[chosen].squeeze(axis=0)


# the ledger


def test_every_disagreement_has_a_row_and_every_name_is_its_own():
    assert list(dict.fromkeys(s.number for s in LEDGER if s.number)) == NUMBERS
    names = [switch.name for switch in LEDGER]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("switch", LEDGER, ids=lambda s: s.name)
def test_a_switch_is_set_or_judged_or_has_a_reason_why_not(switch):
    assert [bool(switch.parameters), bool(switch.metrics), bool(switch.reason)].count(True) == 1
    assert bool(switch.label) != bool(switch.reason)
    for said in (switch.paper, switch.code, switch.where):
        assert len(said) > 3
    assert switch.towards in ("code", "paper", "neither")
    assert switch.evidence in ("read, not run", "inferred from the printed digits")
    for side in {switch.variant, switch.against} - {""} if switch.parameters else ():
        assert set(switch.methods) <= set(variants()[side]["methods"]), f"{side} is not run"


def test_a_variant_differs_from_the_side_it_is_compared_with_in_what_the_switch_names():
    base = runs.preset("quick")
    for switch in LEDGER:
        if switch.parameters and "method" not in switch.parameters:
            one, other = (
                base | (variants()[side]["parameters"] if side else {})
                for side in (switch.variant, switch.against)
            )
            changed = {key: one[key] for key in one if one[key] != other[key]}
            assert changed == dict(switch.parameters), switch.name


@each_variant
def test_parameters_of_a_variant_are_real_settings_that_change_the_preset(name):
    variant, base = variants()[name], runs.preset("quick")
    assert variant["preset"] == "quick" and variant["seeds"] == (0, 1, 2)
    changed = variant["parameters"]
    assert {"variant", "method", "fold", "seed"}.isdisjoint(changed)
    assert all(changed[key] != base[key] for key in changed)
    for method in variant["methods"]:
        settings = from_parameters(base | changed | {"variant": name, "method": method})
        assert dataclasses.asdict(settings) | changed == dataclasses.asdict(settings)


def test_variants_are_those_of_the_paper_s_settings_and_of_the_ledger():
    assert {name for name, of in variants().items() if "subset" in of["parameters"]} == {
        "controls-only", "treatments-only", "half-treatments", "half-images",
    }  # fmt: skip
    used = {side for s in LEDGER if s.parameters for side in (s.variant, s.against)} - {""}
    assert set(variants()) - used == {"treatments-only", "finetuned"}  # tables 2b and 2a only


@pytest.fixture(scope="module")
def judged(smoke):
    settings = from_parameters(runs.preset("smoke") | {"method": "random"})
    return experiments.run(settings, smoke, progress=False).metrics


@pytest.mark.parametrize("switch", [s for s in LEDGER if s.metrics], ids=lambda s: s.name)
def test_metrics_of_a_switch_come_from_the_judge(switch, judged):
    for metric in np.ravel(switch.metrics):
        assert metric in judged, f"{metric} is not judged"


def test_outcomes_come_from_the_judge(judged):
    assert set(switches.OUTCOMES) <= set(judged)


def test_ledger_needs_no_torch():
    code = "import sys, hcs_utils.cdcl_ledger; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# effects


@pytest.mark.parametrize(
    "name, variant, sign",
    [("norm-all", "norm-all", 1), ("losses-paper", "losses-paper", -1),
     ("best-val", "best-val", 1), ("pairs-cross", "pairs-cross", -1)],
)  # fmt: skip
def test_a_difference_is_code_minus_paper_in_the_same_seed(name, variant, sign):
    base, changed = [0.30, 0.10, 0.20, 0.50], [0.35, 0.11, 0.28, 0.51]
    found = [record(v, "bf16", seed=s) for s, v in enumerate(base)]
    found += [record(v, variant, seed=s) for s, v in enumerate(changed)]
    found += [record(0.99, variant, seed=9), record(0.9, "centers-one"), record(0.8)]
    gain = sign * np.subtract(changed, base)
    interval = ttest_1samp(gain, 0).confidence_interval(0.95)
    row = effect(found, name)
    assert row["difference"] == pytest.approx(gain.mean())
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert (row["pairs"], row["preset"], row["unit"]) == (4, "quick", "share")


def test_metrics_of_the_same_weights_are_compared_in_each_run_of_the_strongest_preset():
    found = [record(0.4, seed=s, knn_znorm_all=0.4 + 0.01 * s, preset="quick") for s in range(4)]
    found += [record(0.4, seed=s, knn_znorm_all=0.3, preset="standard") for s in range(2)]
    found += [record(0.4, seed=0, knn_znorm_all=0.9, preset="full")]  # one run is no spread
    found += [record(0.4, method="dino", knn_znorm_all=0.9, preset="standard")]  # another method
    found += [record(0.4, "norm-all", knn_znorm_all=0.9, preset="standard")]  # no normal run
    row = effect(found, "znorm-all")
    assert row["difference"] == pytest.approx(-0.1)
    assert (row["pairs"], row["preset"]) == (2, "standard")
    lacking = [record(0.4, preset="full", knn_znorm_all=np.nan, seed=s) for s in (1, 2)]
    assert effect([*found, *lacking], "znorm-all")["preset"] == "standard"  # no evidence
    assert effect(found[4:7:2], "znorm-all")["preset"] == "full"


def test_setting_iii_is_compared_with_setting_iii_and_first_weights_with_last():
    found = [record(0.5, "half-treatments"), record(0.45, "half-images"), record(0.7, "bf16")]
    assert effect(found, "half-images")["difference"] == pytest.approx(-0.05)
    assert effect(found, "subset-ignored")["difference"] == pytest.approx(0.2)
    assert np.isnan(effect(found, "half-images")["low"])  # one pair has no interval
    found = [record(0.4), record(0.1, method="random"), record(0.2, method="random", seed=1)]
    assert effect(found, "first-weights")["difference"] == pytest.approx(-0.3)
    found = [record(0.5, "half-treatments", "supervised"), record(0.4, "half-images", "supervised")]
    assert effect(found, "half-images", method="supervised")["pairs"] == 1


def test_what_has_no_records_has_no_pairs_and_what_has_a_reason_has_no_row():
    table = effects(records.load_records("nowhere"), LEDGER)
    assert set(table["switch"]) == {s.name for s in LEDGER if not s.reason}
    assert (table["pairs"] == 0).all() and table["difference"].isna().all()
    assert table.loc[table["metric"] == "grit", "unit"].eq("grit").all()
    alone = effects(pd.DataFrame([record(0.1, "norm-all")]), LEDGER)
    assert (alone["pairs"] == 0).all()


def test_two_records_of_one_run_are_refused():
    found = pd.DataFrame([record(0.1, "bf16"), record(0.2, "norm-all"), record(0.3, "norm-all")])
    with pytest.raises(InputError, match=r"two records of one run of norm-all"):
        effects(found, LEDGER)


def test_own_switches_can_be_asked():
    own = Switch("x", "", "p", "c", "w", label="l", metrics=(("knn", "knn_znorm"),))
    table = effects(pd.DataFrame([record(0.3, knn=0.1)]), [own])
    assert table["difference"].tolist() == pytest.approx([0.2])
    assert own.setting == "knn, knn_znorm"
    assert [s.setting for s in LEDGER if s.name == "losses-paper"] == ["form=paper"]

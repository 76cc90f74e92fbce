"""The cross-modal ledger: every disagreement, real parameters and metrics, signs."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hcs_utils import crossmodal_judging, crossmodal_settings, crossmodal_switches, runs
from hcs_utils.crossmodal_switches import LEDGER, OUTCOMES, variants
from hcs_utils.switches import effects
from tests.test_crossmodal_judging import SETTINGS, planted, screen

NUMBERS = [str(n) for n in range(23, 39)]  # facts on the cross-modal paper, part D


def record(method, value, variant="", seed=0, **metrics):
    return {
        "experiment": "crossmodal-ledger" if variant else "crossmodal", "screen": "simulated",
        "method": method, "preset": "quick", "fold": 1, "seed": seed, "variant": variant,
        "m2i_mrr": value,
    } | metrics  # fmt: skip


def effect(found, name, metric, method):
    table = effects(pd.DataFrame(found), LEDGER, OUTCOMES, crossmodal_switches.EXPERIMENT,
                    crossmodal_switches.VARIANTS)  # fmt: skip
    chosen = table["switch"].eq(name) & table["metric"].eq(metric) & table["method"].eq(method)
    return table[chosen].squeeze(axis=0)


def test_every_disagreement_has_a_row_and_every_name_is_its_own():
    assert list(dict.fromkeys(s.number for s in LEDGER if s.number)) == NUMBERS
    assert len({s.name for s in LEDGER}) == len(LEDGER)


@pytest.mark.parametrize("switch", LEDGER, ids=lambda s: s.name)
def test_a_switch_is_set_or_judged_or_has_a_reason_why_not(switch):
    assert [bool(switch.parameters), bool(switch.metrics), bool(switch.reason)].count(True) == 1
    assert bool(switch.label) != bool(switch.reason)
    assert all(len(said) > 3 for said in (switch.paper, switch.code, switch.where))
    assert switch.towards in ("code", "paper", "neither")
    if switch.parameters:
        of = variants()[switch.variant]
        assert dict(switch.parameters) == of["parameters"] and switch.against == ""
        assert set(switch.methods) <= set(of["methods"])


@pytest.mark.parametrize("name", variants())
def test_parameters_of_a_variant_are_real_and_change_the_preset(name):
    variant, base = variants()[name], runs.preset("quick")
    changed = variant["parameters"]
    assert set(changed) <= set(crossmodal_settings.parameters())
    assert all(changed[key] != base[key] for key in changed)
    for method in variant["methods"]:
        given = base | changed | {"crossmodal_variant": name, "crossmodal_method": method}
        settings = crossmodal_settings.from_parameters(given)
        for key, value in changed.items():
            assert getattr(settings, crossmodal_settings.parameters()[key]) == value


def test_every_variant_is_in_the_ledger():
    assert {s.variant for s in LEDGER if s.parameters} == set(variants())


def test_metrics_come_from_the_judge():
    table = screen()
    scores = crossmodal_judging.judge(*planted(table, noise=1.0), table, SETTINGS)
    asked = {m for s in LEDGER for m in np.ravel(s.metrics)} | set(OUTCOMES)
    assert asked <= set(scores)


def test_differences_have_the_sign_that_their_label_says():
    found = [record("emm", 0.2 + s / 100, seed=s, g_nss_logistic=0.5, g_nss_logistic_wells=0.7)
             for s in range(3)]  # fmt: skip
    found += [record("emm", 0.3, "emm-released", s) for s in range(3)]
    found += [record("emm", 0.1, "weight-decay", 0), record("emm", 0.5, "six-views", 0)]
    code = effect(found, "emm-released", "m2i_mrr", "emm")
    assert code["difference"] == pytest.approx(0.09) and code["pairs"] == 3
    assert effect(found, "weight-decay", "m2i_mrr", "emm")["difference"] == pytest.approx(0.1)
    assert effect(found, "six-views", "m2i_mrr", "emm")["difference"] == pytest.approx(0.3)
    judged = effect(found, "fields-apart", "g_nss_logistic_wells", "emm")
    assert judged["difference"] == pytest.approx(-0.2) and judged["low"] == pytest.approx(-0.2)
    assert effect(found, "clip-released", "m2i_mrr", "clip")["pairs"] == 0


def test_the_ledger_needs_no_torch():
    code = "import sys, hcs_utils.crossmodal_switches; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

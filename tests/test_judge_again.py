"""Kept weights judged by the code as it is now; records read instead of runs repeated."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hcs_utils import experiments, records
from hcs_utils.errors import InputError
from hcs_utils.settings import Settings

SMOKE = Settings(
    preset="smoke", size="smoke", folds=3, epochs=1, minibatch=16, encoder="tiny", head_width=32,
    method="supervised",
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "runs"))


def trained(smoke):
    """A finished run's record as it was written, and where its weights are."""
    result = experiments.run(SMOKE, smoke, progress=False)
    weights = experiments.run_folder(SMOKE, smoke) / "model.safetensors"
    return json.loads(result.record.read_text()), weights


def test_kept_weights_get_the_metrics_of_their_run(smoke, monkeypatch):
    before, weights = trained(smoke)
    monkeypatch.setattr(records, "git_revision", lambda: "later")
    path = experiments.judge_again(SMOKE, weights, smoke)
    after = json.loads(path.read_text())
    assert after["metrics"] == before["metrics"]
    assert (after["git_revision"], after["trained_git_revision"]) == (
        "later",
        before["git_revision"],
    )
    assert after["seconds"] == before["seconds"] and after["device"] == before["device"]
    again = json.loads(experiments.judge_again(SMOKE, weights, smoke).read_text())
    assert (
        again["trained_git_revision"] == before["git_revision"]
    )  # the training's, not the judge's


def test_other_metrics_are_judged_of_the_same_weights(smoke):
    before, weights = trained(smoke)
    other = replace(SMOKE, znorm="all", variant="znorm")
    after = json.loads(experiments.judge_again(other, weights, smoke).read_text())
    assert after["experiment"] == "ledger" and before["experiment"] == "cdcl"
    assert after["metrics"]["knn_znorm"] == after["metrics"]["knn_znorm_all"]
    assert after["metrics"]["knn"] == before["metrics"]["knn"]


def test_weights_of_another_run_are_refused(smoke, tmp_path):
    _, weights = trained(smoke)
    with pytest.raises(InputError, match=r"is of the run supervised-f1-s0.*supervised-f2-s0"):
        experiments.judge_again(replace(SMOKE, fold=2), weights, smoke)
    with pytest.raises(InputError, match="random is not trained"):
        experiments.judge_again(replace(SMOKE, method="random"), weights, smoke)
    alone = tmp_path / "elsewhere" / "model.safetensors"
    alone.parent.mkdir()
    shutil.copy(weights, alone)
    with pytest.raises(InputError, match=r"log\.csv beside it"):
        experiments.judge_again(SMOKE, alone, smoke)


@pytest.mark.parametrize("revision", ["abc", "abc+dirty", None])
def test_a_record_stands_for_a_run_only_if_it_is_of_this_very_run(smoke, monkeypatch, revision):
    baseline, times = replace(SMOKE, method="intensity"), []
    once = experiments.run

    def counted(*given):
        times.append(1)
        return once(*given)

    monkeypatch.setattr(experiments, "run", counted)
    monkeypatch.setattr(records, "git_revision", lambda: revision)
    first = experiments.scores(baseline, smoke, False)
    second = experiments.scores(baseline, smoke, False)
    assert len(times) == (1 if revision == "abc" else 2)
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_allclose(np.ravel(second[name]), np.ravel(value), rtol=1e-12)
    experiments.scores(replace(baseline, kbet_fraction=0.3), smoke, False)  # another question
    assert len(times) == (2 if revision == "abc" else 3)


def test_fine_tuning_needs_mechanisms_that_repeat(smoke):
    with pytest.raises(InputError, match="finetune_epochs needs mechanisms"):
        table = smoke.table.assign(moa="the same")
        experiments.run(replace(SMOKE, finetune_epochs=1), replace(smoke, table=table), False)


def test_fine_tuned_features_are_asked_for_mechanisms_and_the_others_stay(smoke):
    treated = sorted(set(smoke.table.loc[smoke.table["role"] == "trt", "compound"]))
    named = {compound: f"moa_{k % 2}" for k, compound in enumerate(treated)}
    two = replace(
        smoke, table=smoke.table.assign(moa=smoke.table["compound"].map(named).fillna(""))
    )
    plain = experiments.run(SMOKE, two, False)
    tuned = experiments.run(replace(SMOKE, finetune_epochs=2, variant="finetuned"), two, False)
    assert 0 <= np.ravel(tuned.metrics["nsc_moa_finetuned"])[0] <= 1
    assert "nsc_moa_finetuned" not in plain.metrics
    same = {k: v for k, v in tuned.metrics.items() if k != "nsc_moa_finetuned"}
    assert same == plain.metrics  # judged before; the run's own weights are not touched

"""One run of quality control from end to end on a tiny screen: records, resumption, refusals."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from hcs_utils import qc, records
from hcs_utils.errors import InputError
from hcs_utils.learning import train
from hcs_utils.qc_assemble import ready
from hcs_utils.qc_settings import QCSettings

SMOKE = QCSettings(
    preset="smoke", size="qc-smoke", shift_size="qc-smoke-shift", encoder="tiny", budgets="12,6",
    test_crops=20, shift_crops=20, test_share=0.34, val_share=0.25, minibatch=32, hidden=16,
    width=16, epochs=1, draws=2, null_draws=1, finetune_steps=1, linear_epochs=5,
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def of(places):
    return ready(SMOKE)


def metrics(path):
    return json.loads(path.read_text())["metrics"]


def test_a_run_leaves_a_record_weights_and_a_log(of):
    result = qc.run(SMOKE, False, of)
    table = records.load_records(experiment="qc")
    row = table.iloc[0]
    assert (row["method"], row["preset"], row["fold"], row["seed"]) == ("simclr", "smoke", 1, 0)
    assert row["screen"] == "simulated-qc-smoke" and row["parameters"]["encoder"] == "tiny"
    assert 0 <= row["linear_accuracy_12_low"] <= row["linear_accuracy_12"] <= 1
    assert row["sign_loss"] == result.log["loss"].iloc[-1] and row["sign_trivial_loss"] > 0
    assert row["manifest_sha256"] == of.crops.store.manifest_sha256
    loaded = qc.load(SMOKE, qc.run_folder(SMOKE, of) / "model.safetensors")
    x = torch.rand(2, 3, 48, 48)
    assert torch.equal(loaded(x), result.encoder(x))


def test_the_same_settings_give_the_same_numbers_and_a_seed_others(of, tmp_path, monkeypatch):
    first = metrics(qc.run(SMOKE, False, of).record)
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "elsewhere"))
    assert metrics(qc.run(SMOKE, False, of).record) == first
    other = metrics(qc.run(dataclasses.replace(SMOKE, seed=1), False, of).record)
    assert other["linear_auc_12"] != first["linear_auc_12"]


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(of, tmp_path, monkeypatch):
    settings = dataclasses.replace(SMOKE, epochs=2)
    whole = metrics(qc.run(settings, False, of).record)
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "stopped"))
    fit, config = train.fit, qc.assemble.train_config

    def often(*given):
        return dataclasses.replace(config(*given), checkpoint_every=3)

    def stopped(method, minibatches, *rest, **options):
        draw = minibatches.draw
        minibatches.draw = lambda step: draw(step) if step < 7 else 1 / 0
        return fit(method, minibatches, *rest, **options)

    monkeypatch.setattr(qc.assemble, "train_config", often)
    monkeypatch.setattr(qc.train, "fit", stopped)
    with pytest.raises(ZeroDivisionError):
        qc.run(settings, False, of)
    monkeypatch.setattr(qc.train, "fit", fit)
    result = qc.run(settings, False, of)
    assert result.log["step"].tolist() == sorted(set(result.log["step"]))
    assert metrics(result.record) == whole


@pytest.mark.parametrize("method", ["classical", "random", "procedural"])
def test_baselines_and_the_stand_in_are_not_trained_here(of, method):
    settings = dataclasses.replace(SMOKE, method=method, weights="procedural:2")
    result = qc.run(settings, False, of)
    assert result.seconds == 0 and result.log.empty
    assert (result.encoder is None) == (method == "classical")
    assert ("finetuned_auc_12" in result.metrics) == (method != "classical")


def test_a_variant_has_a_place_of_its_own(of):
    settings = dataclasses.replace(SMOKE, method="classical", variant="features-raw")
    path = qc.run(settings, False, of).record
    assert path.parts[-4:] == ("smoke", "qc-ledger", "features-raw", "classical-f1-s0.json")


def test_a_record_of_this_very_run_is_read_and_not_made_again(of, monkeypatch):
    settings = dataclasses.replace(SMOKE, method="classical")
    monkeypatch.setattr(records, "git_revision", lambda: "abc")
    made = qc.run(settings, False, of).metrics
    monkeypatch.setattr(qc, "run", lambda *a: pytest.fail("was run again"))
    read = qc.scores(settings, of)
    assert read.keys() == made.keys()
    np.testing.assert_allclose(read["knn_auc_6"], made["knn_auc_6"])
    monkeypatch.undo()
    monkeypatch.setattr(qc, "run", lambda *a: pytest.fail("is run"))
    with pytest.raises(pytest.fail.Exception, match="is run"):
        qc.scores(dataclasses.replace(settings, draws=3), of)


def test_runs_that_train_alike_share_their_training(of):
    again = dataclasses.replace(SMOKE, variant="x", draws=9, budgets="20,10", test_crops=30)
    assert qc.run_folder(again, of) == qc.run_folder(SMOKE, of)
    for changed in ({"epochs": 2}, {"view_scale": 0.2}, {"temperature": 0.2}, {"fold": 2}):
        assert qc.run_folder(dataclasses.replace(SMOKE, **changed), of) != qc.run_folder(SMOKE, of)


def test_weights_of_another_encoder_are_refused(of):
    qc.run(SMOKE, False, of)
    path = qc.run_folder(SMOKE, of) / "model.safetensors"
    with pytest.raises(InputError, match="qc_encoder must be that of its training"):
        qc.load(dataclasses.replace(SMOKE, encoder="small"), path)
    with pytest.raises(InputError, match="does not hold an encoder"):
        qc.load(SMOKE, path.with_name("none.safetensors"))

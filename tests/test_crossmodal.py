"""One cross-modal run from end to end on a tiny library: records, resumption, splits, refusals."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from hcs_utils import crossmodal, crossmodal_assemble, records
from hcs_utils import crossmodal_judging as judging
from hcs_utils.crossmodal import judge_again, load, run, run_folder
from hcs_utils.crossmodal_assemble import ready
from hcs_utils.crossmodal_settings import METHODS, TRAINED, CrossmodalSettings
from hcs_utils.errors import InputError
from hcs_utils.prepare import Screen, prepare

SMOKE = CrossmodalSettings(
    preset="smoke", size="molecules-smoke", image_encoder="tiny", width=16, bits=128, steps=4,
    compounds=8, views=2, pool=8, val_share=0.25, test_share=0.25,
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(crossmodal, "judge", retrieved_only)


def retrieved_only(*given):
    """The judge without the batch-effect task, which takes seconds."""
    return judging.retrieved(*given) | judging.validation(*given)


@pytest.fixture(scope="module")
def library(places):
    """48 compounds in 4 batches of 2 sources, one well of 2 fields a batch."""
    return prepare("simulated", "molecules-smoke")


def without_time(path):
    record = json.loads(path.read_text())
    return {k: v for k, v in record.items() if k not in ("seconds", "peak_memory_mib")}


def changed(screen, **columns):
    """The screen with other columns in its table."""
    return Screen(screen.name, screen.root, screen.table.assign(**columns), screen.store)


# A run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ends_in_a_record_and_two_embeddings(library, method):
    settings = replace(SMOKE, method=method)
    result = run(settings, library, progress=False)
    record = json.loads(result.record.read_text())
    assert set(record) == set(records.KEYS)
    assert (record["experiment"], record["method"], record["fold"]) == ("crossmodal", method, 1)
    assert record["parameters"] == asdict(settings)
    assert record["screen"] == "simulated-molecules-smoke"
    for way in ("m2i", "i2m"):
        for key in ("hr1", "hr5", "mrr"):
            metric = record["metrics"][f"{way}_{key}"]
            assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
    assert {"val_m2i_mrr", "m2i_mrr_shuffled", "chance_mrr"} <= set(record["metrics"])
    assert ("sign_loss" in record["metrics"]) == (method in (*TRAINED, "cdcl"))
    table = result.embedding
    assert table["site_id"].tolist() == library.table["site_id"].tolist()
    treated = library.table.loc[library.table["smiles"] != "", "compound"]
    assert result.molecules["compound"].tolist() == sorted(set(treated))
    widths = {x.shape[1] for x in (table, result.molecules)}
    assert len(widths) == 1
    if method in (*TRAINED, "random"):
        assert widths == {1 + SMOKE.width}
    for found in (table, result.molecules):
        assert np.isfinite(found.iloc[:, 1:].to_numpy()).all()
    assert result.log.empty == (method not in (*TRAINED, "cdcl"))


def test_a_run_is_judged_by_the_whole_judge(library, monkeypatch):
    monkeypatch.setattr(crossmodal, "judge", judging.judge)
    metrics = run(replace(SMOKE, method="random"), library, progress=False).metrics
    assert {"m2i_mrr_matched", "i2m_mrr_blocks", "target_random_knn", "g_nss_knn"} <= set(metrics)
    assert crossmodal.scores(replace(SMOKE, method="random"), library, progress=False).keys() == (
        metrics.keys()
    )


def test_the_same_settings_give_the_same_record_and_another_seed_another(
    library, tmp_path, monkeypatch
):
    first = without_time(run(SMOKE, library, progress=False).record)
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "afresh"))
    assert without_time(run(SMOKE, library, progress=False).record) == first
    other = run(replace(SMOKE, seed=1), library, progress=False)
    assert without_time(other.record)["metrics"] != first["metrics"]


SCRIPT = """
import functools, torch
torch.set_num_threads(1)
from hcs_utils import crossmodal as c, crossmodal_assemble as a
a.train.TrainConfig = functools.partial(a.train.TrainConfig, checkpoint_every=10)
c.run(c.CrossmodalSettings(**{settings!r}), progress=False)
"""


def test_kill_9_in_mid_training_then_the_same_run_has_the_same_weights(
    library, tmp_path, monkeypatch, one_thread
):
    settings = replace(SMOKE, method="imm", steps=60)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(settings=asdict(settings))])
    folder = run_folder(settings, library)
    try:
        until = time.monotonic() + 120
        while not (folder / "resume.safetensors").exists() and time.monotonic() < until:
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (folder / "model.safetensors").exists()
    assert not (tmp_path / "results").exists()  # no record of half a run
    resumed = run(settings, library, progress=False)
    killed = without_time(resumed.record)
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "undisturbed"))
    whole = run(settings, library, progress=False)
    assert without_time(whole.record) == killed
    pd.testing.assert_frame_equal(whole.embedding, resumed.embedding)
    pd.testing.assert_frame_equal(whole.molecules, resumed.molecules)
    one, other = (
        load_file(path / "model.safetensors") for path in (folder, run_folder(settings, library))
    )
    assert folder != run_folder(settings, library)
    assert set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)
    assert load(settings, library, folder / "model.safetensors").channels == library.channels


def test_a_run_with_a_switch_has_a_record_in_the_ledger(library):
    result = run(replace(SMOKE, method="random", variant="wide"), library, progress=False)
    assert result.record.parts[-4:] == ("smoke", "crossmodal-ledger", "wide", "random-f1-s0.json")


def test_the_best_weights_on_validation_are_kept_where_asked(library):
    result = run(replace(SMOKE, select="best"), library, progress=False)
    assert result.log["val_score"].iloc[-1] > 0 and result.log["best_step"].iloc[-1] == 4


def test_a_frozen_image_encoder_stays_as_it_was(library):
    settings = replace(SMOKE, freeze_image=True)
    of = ready(settings, library)
    before = crossmodal_assemble.space(settings, of).state_dict()
    run(settings, library, progress=False)
    after = load(settings, library, run_folder(settings, library) / "model.safetensors")
    for name, value in after.state_dict().items():
        same = torch.equal(value.cpu(), before[name])
        assert same if "network" in name else True
    frozen = [name for name in before if "network" in name]
    assert frozen and any(
        not torch.equal(value.cpu(), before[name])
        for name, value in after.state_dict().items()
        if name not in frozen
    )


# Judged again


def test_judging_again_gives_the_same_record_and_refuses_other_runs(library):
    result = run(SMOKE, library, progress=False)
    first = without_time(result.record)
    weights = run_folder(SMOKE, library) / "model.safetensors"
    again = judge_again(SMOKE, weights, library)
    assert again == result.record
    found = without_time(again)
    assert found.pop("trained_git_revision", first["git_revision"]) == first["git_revision"]
    assert found == first
    with pytest.raises(InputError, match="is of the run clip-f1-s0, and the settings are of"):
        judge_again(replace(SMOKE, seed=3), weights, library)
    with pytest.raises(InputError, match="does not hold a space of these settings"):
        judge_again(replace(SMOKE, width=32), weights, library)
    with pytest.raises(InputError, match="cdcl is no trained space"):
        judge_again(replace(SMOKE, method="cdcl"), weights, library)


# Where a run is kept


def test_every_setting_that_matters_has_a_folder_of_its_own(library):
    other = {
        str: "other", int: 7, float: 0.123, bool: True,
    }  # fmt: skip
    folders, same = {run_folder(SMOKE, library)}, ("preset", "variant", "pool")
    for name, value in asdict(SMOKE).items():
        asked = SimpleNamespace(**asdict(SMOKE) | {name: other[type(value)]})
        state = asdict(SMOKE) | vars(asked)
        one = object.__new__(CrossmodalSettings)
        for key, this in state.items():
            object.__setattr__(one, key, this)
        folder = run_folder(one, library)
        assert (folder in folders) == (name in same), name
        folders.add(folder)


# Splits and controls


@pytest.mark.parametrize("split", ["compound", "scaffold"])
def test_no_molecule_is_in_two_parts_and_controls_are_no_compound(library, split):
    of = ready(replace(SMOKE, split=split), library)
    treated = of.table[of.table["role"] != "negcon"]
    assert (treated.groupby("molecule")["split"].nunique() == 1).all()
    assert set(treated["split"]) == {"train", "val", "test"}
    assert (of.table.iloc[of.trained]["role"] != "negcon").all()
    both = ready(replace(SMOKE, split=split, controls="compound"), library)
    names = both.table.iloc[both.trained]["compound"]
    assert "DMSO" in set(names) and len(both.trained) > len(of.trained)
    assert (both.table.iloc[both.trained]["split"] == "train").all()
    other = ready(replace(SMOKE, split=split, fold=2), library)
    assert not other.table["split"].equals(of.table["split"])


def test_a_given_split_with_one_compound_in_two_parts_is_refused(library):
    given = np.where(np.arange(len(library.table)) % 2, "train", "test")
    with pytest.raises(InputError, match=r"values of molecule occur in more than one part:\n +SIM"):
        ready(replace(SMOKE, split="given"), changed(library, split=given))
    part = ready(SMOKE, library).table["split"].to_numpy()
    taken = ready(replace(SMOKE, split="given"), changed(library, split=part))
    assert (taken.table["split"] == part).all()
    with pytest.raises(InputError, match="needs a column `split`"):
        ready(replace(SMOKE, split="given"), library)
    with pytest.raises(InputError, match=r"holds \['tset'\]; train, val, test are known"):
        ready(replace(SMOKE, split="given"), changed(library, split="tset"))


def test_two_names_of_one_molecule_are_one_class_in_one_part(library):
    smiles = library.table["smiles"].replace(
        dict(zip(*(library.table.loc[library.table["compound"].eq(c), "smiles"].iloc[:1]
                   for c in ("SIM-0001", "SIM-0002")), strict=True))
    )  # fmt: skip
    of = ready(replace(SMOKE, val_share=0.1, test_share=0.1), changed(library, smiles=smiles))
    pair = of.compounds[of.compounds["compound"].isin(["SIM-0001", "SIM-0002"])]
    assert pair["molecule"].nunique() == 1 and pair["split"].nunique() == 1


@pytest.mark.parametrize(
    ("settings", "table", "told"),
    [
        ({}, {"smiles": ""}, "No row of simulated-molecules-smoke has SMILES"),
        ({"method": "emm", "views": 5}, {}, r"25 of 25 compounds .* 5 views asked of each: SIM-"),
        ({"compounds": 40}, {}, "25 training compounds are fewer than a minibatch of 40"),
        ({}, {"compound": "A", "smiles": "C"}, "parts need 3 groups of compound"),
        ({}, {"role": "trt"}, "crossmodal_image_norm='all'"),
    ],
)
def test_what_a_screen_lacks_is_said_before_training(library, settings, table, told):
    with pytest.raises(InputError, match=told):
        run(replace(SMOKE, **settings), changed(library, **table), progress=False)
    assert not crossmodal.Path(run_folder(SMOKE, library)).exists()


def test_an_unreadable_smiles_is_named(library):
    smiles = library.table["smiles"].mask(library.table["compound"].eq("SIM-0003"), "C1CC(")
    with pytest.raises(InputError, match=r"C1CC\("):
        run(SMOKE, changed(library, smiles=smiles), progress=False)

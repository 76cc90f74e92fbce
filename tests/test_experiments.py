"""One run from end to end on the tiny simulated screen: records, resumption, refusals."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from hcs_utils import experiments, records
from hcs_utils.errors import InputError
from hcs_utils.evaluation import metrics
from hcs_utils.experiments import Screen, judge, run, run_folder, split
from hcs_utils.settings import METHODS, TRAINED, Settings

SMOKE = Settings(
    preset="smoke", size="smoke", folds=3, epochs=1, minibatch=16, encoder="tiny", head_width=32
)  # fmt: skip
KEYS = {"chance", "knn", "knn_znorm", "knn_caron", "knn_shuffled", "knn_znorm_moved"}
KEYS |= {"kbet_train", "kbet", "kbet_znorm", "linear_znorm", "linear", "knn_znorm_all"}
KEYS |= {"knn_znorm_minibatch", "val_knn_znorm", "kbet_released", "kbet_by_treatment"}
KEYS |= {"kbet_znorm_by_treatment", "grit_train", "grit", "grit_znorm"}
KEYS |= {"nsc_moa", "nsc_moa_chance", "nsc_moa_released"}
SOURCES = {"well position", "plate", "cell count", "intensity statistics", "random weights"}


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "runs"))


def without_time(path):
    record = json.loads(path.read_text())
    return {k: v for k, v in record.items() if k not in ("seconds", "peak_memory_mib")}


# A run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ends_in_a_record(smoke, method):
    result = run(replace(SMOKE, method=method), smoke, progress=False)
    record = json.loads(result.record.read_text())
    assert set(record) == set(records.KEYS)
    keys = {"leak_" + name.replace(" ", "_") for name in SOURCES | {"shuffled labels"}}
    keys |= {name + "_null" for name in keys}
    signs = {f"sign_{name}" for name in experiments.SIGNS}
    also = keys if method == "leaks" else signs if method in TRAINED else set()
    assert set(record["metrics"]) == KEYS | also
    assert (record["method"], record["fold"], record["seed"]) == (method, 1, 0)
    assert record["parameters"] == asdict(replace(SMOKE, method=method))
    assert record["screen"] == "simulated-smoke"
    assert record["manifest_sha256"] == smoke.store.manifest_sha256
    assert record["device"].startswith("CPU") or torch.cuda.is_available()
    for name, value in record["metrics"].items():
        if not name.startswith(("sign", "grit")):
            assert 0 <= value["value"] <= 1
        if name.startswith(("knn", "leak")) and not name.endswith("null"):
            assert value["low"] <= value["value"] <= value["high"]
    if method in TRAINED:
        for name, most in (("effective_rank", 128), ("agreement", 1), ("treatment_shared", 1)):
            assert -1 < record["metrics"][f"sign_{name}"]["value"] <= most
    assert record["metrics"]["chance"]["value"] == 1 / 4
    table = result.embedding
    assert table["site_id"].tolist() == smoke.table["site_id"].tolist()
    assert np.isfinite(table.drop(columns="site_id").to_numpy()).all()
    assert len(result.log) > 0 if method in TRAINED else result.log.empty
    if method not in TRAINED:
        assert not (experiments.Path(os.environ["HCS_RUNS"])).exists()


def test_the_same_settings_give_the_same_record_and_another_seed_another(
    smoke, tmp_path, monkeypatch
):
    first = without_time(run(SMOKE, smoke, progress=False).record)
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "afresh"))
    assert without_time(run(SMOKE, smoke, progress=False).record) == first
    other = run(replace(SMOKE, seed=1), smoke, progress=False)
    assert without_time(other.record)["metrics"] != first["metrics"]
    assert other.record.name == "cdcl-f1-s1.json"


def test_images_on_disk_give_the_same_as_images_in_memory(smoke, tmp_path, monkeypatch):
    first = run(SMOKE, smoke, progress=False).embedding
    monkeypatch.setattr("hcs_utils.prepare._IN_MEMORY_GIB", 0)
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "afresh"))
    assert not isinstance(smoke.images(), torch.Tensor)
    pd.testing.assert_frame_equal(run(SMOKE, smoke, progress=False).embedding, first)


SCRIPT = """
import functools, torch
torch.set_num_threads(1)
from hcs_utils import experiments as e
e.train.TrainConfig = functools.partial(e.train.TrainConfig, checkpoint_every=20)
e.run(e.Settings(**{settings!r}), progress=False)
"""


def test_kill_9_in_mid_training_then_the_same_run_has_the_same_metrics(
    smoke, tmp_path, monkeypatch, one_thread
):
    settings = replace(SMOKE, minibatch=8, epochs=10)  # 60 steps
    code = SCRIPT.format(settings=asdict(settings))
    process = subprocess.Popen([sys.executable, "-c", code])
    folder = run_folder(settings, smoke)
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
    resumed = run(settings, smoke, progress=False)
    killed = without_time(resumed.record)
    monkeypatch.setenv("HCS_RUNS", str(tmp_path / "undisturbed"))
    whole = run(settings, smoke, progress=False)
    assert without_time(whole.record) == killed
    pd.testing.assert_frame_equal(whole.embedding, resumed.embedding)
    shared = ["step", "loss", "learning_rate", "teacher_entropy"]  # signs: at each checkpoint
    pd.testing.assert_frame_equal(whole.log[shared], resumed.log[shared])
    pd.testing.assert_series_equal(whole.log.iloc[-1], resumed.log.iloc[-1])
    assert whole.log["step"].tolist() == [20, 40, 60]


# Where a run is kept


def test_every_setting_that_matters_has_a_folder_of_its_own(smoke):
    changed = dict(
        method="dino", fold=2, seed=1, epochs=2, minibatch=8, learning_rate=1e-3, encoder="small",
        head_width=64, form="paper", image_norm="all", folds=4, size="quick", screen="x.yaml",
        image_px=24, subset="treatments", precision="bf16-mixed", compile=True, warmup_steps=2,
        weight_decay=0.1, weight_decay_end=0.2, weights="a.safetensors", drop_path=0.1,
        head_hidden=32, head_bottleneck=16, momentum_start=0.9, teacher_temperature=0.05,
        byol_momentum_start=0.8,
        teacher_temperature_end=0.06, centers="one", view_pairs="cross", crops="rxrx1",
        colour_offset=0.1, colour_probability=0.8, select="best",
    )  # fmt: skip
    folders = {run_folder(SMOKE, smoke)}
    for name, value in changed.items():
        folders.add(run_folder(replace(SMOKE, **{name: value}), smoke))
    assert len(folders) == 1 + len(changed)
    judged_after = dict(
        znorm="all", kbet_fraction=0.1, preset="quick", variant="x", finetune_epochs=1
    )  # fmt: skip
    for name, value in judged_after.items():
        assert run_folder(replace(SMOKE, **{name: value}), smoke) in folders
    assert set(changed) | set(judged_after) == set(asdict(SMOKE))


def test_other_images_are_another_run(smoke):
    store = copy.copy(smoke.store)
    store.manifest_sha256 = "0" * 64
    other = Screen(smoke.name, smoke.root, smoke.table, store)
    assert run_folder(SMOKE, other) != run_folder(SMOKE, smoke)


# Splits


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_no_batch_is_on_two_sides(smoke, fold):
    part = split(smoke.table, fold, 3)
    assert part.index.equals(smoke.table.index)
    sides = part.groupby(smoke.table["batch"]).unique()
    assert (sides.map(len) == 1).all()
    assert part.value_counts().to_dict() == {"train": 48, "val": 48, "test": 48}


def test_one_batch_left_out_leaves_the_others_to_train(smoke):
    for fold, batch in enumerate(sorted(smoke.table["batch"].unique()), 1):
        part = split(smoke.table, fold, 0)
        assert set(smoke.table.loc[part == "test", "batch"]) == {batch}
        assert set(part) == {"train", "test"}
    with pytest.raises(InputError, match="fold is 7; choose 1 to 6"):
        split(smoke.table, 7, 0)


def test_splits_follow_the_site_and_not_its_place(smoke):
    shuffled = smoke.table.sample(frac=1, random_state=0)
    one, two = split(smoke.table, 1, 3), split(shuffled, 1, 3)
    assert two.sort_index().equals(one.sort_index())


# Judging


def planted(smoke, column, seed=0):
    """An embedding that knows a column of the table and nothing else."""
    rng = np.random.default_rng(seed)
    code = smoke.table[column].astype("category").cat.codes.to_numpy()
    z = 3 * rng.standard_normal((code.max() + 1, 12))[code] + 0.3 * rng.standard_normal((144, 12))
    return experiments.as_table(z, smoke.table["site_id"])


def test_an_embedding_that_knows_the_treatment_is_judged_perfect(smoke):
    table = smoke.table.assign(split=split(smoke.table, 1, 3))
    scores = judge(planted(smoke, "treatment").sample(frac=1, random_state=1), table, SMOKE)
    assert scores["knn"][0] == 1 and scores["knn_znorm"][0] == 1
    assert scores["knn_shuffled"][0] < 0.6
    assert scores["kbet"] > 0.9 and scores["chance"] == 0.25


def test_an_embedding_that_knows_the_well_is_told_by_what_moved(smoke):
    """Half of the treatments of the test part stand where the bank has them, half do not."""
    table = smoke.table.assign(split=split(smoke.table, 1, 3), role="trt")
    kind = np.arange(144) % 8
    test = table["split"].eq("test").to_numpy()
    place = np.where(test & (kind >= 4), (kind + 1) % 4 + 4, kind)  # treatments 4 to 7 moved on
    table["treatment"] = [f"t{k}" for k in kind]
    table["well"] = [f"A{k + 1:02d}" for k in place]
    z = 9 * np.eye(8)[place] + 0.1 * np.random.default_rng(0).standard_normal((144, 8))
    settings = replace(SMOKE, znorm="all")
    scores = judge(experiments.as_table(z, table["site_id"]), table, settings)
    assert scores["knn_znorm"][0] == 0.5 and scores["knn_znorm_moved"] == (0, 0, 0)
    table.loc[test, "well"] = [f"A{k + 1:02d}" for k in kind[test]]  # now none is where it was not
    assert "knn_znorm_moved" not in judge(
        experiments.as_table(z, table["site_id"]), table, settings
    )


def test_an_embedding_that_knows_the_batch_is_judged_worthless_and_unmixed(smoke):
    table = smoke.table.assign(split=split(smoke.table, 1, 3))
    scores = judge(planted(smoke, "batch"), table, SMOKE)
    assert scores["knn"][0] < 0.6 and scores["kbet"] < 0.1 and scores["kbet_train"] < 0.1
    assert scores["kbet_znorm"] > 0.7  # what Z-norm is for


def test_the_three_znorms_are_not_one(smoke):
    table = smoke.table.assign(split=split(smoke.table, 1, 3))
    noise = experiments.as_table(
        np.random.default_rng(0).standard_normal((144, 8)), table["site_id"]
    )
    judged = [
        judge(noise, table, replace(SMOKE, znorm=z)) for z in ("controls", "all", "minibatch")
    ]
    assert judged[0]["knn"] == judged[1]["knn"] == judged[2]["knn"]
    assert len({scores["knn_znorm"] for scores in judged}) == 3


def test_znorm_of_the_released_code_takes_only_test_fields_a_minibatch_at_a_time(smoke):
    table = smoke.table.assign(split=split(smoke.table, 1, 3))
    z = np.random.default_rng(0).standard_normal((144, 8))
    moved = z.copy()
    rows = np.flatnonzero(table["split"] == "test")
    moved[rows[0]] += 5  # in the first minibatch of 48 test fields, of the first batch of them
    a, b = (experiments.znorm(x, table, replace(SMOKE, znorm="minibatch")) for x in (z, moved))
    changed = np.flatnonzero((a != b).any(axis=1))
    first = table["batch"].iloc[rows[0]]
    assert set(changed) == set(rows[table["batch"].iloc[rows] == first])
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1)


def test_knn_asks_treated_test_sites_of_treated_training_sites(smoke, monkeypatch):
    table, asked = smoke.table.assign(split=split(smoke.table, 1, 3)), []
    predict = metrics.knn_predict

    def watched(bank, labels, query, **options):
        asked.append((len(bank), set(labels), len(query)))
        return predict(bank, labels, query, **options)

    monkeypatch.setattr(metrics, "knn_predict", watched)
    judge(planted(smoke, "treatment"), table, SMOKE)
    treated = set(table.loc[table["role"] == "trt", "treatment"])
    assert asked == [(32, treated, 32)] * 7  # 2 batches × 4 treatments × 2 wells × 2 sites


def test_the_audit_asks_the_question_that_the_score_asks(smoke, monkeypatch):
    table, asked = smoke.table.assign(split=split(smoke.table, 1, 3)), {}

    def watched(*arguments, **options):
        asked.update(a=arguments, k=options)
        return pd.DataFrame()

    monkeypatch.setattr(experiments.leaks, "audit", watched)
    count = np.arange(144.0)[:, None]
    experiments.audit({"plate": table["plate"].to_numpy(), "cell count": count}, table, SMOKE)
    label, bank, query, sources = asked["a"]
    for part, mask in (("train", bank), ("test", query)):
        sites = (table["split"] == part) & (table["role"] == "trt")
        assert mask.tolist() == sites.tolist() and sites.sum() == 32
    assert label.tolist() == table["treatment"].tolist()
    assert asked["k"]["unit"].tolist() == (table["plate"] + table["well"]).tolist()
    assert sources["plate"].tolist() == table["plate"].tolist()
    for _, rows in table.reset_index(drop=True).groupby("batch"):  # Z-normed as an embedding is
        control = sources["cell count"][rows.index[rows["role"] == "negcon"], 0]
        assert abs(control.mean()) < 1e-9 and abs(control.std() - 1) < 1e-9


def test_the_audit_comes_back_from_its_records(smoke, tmp_path):
    for seed in (0, 1):
        result = run(replace(SMOKE, method="leaks", seed=seed), smoke, progress=False)
    one = experiments.leaks.from_metrics(result.metrics)
    assert set(one.index) == SOURCES | {"shuffled labels"} and one["low"].le(one["value"]).all()
    run(replace(SMOKE, method="random"), smoke, progress=False)
    found = records.load_records(tmp_path / "results", "smoke", "cdcl")
    audit = experiments.leaks.from_records(found)
    assert set(audit.index) == SOURCES | {"shuffled labels"}
    assert (audit["n"] == 2).all() and audit["low"].le(audit["value"]).all()
    both = found.loc[found["method"] == "leaks", "leak_plate"]
    assert audit.loc["plate", "value"] == both.mean() == 0.25 and not audit.loc["plate", "leaks"]
    assert experiments.leaks.from_records(found[found["method"] == "random"]).empty


# Refusals


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(method="cdlc"), r"Unknown method 'cdlc'.*cdcl.*supervised, dino"),
        (dict(form="code"), "Unknown form 'code'.*paper, released"),
        (dict(znorm="control"), "Unknown znorm 'control'.*controls, all"),
        (dict(image_norm="none"), "Unknown image_norm"),
        (dict(epochs=0), "epochs is 0; it must be above 0"),
        (dict(learning_rate=-1.0), "learning_rate is -1.0"),
        (dict(learning_rate=float("nan")), "learning_rate is nan"),
    ],
)
def test_settings_that_cannot_be_are_told(changed, words):
    with pytest.raises(InputError, match=words):
        replace(SMOKE, **changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(epochs="ten"), "epochs is 'ten'; it must be a whole number"),
        (dict(minibatch=8.5), "minibatch is 8.5; it must be a whole number"),
        (dict(seed=True), "seed is True; it must be a whole number"),
        (dict(compile="yes"), "compile is 'yes'; it must be true or false"),
        (dict(method=3), "method is 3; it must be a word"),
        (dict(learning_rate="fast"), "learning_rate is 'fast'; it must be a number"),
    ],
)
def test_settings_of_the_wrong_kind_are_told(changed, words):
    """Made as outside the tests, whose type checker would speak first."""
    settings = object.__new__(Settings)
    for name, value in (asdict(SMOKE) | changed).items():
        object.__setattr__(settings, name, value)
    with pytest.raises(InputError, match=words):
        settings.__post_init__()


def test_unknown_screens_and_sizes_are_told():
    with pytest.raises(InputError, match=r"screen is 'rxrx'; give 'simulated' or the path"):
        experiments.prepare("rxrx")
    with pytest.raises(InputError, match=r"Unknown size 'smok'.*smoke"):
        experiments.prepare("simulated", "smok")
    with pytest.raises(InputError, match="There is no screen file"):
        experiments.prepare("nowhere/screen.yaml")


def test_a_screen_of_one_batch_is_told_what_to_give(smoke):
    table = smoke.table.assign(batch="day1")
    with pytest.raises(InputError, match=r"one batch only \(day1\).*column.*`batch`"):
        split(table, 1, 3)


def test_too_few_batches_for_the_folds_are_told(smoke):
    with pytest.raises(InputError, match="7 folds of 6 batches are not possible"):
        split(smoke.table, 1, 7)
    with pytest.raises(InputError, match="fold is 4; choose 1 to 3"):
        split(smoke.table, 4, 3)


@pytest.mark.parametrize("option", ["image_norm", "znorm"])
def test_without_controls_the_setting_to_change_is_told_before_training(smoke, option, tmp_path):
    bare = Screen(smoke.name, smoke.root, smoke.table.assign(role="trt"), smoke.store)
    other = {"image_norm": "znorm", "znorm": "image_norm"}[option]
    settings = replace(SMOKE, **{other: "all"})
    with pytest.raises(InputError, match=f"negative controls.*give {option}='all'"):
        run(settings, bare, progress=False)
    assert list(tmp_path.iterdir()) == []
    result = run(replace(SMOKE, image_norm="all", znorm="all"), bare, progress=False)
    assert result.metrics["chance"] == 1 / 6  # what were the controls are treatments now


def test_more_images_a_minibatch_than_there_are_is_told(smoke):
    with pytest.raises(InputError, match="48 training images are fewer than a minibatch of 64"):
        run(replace(SMOKE, minibatch=64), smoke, progress=False)


# A screen of one's own


@pytest.fixture
def own(tmp_path):
    """Three plates of three drugs as PNG-less TIFFs, a CSV and a screen.yaml."""
    rng = np.random.default_rng(0)
    (tmp_path / "mine" / "img").mkdir(parents=True)
    rows = ["Plate,Well,Drug,File"]
    for plate in range(3):
        for k in range(12):
            image = rng.integers(0, 2000 + 1500 * (k % 3), (24, 24)).astype(np.uint16)
            tifffile.imwrite(tmp_path / "mine" / "img" / f"{plate}_{k}.tif", image)
            rows.append(f"p{plate},B{k + 1:02d},drug{k % 3},{plate}_{k}.tif")
    (tmp_path / "mine" / "table.csv").write_text("\n".join(rows) + "\n")
    path = tmp_path / "mine" / "screen.yaml"
    path.write_text(
        "name: my first screen\nroot: img\ntable: table.csv\n"
        "columns: {batch: Plate, plate: Plate, well: Well, compound: Drug}\n"
        "channels: {DNA: File}\n"
    )
    return path


def test_a_screen_of_ones_own_goes_the_same_way(own, tmp_path):
    settings = replace(
        SMOKE, preset="own", screen=str(own), method="supervised", folds=0, fold=2, minibatch=8,
        image_norm="all", znorm="all", image_px=20,
    )  # fmt: skip
    result = run(settings, progress=False)
    assert result.table.loc[result.table["split"] == "test", "plate"].unique().tolist() == ["p1"]
    assert result.record == (
        tmp_path / "results" / "own" / "cdcl" / "my-first-screen" / "supervised-f2-s0.json"
    )
    measured = json.loads(result.record.read_text())["metrics"]
    # one test batch: nothing to mix; one layout: nothing moved
    signs = {f"sign_{name}" for name in experiments.SIGNS}
    absent = {"kbet", "kbet_znorm", "kbet_released", "knn_znorm_moved", "val_knn_znorm"}
    absent |= {name for name in KEYS if name.startswith(("grit", "nsc"))}  # no controls, no MoA
    assert set(measured) - signs == KEYS - absent
    assert result.metrics["chance"] == 1 / 3


def test_two_screens_in_files_of_one_name_are_not_mixed_up(own, tmp_path):
    other = tmp_path / "other"
    os.rename(own.parent, tmp_path / "first")
    (tmp_path / "first" / "screen.yaml").write_text(
        (tmp_path / "first" / "screen.yaml").read_text().replace("name: my first screen\n", "")
    )
    shutil.copytree(tmp_path / "first", other)
    for path in (other / "img").iterdir():
        tifffile.imwrite(path, 65535 - tifffile.imread(path))
    screens = [experiments.prepare(str(p / "screen.yaml")) for p in (tmp_path / "first", other)]
    assert [s.name for s in screens] == ["first", "other"]
    images = [s.images().float() for s in screens]
    assert np.corrcoef(images[0].flatten(), images[1].flatten())[0, 1] < -0.9

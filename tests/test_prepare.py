"""Every screen that has a name is prepared by it, or told where it is looked for."""

import shutil

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from hcs_utils import crossmodal, experiments, files, prepare
from hcs_utils.crossmodal_settings import CrossmodalSettings
from hcs_utils.data import manifest as manifests
from hcs_utils.data import quality
from hcs_utils.data import store as stores
from hcs_utils.data.screens import public, rxrx1
from hcs_utils.errors import InputError
from hcs_utils.settings import Settings, from_parameters

CHECKOUT = files.checkout()


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def small_rxrx1(data):
    """Three batches of two siRNAs and a control in the release's layout, 12² pixels."""
    rows, random = [], np.random.default_rng(0)
    for experiment in ("HUVEC-01", "HUVEC-02", "HUVEC-03"):
        folder = data / "rxrx1" / "images" / experiment / "Plate1"
        folder.mkdir(parents=True)
        for k, number in enumerate((3, 8, 1138)):
            kind = "treatment" if number < 1108 else "negative_control"
            for site in (1, 2):
                well = f"B{k + 2:02d}"
                rows.append(
                    (f"{experiment}_1_{well}_{site}", "HUVEC", "train", experiment, 1, well, site,
                     kind, "EMPTY" if number == 1138 else f"s{number}", number)
                )  # fmt: skip
                for w in range(1, 7):
                    image = random.integers(0, 256, (12, 12), np.uint8)
                    path = folder / f"{well}_s{site}_w{w}.png"
                    path.write_bytes(imagecodecs.png_encode(image))
    names = ["site_id", "cell_type", "dataset", "experiment", "plate", "well", "site"]
    names += ["well_type", "sirna", "sirna_id"]
    pd.DataFrame(rows, columns=names).to_csv(data / "rxrx1" / "metadata.csv", index=False)
    return data / "rxrx1"


def test_a_public_screen_is_prepared_by_its_name(small_rxrx1):
    screen = prepare.prepare("rxrx1", image_px=6)
    assert screen.name == "rxrx1" and screen.root == small_rxrx1
    assert screen.channels == tuple(rxrx1.CHANNELS) and screen.store.shape == (18, 6, 6, 6)
    assert screen.table["site_id"].tolist() == list(screen.store.site_ids)
    assert set(screen.table["batch"]) == {"HUVEC-01", "HUVEC-02", "HUVEC-03"}
    again = prepare.prepare("rxrx1", image_px=6)
    assert again.store.path == screen.store.path


def test_of_a_part_that_was_fetched_the_part_is_prepared(small_rxrx1):
    table = rxrx1.manifest(small_rxrx1)
    part = table[table["batch"] == "HUVEC-02"]
    manifests.write(part, small_rxrx1 / "manifest.parquet")
    for path in small_rxrx1.glob("images/HUVEC-01/Plate1/*"):
        path.unlink()
    screen = prepare.prepare("rxrx1")
    assert set(screen.table["batch"]) == {"HUVEC-02"} and screen.store.shape == (6, 6, 12, 12)
    (small_rxrx1 / "manifest.parquet").unlink()
    with pytest.raises(InputError, match="Is not found inside"):
        prepare.prepare("rxrx1")


@pytest.mark.parametrize("name", public.NAMES)
def test_a_screen_that_is_not_here_is_told_where_it_is_looked_for(data, name):
    with pytest.raises(InputError, match=rf"looked for in .*{name}.*hcs fetch {name}"):
        prepare.prepare(name)
    (data / name / "images").mkdir(parents=True)
    with pytest.raises(InputError, match=rf"{name}: the table .* is not below"):
        prepare.prepare(name)
    assert [path.name for path in data.iterdir()] == [name]  # no store was begun


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match=r"nearest: rxrx1"):
        prepare.prepare("RxRx")


def test_the_screen_of_the_preset_paper_is_known(data):
    settings = yaml.safe_load((CHECKOUT / "workflow/presets/paper.yaml").read_text("utf-8"))
    assert settings["screen"] in public.NAMES
    parameters = from_parameters(settings)
    with pytest.raises(InputError, match="hcs fetch rxrx1"):
        prepare.prepare(parameters.screen, parameters.size, parameters.image_px)


def test_five_folds_of_cpg0004_are_whole_replicate_groups_each_tested_once():
    rows = [
        (f"SQ{layout}{k}", f"C-{layout}", f"2016-0{3 + (k > 1)}-0{layout}", f"A{well:02d}")
        for layout in (1, 2)
        for k in range(1, 6)
        for well in (1, 2)
    ]
    table = pd.DataFrame(rows, columns=["plate", "platemap", "date", "well"])
    table["site_id"], table["batch"] = table["plate"] + table["well"], table["plate"]
    table["replicate"] = table["plate"].str[-1].astype(int)
    tested = []
    for fold in range(1, 6):
        part = prepare.split(table, fold, 5)
        groups = {name: set(table.loc[part == name, "replicate"]) for name in part.unique()}
        tested += groups["test"]
        assert groups["test"] == {(fold + 3) % 5 + 1} and len(groups["train"]) == 3
        assert not groups["train"] & groups["val"] and len(groups["val"]) == 1
    assert sorted(tested) == [1, 2, 3, 4, 5]
    by_name = prepare.split(table.drop(columns="platemap"), 1, 5)  # another screen: by its batches
    assert set(table.loc[by_name == "test", "plate"]) != {"SQ15", "SQ25"}


# What quality control flagged


def read_sites(monkeypatch) -> set[str]:
    """The sites that any store on the disk is asked for from here on."""
    asked, read = set(), stores.Store.read

    def told(self, rows):
        asked.update(self.site_ids[np.asarray(rows, dtype=np.int64)])
        return read(self, rows)

    monkeypatch.setattr(stores.Store, "read", told)
    return asked


def flag(screen, every: int) -> list[str]:
    """Flag every so many-th field of a screen; their names."""
    flagged = screen.table["site_id"].iloc[::every].tolist()
    score = [0.9] * len(flagged)
    found = pd.DataFrame({"site_id": flagged, "qc_flag": True, "qc_score": score})
    quality.write(screen.root, found)
    return flagged


@pytest.fixture
def own_smoke(smoke, data):
    """A copy of the tiny simulated screen to judge; the shared one stays as it is."""
    shutil.copytree(smoke.root, data / "simulated" / "smoke")
    return prepare.prepare("simulated", "smoke")


def test_flagged_fields_are_in_neither_table_nor_store(own_smoke, capsys):
    flagged = flag(own_smoke, 5)
    capsys.readouterr()
    screen = prepare.prepare("simulated", "smoke")
    assert capsys.readouterr().out == (
        f"Quality control: {len(flagged)} of 144 fields are flagged and left out.\n"
    )
    assert not set(flagged) & set(screen.table["site_id"]) and screen.left_out == len(flagged)
    assert screen.table["site_id"].tolist() == list(screen.store.site_ids)
    kept = ~own_smoke.table["site_id"].isin(flagged).to_numpy()
    torch.testing.assert_close(screen.images(), own_smoke.images()[torch.from_numpy(kept)])
    assert screen.store.manifest_sha256 == manifests.digest(screen.table)
    assert screen.store.manifest_sha256 != own_smoke.store.manifest_sha256
    assert screen.store.path == own_smoke.store.path  # the store was not written anew
    everything = prepare.prepare("simulated", "smoke", flagged="keep")
    assert "kept all the same" in capsys.readouterr().out
    assert everything.store.manifest_sha256 == own_smoke.store.manifest_sha256
    assert everything.table["qc_flag"].sum() == len(flagged) and everything.left_out == 0
    assert everything.table["qc_score"].notna().sum() == len(flagged)


def test_statistics_of_plates_know_nothing_of_flagged_fields(own_smoke):
    spoilt = own_smoke.table["role"].eq("negcon") & own_smoke.table["site"].eq(1)
    found = own_smoke.table.loc[spoilt, ["site_id"]].assign(qc_flag=True, qc_score=1.0)
    quality.write(own_smoke.root, found)
    screen = prepare.prepare("simulated", "smoke")
    norm, plate = prepare.normaliser(screen, "controls")
    before, _ = prepare.normaliser(own_smoke, "controls")
    assert not torch.equal(norm.mean, before.mean)
    images = own_smoke.images().numpy().astype(float)
    for row, name in enumerate(np.unique(screen.table["plate"])):
        at = own_smoke.table["role"].eq("negcon") & own_smoke.table["plate"].eq(name) & ~spoilt
        np.testing.assert_allclose(norm.mean[row], images[at].mean((0, 2, 3)), rtol=1e-6)
        assert set(plate[screen.table["plate"].eq(name)]) == {row}


@pytest.mark.parametrize("method", ["cdcl", "leaks"])
def test_no_flagged_field_is_ever_read_by_a_run(own_smoke, data, monkeypatch, method):
    monkeypatch.setenv("HCS_RESULTS", str(data / "results"))
    monkeypatch.setenv("HCS_RUNS", str(data / "runs"))
    monkeypatch.setattr("hcs_utils.prepare._IN_MEMORY_GIB", 0)  # read by row, when needed
    settings = Settings(
        preset="smoke", size="smoke", folds=3, epochs=1, minibatch=16, encoder="tiny",
        head_width=32, method=method,
    )  # fmt: skip
    flagged, asked = flag(own_smoke, 7), read_sites(monkeypatch)
    result = experiments.run(settings, progress=False)
    assert not asked & set(flagged) and len(asked) == 144 - len(flagged)
    assert result.embedding["site_id"].tolist() == result.table["site_id"].tolist()
    record = files.read_json(result.record)
    assert record["manifest_sha256"] == manifests.digest(result.table)
    assert record["manifest_sha256"] != own_smoke.store.manifest_sha256
    if method == "leaks":  # the whole screen's metrics are not read from that record
        whole = experiments.scores(settings, own_smoke, progress=False)
        assert set(flagged) <= asked and whole != result.metrics


def test_no_flagged_field_is_ever_read_by_a_run_with_molecules(data, monkeypatch):
    monkeypatch.setenv("HCS_RESULTS", str(data / "results"))
    monkeypatch.setenv("HCS_RUNS", str(data / "runs"))
    monkeypatch.setattr("hcs_utils.prepare._IN_MEMORY_GIB", 0)
    settings = CrossmodalSettings(
        preset="smoke", size="molecules-smoke", image_encoder="tiny", width=16, bits=128, steps=4,
        compounds=8, views=2, pool=8, val_share=0.25, test_share=0.25, method="ecfp",
    )  # fmt: skip
    whole = prepare.prepare("simulated", "molecules-smoke")
    flagged, asked = flag(whole, 9), read_sites(monkeypatch)
    result = crossmodal.run(settings, progress=False)
    assert not asked & set(flagged) and len(asked) == len(whole.table) - len(flagged)
    assert result.table["site_id"].tolist() == result.embedding["site_id"].tolist()


def test_an_own_screen_is_judged_beside_its_images(data, capsys):
    (data / "images").mkdir()
    rows = []
    for k in range(12):
        image = np.full((8, 8), 10 * k, np.uint8)
        (data / "images" / f"{k}.png").write_bytes(imagecodecs.png_encode(image))
        rows.append(
            f"day{k // 6},plate{k // 6},A{k % 6 + 1:02d},{'DMSO' if k % 2 else 'x'},{k}.png"
        )
    (data / "wells.csv").write_text("Day,Plate,Well,Drug,File\n" + "\n".join(rows) + "\n")
    described = {
        "name": "mine", "root": "images", "table": "../wells.csv",
        "columns": {"batch": "Day", "plate": "Plate", "well": "Well", "compound": "Drug"},
        "channels": {"DNA": "File"}, "controls": {"negcon": "DMSO"},
    }  # fmt: skip
    (data / "screen.yaml").write_text(yaml.safe_dump(described))
    screen = prepare.prepare(str(data / "screen.yaml"))
    assert len(screen.table) == 12 and "qc_flag" not in screen.table
    flagged = screen.table["site_id"].iloc[[0, 7]].tolist()
    quality.write(screen.root, pd.DataFrame({"site_id": flagged, "qc_flag": True, "qc_score": 1.0}))
    kept = prepare.prepare(str(data / "screen.yaml"))
    assert "2 of 12 fields are flagged and left out" in capsys.readouterr().out
    assert kept.table["site_id"].tolist() == list(kept.store.site_ids)
    assert set(screen.table["site_id"]) - set(kept.table["site_id"]) == set(flagged)
    files_of = pd.Series(range(12), [f"{k}.png" for k in range(12)])
    order = files_of[kept.table["path_DNA"]].to_numpy()
    levels = kept.images()[:, 0, 0, 0].numpy()
    assert (np.diff(levels[np.argsort(order)].astype(int)) > 0).all()  # each has its own picture
    assert (data / "images" / quality.FILE).exists()


def test_all_flagged_and_a_wrong_wish_are_told(own_smoke):
    flag(own_smoke, 1)
    with pytest.raises(InputError, match="Every one of the 144 fields is flagged"):
        prepare.prepare("simulated", "smoke")
    with pytest.raises(InputError, match=r"flagged 'skip'.*drop, keep"):
        prepare.prepare("simulated", "smoke", flagged="skip")

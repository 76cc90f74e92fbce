"""Every screen that has a name is prepared by it, or told where it is looked for."""

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import yaml

from hcs_utils import files, prepare
from hcs_utils.data import manifest as manifests
from hcs_utils.data.screens import public, rxrx1
from hcs_utils.errors import InputError
from hcs_utils.settings import from_parameters

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

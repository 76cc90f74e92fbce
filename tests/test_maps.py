"""Maps from trained weights: which weights, which fields, and the stored table."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import maps
from hcs_utils import experiments
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures
from hcs_utils.learning.backbones import encoder

SETTINGS = {"preset": "smoke", "size": "smoke", "folds": 3, "encoder": "tiny"}


@pytest.fixture
def trained(tmp_path):
    """Two folders of weights, as runs leave them: method -> file."""
    found = {}
    for seed, method in enumerate(("dino", "cdcl")):
        torch.manual_seed(seed)
        network = encoder("tiny", ("DNA", "ER", "RNA", "AGP", "Mito"))
        folder = tmp_path / "runs" / "simulated-smoke" / f"{method}-f1-s0-{seed:010x}"
        folder.mkdir(parents=True)
        found[method] = folder / "model.safetensors"
        save_file(network.state_dict(), found[method])
    return found


def test_the_one_run_of_a_method_is_found_and_two_are_refused(trained, tmp_path):
    runs = tmp_path / "runs"
    assert maps.weights(runs, "simulated-smoke", "cdcl", 1, 0) == trained["cdcl"]
    with pytest.raises(InputError, match=r"no finished run cdcl-f2-s0-\*"):
        maps.weights(runs, "simulated-smoke", "cdcl", 2, 0)
    other = runs / "simulated-smoke" / "cdcl-f1-s0-ffffffffff"
    other.mkdir()
    (other / "model.safetensors").write_bytes(trained["cdcl"].read_bytes())
    with pytest.raises(InputError, match=r"2 runs cdcl-f1-s0-\*.*--weights cdcl=PATH"):
        maps.weights(runs, "simulated-smoke", "cdcl", 1, 0)


def test_maps_show_unseen_fields_without_controls_each_method_raw_and_scaled(
    trained, tmp_path, monkeypatch
):
    asked = []  # UMAP has tests of its own, and takes long to start
    monkeypatch.setattr(figures, "umap", lambda z, seed: asked.append(z) or z[:, :2])
    settings = experiments.Settings(**SETTINGS)
    screen = experiments.prepare("simulated", "smoke")
    made = maps.place(trained, settings, screen, most=1000)
    table = screen.table.assign(split=experiments.split(screen.table, 1, 3))
    wanted = table[(table["split"] != "train") & (table["role"] != "negcon")]
    for column in ("split", "batch", "treatment"):
        assert made[column].tolist() == wanted[column].tolist()
    assert [z.shape for z in asked] == [(len(wanted), 64)] * 4
    assert not np.allclose(asked[0], asked[1]) and not np.allclose(asked[0], asked[2])
    np.testing.assert_allclose(made["dino.raw.x"], asked[0][:, 0], atol=0.00501)
    np.testing.assert_allclose(made["cdcl.znorm.y"], asked[3][:, 1], atol=0.00501)
    path = tmp_path / "results" / "smoke" / "maps.parquet"
    maps.save(made, path, {"preset": "smoke"})
    back = pd.read_parquet(path)
    assert back.attrs == {"preset": "smoke"}
    pd.testing.assert_frame_equal(back, made, check_categorical=False)


def test_of_too_many_fields_a_random_part_is_shown_the_same_each_time():
    table = pd.DataFrame({"role": ["trt", "negcon"] * 500})
    rows = maps.shown(table, 100, seed=3)
    assert len(np.unique(rows)) == 100 and (rows % 2 == 0).all() and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, maps.shown(table, 100, seed=3))
    assert not np.array_equal(rows, maps.shown(table, 100, seed=4))
    assert len(maps.shown(table, 1000, seed=3)) == 500

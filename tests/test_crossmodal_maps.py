"""Maps of a space from trained weights: which fields, and what is stored."""

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

import crossmodal_maps
import maps
from hcs_utils import crossmodal_assemble, crossmodal_settings, prepare, runs
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures


def test_maps_show_held_out_fields_without_controls(tmp_path, monkeypatch):
    settings = crossmodal_settings.from_parameters(runs.preset("smoke"))
    screen = prepare.prepare(settings.screen, settings.size, settings.image_px)
    of = crossmodal_assemble.ready(settings, screen)
    paths = {}
    for seed, method in enumerate(("clip", "imm")):
        folder = tmp_path / screen.name / "crossmodal" / f"{method}-f1-s0-{seed:010x}"
        folder.mkdir(parents=True)
        changed = crossmodal_settings.from_parameters(runs.preset("smoke") | {"seed": seed})
        made = crossmodal_assemble.space(changed, of)
        save_file(made.state_dict(), folder / "model.safetensors")
        paths[method] = maps.weights(tmp_path, f"{screen.name}/crossmodal", method, 1, 0)
    asked = []  # UMAP has tests of its own, and takes long to start
    monkeypatch.setattr(figures, "umap", lambda z, seed: asked.append(z) or z[:, :2])
    table = crossmodal_maps.place(paths, settings, screen, most=1000)
    wanted = of.table[of.table["split"].eq("test") & of.table["role"].ne("negcon")]
    for column in ("source", "batch", "compound"):
        assert table[column].tolist() == wanted[column].tolist()
    assert [len(z) for z in asked] == [len(wanted)] * 2 and not np.allclose(*asked)
    np.testing.assert_allclose(np.linalg.norm(asked[0], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(table["imm.y"], asked[1][:, 1], atol=0.00501)
    path = tmp_path / "smoke" / "crossmodal_maps.parquet"
    maps.save(table, path, {"preset": "smoke"})
    pd.testing.assert_frame_equal(pd.read_parquet(path), table, check_categorical=False)
    with pytest.raises(InputError, match="no finished run"):
        maps.weights(tmp_path, f"{screen.name}/crossmodal", "emm", 1, 0)

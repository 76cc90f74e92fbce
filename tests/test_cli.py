import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from hcs_utils import records, runs
from hcs_utils.cli import app
from hcs_utils.data import manifest
from hcs_utils.data.cells import read_crops
from hcs_utils.data.store import open_store


def hcs(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words):
    """What a refused command says on stderr: one message, exit code 2, no traceback."""
    result = hcs(*words)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    result = hcs("simulate", "smoke", "--out", folder)
    assert result.exit_code == 0, result.output
    return folder / "manifest.parquet"


def broken(screen, folder, **changed):
    """A manifest with the first row changed, which only a careless hand would write."""
    table = pd.read_parquet(screen)
    for column, value in changed.items():
        table.loc[0, column] = value
    table.to_parquet(folder / "broken.parquet")
    return folder / "broken.parquet"


# help


def test_help_lists_every_command():
    shown = hcs("--help")
    assert shown.exit_code == 0
    for command in ("fetch", "validate", "preprocess", "simulate", "run", "report"):
        assert command in shown.stdout
        assert hcs(command, "--help").exit_code == 0


def test_help_imports_nothing_heavy():
    code = (
        "import sys, hcs_utils.cli; "
        "print(sorted({'numpy', 'pandas', 'torch', 'papermill', 'zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_shell_sees_one_message_and_exit_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hcs_utils.cli", "validate", str(tmp_path / "nothing.parquet")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: There is no manifest at")
    assert len(done.stderr.strip().splitlines()) == 1


# simulate, validate, preprocess


def test_simulated_screen_is_valid_and_counted(screen):
    result = hcs("validate", screen)
    assert result.exit_code == 0, result.output
    table = manifest.read(screen)
    assert f"{len(table)} sites" in result.stdout
    assert f"{table['batch'].nunique()} batches" in result.stdout
    assert "DNA" in result.stdout and "No negative controls" not in result.stdout


def test_preprocess_writes_the_store_once(screen, tmp_path):
    out = tmp_path / "images.zarr"
    result = hcs("preprocess", screen, "--out", out, "--size", "16")
    assert result.exit_code == 0, result.output
    table, store = manifest.read(screen), open_store(out)
    assert store.shape == (len(table), 5, 16, 16)
    assert store.pixel_size_um == pytest.approx(2.0 * 48 / 16)  # the screen's, after resizing
    assert set(store.site_ids) == set(table["site_id"])
    assert f"{len(table)} sites written, 0 were there" in result.stdout
    again = hcs("preprocess", screen, "--out", out, "--size", "16")
    assert f"0 sites written, {len(table)} were there" in again.stdout


def test_a_file_that_cannot_be_read_is_listed_and_the_rest_is_done(screen, tmp_path):
    copy = shutil.copytree(screen.parent, tmp_path / "screen")
    table = manifest.read(screen)
    bad = table["path_DNA"][0]
    (copy / bad).write_bytes((copy / bad).read_bytes()[:40])
    result = hcs("preprocess", copy / screen.name, "--out", tmp_path / "images.zarr")
    assert result.exit_code == 0, result.output
    assert f"{len(table) - 1} sites written" in result.stdout
    assert "1 sites left out" in result.stderr and bad in result.stderr.replace("\n", "")
    assert table["site_id"][0] in result.stderr


def test_wrong_well_is_told_with_the_legal_range(screen, tmp_path):
    said = refused("validate", broken(screen, tmp_path, well="Z99"))
    assert "Z99" in said and "AF48" in said


def test_missing_column_is_told(screen, tmp_path):
    table = pd.read_parquet(screen).drop(columns="batch")
    table.to_parquet(tmp_path / "broken.parquet")
    assert "batch" in refused("validate", tmp_path / "broken.parquet")


def test_missing_images_are_told_before_any_work(screen, tmp_path):
    said = refused("validate", screen, "--root", tmp_path)
    assert "path_" in said or ".tif" in said


def test_screen_without_controls_is_valid_but_warned_of(screen, tmp_path):
    table = pd.read_parquet(screen)
    table = table[table["role"] == "trt"]
    table.to_parquet(tmp_path / "treated.parquet")
    result = hcs("validate", tmp_path / "treated.parquet", "--root", screen.parent)
    assert result.exit_code == 0, result.output
    assert "No negative controls" in result.stdout


def test_unknown_scale_and_size_are_refused(screen, tmp_path):
    assert "scale" in refused("preprocess", screen, "--out", tmp_path / "a", "--scale", "well")
    assert "smoke, quick, standard, full" in refused("simulate", "tiny")
    assert hcs("preprocess", screen, "--out", tmp_path / "a", "--size", "0").exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_screen_yaml_is_read_with_its_folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    rows = ["plate_name,well_name,compound,file"]
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(
            tmp_path / "images" / f"{i}.png"
        )
        rows.append(f"P{i % 2},a{i + 1},drug{i % 3},{i}.png")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "screen.yaml").write_text(
        "root: images\ntable: labels.csv\npixel_size_um: 0.5\n"
        "columns: {batch: plate_name, plate: plate_name, well: well_name, treatment: compound,"
        ' compound: compound, role: "=trt"}\n'
        "channels: {DNA: file}\n"
    )
    result = hcs("validate", tmp_path / "screen.yaml")
    assert result.exit_code == 0, result.output
    assert "6 sites in 6 wells, 2 plates" in result.stdout
    out = tmp_path / "images.zarr"
    result = hcs("preprocess", tmp_path / "screen.yaml", "--out", out)
    assert result.exit_code == 0, result.output
    assert open_store(out).pixel_size_um == 0.5


# run, report


def test_run_hands_everything_to_papermill(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(runs, "execute", lambda *words: given.append(words))
    (tmp_path / "a.ipynb").write_text("{}")
    words = ["method=cdcl", "fold=2", "lr=1e-3", "note=", "on=true", "znorm=off", "seeds=[0, 1]"]
    options = [part for word in words for part in ("-p", word)]
    result = hcs(
        "run", tmp_path / "a.ipynb", "--preset", "smoke", "--out", tmp_path / "b", *options
    )
    assert result.exit_code == 0, result.output
    wanted = {"method": "cdcl", "fold": 2, "lr": 0.001, "note": "", "on": True}
    wanted |= {"znorm": "off", "seeds": [0, 1]}
    assert given == [(tmp_path / "a.ipynb", tmp_path / "b", wanted, "smoke")]


def test_run_refuses_what_is_no_parameter(tmp_path):
    assert "NAME=VALUE, got 'fold 2'" in refused("run", "a.ipynb", "-p", "fold 2")
    assert "cannot be read" in refused("run", "a.ipynb", "-p", "fold=[1")
    assert "is no notebook" in refused("run", tmp_path / "a.ipynb")


def test_run_tells_of_a_notebook_that_broke(monkeypatch):
    def breaks(*words):
        raise runs.NotebookError("Cell 3 stopped with ZeroDivisionError")

    monkeypatch.setattr(runs, "execute", breaks)
    result = hcs("run", "a.ipynb")
    assert result.exit_code == 1
    assert result.stderr == "Error: Cell 3 stopped with ZeroDivisionError\n"


def test_report_prints_mean_and_spread(tmp_path):
    for seed, value in enumerate((0.40, 0.42)):
        records.save_record(
            experiment="cdcl", screen="simulated", method="cdcl", preset="quick", parameters={},
            fold=1, seed=seed, metrics={"knn_z": value}, device="cpu", seconds=1.0,
            manifest_sha256="", root=tmp_path,
        )  # fmt: skip
    result = hcs("report", tmp_path)
    assert result.exit_code == 0, result.output
    assert "cdcl · simulated · preset quick" in result.stdout
    assert "0.410 ± 0.014  n = 2" in result.stdout


def test_report_without_records_is_told(tmp_path):
    assert "No records below" in refused("report", tmp_path)


def test_crop_writes_a_store_of_crops_and_says_what_the_border_took(screen, tmp_path):
    out = tmp_path / "crops.zarr"
    result = hcs("crop", screen, "--out", out, "--size", "16")
    assert result.exit_code == 0, result.output
    crops, table = open_store(out), read_crops(out)
    assert crops.shape[1:] == (5, 16, 16) and len(table) == len(crops) > 20
    assert f"{len(crops)} crops of " in result.stdout and "border rule: drop" in result.stdout
    wrong = hcs("crop", screen, "--out", tmp_path / "x.zarr", "--channel", "DNS")
    assert wrong.exit_code == 2 and "nearest: DNA" in wrong.stderr


# quality


def test_quality_is_written_shown_and_cleared(screen, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(screen.parent, folder)
    own = folder / "manifest.parquet"
    sites = manifest.read(own)["site_id"].tolist()
    shown = hcs("quality", "show", own)
    assert shown.exit_code == 0 and "144 fields, 0 judged, 0 flagged" in shown.stdout
    flags = pd.DataFrame({"site_id": sites[:6], "qc_flag": [True] * 4 + [False] * 2})
    flags.assign(qc_score=0.9).to_csv(tmp_path / "flags.csv", index=False)
    written = hcs("quality", "write", own, tmp_path / "flags.csv")
    assert written.exit_code == 0, written.output
    assert "4 of 144 fields are flagged and left out" in written.stdout
    shown = hcs("quality", "show", own).stdout
    assert "144 fields, 6 judged, 4 flagged" in shown and "mean_score" in shown
    assert "6 fields were judged" in hcs("quality", "clear", own).stdout
    assert "0 judged" in hcs("quality", "show", own).stdout


def test_quality_refuses_what_is_not_of_the_screen(screen, tmp_path):
    assert "no table" in refused("quality", "write", screen, tmp_path / "none.csv")
    (tmp_path / "flags.csv").write_text("site_id,qc_flag,qc_score\nB01_x,True,0.9\n")
    told = refused("quality", "write", screen, tmp_path / "flags.csv")
    assert "1 of 1 fields are not in the screen: B01_x" in told
    (tmp_path / "flags.csv").write_text("site,flag\na,1\n")
    assert "lacks site_id, qc_flag" in refused("quality", "write", screen, tmp_path / "flags.csv")
    assert not (screen.parent / "quality.parquet").exists()

import json

import nbformat
import pytest

from hcs_utils import runs
from hcs_utils.errors import InputError

SETUP = """from pathlib import Path
import sys
sys.path.insert(0, {root!r})
from hcs_utils.errors import InputError
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A checkout with two presets, which we stand in."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "hcs-utils"\n')
    folder = tmp_path / "workflow" / "presets"
    folder.mkdir(parents=True)
    (folder / "quick.yaml").write_text("epochs: 3\nwidth: 8\nscreen: simulated\n")
    (folder / "smoke.yaml").write_text("epochs: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HCS_RESULTS", raising=False)
    return tmp_path


@pytest.fixture
def notebook(house, pytestconfig):
    """A notebook with the parameters epochs, method, preset and seed; it writes them down."""
    cells = [
        nbformat.v4.new_code_cell(SETUP.format(root=str(pytestconfig.rootpath))),
        nbformat.v4.new_code_cell(
            'epochs = 5  # passes\nmethod = "dino"\npreset = "none"\nseed = 0',
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell(
            'if method == "wrong": raise InputError("no such method: wrong")\n'
            'if method == "bug": 1 / 0\n'
            'Path("seen.txt").write_text(f"{epochs} {method} {preset} {seed}")'
        ),
    ]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    path = house / "22_run.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def left_behind(folder):
    return sorted(p.name for p in folder.rglob("*") if "part" in p.name or "failed" in p.name)


# presets


def test_preset_is_read_from_the_checkout(house):
    assert runs.preset("quick") == {"epochs": 3, "width": 8, "screen": "simulated"}
    assert list(runs.presets()) == ["quick", "smoke"]


def test_unknown_preset_names_the_nearest(house):
    with pytest.raises(InputError, match=r"Unknown preset 'quik'; did you mean quick\?"):
        runs.preset("quik")
    with pytest.raises(InputError, match=r"there are: quick, smoke"):
        runs.preset("../../etc")


def test_preset_that_is_no_table_is_told(house):
    (house / "workflow" / "presets" / "smoke.yaml").write_text("- epochs\n")
    with pytest.raises(InputError, match=r"smoke.yaml must hold lines `name: value`, found list"):
        runs.preset("smoke")
    (house / "workflow" / "presets" / "smoke.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match=r"Cannot read .*smoke.yaml"):
        runs.preset("smoke")


# a notebook's own check


def test_misspelt_parameter_is_refused_in_the_notebook(house):
    cells = ["", "%matplotlib inline", "epochs = 5\nseed: int = 0", "# Parameters\nepoch = 9\n"]
    with pytest.raises(InputError, match=r"Unknown parameter 'epoch'; did you mean epochs\?"):
        runs.refuse_unknown({"In": cells})


def test_known_parameters_and_those_of_any_preset_pass(house):
    own = "epochs = 5\nseed = 0"
    runs.refuse_unknown({"In": ["", own, "# Parameters\nepochs = 9\nwidth = 3\n", "x = 1"]})
    runs.refuse_unknown({"In": ["", own, "typo = 3"]})  # nothing injected
    runs.refuse_unknown({})  # not in IPython


def test_every_unknown_parameter_is_listed(house):
    with pytest.raises(InputError, match=r"'methd'.*did you mean method(.|\n)*'zzz'; there are"):
        runs.refuse_unknown({"In": ["method = 1", "# Parameters\nzzz = 1\nmethd = 2\n"]})


# papermill


def test_execute_takes_what_it_knows_of_a_preset_and_parameters_win(notebook, house):
    out = house / "out" / "22.ipynb"
    assert runs.execute(notebook, out, {"method": "cdcl"}, "quick", progress=False) == out
    assert (house / "seen.txt").read_text() == "3 cdcl quick 0"
    cells = json.loads(out.read_text())["cells"]
    assert any("injected-parameters" in cell["metadata"].get("tags", []) for cell in cells)
    assert left_behind(house) == []


def test_execute_refuses_before_anything_runs(notebook, house):
    out = house / "22.out.ipynb"
    with pytest.raises(InputError, match=r"Unknown parameter 'epoch'; did you mean epochs\?"):
        runs.execute(notebook, out, {"epoch": 3}, progress=False)
    with pytest.raises(InputError, match=r"Unknown preset 'fast'"):
        runs.execute(notebook, out, preset="fast", progress=False)
    assert not out.exists() and not (house / "seen.txt").exists()


def test_input_error_in_a_notebook_comes_out_as_itself(notebook, house):
    out = house / "22.out.ipynb"
    out.write_text("the last good one")
    with pytest.raises(InputError, match=r"^no such method: wrong$"):
        runs.execute(notebook, out, {"method": "wrong"}, progress=False)
    assert out.read_text() == "the last good one"
    assert left_behind(house) == []


def test_other_error_keeps_the_notebook_to_look_at(notebook, house):
    out = house / "22.out.ipynb"
    with pytest.raises(runs.NotebookError, match=r"ZeroDivisionError(.|\n)*22.out.failed.ipynb"):
        runs.execute(notebook, out, {"method": "bug"}, progress=False)
    assert not out.exists()
    assert left_behind(house) == ["22.out.failed.ipynb"]
    assert "ZeroDivisionError" in (house / "22.out.failed.ipynb").read_text()


def test_a_file_that_is_no_notebook_is_refused(house):
    (house / "22_run.py").write_text("x = 1")
    for name in ("22_run.py", "missing.ipynb"):
        with pytest.raises(InputError, match=r"is no notebook"):
            runs.execute(house / name, house / "out.ipynb", progress=False)

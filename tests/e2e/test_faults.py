"""Mistakes a new user makes, on the command line: one message, no traceback, nothing half-written.

Manifests with faults, unknown sizes and missing folders are in tests/test_cli.py; a grid killed in
its middle is in test_grid.py.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

CHECKOUT = Path(__file__).resolve().parents[2]
ROWS = [("w1", "p1", f"B{k + 1:02d}", ("DMSO", "taxol")[k % 2]) for k in range(6)]
ROWS += [("w2", "p2", f"C{k + 1:02d}", ("DMSO", "taxol")[k % 2]) for k in range(6)]
YAML = """\
root: img
table: table.csv
columns: {batch: Week, plate: Plate, well: Well, compound: Drug}
channels: {DNA: File}
controls: {negcon: [DMSO]}
"""


def hcs(*words, cwd=None):
    """The command as a shell runs it."""
    return subprocess.run(
        [sys.executable, "-m", "hcs_utils.cli", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=cwd or CHECKOUT,
        env={**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"},
    )  # fmt: skip


def refused(*words, **options):
    """The one message of a command that cannot be done."""
    done = hcs(*words, **options)
    assert done.returncode == 2, done.stdout + done.stderr
    said = done.stderr[done.stderr.index("Error: ") :]
    assert "Traceback" not in done.stdout + done.stderr
    assert said.count("Error: ") == 1
    return re.sub(r"\s+", " ", said)


@pytest.fixture
def mine(tmp_path):
    """A first screen of one's own: two weeks, two drugs, a table and a screen.yaml."""
    folder = tmp_path / "mine"
    (folder / "img").mkdir(parents=True)
    lines = ["Week,Plate,Well,Drug,File"]
    rng = np.random.default_rng(0)
    for k, row in enumerate(ROWS):
        tifffile.imwrite(
            folder / "img" / f"{k}.tif", rng.integers(0, 4000, (24, 24)).astype(np.uint16)
        )
        lines.append(",".join(row) + f",{k}.tif")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    (folder / "screen.yaml").write_text(YAML)
    return folder


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_screen_without_a_fault_is_accepted(mine, tmp_path):
    done = hcs("preprocess", mine / "screen.yaml", "--out", tmp_path / "s.zarr")
    assert done.returncode == 0, done.stderr
    assert "12 sites written" in done.stdout


def test_a_column_that_is_not_in_the_table(mine, tmp_path):
    change(mine / "screen.yaml", "compound: Drug", "compound: Drugs")
    said = refused("preprocess", mine / "screen.yaml", "--out", tmp_path / "s.zarr")
    assert "Drugs (nearest: Drug)" in said
    assert not (tmp_path / "s.zarr").exists()


def test_a_well_that_no_plate_has(mine, tmp_path):
    change(mine / "table.csv", "p2,C03", "p2,Z99")
    said = refused("preprocess", mine / "screen.yaml", "--out", tmp_path / "s.zarr")
    assert "Z99" in said and "A01" in said and "AF48" in said
    assert not (tmp_path / "s.zarr").exists()


def test_images_that_cannot_be_read(mine, tmp_path):
    for path in (mine / "img").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    said = refused("preprocess", mine / "screen.yaml", "--out", tmp_path / "s.zarr")
    assert "0.tif" in said
    assert not (tmp_path / "s.zarr").exists()


# Notebook 22, as `hcs run` runs it


def run22(mine, out, *changed):
    given = dict(screen=mine / "screen.yaml", folds=0, minibatch=4)
    given |= dict(pair.split("=", 1) for pair in changed)
    words = [f"{name}={value}" for name, value in given.items()]
    options = [part for word in words for part in ("-p", word)]
    return refused("run", "22_cdcl_run", "--preset", "smoke", "--out", out, *options)


@pytest.mark.parametrize(
    ("faulty", "changed", "words"),
    [
        (("table.csv", "w2,", "w1,"), (), "one batch only (w1)"),
        (("screen.yaml", "controls: {negcon: [DMSO]}\n", ""), (), "image_norm='all'"),
        (None, ("method=cdlc",), "Unknown method 'cdlc' (nearest: cdcl)"),
    ],
    ids=["one batch only", "no controls", "unknown method"],
)
def test_a_run_that_cannot_be(mine, tmp_path, monkeypatch, faulty, changed, words):
    for name in ("results", "runs"):
        monkeypatch.setenv(f"HCS_{name.upper()}", str(tmp_path / name))
    if faulty:
        change(mine / faulty[0], *faulty[1:])
    said = run22(mine, tmp_path / "out.ipynb", *changed)
    assert words in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]  # no notebook, record or run


def test_a_parameter_that_the_notebook_does_not_have(mine, tmp_path):
    said = run22(mine, tmp_path / "out.ipynb", "epoch=3")
    assert "Unknown parameter 'epoch'; did you mean epochs" in said
    assert not (tmp_path / "out.ipynb").exists()


# No space left


def test_a_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only, where the system allows it")
    try:
        said = refused("simulate", "smoke", "--out", disk / "screen")
        assert f"Cannot write {disk / 'screen'}: no space is left on the disk" in said
        assert not list(disk.rglob("*.part")) and not list(disk.rglob("truth.parquet"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        done = hcs("simulate", "smoke", "--out", disk / "screen")  # the same command goes on
        assert done.returncode == 0, done.stderr
        assert "144 sites" in done.stdout
    finally:
        subprocess.run(["umount", str(disk)], check=True)

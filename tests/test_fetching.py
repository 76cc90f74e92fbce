"""`hcs fetch` from end to end: stated, asked, fetched, killed, gone on with."""

import gzip
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hcs_utils import fetching
from hcs_utils.cli import app
from hcs_utils.data import manifest
from tests.data.faulty_server import FaultyServer

RNG = np.random.default_rng(0)


def hcs(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def server():
    with FaultyServer() as server:
        yield server


def sites(plates=("P1", "P2"), channels=("DNA", "ER"), wells=("A01", "B02")):
    rows = [
        {
            "site_id": f"{plate}_{well}_{site}", "source": "lab", "batch": f"b{plate}",
            "plate": plate, "well": well, "site": site, "treatment": f"drug {well}",
            "compound": f"drug {well}", "smiles": "", "dose_um": np.nan, "role": "trt", "moa": "",
            "target": "",
            **{f"path_{c}": f"{plate}/{well}_{site} {c}.tif" for c in channels},
        }
        for plate in plates for well in wells for site in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def served(server, table, size=1000):
    """The files of a manifest on the server, and the manifest's own names of them."""
    paths = table[[c for c in table if c.startswith("path_")]].to_numpy().ravel()
    server.files |= {path: RNG.bytes(size) for path in paths}
    return list(paths)


@pytest.fixture
def screen(server, tmp_path):
    """A manifest on this disk whose 16 images are elsewhere."""
    served(server, sites())
    manifest.write(sites(), tmp_path / "screen" / "manifest.parquet")
    return tmp_path / "screen" / "manifest.parquet"


def here(root):
    named = {str(p.relative_to(root)): p for p in root.rglob("*.tif")}
    return {name: path.read_bytes() for name, path in named.items()}


# A manifest of one's own


def test_a_part_of_a_screen_is_stated_fetched_and_checked(server, screen):
    words = ["--plates", "P1", "--wells", "a1", "--channels", "dna", "--base", server.url()]
    result = hcs("fetch", screen, *words, "--yes")
    assert result.exit_code == 0, result.output
    assert "Images: 2 files, 2.0 kB to fetch" in result.stdout
    assert "2 files fetched (2.0 kB" in result.stdout and "2 by MD5" in result.stdout
    assert set(here(screen.parent)) == {"P1/A01_1 DNA.tif", "P1/A01_2 DNA.tif"}
    whole = hcs("fetch", screen, "--base", server.url(), "--yes")
    assert "2 files are here already and are kept" in whole.stdout
    assert here(screen.parent) == server.files
    assert hcs("validate", screen).exit_code == 0


def test_nothing_is_fetched_unasked(server, screen):
    result = hcs("fetch", screen, "--base", server.url())
    assert result.exit_code == 2
    assert "16 files, 16.0 kB to fetch" in result.stdout
    assert result.stderr == "Error: There is no terminal to ask at. Add --yes to fetch this.\n"
    plan = hcs("fetch", screen, "--base", server.url(), "--plan")
    assert plan.exit_code == 0 and "nothing was fetched" in plan.stdout
    assert {method for method, _, _ in server.asked} == {"HEAD"} and here(screen.parent) == {}


@pytest.mark.parametrize(("answer", "files"), [("y", 16), ("", 16), ("n", 0)])
def test_at_a_terminal_it_asks(server, screen, answer, files, monkeypatch):
    monkeypatch.setattr(fetching, "_terminal", lambda: True)
    words = ["fetch", str(screen), "--base", server.url()]
    result = CliRunner().invoke(app, words, input=answer + "\n")
    assert result.exit_code == 0 and "Fetch them? [Y/n]" in result.output
    assert len(here(screen.parent)) == files


def test_a_file_that_fails_is_listed_and_the_exit_code_is_1(server, screen):
    server.always = {"P1/A01_1 DNA.tif": 403}
    del server.files["P2/B02_2 ER.tif"]
    result = hcs("fetch", screen, "--base", server.url(), "--yes")
    assert result.exit_code == 1
    assert "14 files fetched" in result.stdout and "2 failed" in result.stdout
    assert "A01_1%20DNA.tif: 403: access without a login is refused" in result.stdout
    assert "B02_2%20ER.tif: 404: not there" in result.stdout
    assert "The same command goes on" in result.stdout


def test_a_screen_yaml_is_fetched_into_its_root(server, tmp_path):
    served(server, sites())
    sites().drop(columns="site_id").to_csv(tmp_path / "sites.csv", index=False)
    names = ["batch", "plate", "well", "site", "compound", "treatment"]
    (tmp_path / "screen.yaml").write_text(
        "root: images\ntable: sites.csv\n"
        f"columns: {{{', '.join(f'{n}: {n}' for n in names)}}}\n"
        "channels: {DNA: path_DNA, ER: path_ER}\n"
    )
    words = [tmp_path / "screen.yaml", "--base", server.url(), "--yes", "--sites", "1"]
    result = hcs("fetch", *words, "--manifest", tmp_path / "some.parquet")
    assert result.exit_code == 0, result.output
    assert len(here(tmp_path / "images")) == 8
    assert len(manifest.read(tmp_path / "some.parquet")) == 4


def test_a_list_of_checksums_is_held_to(server, screen, tmp_path):
    (tmp_path / "SUMS").write_text("0" * 64 + "  P1/A01_1 DNA.tif\n")
    words = ["--base", server.url(), "--yes", "--retries", "0", "--checksums", tmp_path / "SUMS"]
    result = hcs("fetch", screen, *words)
    assert result.exit_code == 1 and "wrong bytes: their sha256 is" in result.stdout
    assert len(here(screen.parent)) == 15


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["jmup"], "Unknown screen 'jmup' (nearest: jump)"),
        (["{screen}"], "Where is channel DNA? Give a base address"),
        (["{screen}", "--base", "host/x"], "'host/x' is no address to fetch from"),
        (["{screen}", "--base", "s3://b", "--plates", "P3"], "P3 (nearest: P"),
        (["none.parquet", "--base", "s3://b"], "There is no manifest at none.parquet"),
        (["none.yaml", "--base", "s3://b"], "There is no screen file none.yaml"),
    ],
)
def test_what_cannot_be_asked_for_is_one_message(screen, words, told):
    result = hcs("fetch", *[str(screen) if word == "{screen}" else word for word in words])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("Error: ") and told in result.stderr


# Killed


def test_killed_in_the_middle_the_same_command_fetches_only_what_is_missing(server, tmp_path):
    table = sites(wells=("A01",))
    size = 400_000
    paths = served(server, table, size)
    manifest.write(table, tmp_path / "manifest.parquet")
    command = [sys.executable, "-m", "hcs_utils.cli", "fetch", str(tmp_path / "manifest.parquet")]
    command += ["--base", server.url(), "--yes", "--workers", "2"]
    server.pace_sec = 0.05
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(here(tmp_path)) < 3 or not list(tmp_path.rglob(".*.part")):
        assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    process.stderr.close()
    there = here(tmp_path)
    assert 3 <= len(there) < len(paths)
    assert all(content == server.files[name] for name, content in there.items())
    parts = sum(path.stat().st_size for path in tmp_path.rglob(".*.part"))
    assert parts > 0
    time.sleep(0.3)  # the server notices
    server.pace_sec, server.served = 0.0, Counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(there)} files are here already and are kept" in done.stdout
    assert here(tmp_path) == server.files
    assert sum(server.served.values()) == size * (len(paths) - len(there)) - parts
    assert list(tmp_path.rglob(".*.part")) == []


def test_an_interrupt_is_told_in_one_line(screen, monkeypatch):
    def interrupt(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching.transfer, "plan", interrupt)
    result = hcs("fetch", screen, "--base", "https://host/x")
    assert result.exit_code == 130
    assert result.stderr == "Stopped. The same command goes on from here.\n"


# A public screen: tables, tables of plates, images


@pytest.fixture
def jump(server):
    """Two plates where cpg0016 has them, behind a base of our own."""
    plates = pd.DataFrame(
        {
            "Metadata_Source": "source_4", "Metadata_Batch": "2021_04_26_Batch1",
            "Metadata_Plate": ["BR00117035", "BR00117036"], "Metadata_PlateType": "COMPOUND",
        }
    )  # fmt: skip
    empty = b"Metadata_JCP2022\n"
    names = ("well.csv.gz", "compound.csv.gz", "orf.csv.gz", "crispr.csv.gz")
    server.files = {f"metadata/{name}": empty for name in (*names, "perturbation_control.csv")}
    server.files["metadata/plate.csv.gz"] = gzip.compress(plates.to_csv(index=False).encode())
    table = sites(plates=tuple(plates["Metadata_Plate"]))
    for plate, rows in table.groupby("plate"):
        folder = f"source_4/workspace/load_data_csv/2021_04_26_Batch1/{plate}"
        server.files[f"{folder}/load_data_with_illum.parquet"] = rows.to_parquet()
    served(server, table)
    return server


def adapter(root):
    """Stands for an adapter: a manifest from the tables below the root."""
    return pd.concat([pd.read_parquet(path) for path in sorted(root.rglob("load_data*.parquet"))])


@pytest.fixture
def adapted(monkeypatch):
    monkeypatch.setattr(fetching, "_adapter", lambda name: adapter)


def test_tables_come_first_and_then_the_chosen_images(jump, adapted, tmp_path):
    words = ["--base", jump.url(), "--root", tmp_path, "--yes", "--plates", "BR00117036"]
    result = hcs("fetch", "jump", *words, "--channels", "ER", "--sites", "1")
    assert result.exit_code == 0, result.output
    assert "Tables: 6 files" in result.stdout and "Tables of plates: 1 files" in result.stdout
    assert "Images: 2 files" in result.stdout
    wanted = {f"BR00117036/{well}_1 ER.tif" for well in ("A01", "B02")}
    assert set(here(tmp_path)) == wanted
    assert not [name for _, name, _ in jump.asked if "BR00117035" in name]
    made = manifest.read(tmp_path / "manifest.parquet")
    assert list(made["path_ER"]) == sorted(wanted)
    assert hcs("validate", tmp_path / "manifest.parquet").exit_code == 0


def test_without_its_tables_a_screen_stops_with_exit_code_1(jump, adapted, tmp_path):
    del jump.files["metadata/well.csv.gz"]
    result = hcs("fetch", "jump", "--base", jump.url(), "--root", tmp_path, "--yes")
    assert result.exit_code == 1
    assert "well.csv.gz: 404: not there" in result.stdout
    assert "The tables are not all here" in result.stderr


def test_a_plate_without_its_table_is_passed_over_and_told(jump, adapted, tmp_path):
    folder = "source_4/workspace/load_data_csv/2021_04_26_Batch1/BR00117035"
    del jump.files[f"{folder}/load_data_with_illum.parquet"]
    result = hcs("fetch", "jump", "--base", jump.url(), "--root", tmp_path, "--yes")
    assert result.exit_code == 1
    assert "BR00117035/load_data_with_illum.parquet: 404: not there" in result.stdout
    assert set(manifest.read(tmp_path / "manifest.parquet")["plate"]) == {"BR00117036"}


def test_the_manifest_holds_the_sites_that_are_here(jump, adapted, tmp_path):
    jump.always = {"BR00117035/A01_1 DNA.tif": 403}
    result = hcs("fetch", "jump", "--base", jump.url(), "--root", tmp_path, "--yes")
    assert result.exit_code == 1
    assert "1 sites are not in it" in result.stdout
    assert len(manifest.read(tmp_path / "manifest.parquet")) == 7


# Archives


@pytest.fixture
def zipped(server, tmp_path, monkeypatch):
    """BBBC021 in small: two plates, an archive each."""
    table = sites()
    for channel in ("DNA", "ER"):
        table[f"path_{channel}"] = "images/" + table[f"path_{channel}"]
    for plate, rows in table.groupby("plate"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in rows[["path_DNA", "path_ER"]].to_numpy().ravel():
                archive.writestr(path.removeprefix("images/"), RNG.bytes(1000))
        server.files[f"BBBC021_v1_images_{plate}.zip"] = (tmp_path / "a.zip").read_bytes()
    for name in ("image", "compound", "moa"):
        server.files[f"BBBC021_v1_{name}.csv"] = b"x\n"
    monkeypatch.setattr(fetching, "_adapter", lambda name: lambda root: table)
    return server


@pytest.mark.parametrize("drop", [False, True])
def test_archives_are_fetched_whole_and_unpacked_in_part(zipped, tmp_path, drop):
    root = tmp_path / "root"
    words = ["fetch", "bbbc021", "--base", zipped.url(), "--root", root, "--yes"]
    words += ["--drop-archives"] * drop
    result = hcs(*words, "--plates", "P2", "--channels", "ER")
    assert result.exit_code == 0, result.output
    assert set(here(root)) == {f"images/P2/{w}_{s} ER.tif" for w in ("A01", "B02") for s in (1, 2)}
    assert (root / "archives/BBBC021_v1_images_P2.zip").exists() != drop
    zipped.served.clear()
    again = hcs(*words, "--plates", "P2", "--channels", "ER")
    assert again.exit_code == 0 and sum(zipped.served.values()) == 0
    more = hcs(*words, "--plates", "P2")
    assert more.exit_code == 0 and len(here(root)) == 8
    assert bool(zipped.served) == drop  # the archive is fetched again if it was dropped


def test_a_damaged_archive_is_told(zipped, tmp_path):
    zipped.files["BBBC021_v1_images_P2.zip"] = b"no zip"
    words = ["--base", zipped.url(), "--root", tmp_path / "root", "--yes"]
    result = hcs("fetch", "bbbc021", *words)
    assert result.exit_code == 2 and "no readable zip archive" in result.stderr

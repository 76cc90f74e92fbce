"""`hcs fetch` from end to end: stated, asked, fetched, killed, gone on with."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hcs_utils import fetching
from hcs_utils.cli import app
from hcs_utils.data import manifest
from tests.data import public_screens
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


def images(root):
    named = {str(p.relative_to(root)): p for p in root.rglob("*.*") if p.name[0] != "."}
    kinds = (".tif", ".tiff", ".png")
    return {name: path.read_bytes() for name, path in named.items() if path.suffix in kinds}


# A manifest of one's own


def test_a_part_of_a_screen_is_stated_fetched_and_checked(server, screen):
    words = ["--plates", "P1", "--wells", "a1", "--channels", "dna", "--base", server.url()]
    result = hcs("fetch", screen, *words, "--yes")
    assert result.exit_code == 0, result.output
    assert "Images: 2 files, 2.0 kB to fetch" in result.stdout
    assert "2 files fetched (2.0 kB" in result.stdout and "2 by MD5" in result.stdout
    assert set(images(screen.parent)) == {"P1/A01_1 DNA.tif", "P1/A01_2 DNA.tif"}
    whole = hcs("fetch", screen, "--base", server.url(), "--yes")
    assert "2 files are here already and are kept" in whole.stdout
    assert images(screen.parent) == server.files
    assert hcs("validate", screen).exit_code == 0


def test_nothing_is_fetched_unasked(server, screen):
    result = hcs("fetch", screen, "--base", server.url())
    assert result.exit_code == 2
    assert "16 files, 16.0 kB to fetch" in result.stdout
    assert result.stderr == "Error: There is no terminal to ask at. Add --yes to fetch this.\n"
    plan = hcs("fetch", screen, "--base", server.url(), "--plan")
    assert plan.exit_code == 0 and "nothing was fetched" in plan.stdout
    assert {method for method, _, _ in server.asked} == {"HEAD"} and images(screen.parent) == {}


@pytest.mark.parametrize(("answer", "files"), [("y", 16), ("", 16), ("n", 0)])
def test_at_a_terminal_it_asks(server, screen, answer, files, monkeypatch):
    monkeypatch.setattr(fetching, "_terminal", lambda: True)
    words = ["fetch", str(screen), "--base", server.url()]
    result = CliRunner().invoke(app, words, input=answer + "\n")
    assert result.exit_code == 0 and "Fetch them? [Y/n]" in result.output
    assert len(images(screen.parent)) == files


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
    assert len(images(tmp_path / "images")) == 8
    assert len(manifest.read(tmp_path / "some.parquet")) == 4


def test_a_list_of_checksums_is_held_to(server, screen, tmp_path):
    (tmp_path / "SUMS").write_text("0" * 64 + "  P1/A01_1 DNA.tif\n")
    words = ["--base", server.url(), "--yes", "--retries", "0", "--checksums", tmp_path / "SUMS"]
    result = hcs("fetch", screen, *words)
    assert result.exit_code == 1 and "wrong bytes: their sha256 is" in result.stdout
    assert len(images(screen.parent)) == 15


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
    while len(images(tmp_path)) < 3 or not list(tmp_path.rglob(".*.part")):
        assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    process.stderr.close()
    there = images(tmp_path)
    assert 3 <= len(there) < len(paths)
    assert all(content == server.files[name] for name, content in there.items())
    parts = sum(path.stat().st_size for path in tmp_path.rglob(".*.part"))
    assert parts > 0
    time.sleep(0.3)  # the server notices
    server.pace_sec, server.served = 0.0, Counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(there)} files are here already and are kept" in done.stdout
    assert images(tmp_path) == server.files
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
    server.files = public_screens.jump()
    return server


def whole(server, root):
    """The command for all that is there of source 4."""
    words = ["fetch", "jump", "--base", server.url(), "--root", root, "--yes"]
    return hcs(*words, "--sources", "source_4")


def test_tables_come_first_and_then_the_chosen_images(jump, tmp_path):
    words = ["--base", jump.url(), "--root", tmp_path, "--yes", "--plates", "BR00117036"]
    result = hcs("fetch", "jump", *words, "--channels", "ER,DNA", "--sites", "1")
    assert result.exit_code == 0, result.output
    assert "Tables: 7 files" in result.stdout and "Tables of plates: 1 files" in result.stdout
    assert "Images: 4 files, 4.0 kB to fetch" in result.stdout
    got = images(tmp_path)
    assert len(got) == 4 and all("BR00117036" in n and "f01p01" in n for n in got)
    assert {n.rpartition("-")[2][:3] for n in got} == {"ch1", "ch2"}
    assert got == {name: jump.files[name] for name in got}
    assert not [name for _, name, _ in jump.asked if "BR00117035" in name]
    made = manifest.read(tmp_path / "manifest.parquet")
    assert manifest.channels(made) == ("DNA", "ER") and len(made) == 2
    assert set(made["role"]) == {"negcon", "trt"}
    assert hcs("validate", tmp_path / "manifest.parquet").exit_code == 0
    again = hcs("fetch", "jump", *words, "--channels", "ER,DNA", "--sites", "1")
    assert again.exit_code == 0 and "4 files are here already" in again.stdout


def test_a_plan_of_a_public_screen_brings_its_tables_alone(jump, tmp_path):
    words = ["--base", jump.url(), "--root", tmp_path, "--plates", "BR00117036", "--plan"]
    assert hcs("fetch", "jump", *words).exit_code == 2  # no terminal to ask about the tables at
    result = hcs("fetch", "jump", *words, "--yes")
    assert result.exit_code == 0
    assert "Images: 20 files" in result.stdout and "nothing was fetched" in result.stdout
    assert images(tmp_path) == {} and (tmp_path / "metadata" / "plate.csv.gz").is_file()


def test_a_fetched_screen_is_known_by_its_name(jump, tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_DATA", str(tmp_path / "data"))
    assert "`hcs fetch jump` brings it" in hcs("validate", "jump").stderr
    words = ["--base", jump.url(), "--yes", "--compounds", "JCP2022_000001"]
    assert hcs("fetch", "jump", *words, "--sources", "source_4").exit_code == 0
    result = hcs("validate", "jump")
    assert result.exit_code == 0 and "4 sites in 2 wells, 2 plates" in result.stdout
    (tmp_path / "data").rename(tmp_path / "moved")
    assert hcs("validate", tmp_path / "moved" / "jump" / "manifest.parquet").exit_code == 0
    (tmp_path / "moved" / "jump" / "manifest.parquet").unlink()
    (tmp_path / "moved").rename(tmp_path / "data")
    assert hcs("validate", "jump").exit_code == 2  # the tables speak of wells that are not here


def test_without_a_table_it_says_which(jump, tmp_path):
    del jump.files["metadata/well.csv.gz"]
    result = whole(jump, tmp_path)
    assert result.exit_code == 2
    assert "well.csv.gz: 404: not there" in result.stdout
    assert "the table 'well' is not below" in result.stderr


def test_a_plate_without_its_table_is_passed_over_and_told(jump, tmp_path):
    folder = f"source_4/workspace/load_data_csv/{public_screens.BATCH}/BR00117035"
    del jump.files[f"{folder}/load_data_with_illum.parquet"]
    result = whole(jump, tmp_path)
    assert result.exit_code == 1
    assert "BR00117035/load_data_with_illum.parquet: 404: not there" in result.stdout
    assert "BR00117035: no load_data table" in result.stdout
    assert set(manifest.read(tmp_path / "manifest.parquet")["plate"]) == {"BR00117036"}


def test_the_manifest_holds_the_sites_that_are_here(jump, tmp_path):
    jump.always = {next(name for name in jump.files if name.endswith(".tiff")): 403}
    result = whole(jump, tmp_path)
    assert result.exit_code == 1
    assert "1 sites are not in it" in result.stdout
    assert len(manifest.read(tmp_path / "manifest.parquet")) == 7


def test_a_plate_of_cpg0004_with_the_real_tables(server, shared_data, tmp_path):
    lincs, batch = shared_data("metadata") / "lincs", "2016_04_01_a549_48hr_batch1"
    server.files = {
        f"metadata/{p.relative_to(lincs)}": p.read_bytes() for p in lincs.rglob("*") if p.is_file()
    }
    rows = []
    for well in ("A01", "C05"):
        for site in ("1", "2"):
            row = {"Metadata_Well": well, "Metadata_Site": site}
            for c in public_screens.CHANNELS:
                row |= {f"FileName_Orig{c}": f"{well}{site}{c}.tiff"}
                row |= {
                    f"PathName_Orig{c}": f"/home/ubuntu/bucket/cpg0004-lincs/broad/images/{batch}"
                }
                server.files[f"broad/images/{batch}/{well}{site}{c}.tiff"] = public_screens.image()
            rows.append(row)
    place = f"broad/workspace/load_data_csv/{batch}/SQ00015201/load_data.csv"
    server.files[place] = pd.DataFrame(rows).to_csv(index=False).encode()
    words = ["--base", server.url(), "--root", tmp_path, "--yes", "--plates", "SQ00015201"]
    result = hcs("fetch", "cpg0004", *words, "--channels", "DNA,Mito")
    assert result.exit_code == 0, result.output
    assert len(images(tmp_path)) == 8
    assert hcs("validate", tmp_path / "manifest.parquet").exit_code == 0


# Archives


@pytest.mark.parametrize("drop", [False, True])
def test_archives_are_fetched_whole_and_unpacked_in_part(server, tmp_path, drop):
    server.files = public_screens.bbbc021()
    words = ["fetch", "bbbc021", "--base", server.url(), "--root", tmp_path, "--yes"]
    words += ["--drop-archives"] * drop + ["--plates", "Week1_22141"]
    result = hcs(*words, "--channels", "DNA")
    assert result.exit_code == 0, result.output
    names = {f"{w}_s{s}_w1" for w in ("B02", "C03") for s in (1, 2)}
    stem = "images/Week1_22141/Week1_22141_"
    assert set(images(tmp_path)) == {f"{stem}{name}.tif" for name in names}
    assert hcs("validate", tmp_path / "manifest.parquet").exit_code == 0
    assert (tmp_path / "archives/BBBC021_v1_images_Week1_22141.zip").exists() != drop
    server.served.clear()
    again = hcs(*words, "--channels", "DNA")
    assert again.exit_code == 0 and sum(server.served.values()) == 0
    more = hcs(*words)
    assert more.exit_code == 0 and len(images(tmp_path)) == 12
    assert bool(server.served) == drop  # an archive that was dropped is fetched again


def test_an_archive_of_the_whole_screen_is_unpacked_for_the_chosen_part(server, tmp_path):
    server.files = public_screens.rxrx1()
    words = ["fetch", "rxrx1", "--base", server.url(), "--root", tmp_path, "--yes"]
    result = hcs(*words, "--wells", "B03")
    assert result.exit_code == 0, result.output
    assert "single plates cannot be fetched" in result.stdout
    assert len(images(tmp_path)) == 12  # HUVEC, one well, two sites, six channels
    assert hcs(*words, "--batches", "RPE-01").exit_code == 0
    assert len(images(tmp_path)) == 12 + 24
    assert set(manifest.read(tmp_path / "manifest.parquet")["batch"]) == {"RPE-01"}


def test_a_damaged_archive_is_told(server, tmp_path):
    server.files = public_screens.bbbc021() | {"BBBC021_v1_images_Week1_22141.zip": b"no zip"}
    words = ["--base", server.url(), "--root", tmp_path, "--yes"]
    result = hcs("fetch", "bbbc021", *words)
    assert result.exit_code == 2 and "no readable zip archive" in result.stderr

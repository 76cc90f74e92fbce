"""Preprocessing as a workflow on this machine: the bytes of plain calls, refusals, profiles."""

import ast
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

import job
from hcs_utils.data import manifest as manifests
from hcs_utils.data import plates
from hcs_utils.errors import InputError
from tests.data.test_preprocess import fingerprint, screen

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "workflow" / "profiles"


def command(folder, *config, profile="local", options=()):
    """The command as a user types it, in a folder of their own."""
    words = [str(Path(sys.executable).with_name("snakemake"))]
    words += ["--snakefile", str(ROOT / "workflow" / "preprocess.smk"), *options]
    words += ["--profile", str(PROFILES / profile), "--config", *config]
    with (folder / "snakemake.log").open("ab") as log:
        return subprocess.Popen(words, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def run(folder, *config, **how):
    """Its exit status and all that it has printed."""
    process = command(folder, *config, **how)
    try:
        status = process.wait(240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return status, (folder / "snakemake.log").read_text("utf-8")


def own(folder, plates=2):
    """A screen of one's own: images, a table and a screen.yaml."""
    table = screen(folder / "images", plates=plates)
    table.to_csv(folder / "images" / "table.csv", index=False)
    columns = {name: name for name in ("batch", "plate", "well", "site", "site_id", "compound")}
    described = {"root": "images", "table": "table.csv", "columns": columns | {"role": "role"}}
    described |= {"channels": {"dna": "path_dna", "er": "path_er"}, "pixel_size_um": 0.5}
    (folder / "screen.yaml").write_text(yaml.safe_dump(described), "utf-8")
    return table


def test_a_plate_that_fails_stops_itself_and_the_mended_rest_is_that_of_plain_calls(tmp_path):
    table = own(tmp_path)
    whole = {name: (tmp_path / "images" / name).read_bytes() for name in table["path_dna"][6:]}
    for name in whole:
        (tmp_path / "images" / name).write_bytes(b"")
    asked = ["screen=screen.yaml", "out=my out", "image_px=12", "scale=plate", "low=0.5"]
    status, told = run(tmp_path, *asked)
    out = tmp_path / "my out"
    assert status != 0 and "None of 6 sites of plate p1 can be read" in told
    assert (out / "plates" / "p0.json").exists() and not (out / "images.zarr").exists()
    before = (out / "plates" / "p0.json").stat().st_mtime_ns

    (tmp_path / "snakemake.log").unlink()
    status, told = run(tmp_path, *asked, "allow_missing=true")
    assert status == 0, told
    assert len(pd.read_csv(out / "failed.csv")) == 6

    for name, content in whole.items():
        (tmp_path / "images" / name).write_bytes(content)
    again = ["--forcerun", str(out / "plates" / "p1.json")]
    status, told = run(tmp_path, *asked, options=again)
    assert status == 0, told
    assert (out / "plates" / "p0.json").stat().st_mtime_ns == before

    plain, recipe = tmp_path / "plain", plates.Recipe(size=12, scale="plate", low=0.5)
    from_yaml = manifests.read(out / "manifest.parquet")
    plates.plan(from_yaml, tmp_path / "images", plain, recipe, pixel_size_um=0.5)
    for plate in ("p0", "p1"):
        plates.run_plate(plain, plate)
    plates.join(plain)
    assert fingerprint(out / "images.zarr") == fingerprint(plain / "images.zarr")
    assert pd.read_csv(out / "failed.csv").empty
    for name in ("statistics.parquet", "manifest.parquet"):
        assert (out / name).read_bytes() == (plain / name).read_bytes()


def test_killed_in_the_middle_the_same_command_finishes_what_is_left(tmp_path):
    table = screen(tmp_path / "images", plates=2)
    manifests.write(table, tmp_path / "manifest.parquet")
    held = tmp_path / "images" / table["path_dna"][7]  # of p1, and not one of those plan reads
    content = held.read_bytes()
    held.unlink()
    os.mkfifo(held)  # who reads it waits for ever
    asked = ["screen=manifest.parquet", "root=images", "out=out", "form=png", "pixel_size_um=0.5"]
    done = tmp_path / "out" / "plates"
    process = command(tmp_path, *asked)
    end = time.monotonic() + 120
    while not (done / "p0.json").exists() or not (done / "p1.part").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = (done / "p0.json").stat().st_mtime_ns
    assert not (done / "p1.json").exists() and not (tmp_path / "out/images/p1").exists()
    held.unlink()
    held.write_bytes(content)
    status, told = run(tmp_path, *asked)
    assert status == 0, told
    assert (done / "p0.json").stat().st_mtime_ns == before
    found = manifests.read(tmp_path / "out" / "images" / "manifest.parquet")
    manifests.validate(found, root=tmp_path / "out" / "images")
    assert len(found) == 12 and found.attrs["pixel_size_um"] == 0.5


def test_settings_that_do_not_exist_or_differ_are_refused_before_anything_runs(tmp_path):
    own(tmp_path)
    status, told = run(tmp_path, "out=o", "crop=3", "treatment_field=6")
    assert status != 0 and "screen is not given" in told
    assert "Unknown setting crop (nearest: crop_px" in told
    assert "Unknown setting treatment_field (nearest: treatment_fields" in told
    assert not (tmp_path / "o").exists()
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "request.json").write_text(
        json.dumps({"screen": str(tmp_path / "screen.yaml"), "crop_px": 4})
    )
    status, told = run(tmp_path, "screen=screen.yaml", "out=o", "crop_px=3")
    assert status != 0 and "crop_px: 4 there, 3 asked for" in told
    with pytest.raises(InputError, match=r"screen is 'jmp' \(nearest: jump\); give the path"):
        job.screen("jmp", None, None)
    named = r"simulated screen of size 'smok' \(nearest: smoke, qc-smoke\)"
    with pytest.raises(InputError, match=named):
        job.screen("simulated", None, "smok")


def settings(name):
    """A tuple of names that the Snakefile holds."""
    text = (ROOT / "workflow" / "preprocess.smk").read_text("utf-8")
    found = re.findall(rf"^{name} \+?= (\(.*\))$", text, re.MULTILINE)
    return [word for part in found for word in ast.literal_eval(part)]


def test_the_workflow_takes_every_setting_of_a_recipe():
    names = {field.name for field in dataclasses.fields(plates.Recipe)}
    assert {*settings("RECIPE"), "size"} == names
    text = (ROOT / "workflow" / "preprocess.smk").read_text("utf-8").split('"""')[1]
    for name in (*settings("RECIPE"), "image_px", "allow_missing", "tidy", "root", "screen", "out"):
        assert re.search(rf"\b{name}\b", text), name


def rules(snakefile):
    text = (ROOT / "workflow" / snakefile).read_text("utf-8")
    return set(re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.MULTILINE)) - {"all"}


@pytest.mark.parametrize("name", ["local", "slurm", "aws-batch", "kubernetes"])
def test_profiles_parse_and_name_the_resources_of_every_rule(name):
    text = (PROFILES / name / "config.yaml").read_text("utf-8")
    profile = yaml.safe_load(text)
    assert profile["rerun-incomplete"] and profile["keep-going"] and profile["nolock"]
    assert ("UNTESTED" in text.split("\n")[0]) == (name in ("aws-batch", "kubernetes"))
    if name == "local":
        assert profile["cores"] == 2 and "executor" not in profile
        return
    named = profile["set-resources"]
    assert set(named) == rules("Snakefile") | rules("preprocess.smk")
    assert all(isinstance(resources["mem_mb"], int) for resources in named.values())
    assert {"mem_mb", "runtime"} <= set(profile["default-resources"])
    assert set(profile["set-threads"]) <= set(named)


@pytest.mark.parametrize("snakefile", ["Snakefile", "preprocess.smk"])
def test_every_rule_of_both_workflows_states_memory_and_minutes(snakefile):
    text = (ROOT / "workflow" / snakefile).read_text("utf-8")
    blocks = re.split(r"^(?=rule |checkpoint )", text, flags=re.MULTILINE)[1:]
    stated = {re.match(r"\w+ (\w+)", block)[1]: block for block in blocks}
    for name in rules(snakefile):
        assert re.search(r"mem_mb=\d+", stated[name]) and re.search(r"runtime=\d+", stated[name])

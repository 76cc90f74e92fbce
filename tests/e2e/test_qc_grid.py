"""The grid of quality control: what it plans, with which parameters, and what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

from hcs_utils import qc_switches
from hcs_utils.qc_settings import METHODS, TRANSFER, from_parameters, parameters

ROOT = Path(__file__).resolve().parents[2]
GRID = [str(Path(sys.executable).with_name("snakemake")), "--snakefile", "workflow/Snakefile"]
GRID += ["--profile", "workflow/profiles/local", "--dry-run", "--printshellcmds", "--config"]


def planned(tmp_path, *config):
    """Records that a dry run would make, its whole text and its exit code."""
    command = [*GRID, f"results={tmp_path}", "experiment=qc", *config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = done.stdout + done.stderr
    records = re.findall(rf"^ +output: {re.escape(str(tmp_path))}/(\S+)\.json$", told, re.MULTILINE)
    return set(records), told, done.returncode


def test_the_grid_is_every_method_and_variant_and_crops_are_cut_once(tmp_path):
    places, told, code = planned(tmp_path, "preset=quick", "methods=all", "variants=all", "seeds=0")
    assert code == 0, told
    wanted = {f"quick/qc/{m}" for m in set(METHODS) - set(TRANSFER)}
    for variant, of in qc_switches.variants().items():
        wanted |= {f"quick/qc-ledger/{variant}/{m}" for m in of["methods"]}
    assert places == {f"{w}-f1-s0" for w in wanted}
    assert told.count("job.py crops quick qc_screen=simulated") == 1
    given = re.findall(r"job\.py qc \S+ quick (.+?) > ", told)
    assert len(given) == len(places)
    for words in given:
        chosen = dict(word.split("=", 1) for word in words.split())
        assert set(chosen) <= set(parameters()) and chosen["qc_method"] in METHODS


def test_every_variant_changes_the_preset_into_settings_that_can_be():
    from hcs_utils import runs

    base = runs.preset("quick")
    for name, of in qc_switches.variants().items():
        for method in of["methods"]:
            own = {"qc_method": method, "qc_variant": name}
            assert set(of["parameters"]) <= set(base)
            assert from_parameters(base | of["parameters"] | own) != from_parameters(base | own)


def test_encoders_of_imagenet_are_run_where_they_are_named(tmp_path):
    places, told, code = planned(tmp_path, "preset=paper", "methods=vgg16,simclr", "seeds=0")
    assert code == 0, told
    assert places == {f"paper/qc/bbbc022/{m}-f1-s0" for m in ("vgg16", "simclr")}
    assert "job.py crops paper qc_screen=bbbc022" in told


def test_what_there_is_not_is_told(tmp_path):
    for config, words in (
        ("methods=dino", "Unknown methods: dino; there are: classical, random, procedural"),
        ("variants=x", "Unknown variants: x; there are: swav-queue-late"),
    ):
        places, told, code = planned(tmp_path, "preset=smoke", config)
        assert code == 1 and not places and words in told

"""The cross-modal grid: what it plans, with which parameters, and what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

from hcs_utils import crossmodal_switches
from hcs_utils.crossmodal_settings import METHODS, from_parameters, parameters

ROOT = Path(__file__).resolve().parents[2]
GRID = [str(Path(sys.executable).with_name("snakemake")), "--snakefile", "workflow/Snakefile"]
GRID += ["--profile", "workflow/profiles/local", "--dry-run", "--printshellcmds", "--config"]


def planned(tmp_path, *config):
    """Records that a dry run would make, its whole text and its exit code."""
    command = [*GRID, f"results={tmp_path}", "experiment=crossmodal", *config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = done.stdout + done.stderr
    records = re.findall(rf"^ +output: {re.escape(str(tmp_path))}/(\S+)\.json$", told, re.MULTILINE)
    return set(records), told, done.returncode


def test_the_grid_is_every_method_and_every_variant_with_parameters_of_the_notebook(tmp_path):
    places, told, code = planned(tmp_path, "preset=quick", "variants=all", "seeds=0,1")
    assert code == 0, told
    wanted = {f"quick/crossmodal/{m}" for m in METHODS}
    for variant, of in crossmodal_switches.variants().items():
        wanted |= {f"quick/crossmodal-ledger/{variant}/{m}" for m in of["methods"]}
    assert places == {f"{w}-f1-s{s}" for w in wanted for s in range(2)}
    assert told.count("job.py prepare simulated molecules-quick 0") == 1
    given = re.findall(r"job\.py crossmodal \S+ quick (.+?) > ", told)
    assert len(given) == len(places)
    for words in given:
        chosen = dict(word.split("=", 1) for word in words.split())
        assert set(chosen) <= set(parameters()) and chosen["crossmodal_screen"] == "simulated"
        assert chosen["crossmodal_method"] in METHODS
    assert "gpu=1" not in told


def test_every_variant_changes_the_preset_into_settings_that_can_be():
    from hcs_utils import runs

    base = runs.preset("quick")
    for name, of in crossmodal_switches.variants().items():
        for method in of["methods"]:
            changed = of["parameters"] | {"crossmodal_method": method, "crossmodal_variant": name}
            assert set(changed) <= set(base)
            assert from_parameters(base | changed) != from_parameters(base | {
                "crossmodal_method": method, "crossmodal_variant": name
            })  # fmt: skip


def test_the_papers_preset_is_of_jump_on_gpus_and_small_ones_need_none(tmp_path):
    places, told, code = planned(tmp_path, "preset=paper", "methods=emm", "seeds=0", "folds=1,2")
    assert code == 0, told
    assert places == {f"paper/crossmodal/jump/emm-f{f}-s0" for f in (1, 2)}
    assert told.count("gpu=1") == 2 and told.count("mem_mb=12000") == 2
    assert told.count("job.py prepare jump full 768") == 1


def test_what_there_is_not_is_told(tmp_path):
    for config, words in (
        ("methods=dino", "Unknown methods: dino; there are: clip, emm, imm, ecfp"),
        ("variants=x", "Unknown variants: x; there are: emm-released"),
        ("experiment=space", "Unknown experiment: space; there are: cdcl, crossmodal, qc"),
    ):
        places, told, code = planned(tmp_path, "preset=smoke", config)
        assert code == 1 and not places and words in told

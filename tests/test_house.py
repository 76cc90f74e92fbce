"""The house itself: what files of the repository must agree on, and the tools of workflow/."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import address
import book
import colab
import pair

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CONDA_NAMES = {"pytorch_geometric": "torch-geometric", "pytorch": "torch"}
IMPORT_NAMES = {
    "skimage": "scikit-image", "sklearn": "scikit-learn", "umap": "umap-learn", "yaml": "pyyaml",
    "lightning_fabric": "pytorch-lightning",
}  # fmt: skip


# One environment, described three times


def direct() -> dict[str, Requirement]:
    """What pyproject.toml asks for, in all extras."""
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + [
        x for n, lines in extras.items() if n != "all" for x in lines
    ]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def conda() -> dict[str, Requirement]:
    """What environment.yml asks for, under the names that pip knows."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    lines = environment["dependencies"]
    lines = [x for x in lines if isinstance(x, str)] + next(
        x["pip"] for x in lines if isinstance(x, dict)
    )
    wanted = [Requirement(x) for x in lines if x not in ("pip", "-e .")]
    return {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): r for r in wanted}


def locked() -> dict[str, Version]:
    """The versions of requirements.lock that hold for this Python and system."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [Requirement(x.removesuffix("\\")) for x in lines if re.match(r"[\w.-]+==", x)]
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(p.name): Version(str(p.specifier).strip("=")) for p in here}


def test_environment_yml_asks_for_what_pyproject_asks_for():
    asked = {name: str(r.specifier) for name, r in direct().items()}
    asked["python"] = PROJECT["requires-python"]
    assert {name: str(r.specifier) for name, r in conda().items()} == asked


def test_all_extra_has_every_extra():
    extras = set(PROJECT["optional-dependencies"]) - {"all"}
    assert Requirement(PROJECT["optional-dependencies"]["all"][0]).extras == extras


def test_lock_has_every_direct_dependency_within_its_bounds():
    versions = locked()
    for name, requirement in direct().items():
        assert name in versions, f"{name} is not in requirements.lock"
        assert requirement.specifier.contains(versions[name], prereleases=True), name


def test_lock_has_a_hash_for_every_package():
    blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text("utf-8"))
    assert len(blocks) > 100
    assert [b.split()[0] for b in blocks if "--hash=sha256:" not in b and b.strip()] == []


def test_environment_here_is_the_locked_one():
    versions = locked()
    for name in direct():
        assert Version(metadata.version(name)) == versions[name], f"{name}: run make env"


@pytest.mark.parametrize("name", ["requirements.lock", "environment.yml", "pyproject.toml"])
def test_descriptions_of_the_environment_name_no_host(name):
    assert re.findall(r"https?://\S+|index-url", (ROOT / name).read_text("utf-8")) == []


def test_package_imports_only_what_it_asks_for():
    asked = {str(name) for name in direct()}
    for path in sorted((ROOT / "hcs_utils").rglob("*.py")):
        for module in imported(path):
            name = canonicalize_name(IMPORT_NAMES.get(module, module))
            known = module in sys.stdlib_module_names or module == "hcs_utils"
            assert known or name in asked, f"{path.name} imports {module}"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def test_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["version"]


# Sizes and names


def test_modules_stay_short():
    limits = {p: 300 for p in (ROOT / "hcs_utils").rglob("*.py")}
    limits |= {p: 120 for p in (ROOT / "hcs_utils/learning/methods").glob("*.py")}
    lengths = {p: len(p.read_text("utf-8").splitlines()) for p in limits}
    assert [str(p) for p in limits if lengths[p] > limits[p]] == []


def test_no_tracked_file_names_a_package_registry():
    hosts = re.compile("|".join(("python" + "hosted", r"py" + r"pi\.org", r"registry\.npm" + "js")))
    texts = [p for n in address.files(ROOT) if (p := ROOT / n).is_file() and p.suffix != ".png"]
    assert [p.name for p in texts if hosts.search(p.read_text("utf-8", errors="replace"))] == []


def test_every_target_of_make_is_explained_and_one_line_deep():
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z]+):(.*)((?:\n\t.*)*)", text, re.MULTILINE)
    wanted = {"help", "env", "pair", "lint", "book", "test", "bench", "serve", "run", "grid"}
    assert {name for name, *_ in targets} >= wanted
    for name, head, recipe in targets:
        assert "## " in head, f"{name} has no explanation"
        assert recipe.count("\n") <= 1, f"{name} is more than one line"


# Presets

PRESETS = sorted((ROOT / "workflow" / "presets").glob("*.yaml"))


def test_presets_are_those_of_the_design():
    assert [p.stem for p in PRESETS] == ["full", "paper", "quick", "smoke", "standard"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_preset_is_flat_named_as_its_file_and_every_value_explained(path):
    lines = [x for x in path.read_text("utf-8").splitlines() if not x.startswith("#")]
    assert all(re.match(r"^[a-z_]+: .*# \S+", line) for line in lines)
    settings = yaml.safe_load(path.read_text("utf-8"))
    assert settings["preset"] == path.stem
    assert all(isinstance(v, str | int | float | bool) for v in settings.values())
    assert list(settings) == list(yaml.safe_load(PRESETS[0].read_text("utf-8")))
    assert 1 <= settings["fold"] <= settings["folds"]


# The address

ELSEWHERE = ["https://github.com/cfredinh/CDCL", "github.com/sphinx-doc/sphinx", "make pair"]


def test_the_public_address_stands_in_config_alone():
    assert address.strays() == []


def test_addresses_of_this_book_are_found_and_those_of_others_are_not():
    url = "https://github.com/some-one/the-book"
    owner, name = url.split("/")[-2:]
    own = [url, url + ".git", f"git@github.com:{owner}/{name}.git", f"github.com/fork/{name}/blob"]
    own += [f"https://mybinder.org/v2/gh/{owner}/{name}/main", f"https://{owner}.github.io/{name}/"]
    own += [f"https://colab.research.google.com/github/{owner}/{name}/x.ipynb"]
    assert all(address.pattern(url).search(text) for text in own)
    assert not any(address.pattern(url).search(x) for x in [*ELSEWHERE, url + "-two"])


def test_a_stray_address_is_reported_with_its_place(tmp_path):
    url = "https://github.com/some-one/the-book"
    (tmp_path / "_config.yml").write_text(f"repository:\n  url: {url}\n")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_a.ipynb").write_text(url)
    (tmp_path / "page.md").write_text(f"fine\nsee {url}\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert address.strays(tmp_path) == [f"page.md:2: see {url}"]


# Pairs

NOTEBOOK = """# ---
# jupyter:
#   accelerator: GPU
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Title

# %% tags=["parameters"]
seed = 0

# %%
address = "{{repository}}"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "00_a.py").write_text(NOTEBOOK)
    pair.write(tmp_path, "https://example.org/a")
    return tmp_path


def test_derived_notebook_has_ids_kernel_tags_address_and_no_outputs(folder):
    made = json.loads((folder / "00_a.ipynb").read_text())
    assert made["metadata"]["kernelspec"] == pair.KERNEL
    assert made["metadata"]["accelerator"] == "GPU"
    assert [cell["id"] for cell in made["cells"]] == ["cell-00", "cell-01", "cell-02"]
    assert made["cells"][1]["metadata"]["tags"] == ["parameters"]
    assert "".join(made["cells"][2]["source"]) == 'address = "https://example.org/a"'
    assert all(cell.get("outputs", []) == [] for cell in made["cells"])
    assert pair.write(folder, "https://example.org/a") == []


def test_pairs_in_sync_have_no_differences(folder):
    assert pair.differences(folder, "https://example.org/a") == []


@pytest.mark.parametrize("change", ["edit", "outputs", "orphan", "missing", "address"])
def test_pairs_out_of_sync_are_told(folder, change):
    target, url = folder / "00_a.ipynb", "https://example.org/a"
    if change == "edit":
        (folder / "00_a.py").write_text(NOTEBOOK + "seed = 2\n")
    elif change == "outputs":
        made = json.loads(target.read_text())
        made["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
        target.write_text(json.dumps(made))
    elif change == "orphan":
        (folder / "01_b.ipynb").write_text(target.read_text())
    elif change == "missing":
        target.unlink()
    else:
        url = "https://example.org/b"
    words = {"outputs": "has outputs", "orphan": "01_b.ipynb has no .py", "missing": "is missing"}
    (told,) = pair.differences(folder, url)
    assert words.get(change, "is not what 00_a.py gives") in told


# The build of the book: what runs again, what is staged


@pytest.fixture
def tiny_book(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "build")
    files = {
        "notebooks/00_a.ipynb": "{}",
        "notebooks/23_b.ipynb": "runs.load_records('book/results')",
        "workflow/presets/quick.yaml": "seed: 0",
        "requirements.lock": "a==1",
        "hcs_utils/x.py": "",
        "book/results/quick/cdcl/a.json": "{}",
        "book/paper/a.csv": "metric,mean\n",
        "book/index.md": "# A",
        "book/_static/book.css": "",
        "_config.yml": "title: A",
        "_toc.yml": "root: book/index\nparts:\n- chapters:\n  - file: notebooks/23_b\n"
        "  - file: notebooks/00_a\n  - file: book/index\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_notebooks_that_read_records_run_last(tiny_book):
    assert book.notebooks() == ["00_a", "23_b"]


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("notebooks/00_a.ipynb", {"00_a"}),
        ("book/results/quick/cdcl/a.json", {"23_b"}),
        ("book/paper/a.csv", {"23_b"}),
        ("hcs_utils/x.py", {"00_a", "23_b"}),
        ("requirements.lock", {"00_a", "23_b"}),
        ("workflow/presets/quick.yaml", {"00_a", "23_b"}),
        ("book/index.md", set()),
    ],
)
def test_only_what_a_change_reaches_runs_again(tiny_book, changed, again):
    before = {name: book.key(name, "quick") for name in book.notebooks()}
    (tiny_book / changed).write_text((tiny_book / changed).read_text() + " ")
    after = {name: book.key(name, "quick") for name in book.notebooks()}
    assert {name for name in before if before[name] != after[name]} == again


def test_staging_keeps_what_did_not_change_and_drops_what_is_gone(tiny_book):
    for name in book.notebooks():
        target = book.executed(name, "quick")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('{"cells": [], "metadata": {"papermill": {"duration": 1}}}')
    folder = book.stage(book.notebooks(), "quick")
    assert (folder / "_static" / "mathjax" / "tex-chtml.js").exists()
    assert not (folder / "book" / "results").exists()
    assert "papermill" not in (folder / "notebooks" / "00_a.ipynb").read_text()
    (folder / "book" / "old.md").write_text("gone from the source")
    os.utime(folder / "book" / "index.md", (1, 1))
    (tiny_book / "_config.yml").write_text("title: B")
    book.stage(book.notebooks(), "quick")
    assert not (folder / "book" / "old.md").exists()
    assert (folder / "book" / "index.md").stat().st_mtime == 1
    assert (folder / "_config.yml").read_text() == "title: B"


def test_injected_parameters_are_folded_and_times_left_out(tmp_path):
    cell = {"cell_type": "code", "source": [], "outputs": [], "execution_count": 1}
    cell["metadata"] = {"tags": ["injected-parameters"], "papermill": {"duration": 2}}
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}}))
    (shown,) = json.loads(book.page(tmp_path / "a.ipynb"))["cells"]
    assert shown["metadata"] == {"tags": ["injected-parameters", "hide-cell"]}


# Setting up


def test_a_python_too_old_is_told_with_the_way_out(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "workflow").mkdir()
    script = tmp_path / "workflow" / "env.sh"
    script.write_text((ROOT / "workflow" / "env.sh").read_text())
    done = subprocess.run(["sh", str(script), str(old)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "3.11 or newer" in done.stderr and "3.9.2" in done.stderr and "PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_colab_is_held_to_the_versions_that_are_there(monkeypatch):
    there = {"torch": "2.6.0+cu124", "numpy": "2.0.2"}

    def version(name):
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(colab.metadata, "version", version)
    assert colab.constraints() == "torch==2.6.0+cu124\nnumpy==2.0.2\n"


def test_the_grid_shows_its_plan(tmp_path):
    command = [str(Path(sys.executable).with_name("snakemake")), "--dry-run"]
    command += ["--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--profile", str(ROOT / "workflow" / "profiles" / "local"), "--config"]
    command += ["preset=smoke", "methods=dino,cdcl", "seeds=0,1,2", "folds=1"]
    done = subprocess.run(
        [*command, f"results={tmp_path}"], capture_output=True, text=True, cwd=tmp_path
    )
    plan = done.stdout + done.stderr
    assert done.returncode == 0, plan
    assert re.search(r"^run +6$", plan, re.MULTILINE)
    assert f"{tmp_path}/smoke/cdcl/cdcl-f1-s2.json" in plan
    assert list(tmp_path.iterdir()) == []

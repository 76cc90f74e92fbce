"""Build the book: run each notebook that changed, stage everything at its own path, render it.

build/book/<preset>/executed   notebooks with outputs, named by the hash of what made them
build/book/<preset>/stage      the book as it is rendered: pages, static files, notebooks
build/html (quick) or build/html-<preset>
"""

import argparse
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from pathlib import Path

import yaml

from hcs_utils import files
from hcs_utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
PAGES = (".md", ".bib", ".png", ".svg", ".jpg")
PLOTLY = "../_static/plotly.min.js"  # as a page in notebooks/ names it
MATHJAX = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions")


# Which notebooks, and what each was made from


def notebooks() -> list[str]:
    """Names, without suffix, of the notebooks in _toc.yml, those that read records last."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    pages = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    names = [page.removeprefix("notebooks/") for page in pages if page.startswith("notebooks/")]
    return sorted(names, key=reads_records)


def reads_records(name: str) -> bool:
    """Whether a notebook shows committed records, so that it runs again when they change."""
    text = source(name).read_text("utf-8")
    return "load_records" in text or "book/results" in text


def source(name: str) -> Path:
    return ROOT / "notebooks" / f"{name}.ipynb"


def key(name: str, preset: str) -> str:
    """Hash of all that an executed notebook depends on."""
    made_from = [source(name), ROOT / "workflow" / "presets" / f"{preset}.yaml"]
    made_from += [ROOT / "requirements.lock", *sorted((ROOT / "hcs_utils").rglob("*.py"))]
    if reads_records(name):
        folders = [ROOT / "book" / name for name in ("results", "paper")]  # ours, and the paper's
        made_from += [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for path in made_from:
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def executed(name: str, preset: str) -> Path:
    return BUILD / "book" / preset / "executed" / f"{name}-{key(name, preset)}.ipynb"


# Running


def execute(name: str, preset: str) -> str | None:
    """Run one notebook unless it is there already; gives what went wrong, if anything did."""
    from hcs_utils import runs

    target = executed(name, preset)
    if target.exists():
        return None
    began = time.monotonic()
    try:
        runs.execute(source(name), target, preset=preset, progress=False)
    except (InputError, runs.NotebookError) as error:
        return f"notebooks/{name}.ipynb did not run.\n{error}"
    for old in target.parent.glob(f"{name}-*.ipynb"):
        if old != target:
            old.unlink()
    print(f"  {name} ran in {time.monotonic() - began:.0f} s", flush=True)
    return None


def execute_all(names: list[str], preset: str, jobs: int) -> list[str]:
    """Run what has to be run, those that read records after the others; gives the failures."""
    waiting = [name for name in names if not executed(name, preset).exists()]
    if not waiting:
        return []
    print(f"Running {len(waiting)} of {len(names)} notebooks with preset {preset}:", flush=True)
    failures = []
    log = BUILD / "book" / preset / "kernels.log"
    log.unlink(missing_ok=True)
    spawn = multiprocessing.get_context("spawn")
    for wave in (False, True):
        group = [name for name in waiting if reads_records(name) is wave]
        with ProcessPoolExecutor(min(jobs, len(group)) or 1, spawn, quieten, (log,)) as pool:
            failures += pool.map(execute, group, [preset] * len(group))
    return [failure for failure in failures if failure]


def quieten(log: Path) -> None:
    """Send what kernels say of themselves to a file; errors of cells are told by papermill."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)


def set_up(jobs: int) -> None:
    """What kernels inherit: their folder, where records go, and a fair share of the cores."""
    os.chdir(ROOT)
    os.environ.setdefault("HCS_RESULTS", str(BUILD / "results"))
    os.environ["HCS_PLOTLY"] = PLOTLY
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    share = str(max(1, (os.cpu_count() or 1) // jobs))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, share)


# Staging


def stage(names: list[str], preset: str) -> Path:
    """Bring the stage up to date; a file that did not change keeps its time."""
    folder = BUILD / "book" / preset / "stage"
    contents = {"_config.yml": ROOT / "_config.yml", "_toc.yml": ROOT / "_toc.yml"}
    contents |= {
        str(path.relative_to(ROOT)): path
        for path in (ROOT / "book").rglob("*")
        if path.suffix in PAGES and not {"results", "_static"} & set(path.parts)
    }
    contents |= _under(ROOT / "book" / "_static", "_static")
    contents |= {f"_static/mathjax/{name}": path for name, path in mathjax().items()}
    for name, path in contents.items():
        _put(folder / name, path.read_bytes())
    for name in names:
        _put(folder / "notebooks" / f"{name}.ipynb", page(executed(name, preset)))
    wanted = set(contents) | {f"notebooks/{name}.ipynb" for name in names}
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    return folder


def page(path: Path) -> bytes:
    """An executed notebook as a page: times of the run left out, injected parameters folded."""
    book = json.loads(path.read_text("utf-8"))
    book["metadata"].pop("papermill", None)
    for cell in book["cells"]:
        for word in ("papermill", "execution"):
            cell["metadata"].pop(word, None)
        tags = cell["metadata"].setdefault("tags", [])
        if "injected-parameters" in tags:
            tags.append("hide-cell")
    return (json.dumps(book, indent=1, ensure_ascii=False) + "\n").encode()


def mathjax() -> dict[str, Path]:
    """The files of MathJax that pages use, from the installed package."""
    package = importlib.metadata.distribution("sphinx-mathjax-offline")
    top = Path(package.locate_file("sphinx-mathjax-offline/static/mathjax"))
    found = {}
    for part in MATHJAX:
        found |= {part: top / part} if (top / part).is_file() else _under(top / part, part)
    return found


def _under(folder: Path, prefix: str) -> dict[str, Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {f"{prefix}/{path.relative_to(folder)}": path for path in found}


def _put(target: Path, content: bytes) -> None:
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


# Rendering


def render(folder: Path) -> str | None:
    """Build the stage strictly; gives what went wrong, if anything did."""
    site, log = folder.parent / "site", folder.parent / "build.log"
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool), "build", str(folder), "--path-output", str(site)]
    command += ["-W", "-n", "--keep-going"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    log.write_text(told, "utf-8")
    if done.returncode == 0:
        return None
    # Sphinx warns of a page only when it reads it: read all again next time
    shutil.rmtree(site / "_build" / ".doctrees", ignore_errors=True)
    lines = told.splitlines()
    found = dict.fromkeys(x for x in lines if "WARNING" in x or "ERROR" in x)
    return "\n".join(found or lines[-15:]) + f"\nThe whole log: {log.relative_to(ROOT)}"


def publish(site: Path, target: Path) -> None:
    """Let a finished site take the place of the old one, whole.

    Plotly's script, one file for all pages, comes in here: Jupyter Book would have every page load
    whatever script it finds in `_static`, and this one has 4.8 MB.
    """
    with files.replacing(target) as temporary:
        shutil.copytree(site, temporary)
        script = resources.files("plotly").joinpath("package_data/plotly.min.js")
        (temporary / "notebooks" / PLOTLY).resolve().write_bytes(script.read_bytes())


def build(preset: str, jobs: int) -> int:
    set_up(jobs)
    names = notebooks()
    failures = execute_all(names, preset, jobs)
    if failures:
        print("\n\n".join(failures) + "\n\nThe book was not rendered.", file=sys.stderr)
        return 1
    folder = stage(names, preset)
    print("Rendering the pages", flush=True)
    wrong = render(folder)
    if wrong:
        print(
            f"The pages have faults; the book rendered before stays as it was.\n{wrong}",
            file=sys.stderr,
        )
        return 1
    html = BUILD / ("html" if preset == "quick" else f"html-{preset}")
    publish(folder.parent / "site" / "_build" / "html", html)
    print(f"The book: {html / 'index.html'}\nTo read it: make serve, or open that file.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the book.")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    with files.locked(BUILD / "book" / options.preset):
        return build(options.preset, options.jobs)


if __name__ == "__main__":
    sys.exit(main())

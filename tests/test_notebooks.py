"""Every notebook: its form, that it runs with preset smoke, and the page made of it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jupytext
import pytest

import address
import book
import pair

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)


def code(source: Path) -> list:
    return [cell for cell in jupytext.read(source).cells if cell.cell_type == "code"]


def template() -> str:
    """The set-up cell that CONTRIBUTING.md gives."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    return re.search(r'# %% tags=\["hide-cell"\]\n(import os.*?)\n```', text, re.DOTALL)[1].strip()


# Form


def test_contents_list_every_notebook():
    assert sorted(book.notebooks()) == [source.stem for source in SOURCES]


def test_notebooks_are_what_their_py_give():
    assert pair.differences(ROOT / "notebooks", address.repository()) == []


@each_notebook
def test_first_cell_is_the_set_up_cell(source):
    assert code(source)[0].source == template()


@each_notebook
def test_one_cell_of_parameters_and_unknown_ones_refused(source):
    cells = code(source)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in cells[tagged[0]].source.splitlines():
        assert re.match(r"^[a-z_]+ = .+  # \S+|^#|^$", line), f"no unit or meaning: {line}"
    assert any("refuse_unknown(globals())" in cell.source for cell in cells[tagged[0] + 1 :])


@each_notebook
def test_cells_are_short_define_nothing_and_assert_something(source):
    cells = code(source)
    read = [
        c for c in cells if "parameters" not in c.metadata.get("tags", [])
    ]  # that one is a list
    assert max(len(cell.source.splitlines()) for cell in read) <= 25
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    assert not [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert [n for n in nodes if isinstance(n, ast.Assert)]


# Colab


def test_set_up_cell_does_nothing_outside_of_colab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(template(), {})
    assert Path.cwd() == tmp_path and list(tmp_path.iterdir()) == []


def test_set_up_cell_fetches_and_installs_in_colab(tmp_path):
    """A real clone of a local repository; pip is a stand-in that writes down what it was asked."""
    public = tmp_path / "public"
    (public / "workflow").mkdir(parents=True)
    (public / "hcs_utils").mkdir()
    (public / "hcs_utils" / "__init__.py").write_text("here = True\n")
    shutil.copy(ROOT / "workflow" / "colab.py", public / "workflow")
    git = ["git", "-C", str(public), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], check=True)
    fake = tmp_path / "fake"
    for package in ("google/colab", "pip"):
        (fake / package).mkdir(parents=True)
        (fake / package / "__init__.py").write_text("")
    (fake / "pip" / "__main__.py").write_text(
        "import json, os, pathlib, sys\n"
        "pins = pathlib.Path(sys.argv[sys.argv.index('--constraint') + 1]).read_text()\n"
        "with open(os.environ['ASKED'], 'a') as asked:\n"
        "    asked.write(json.dumps([sys.argv[1:], pins]) + '\\n')\n"
    )
    cell = template().replace("{{repository}}", f"file://{public}")
    script = f"import google.colab, os\nfor turn in (1, 2):\n    exec({cell!r})\n"
    script += "import sys; sys.path.insert(0, '')\nimport hcs_utils\n"
    script += "print(os.getcwd(), hcs_utils.here)"
    content = tmp_path / "content"
    content.mkdir()
    asked = tmp_path / "asked.jsonl"
    environment = os.environ | {"PYTHONPATH": str(fake), "ASKED": str(asked)}
    command = [sys.executable, "-c", script]
    for _ in range(2):  # and again, as after a restart of the kernel
        done = subprocess.run(command, cwd=content, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        home = content / "seeing-past-the-batch"
        assert done.stdout.split() == [str(home), "True"]
    calls = [json.loads(line) for line in asked.read_text().splitlines()]
    assert len(calls) == 4
    for arguments, pins in calls:
        assert arguments[0] == "install" and arguments[-1] == f"{home}[train,molecules]"
        names = [line.split("==")[0] for line in pins.splitlines()]
        assert names == ["torch", "torchvision", "numpy"]


# Run with preset smoke, and rendered strictly


@pytest.fixture(scope="session")
def built():
    """The book of preset smoke; what is there already is not made again."""
    command = [sys.executable, str(ROOT / "workflow" / "book.py"), "--preset", "smoke"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build" / "html-smoke"


@each_notebook
def test_runs_within_a_minute_without_a_warning(source, built):
    made = json.loads(book.executed(source.stem, "smoke").read_text("utf-8"))
    assert made["metadata"]["papermill"]["duration"] <= 60
    outputs = [o for cell in made["cells"] for o in cell.get("outputs", [])]
    assert any(cell.get("execution_count") for cell in made["cells"])
    errors = ["".join(o["text"]) for o in outputs if o.get("name") == "stderr"]
    assert [text for text in errors if "Warning" in text or "Traceback" in text] == []


@each_notebook
def test_page_launches_and_downloads_its_own_notebook(source, built):
    text = (built / "notebooks" / f"{source.stem}.html").read_text("utf-8")
    path = f"notebooks/{source.stem}.ipynb"
    assert (ROOT / path).exists()
    place = address.repository().removeprefix("https://github.com/")
    assert f"https://colab.research.google.com/github/{place}/blob/main/{path}" in text
    assert f"https://mybinder.org/v2/gh/{place}/main?urlpath=lab/tree/{path}" in text
    assert f'href="../_sources/{path}"' in text and (built / "_sources" / path).exists()


class Links(HTMLParser):
    """The places a page points to, its own anchors, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.anchors, self.loads = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        loaded = found.get("src") if tag != "link" else found.get("href")
        if loaded and found.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.loads.append(loaded)


def test_links_within_the_book_lead_somewhere_and_nothing_is_loaded_from_afar(built):
    pages = {page: Links(page.read_text("utf-8")) for page in built.rglob("*.html")}
    pages = {page: links for page, links in pages.items() if "_static" not in page.parts}
    assert len(pages) > len(SOURCES) + 5
    for page, links in pages.items():
        assert not [x for x in links.loads if re.match(r"(https?:)?//", x)], page
        for link in links.links + links.loads:
            place = urlsplit(link)
            if place.scheme or place.netloc:
                continue
            target = (page.parent / unquote(place.path)).resolve() if place.path else page
            assert target.exists(), f"{page.name} -> {link}"
            if place.fragment and target in pages:
                assert unquote(place.fragment) in pages[target].anchors, f"{page.name} -> {link}"

"""Derive each notebooks/NN_name.ipynb from its NN_name.py, one way; --check only compares.

The .py (jupytext's percent form) is edited. The .ipynb has no outputs, the same cell ids each
time, and the public address from _config.yml in place of {{repository}}.
"""

import argparse
import json
import sys
from pathlib import Path

import jupytext
import nbformat

from address import ROOT, repository

TOKEN = "{{repository}}"
KEPT = ("accelerator", "colab")  # what Colab reads from a notebook's header
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def derive(source: Path, url: str) -> str:
    """The .ipynb, as text, that a notebook's .py gives."""
    book = jupytext.read(source)
    cells = []
    for number, cell in enumerate(book.cells):
        made = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
        text = cell.source.replace(TOKEN, url)
        new = made.get(cell.cell_type, nbformat.v4.new_raw_cell)(text, metadata=cell.metadata)
        new["id"] = f"cell-{number:02d}"
        cells.append(new)
    metadata = {key: book.metadata[key] for key in KEPT if key in book.metadata}
    metadata |= {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    made.nbformat_minor = 5
    nbformat.validate(made)
    return json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def differences(folder: Path, url: str) -> list[str]:
    """What is wrong with the derived notebooks of a folder; nothing, if they are in sync."""
    found = []
    for source in sorted(folder.glob("*.py")):
        target = source.with_suffix(".ipynb")
        if not target.exists():
            found.append(f"{target.name} is missing")
        elif (text := target.read_text("utf-8")) != derive(source, url):
            why = "has outputs" if _has_outputs(text) else f"is not what {source.name} gives"
            found.append(f"{target.name} {why}")
    orphans = [p for p in sorted(folder.glob("*.ipynb")) if not p.with_suffix(".py").exists()]
    return found + [f"{path.name} has no .py beside it" for path in orphans]


def write(folder: Path, url: str) -> list[str]:
    """Write each derived notebook that differs; gives their names."""
    written = []
    for source in sorted(folder.glob("*.py")):
        target, text = source.with_suffix(".ipynb"), derive(source, url)
        if not target.exists() or target.read_text("utf-8") != text:
            target.write_text(text, "utf-8")
            written.append(target.name)
    return written


def _has_outputs(text: str) -> bool:
    try:
        return any(cell.get("outputs") for cell in json.loads(text)["cells"])
    except (ValueError, KeyError):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare and change nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "notebooks")
    options = parser.parse_args()
    url = repository()
    if not options.check:
        for name in write(options.folder, url):
            print(f"derived {name}")
        return 0
    found = differences(options.folder, url)
    if found:
        print("\n".join(found) + "\nEdit the .py, then run: make pair")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

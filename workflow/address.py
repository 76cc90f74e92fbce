"""The public address of this book stands in _config.yml alone; fail where another file names one.

The derived notebooks are excepted: pair.py writes the address into their set-up cells.
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
BINARY = {".png", ".jpg", ".ico", ".parquet", ".woff2", ".tif", ".npy"}


def repository(root: Path = ROOT) -> str:
    """The address of the public repository, as _config.yml has it."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    return config["repository"]["url"].rstrip("/").removesuffix(".git")


def pattern(url: str) -> re.Pattern:
    """What an address of this book looks like: its own, a fork's, or a page that launches it."""
    name = re.escape(url.rsplit("/", 1)[-1])
    own = re.escape(re.sub(r"^https?://", "", url)) + r"(?![\w-])"
    forms = [
        own,
        rf"(github|gitlab|codeberg|bitbucket)\.\w+[/:][\w.-]+/{name}(?![\w-])",
        r"mybinder\.org/v2/\w+/[\w.-]+",
        r"colab\.research\.google\.com/github/[\w.-]+",
        rf"raw\.githubusercontent\.com/[\w.-]+/{name}(?![\w-])",
        rf"[\w-]+\.github\.io/{name}(?![\w-])",
    ]
    return re.compile("|".join(forms), re.IGNORECASE)


def files(root: Path) -> list[str]:
    """Tracked files and new ones that are not ignored."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run([*command, "--exclude-standard"], capture_output=True, check=True)
    return sorted(set(listed.stdout.decode().split("\0")) - {""})


def strays(root: Path = ROOT) -> list[str]:
    """Lines outside _config.yml that name an address of this book, as path:line: text."""
    address = pattern(repository(root))
    found = []
    for name in files(root):
        path = root / name
        derived = name.startswith("notebooks/") and path.suffix == ".ipynb"
        if name == "_config.yml" or derived or path.suffix in BINARY or not path.is_file():
            continue
        lines = path.read_text("utf-8", errors="replace").splitlines()
        found += [f"{name}:{i}: {x.strip()}" for i, x in enumerate(lines, 1) if address.search(x)]
    return found


def main() -> int:
    found = strays()
    if found:
        print("An address of this book belongs in _config.yml alone; take it out of:")
        print("\n".join(f"  {line}" for line in found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

"""Install this checkout in Colab around the torch, torchvision and numpy that are there.

They were built for each other and for Colab's GPU: pip is held to their exact versions.
"""

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

KEPT = ("torch", "torchvision", "numpy")


def constraints() -> str:
    """One exact pin a line, of those that are installed."""
    installed = {name: None for name in KEPT}
    for name in installed:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "".join(f"{name}=={version}\n" for name, version in installed.items() if version)


def main() -> int:
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "constraints.txt"
        pins.write_text(constraints(), "utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(pins)]
        return subprocess.run([*pip, "--editable", f"{root}[train,molecules]"]).returncode


if __name__ == "__main__":
    sys.exit(main())

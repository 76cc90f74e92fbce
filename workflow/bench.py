"""Run every benchmark in benchmarks/, one file a question, or those whose names are given."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def main(names: list[str]) -> int:
    files = [p for p in sorted(FOLDER.glob("*.py")) if not names or p.stem in names]
    if not files:
        print(f"No benchmark {' or '.join(names) or 'yet'} in benchmarks/.")
    return max((subprocess.run([sys.executable, str(p)]).returncode for p in files), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

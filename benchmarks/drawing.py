"""How many fields of the simulated screen a core draws a second: in memory, and with its TIFFs.

python benchmarks/drawing.py

A rate is of the core's own time (user and system), so that other work on a shared machine does
not count; the rate by the clock is recorded beside it, and is the same on an idle machine.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy; a core each, as `draw` works

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from hcs_utils import records
from hcs_utils.data.screens import simulated

_GOALS = {"in memory": 400, "with TIFFs": 150}
_ROUNDS = 5


def main() -> None:
    config = simulated.SIZES["full"]
    root = Path(tempfile.mkdtemp())
    (root / "truth").mkdir()
    ways = {
        "in memory": lambda plate: len(simulated.plate_fields(config, plate)[0]),
        "with TIFFs": lambda plate: _written(root, config, plate),
    }
    for way in ways.values():
        way(0)  # banks of noise and codes are made once
    rates: dict[str, list[float]] = {name: [] for name in ways}
    clocks: dict[str, list[float]] = {name: [] for name in ways}
    for plate in range(1, _ROUNDS + 1):
        for name, way in ways.items():
            began = time.process_time(), time.perf_counter()
            count = way(plate)
            core, clock = time.process_time() - began[0], time.perf_counter() - began[1]
            rates[name].append(count / core)
            clocks[name].append(count / clock)
            print(f"plate {plate} {name:12}{count / core:6.0f} fields/s of the core's time, "
                  f"{count / clock:6.0f} by the clock")  # fmt: skip
    shutil.rmtree(root)
    for name, goal in _GOALS.items():
        rate = statistics.median(rates[name])
        row = records.save_benchmark(
            f"drawing_{name.replace(' ', '_').lower()}",
            ratio=rate, goal=goal, unit="fields/s a core",
            reference="a rate, with no other way beside it",
            measured={
                "fields_per_second_of_core_time": rates[name],
                "fields_per_second_by_the_clock": clocks[name],
                "channels": 5, "side_px": 64,
            },
        )  # fmt: skip
        print(f"{name:12}{rate:8.0f} fields/s a core; goal {goal}: {row['met']}")


def _written(root: Path, config: simulated.SimulatedConfig, plate: int) -> int:
    """Draw a plate as `draw` does, in this process; the number of its fields."""
    name = simulated._draw_plate(root, config, plate)
    return len(list((root / "images" / name).glob("*_DNA.tiff")))


if __name__ == "__main__":
    main()

"""A manifest the size of the reduced JUMP-CP screen: read, checked, hashed, in time and memory.

4.4 million fields of five channels, with names as the screen's own: the layout in which the
cross-modal paper stores its 7.4 TB. Each step has a process of its own, on one core; the memory is
that process's largest, everything included. Files are not looked for. About two minutes:

    python benchmarks/manifest.py [rows]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 4_400_000
CHANNELS = ("DNA", "AGP", "ER", "Mito", "RNA")
FIELDS = 6  # of a treatment well
BLOCK = 96_000  # rows made at a time
STEPS = ("validate", "read", "write", "digest")


def table(start: int, stop: int, total: int) -> pd.DataFrame:
    """Rows `start` to `stop` of the synthetic manifest, already in the contract's types."""
    row = np.arange(start, stop)
    well_number, site = row // FIELDS, row % FIELDS + 1
    plate_number, well_on_plate = well_number // 384, well_number % 384
    source_number = plate_number % 10 + 2
    per_source = max(1, -(-total // FIELDS // 384 // 10))
    batch_number = plate_number // 10 * 15 // per_source
    source = np.char.add("source_", source_number.astype(str))
    batch = np.char.add("2021_04_26_Batch", (batch_number * 10 + source_number).astype(str))
    plate = np.char.add("BR00", (117_000 + plate_number).astype(str))
    letters = np.array(list("ABCDEFGHIJKLMNOP"))[well_on_plate // 24]
    well = np.char.add(letters, np.char.zfill((well_on_plate % 24 + 1).astype(str), 2))
    control = well_on_plate % 24 < 2
    # 115,000 compounds in four or five wells each; a multiplier without a common factor shuffles
    number = np.where(control, 33_924, (well_number * 48_271) % 115_000)
    compound = np.char.add("JCP2022_", np.char.zfill(number.astype(str), 6))
    ring = np.array(
        ["CC(=O)Nc1ccc(cc1)C(=O)N2CCN(CC2)c3nccn3C", "COc1cc2c(cc1OC)CCN(C2)S(=O)(=O)c3cccs3"]
    )
    tail = np.char.replace(np.char.replace(number.astype(str), "0", "O"), "1", "N")
    smiles = np.char.add(ring[number % 2], tail)
    stem = source
    for part in ("__", plate, "__", well, "__", site.astype(str)):
        stem = np.char.add(stem, part)
    folder = source
    for part in ("/", batch, "/", plate, "/"):
        folder = np.char.add(folder, part)
    frame = {
        "site_id": stem, "source": source, "batch": batch, "plate": plate, "well": well,
        "site": site, "treatment": compound, "compound": compound,
        "smiles": np.where(control, "CS(C)=O", smiles), "dose_um": np.where(control, np.nan, 10.0),
        "role": np.where(control, "negcon", "trt"), "moa": "", "target": "",
    }  # fmt: skip
    for channel in CHANNELS:
        file = np.char.add(folder, np.char.add(stem, f"__{channel}.png"))
        frame[f"path_{channel}"] = file
    return pd.DataFrame(frame)


def make(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for start in range(0, rows, BLOCK):
        block = pa.Table.from_pandas(table(start, min(start + BLOCK, rows), rows))
        writer = writer or pq.ParquetWriter(path, block.schema)
        writer.write_table(block)
    writer.close()


def step(name: str, path: Path) -> dict:
    """One step in this process: seconds of its parts, and the process's largest memory."""
    from hcs_utils.data import columns, manifest

    seconds, clock = {}, time.perf_counter
    began = clock()
    if name == "read":
        frame = manifest.read(path)
        seconds["read_and_validate"] = clock() - began
    else:
        frame = columns.read_parquet(path)
        seconds["load"], began = clock() - began, clock()
        if name == "validate":
            frame = manifest.validate(frame)
        elif name == "digest":
            manifest.digest(frame)
        elif name == "write":
            manifest.write(frame, path.with_name("again.parquet"))
        seconds[name] = clock() - began
    seconds["processor"] = time.process_time()
    held = int(frame.memory_usage(deep=True).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "table_gib": held / 2**30, "peak_gib": peak / 2**30}


def apart(*arguments: str) -> dict:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(rows: int) -> None:
    from hcs_utils import records

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        make(path, rows)
        size = path.stat().st_size / 2**20
        done = {name: apart("--step", name, str(path)) for name in STEPS}
    held = done["validate"]["table_gib"]
    print(f"{rows} rows: {size:.0f} MiB as Parquet, {held:.2f} GiB in memory")
    measured = {"rows": rows, "parquet_mib": size, "table_gib": held}
    for name, result in done.items():
        seconds = ", ".join(f"{part} {value:.1f} s" for part, value in result["seconds"].items())
        print(f"{name:<9} {seconds}; peak {result['peak_gib']:.2f} GiB")
        measured |= {f"{name}_{part}_s": value for part, value in result["seconds"].items()}
        measured |= {f"{name}_peak_gib": result["peak_gib"]}
    reference = f"{rows} rows of five channels, one core, imports and the table itself included"
    memory = max(done[name]["peak_gib"] for name in ("validate", "read"))
    for name, value, goal, unit in (
        ("seconds", done["validate"]["seconds"]["validate"], 30, "at most, s"),
        ("memory", memory, 4, "at most, GiB"),
    ):
        records.save_benchmark(
            f"manifest_validation_{name}", ratio=value, goal=goal, unit=unit,
            reference=reference, measured=measured,
        )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(step(sys.argv[2], Path(sys.argv[3]))))
    elif sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)

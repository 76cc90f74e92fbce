"""117,000 compounds, as many as JUMP-CP has: graphs, splits and sampling tables in time and memory.

The compounds are generated: scaffolds and substituents of the simulated screen, longer ones made
of these, some of them salts. Each stands in five wells of five sources, with six fields a well,
and every plate has 64 wells of a control: 3.9 million fields. Every step has a process of its own;
its memory is that process's largest, imports and table included, and for the graphs also twice that
of the largest of its two helpers.

graphs     all molecules read with RDKit by two processes and kept; read again from what is kept
compound   `grouped_split` by compound: names and InChIKeys that RDKit works out
scaffold   the same by Bemis–Murcko scaffold
sampling   tables of `ViewIndex`, and minibatches of 384 compounds with six views drawn from them

The rows of the bench are by the clock; the time of the processors stands beside it, since other
work on a shared machine counts for the one and not for the other. About five minutes:

    python benchmarks/molecules.py [compounds]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from hcs_utils import records
from hcs_utils.data import columns, splits
from hcs_utils.data.molecule_graphs import fingerprints
from hcs_utils.data.screens.molecules import ON_NITROGEN, ON_RING, SCAFFOLDS

COMPOUNDS, SOURCES, WELLS, FIELDS = 117_000, 10, 5, 6
TREATED, CONTROLS = 320, 64  # wells of a plate
STEPS = ("graphs", "compound", "scaffold", "sampling")
RING_LINKS = ("", "CO", "OCC", "CNC(=O)", "OCCCN", "SCC(=O)N", "NC(=O)CC")
NITROGEN_LINKS = ("", "CCO", "CCCN", "CC(=O)N", "CCSCC", "C(=O)CC", "CCC(=O)N")


def molecules(count: int) -> list[str]:
    """SMILES of so many compounds; every thirtieth is a salt. Written by joining, without RDKit."""
    ring = [_open(link + end, 91) for link in RING_LINKS for end in ON_RING]
    nitrogen = [_open(link + end, 92) for link in NITROGEN_LINKS for end in ON_NITROGEN]
    total = len(SCAFFOLDS) * len(ring) * len(nitrogen)
    if count > total:
        raise ValueError(f"{count} compounds are more than the {total} that can be made")
    made = []
    for number in np.random.default_rng(0).permutation(total)[:count].tolist():
        rest, k = divmod(number, len(SCAFFOLDS))
        core = SCAFFOLDS[k].removeprefix("[*:1]").replace("[*:2]", "%92", 1)
        core = core[0] + "%91" + core[1:].replace("(%92)", "%92")
        parts = [core, ring[rest % len(ring)], nitrogen[rest // len(ring)]]
        made.append(".".join(parts + ["Cl"] * (len(made) % 30 == 0)))
    return made


def _open(smiles: str, bond: int) -> str:
    """A substituent whose first atom has an open bond, which one of the core's closes."""
    first = 2 if smiles[:2] in ("Cl", "Br") else 1
    return f"{smiles[:first]}%{bond}{smiles[first:]}"


def make(path: Path, compounds: int) -> None:
    """The table as Parquet, a row a field; words are written by their numbers, then spelled out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = np.repeat(np.arange(compounds), WELLS)
    source = (number + 2 * np.tile(np.arange(WELLS), compounds)) % SOURCES
    order = np.lexsort((number, source))
    place = np.empty(len(number), int)
    place[order] = np.arange(len(number)) - np.searchsorted(source[order], source[order])
    plate_of = np.stack([source, place // TREATED], 1)
    plates, plate = np.unique(plate_of, axis=0, return_inverse=True)
    control = np.repeat(np.arange(len(plates)), CONTROLS)
    compound = np.r_[number, np.full(len(control), compounds)].repeat(FIELDS)
    well = np.r_[place % TREATED, np.tile(np.arange(TREATED, 384), len(plates))].repeat(FIELDS)
    plate = np.r_[plate.ravel(), control].repeat(FIELDS)
    source, batch = plates[plate, 0], plates[plate, 1] // 16
    role = (compound == compounds).astype(int)
    names = [f"JCP_{k:06d}" for k in range(compounds)] + ["DMSO"]
    words = {
        "source": (source, [f"source_{k}" for k in range(SOURCES)]),
        "batch": (batch * SOURCES + source, [f"B{k}" for k in range((batch.max() + 1) * SOURCES)]),
        "plate": (plate, [f"P{k:05d}" for k in range(len(plates))]),
        "well": (well, [f"{'ABCDEFGHIJKLMNOP'[k // 24]}{k % 24 + 1:02d}" for k in range(384)]),
        "treatment": (compound, names), "compound": (compound, names),
        "smiles": (compound, [*molecules(compounds), "CS(C)=O"]),
        "role": (role, ["trt", "negcon"]),
    }  # fmt: skip
    table = {"site_id": pa.array(np.arange(len(compound))).cast(pa.string())}
    for name, (codes, values) in words.items():
        coded = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))
        table[name] = coded.cast(pa.string())
    pq.write_table(pa.table(table), path)


def graphs(frame: pd.DataFrame, folder: Path) -> dict:
    from hcs_utils.learning.molecules import Graphs

    smiles = frame["smiles"].drop_duplicates().tolist()
    seconds, used = {}, _processors()
    began = time.perf_counter()
    made = Graphs.build(smiles, folder / "graphs", workers=2)
    seconds["build"], used = time.perf_counter() - began, _processors() - used
    began = time.perf_counter()
    kept = Graphs.build(smiles, folder / "graphs", workers=2)
    seconds["load"] = time.perf_counter() - began
    assert np.array_equal(made.arrays.atoms, kept.arrays.atoms) and len(kept) == len(smiles)
    rng, began = np.random.default_rng(0), time.perf_counter()
    for _ in range(100):
        kept[rng.integers(len(kept), size=384)]
    seconds["minibatch_of_384"] = (time.perf_counter() - began) / 100
    began = time.perf_counter()
    fingerprints(smiles, 2, 1024, workers=2)
    seconds["fingerprints"] = time.perf_counter() - began
    size = sum(file.stat().st_size for file in (folder / "graphs").iterdir()) / 2**20
    return seconds | {"processors": used, "molecules": len(smiles), "kept_mib": size,
                      "atoms": len(made.arrays.atoms) / len(made)}  # fmt: skip


def _processors() -> float:
    """Seconds of the processors that this process and those that it waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


def split(frame: pd.DataFrame, by: str) -> dict:
    began, used = time.perf_counter(), _processors()
    part = splits.grouped_split(frame, by, seed=1)
    seconds, used = time.perf_counter() - began, _processors() - used
    treated = frame[frame["role"] == "trt"]
    splits.assert_disjoint(treated, part, by="compound")
    share = part.value_counts(normalize=True)
    return {"split": seconds, "processors": used, "test_share": share["test"], "fields": len(frame)}


def sampling(frame: pd.DataFrame) -> dict:
    from hcs_utils.learning.compound_minibatches import ViewIndex

    began, used, treated = time.perf_counter(), _processors(), frame[frame["role"] == "trt"]
    code = {name: pd.factorize(treated[name], sort=True)[0]
            for name in ("compound", "source", "batch", "plate", "well")}  # fmt: skip
    wells = code["plate"] * 384 + code["well"]
    index = ViewIndex(code["compound"], [code["source"], code["batch"], code["plate"], wells])
    seconds = {"tables": time.perf_counter() - began, "processors": _processors() - used}
    rng, began = np.random.default_rng(0), time.perf_counter()
    for _ in range(100):
        places = rng.integers(len(index.compounds), size=384)
        drawn = index.draw(places, 6, rng)
    seconds["minibatch_of_384"] = (time.perf_counter() - began) / 100
    assert (code["compound"][drawn] == index.compounds[places][:, None]).all()
    most = [len(set(code["source"][row])) for row in drawn]
    assert set(most) == {WELLS}  # sources: as many as there are
    return seconds | {"fields": len(treated), "compounds": len(index.compounds)}


def step(name: str, path: Path) -> dict:
    """One step in this process: its seconds, and the largest memory of the process."""
    began = time.perf_counter()
    frame = columns.read_parquet(path)
    seconds = {"read": time.perf_counter() - began}
    if name == "graphs":
        found = graphs(frame, path.parent)
    elif name == "sampling":
        found = sampling(frame)
    else:
        found = split(frame, name)
    own, helper = (
        resource.getrusage(who).ru_maxrss / 2**20
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return seconds | found | {"peak_gib": own + 2 * helper}


def apart(*arguments: str) -> dict:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(compounds: int, folder: Path) -> dict[str, dict]:
    """Every step's numbers, for a table of so many compounds written to a folder."""
    path = folder / "table.parquet"
    make(path, compounds)
    return {name: apart("step", name, str(path)) for name in STEPS}


def rows(done: dict[str, dict]) -> list[dict]:
    """Rows of the bench from what was measured."""
    built, measured = done["graphs"], {f"{s}_{k}": v for s, d in done.items() for k, v in d.items()}
    rate, splits = built["molecules"] / built["build"], (done["compound"], done["scaffold"])
    spent = built["build"] + sum(of["split"] for of in splits) + done["sampling"]["tables"]
    count, fields = f"{built['molecules']:,} molecules", f"{done['compound']['fields']:,} fields"
    return [
        {"name": "molecules_graphs", "ratio": rate, "goal": 2000, "unit": "molecules/s, two cores",
         "reference": f"{count}, read and kept, by the clock", "measured": measured},
        {"name": "molecules_screen_seconds", "ratio": spent, "goal": 600, "unit": "at most, s",
         "reference": f"{count}, {fields}: graphs, both splits, tables, by the clock",
         "measured": measured},
        {"name": "molecules_screen_memory", "ratio": max(d["peak_gib"] for d in done.values()),
         "goal": 8, "unit": "at most, GiB", "reference": "the largest of these steps, each with "
         "the whole table and two helpers", "measured": measured},
    ]  # fmt: skip


def main(compounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = measure(compounds, Path(folder))
    for name, found in done.items():
        print(f"{name:<9}", ", ".join(f"{key} {value:,.4g}" for key, value in found.items()))
    for row in rows(done):
        saved = records.save_benchmark(**row)
        print(f"{saved['name']:<26}{saved['ratio']:12,.4g} {saved['unit']}: {saved['met']}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["step"]:
        print(json.dumps(step(sys.argv[2], Path(sys.argv[3]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else COMPOUNDS)

"""How fast quality control is: screening, k-means, a step of each method; and what memory it takes.

screening  crops of 48 px a second by the small encoder and a linear head, two threads, from a store
           on disk to tables on disk
memory     peak memory of that above what is there before, at 8,192 crops and at four times as many,
           a process for each; and that of a plan of 2,122,341 crops beside a quarter of them
kmeans     spherical k-means of 50,000 vectors of width 128 into 500 clusters, three iterations,
           beside a loop over centroids, beside one matrix product with a loop over centroids for
           the means only (as solo-learn has it), and beside scikit-learn's KMeans (Lloyd), a
           peer
step       a whole step of `train.fit` (loss, backward, clipping, AdamW, queue or bank) of 128 crops
           that are there, beside forward and backward alone of the same encoder and projector

Ways take turns, round by round; a number is the median of its rounds. On a CPU: one thread, and
time is the core's own, so that other work on a shared machine does not count; only screening is by
the clock, on two threads. About three minutes:

    python benchmarks/qc.py [screening memory kmeans step]
    python benchmarks/qc.py point screen 8192     one measurement of memory, as JSON
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from cdcl import DEVICE, GPU, WHERE, seconds
from judging import resident
from sklearn.cluster import KMeans
from torch import nn

from hcs_utils import records
from hcs_utils.data import qc_crops
from hcs_utils.data.store import open_store, write_store
from hcs_utils.learning import devices, screening, train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.crop_minibatches import CropMinibatches
from hcs_utils.learning.kmeans import spherical_kmeans
from hcs_utils.learning.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from hcs_utils.learning.methods.deepcluster import DeepClusterConfig, DeepClusterV2
from hcs_utils.learning.methods.simclr import SimCLR, SimCLRConfig
from hcs_utils.learning.methods.swav import SwAV, SwAVConfig
from hcs_utils.learning.methods.two_views import projections
from hcs_utils.learning.methods.vicreg import VICReg, VICRegConfig
from hcs_utils.learning.views import Normaliser

RGB, PX, CROPS, PLANNED = ("red", "green", "blue"), 48, 8192, 2_122_341
ROWS, WIDTH, K, ITERATIONS = 50_000, 128, 500, 3


def report(name: str, ratio: float, goal: float, reference: str, unit="times as fast", **measured):
    """Save a row and say it."""
    measured |= {"on": torch.cuda.get_device_name() if GPU else "CPU"}
    row = records.save_benchmark(
        f"qc_{name}{WHERE}", ratio=ratio, goal=goal, unit=unit, reference=reference,
        measured=measured,
    )  # fmt: skip
    print(f"{row['name']:28}{ratio:12.4g} {unit}; goal {goal}: {row['met']}", flush=True)


def crops(count: int, channels: int = 3) -> np.ndarray:
    """Pictures [count c 48 48] that compress about as crops of cells do."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (count, channels, PX // 4, PX // 4), dtype=np.uint8)
    return coarse.repeat(4, 2).repeat(4, 3) + rng.integers(0, 9, (PX, PX), dtype=np.uint8)


def norm() -> Normaliser:
    return Normaliser(torch.full((1, 3), 99.0), torch.full((1, 3), 60.0))


def screened(count: int, folder: str):
    """The call that screens so many crops; their store is written first."""
    path = Path(folder) / f"{count}.zarr"
    write_store(path, crops(count), [f"crop{k:07d}" for k in range(count)], RGB)
    store, plate = open_store(path), np.zeros(count, int)
    torch.manual_seed(0)
    network = encoder("small", RGB).to(DEVICE)
    head = nn.Linear(network.num_features, 2).to(DEVICE)
    again = iter(range(1000))

    def way():
        out = Path(folder) / f"scores-{count}-{next(again)}"
        screening.screen(store, network, head, plate, norm(), out, progress=False)

    list(screening.scores(network, head, torch.from_numpy(crops(256)), plate[:256], norm()))  # warm
    return way


def measure_screening() -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        way, sec = screened(CROPS, folder), []
        for _ in range(5):
            began = time.perf_counter()
            way()
            sec.append(time.perf_counter() - began)
    torch.set_num_threads(1)
    rate = CROPS / float(np.median(sec))
    about = "crops of 48 px by the small encoder, store to tables, two threads, by the clock"
    report("screening", rate, 300, about, "crops a second", screen_sec=float(np.median(sec)))


def point(what: str, count: int) -> dict:
    """Peak memory of screening, or of planning, so many crops, above what is there before it."""
    with tempfile.TemporaryDirectory() as folder:
        if what == "screen":
            way = screened(count, folder)
        else:
            path = Path(folder) / "crops.parquet"
            plates = np.arange(count) // 30_000
            pd.DataFrame({"plate": plates.astype(str)}).to_parquet(path, row_group_size=1 << 16)
            qc_crops.plan(path)
            way = lambda: qc_crops.plan(path)  # noqa: E731
        before, began = resident(reset=True), time.perf_counter()
        way()
        return {"mib": (resident() - before) * 1024, "sec": time.perf_counter() - began}


def measure_memory() -> None:
    about = {
        "screen": (CROPS, 4 * CROPS, "screening a quarter of the crops"),
        "plan": (PLANNED // 4, PLANNED, "planning a quarter of 2,122,341 crops"),
    }
    for what, (few, many, reference) in about.items():
        found = {}
        for count in (few, many):
            command = [sys.executable, __file__, "point", what, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[count] = json.loads(done.stdout.splitlines()[-1])
        numbers = {f"{key}_{n}": row[key] for n, row in found.items() for key in ("mib", "sec")}
        ratio = max(found[many]["mib"], 1) / max(found[few]["mib"], 1)
        report(f"memory_{what}", ratio, 1.3, reference, "at most times the memory", **numbers)


def loop(x, centroids, over_rows: bool):
    """Assignments, then means, by a loop over centroids; or only the means by one."""
    for number in range(ITERATIONS + 1):
        if over_rows:
            best = torch.full((len(x),), -2.0)
            nearest = torch.zeros(len(x), dtype=torch.long)
            for k, c in enumerate(centroids):
                cosine = x @ c
                closer = cosine > best
                best, nearest = torch.where(closer, cosine, best), nearest.masked_fill(closer, k)
        else:
            nearest = (x @ centroids.T).argmax(1)
        if number == ITERATIONS:
            return nearest
        order = (
            None
            if over_rows
            else nearest.argsort().split(torch.bincount(nearest, minlength=K).tolist())
        )
        for k in range(K):
            own = x[nearest == k] if over_rows else x[order[k]]
            if len(own):
                centroids[k] = F.normalize(own.sum(0), dim=0)


def measure_kmeans() -> None:
    g = torch.Generator().manual_seed(0)
    middle = F.normalize(torch.randn(K, WIDTH, generator=g), dim=1)
    own = torch.randint(K, (ROWS,), generator=g)
    x = F.normalize(middle[own] + 0.08 * torch.randn(ROWS, WIDTH, generator=g), dim=1)
    starts = x[:K].clone()
    ways = {
        "chunks": lambda: spherical_kmeans(x, K, ITERATIONS, starts=starts)[1],
        "loop": lambda: loop(x, starts.clone(), True),
        "product": lambda: loop(x, starts.clone(), False),
        "sklearn": lambda: KMeans(
            K, init=starts.numpy(), n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd"
        ).fit(x.numpy()),
    }  # fmt: skip
    assert (ways["loop"]() == ways["product"]()).float().mean() > 0.999
    sec = seconds(ways, 3)
    numbers = {f"{way}_sec": value for way, value in sec.items()}
    shape = f"{ROWS:,} vectors of width {WIDTH}, {K} clusters, {ITERATIONS} iterations"
    for way, goal, about in (
        ("loop", 10, "a loop over centroids, for distances and means"),
        ("product", 1, "one matrix product, a loop over centroids for the means (solo-learn)"),
        ("sklearn", 1, "scikit-learn's KMeans, Lloyd, the same starts"),
    ):  # fmt: skip
        report(f"kmeans_{way}", sec[way] / sec["chunks"], goal, f"{about}; {shape}", **numbers)


METHODS = {
    "simclr": lambda net: SimCLR(net, SimCLRConfig(256, 256)),
    "barlow_twins": lambda net: BarlowTwins(net, BarlowTwinsConfig(256, 256)),
    "vicreg": lambda net: VICReg(net, VICRegConfig(256, 256)),
    "swav": lambda net: SwAV(net, SwAVConfig(256, 128, 100, queue=512)),
    "deepcluster": lambda net: DeepClusterV2(net, DeepClusterConfig(256, 128, 100), count=4096),
}


class Trainer:
    """The steps of one run on random crops, as `train.fit` makes them."""

    def __init__(self, kind: str, minibatch: int = 128, precision: str = "32-true"):
        torch.manual_seed(0)
        self.fabric = devices.fabric("auto", precision)
        images, rows = torch.from_numpy(crops(4096)), np.arange(4096)
        levels = norm().to(self.fabric.device)
        self.crops = CropMinibatches(images, rows, 0 * rows, levels, size=minibatch)
        self.method = METHODS[kind](encoder("small", RGB)).to(self.fabric.device).train()
        if hasattr(self.method, "begin"):
            self.method.begin(self.crops, self.fabric.device)
        self.config = train.TrainConfig(steps=1000, precision=precision)
        groups = train._groups(self.method, self.config.weight_decay)
        self.module, self.optimizer = self.fabric.setup(self.method, torch.optim.AdamW(groups))
        self.there = self.crops(0, self.fabric.device)

    def step(self, drawn: bool = False):
        stream = self.crops if drawn else lambda *_: self.there
        train._step(self.fabric, self.module, stream, self.optimizer, self.config, 500)

    def bare(self):
        """Forward of encoder and projector, and backward of the sum."""
        with self.fabric.autocast():
            z = projections(self.method.backbone, self.method.projector, self.there)
        self.fabric.backward(z.sum())
        self.optimizer.zero_grad(set_to_none=True)


def measure_step() -> None:
    for kind in METHODS:
        run, half = Trainer(kind), Trainer(kind, precision="bf16-mixed")
        ways = {"bare": run.bare, "step": run.step}
        ways |= {"drawn": lambda run=run: run.step(True), "bf16": lambda half=half: half.step(True)}
        sec = seconds(ways, 9, warm=2)
        numbers = {f"{way}_sec": value for way, value in sec.items()}
        about = "forward and backward of encoder and projector, 128 crops of 48 px, two views"
        unit = "of the speed of forward and backward alone"
        report(f"step_{kind}", sec["bare"] / sec["step"], 0.8, about, unit, **numbers)


def main(names: list[str]) -> None:
    if not GPU:
        torch.set_num_threads(1)
    if names[:1] == ["point"]:
        print(json.dumps(point(names[1], int(names[2]))))
        return
    for name in names or ("screening", "memory", "kmeans", "step"):
        globals()[f"measure_{name}"]()


if __name__ == "__main__":
    main(sys.argv[1:])

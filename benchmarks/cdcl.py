"""How fast a CDCL step is, and its parts, each beside the plain way to the same numbers.

step       a whole step (loss, backward, clipping, AdamW, teacher, centres) of a minibatch that is
           there, beside forward and backward alone: the same model, the same views, sum of outputs
drawing    the share of a step with all that, in which minibatches are drawn: pairs, crops, colours
bf16       a whole step in bf16-mixed beside float32; and compiled beside as written
centers    184 rows of K = 4,096 less their centres, and the update, beside the one-hot form, which
           the released code takes: tensors of rows x domains x K
barlow     forward and backward of fourteen pairs at K = 4,096 and 92 images, beside their fourteen
           K x K matrices; seconds, and peak memory above that of the inputs, a process for each
pairs      partners a second for a fold of RxRx1-HUVEC, beside the released code: two masks over
           the table and a sample of it for every item

Ways take turns, round by round; a number is the median of its rounds. On a CPU: one thread, and
time is the core's own, so that other work on a shared machine does not count; the small encoder in
the shapes of preset quick, and DeiT-tiny with the released head, 8 pairs a minibatch. On a GPU:
time by the clock; the shapes of preset full, and DeiT-S as in preset paper. About three minutes:

    python benchmarks/cdcl.py [step centers barlow pairs]
    python benchmarks/cdcl.py point barlow_grams       one measurement of memory, as JSON
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from judging import resident

from hcs_utils import records
from hcs_utils.learning import devices, train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.methods.barlow import barlow_pairs
from hcs_utils.learning.methods.cdcl import CDCL, CDCLConfig, DomainCenters, off_diagonal_for
from hcs_utils.learning.methods.dino import DINOConfig
from hcs_utils.learning.methods.pairs import pair_mean
from hcs_utils.learning.minibatches import Minibatches, PartnerIndex
from hcs_utils.learning.views import Normaliser, ViewsConfig, released

GPU = torch.cuda.is_available()
clock = time.perf_counter if GPU else time.process_time
WHERE = "_gpu" if GPU else ""
DEVICE = "cuda" if GPU else "cpu"
BATCHES, TREATMENTS = 16, 1108  # of a training fold of RxRx1-HUVEC, beside its 31 controls


@dataclass(frozen=True)
class Shape:
    """What a step works on: encoder, side of the fields in px, channels, pairs a minibatch."""

    encoder: str
    field: int
    channels: int
    pairs: int
    rounds: int
    head: DINOConfig = field(default_factory=DINOConfig)

    @property
    def views(self) -> ViewsConfig:
        return released("rxrx1", 256) if self.field == 256 else ViewsConfig.for_fields(self.field)


RELEASED = DINOConfig(hidden=1024, bottleneck=512, width=4096)
SHAPES = {
    "full": Shape("small", 64, 5, 256, 30, DINOConfig(width=1024)),
    "deit_small": Shape("deit_small_patch16_224", 256, 6, 92, 10, RELEASED),
} if GPU else {
    "quick": Shape("small", 48, 5, 64, 12),
    "deit_tiny": Shape("deit_tiny_patch16_224", 256, 6, 8, 3, RELEASED),
}  # fmt: skip


def seconds(ways: dict[str, Callable], rounds: int, warm: int = 1) -> dict[str, float]:
    """Median time of a call of each way; they take turns. Of this process's core, or the clock."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-warm, rounds):
        for name, way in ways.items():
            synchronise()
            began = clock()
            way()
            synchronise()
            if number >= 0:
                times[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def synchronise() -> None:
    if GPU:
        torch.cuda.synchronize()


def report(name: str, ratio: float, goal: float, reference: str, unit="times as fast", **measured):
    """Save a row and say it."""
    measured |= {"on": torch.cuda.get_device_name() if GPU else "CPU, one thread, its own time"}
    row = records.save_benchmark(
        f"cdcl_{name}{WHERE}", ratio=ratio, goal=goal, unit=unit, reference=reference,
        measured=measured,
    )  # fmt: skip
    print(f"{row['name']:28}{ratio:12.4g} {unit}; goal {goal}: {row['met']}", flush=True)


class Trainer:
    """The steps of one CDCL run on random fields, as `train.fit` makes them."""

    def __init__(self, shape: Shape, precision: str = "32-true"):
        torch.manual_seed(0)
        rng, n = np.random.default_rng(0), max(4 * shape.pairs, 256)
        self.fabric = devices.fabric("auto", precision)
        plates, size = 8, (n, shape.channels, shape.field, shape.field)
        label, domain = np.arange(n) % 16, np.arange(n) // 16 % plates
        norm = Normaliser(torch.full((plates, size[1]), 99.0), torch.full((plates, size[1]), 60.0))
        fields = torch.from_numpy(rng.integers(0, 256, size, dtype=np.uint8))
        self.minibatches = Minibatches(
            fields, np.arange(n), label, domain, domain, norm.to(self.fabric.device), shape.views,
            size=shape.pairs, partner="other_batch",
        )  # fmt: skip
        backbone = encoder(shape.encoder, tuple("abcdef"[: shape.channels]))
        config = CDCLConfig(off_diagonal=off_diagonal_for(shape.head.width), form="released")
        self.method = CDCL(backbone, np.bincount(domain), shape.head, config)
        self.method.to(self.fabric.device).train()
        self.config = train.TrainConfig(steps=1000, precision=precision)
        groups = train._groups(self.method, self.config.weight_decay)
        self.module, self.optimizer = self.fabric.setup(self.method, torch.optim.AdamW(groups))
        self.number, self.there = 100, self.minibatches(0, self.fabric.device)

    def draw(self, *_):
        self.number += 1
        return self.minibatches(self.number, self.fabric.device)

    def step(self, minibatches: Callable):
        train._step(self.fabric, self.module, minibatches, self.optimizer, self.config, self.number)

    def of_this(self):
        """A whole step of a minibatch that is there."""
        self.step(lambda *_: self.there)

    def bare(self):
        """Forward, of teacher and student with their heads, and backward of the sum."""
        with self.fabric.autocast():
            total = self.method.outputs(self.there)[1].sum()
        self.fabric.backward(total)
        self.optimizer.zero_grad(set_to_none=True)


def measure_step() -> None:
    for name, shape in SHAPES.items():
        run = Trainer(shape)
        ways = {"bare": run.bare, "step": run.of_this, "draw": run.draw,
                "all": lambda run=run: run.step(run.draw)}  # fmt: skip
        sec = seconds(ways, shape.rounds, warm=2)
        numbers = {f"{way}_sec": value for way, value in sec.items()} | {
            "pairs_a_minibatch": shape.pairs, "encoder": shape.encoder,
            "with_drawing": sec["bare"] / sec["all"],
        }  # fmt: skip
        unit = "of the speed of forward and backward alone"
        about = f"forward and backward of {shape.encoder}, {shape.pairs} pairs, the same views"
        report(f"step_{name}", sec["bare"] / sec["step"], 0.85, about, unit, **numbers)
        share = sec["draw"] / sec["all"]
        what = "share of a step that draws its minibatch; the device computes in the rest"
        report(f"drawing_{name}", share, 0.2, what, "at most share of a step", **numbers)
        if name in ("quick", "deit_small"):
            measure_arithmetic(name, shape, run)


def measure_arithmetic(name: str, shape: Shape, plain: Trainer) -> None:
    half, graph = Trainer(shape, "bf16-mixed"), Trainer(shape)
    sec = seconds({"float32": plain.of_this, "bf16": half.of_this}, shape.rounds, warm=2)
    numbers = {f"{way}_sec": value for way, value in sec.items()}
    ratio = sec["float32"] / sec["bf16"]
    report(f"bf16_{name}", ratio, 1, f"a step of {shape.encoder} in float32", **numbers)
    with devices.compiled(graph.method, True):
        began = clock()
        graph.of_this()
        first = clock() - began
        sec = seconds({"eager": plain.of_this, "compiled": graph.of_this}, shape.rounds, warm=2)
    numbers = {f"{way}_sec": value for way, value in sec.items()} | {"first_step_sec": first}
    ratio = sec["eager"] / sec["compiled"]
    report(f"compile_{name}", ratio, 1, f"a step of {shape.encoder} as written", **numbers)


def one_hot_centers(teacher, domain, centers, share):
    """Rows less their centres and new centres by the released rule, with rows x domains x K."""
    mask = F.one_hot(domain, len(centers)).to(teacher)[:, :, None].repeat(1, 1, teacher.shape[1])
    own = (mask * centers[None]).sum(1)
    count = mask.sum(0)
    mean = (mask * teacher[:, None]).sum(0) / count.clamp(min=1)
    gain = 0.1 * (count / len(teacher)) / share[:, None]
    return teacher - own, centers * (1 - gain) + gain * mean


def measure_centers() -> None:
    for domains in (24, 136):
        g = torch.Generator().manual_seed(0)
        teacher = torch.randn(184, 4096, generator=g).to(DEVICE)
        domain = torch.randint(domains, (184,), generator=g).to(DEVICE)
        ours = DomainCenters(domains, 4096).to(DEVICE)
        ours.centers.normal_()
        expected = one_hot_centers(teacher, domain, ours.centers, ours.share)
        centred, start = ours(teacher, domain), ours.centers.clone()
        ours.update(teacher, domain, "released")
        torch.testing.assert_close((centred, ours.centers), expected, rtol=1e-4, atol=1e-4)
        ours.centers.copy_(start)

        def index(ours=ours, teacher=teacher, domain=domain):
            ours(teacher, domain)
            ours.update(teacher, domain, "released")

        def dense(ours=ours, teacher=teacher, domain=domain):
            one_hot_centers(teacher, domain, ours.centers, ours.share)

        sec = seconds({"index": index, "one_hot": dense}, 7)
        numbers = {f"{way}_sec": value for way, value in sec.items()}
        about = f"one-hot form, 184 x {domains} x 4,096"
        report(f"centers_{domains}", sec["one_hot"] / sec["index"], 20, about, **numbers)


def barlow_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(v, 92, 4096, generator=g).to(DEVICE) for v in (2, 8))
    return teacher, student.requires_grad_()


def barlow_grams(teacher, student):
    return pair_mean(barlow_pairs(teacher, student, 0.95, "released"))


def barlow_matrices(teacher, student):
    """As the released code: batch norm of both views of each pair, their K x K matrix, means."""
    terms, k = [], teacher.shape[-1]
    for i, j in [(i, j) for i in range(2) for j in range(8) if i != j]:
        a, b = (F.batch_norm(x, None, None, training=True) for x in (teacher[i], student[j]))
        r = a.T @ b / len(a)
        on = (r.diagonal() - 1).square().mean()
        off = r.flatten()[:-1].view(k - 1, k + 1)[:, 1:].flatten().square().mean()
        terms.append((0.05 * on + 0.95 * off) / 0.0595)
    return sum(terms) / len(terms)


def point(name: str) -> dict:
    """Time and peak memory of one way of the Barlow loss, in this process."""
    teacher, student = barlow_inputs()
    barlow_grams(teacher[:, :, :64], student[:, :, :64]).backward()  # what libraries allocate once

    def both():
        student.grad = None
        value = globals()[name](teacher, student)
        value.backward()
        return value

    before, began = memory(reset=True), clock()
    value = both()
    synchronise()
    sec, peak = clock() - began, memory() - before
    if sec < 2:
        sec = seconds({"way": both}, 5, warm=0)["way"]
    return {"sec": sec, "mib": peak, "value": value.item(), "slope": student.grad.norm().item()}


def memory(reset: bool = False) -> float:
    """Peak so far in MiB: of the GPU, or the resident size of this process."""
    if not GPU:
        return resident(reset) * 1024
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated() / 2**20


def measure_barlow() -> None:
    found = {}
    for name in ("barlow_grams", "barlow_matrices"):
        done = subprocess.run(
            [sys.executable, __file__, "point", name], capture_output=True, text=True, check=True
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = found["barlow_grams"], found["barlow_matrices"]
    for key in ("value", "slope"):
        assert abs(ours[key] / theirs[key] - 1) < 1e-3, found
    numbers = {f"{way}_{key}": row[key] for way, row in found.items() for key in ("sec", "mib")}
    about = "fourteen K x K matrices, K = 4,096, 92 images, forward and backward"
    report("barlow", theirs["sec"] / ours["sec"], 10, about, **numbers)
    less = theirs["mib"] / ours["mib"]  # above the inputs
    report("barlow_memory", less, 10, about, "times less memory", **numbers)


def measure_pairs() -> None:
    one = np.r_[np.repeat(np.arange(TREATMENTS), 2), np.repeat(TREATMENTS + np.arange(31), 8)]
    label, batch = np.tile(one, BATCHES), np.repeat(np.arange(BATCHES), len(one))
    table, rng = pd.DataFrame({"label": label, "batch": batch}), np.random.default_rng(0)
    index, steps, items = PartnerIndex(label, batch), len(label) // 92, 100
    order = rng.permutation(len(label))

    def ours():  # an epoch of minibatches of 92, a generator each, as training draws them
        for step in range(steps):
            rows = order[92 * step : 92 * step + 92]
            index.draw(rows, np.random.default_rng([0, 6, step]))

    def masks():
        for row in order[:items]:
            same = table[(table.label == label[row]) & (table.batch != batch[row])]
            same.sample().index.item()

    sec = seconds({"index": ours, "masks": masks}, 7)
    rate, theirs = steps * 92 / sec["index"], items / sec["masks"]
    report("pairs", rate, 1e6, f"pandas masks and a sample for each of {len(label):,} rows",
           "pairs/s", masks_pairs_per_sec=theirs, times_as_fast=rate / theirs)  # fmt: skip


def main(names: list[str]) -> None:
    if not GPU:
        torch.set_num_threads(1)
    if names[:1] == ["point"]:
        print(json.dumps(point(names[1])))
        return
    for name in names or ("pairs", "centers", "barlow", "step"):
        globals()[f"measure_{name}"]()


if __name__ == "__main__":
    main(sys.argv[1:])

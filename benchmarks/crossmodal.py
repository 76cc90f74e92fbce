"""How fast EMM and IMM are, what memory they take, and what a whole step costs beside its networks.

losses     forward and backward of EMM and IMM at N = 384 compounds, M = 6 views, d = 1,024, beside
           a loop over the pairs of views, each with its own N x N similarities, as the released
           code goes about it; the same numbers
memory     peak memory above that of the inputs, a process for each: chunks beside that loop and
           beside one matrix of all scores, also at four times the compounds
step       a whole step of `train.fit` (loss, backward, clipping, AdamW) of a minibatch that is
           there, beside forward and backward alone of the same two encoders and heads

Ways take turns, round by round; a number is the median of its rounds. On a CPU: one thread, and
time is the core's own, so that other work on a shared machine does not count. About two minutes:

    python benchmarks/crossmodal.py [losses memory step]
    python benchmarks/crossmodal.py point chunks 384     one measurement of memory, as JSON
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch

import json
import subprocess
import sys
import warnings

import numpy as np
import torch
from cdcl import DEVICE, GPU, WHERE, memory, seconds

from hcs_utils import records
from hcs_utils.learning import devices, train
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.compound_minibatches import CompoundMinibatches, WellViews
from hcs_utils.learning.methods.clip import CLIP, CLIPConfig
from hcs_utils.learning.methods.emm import EMM, EMMConfig, emm_loss
from hcs_utils.learning.methods.imm import IMM, IMMConfig, imm_loss
from hcs_utils.learning.space import Space
from hcs_utils.learning.views import Normaliser, ViewsConfig

warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
COMPOUNDS, VIEWS, WIDTH, TAU = 384, 6, 1024, 0.1
SHAPE = f"N = {COMPOUNDS}, M = {VIEWS}, d = {WIDTH:,}"
SMILES = "CC(=O)Oc1ccccc1C(=O)O"  # aspirin, with a chain that differs


def report(name: str, ratio: float, goal: float, reference: str, unit="times as fast", **measured):
    """Save a row and say it."""
    measured |= {"on": torch.cuda.get_device_name() if GPU else "CPU, one thread, its own time"}
    row = records.save_benchmark(
        f"crossmodal_{name}{WHERE}", ratio=ratio, goal=goal, unit=unit, reference=reference,
        measured=measured,
    )  # fmt: skip
    print(f"{row['name']:28}{ratio:12.4g} {unit}; goal {goal}: {row['met']}", flush=True)


def inputs(compounds: int = COMPOUNDS) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    mol = torch.randn(compounds, WIDTH, generator=g).to(DEVICE)
    img = torch.randn(compounds, VIEWS, WIDTH, generator=g).to(DEVICE)
    return mol.requires_grad_(), img.requires_grad_()


def exponentials(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """e^(s/τ) of rows that belong together, and summed over those that do not: one N x N."""
    s = a @ b.mT / (a.norm(dim=1)[:, None] * b.norm(dim=1)[None])
    e = (s / TAU).exp()
    return e.diagonal(), e.sum(1) - e.diagonal()


def loop_emm(mol, img):
    own, rest = map(sum, zip(*(exponentials(mol, v) for v in img.unbind(1)), strict=True))
    return (rest / own).log().mean()


def loop_imm(mol, img):
    views = img.unbind(1)
    pairs = [exponentials(a, b) for a in views for b in views if a is not b]
    own, rest = map(sum, zip(*pairs, strict=True))
    return loop_emm(mol, img) + 0.5 * (rest / own).log().mean()


def matrix_imm(mol, img):
    """All (N M)² scores at once."""
    n, m, _ = img.shape
    unit = torch.nn.functional.normalize(img.flatten(0, 1), dim=1)
    e = (unit @ unit.mT / TAU).view(n, m, n, m).transpose(1, 2).exp()  # n n m m
    e = (e * ~torch.eye(m, dtype=torch.bool, device=img.device)).sum((2, 3))
    return loop_emm(mol, img) + 0.5 * ((e.sum(1) - e.diagonal()) / e.diagonal()).log().mean()


def chunks_imm(mol, img):
    return imm_loss(mol, img, TAU)


def chunks_emm(mol, img):
    return emm_loss(mol, img, TAU)


WAYS = {"chunks": chunks_imm, "loop": loop_imm, "matrix": matrix_imm}


def both(way, mol, img) -> tuple[float, float]:
    """Forward and backward: the value and how steep it is."""
    mol.grad = img.grad = None
    value = way(mol, img)
    value.backward()
    return value.item(), img.grad.norm().item()


def measure_losses() -> None:
    mol, img = inputs()
    for name, ours, theirs in (
        ("emm", chunks_emm, loop_emm), ("imm", chunks_imm, loop_imm),
    ):  # fmt: skip
        np.testing.assert_allclose(both(ours, mol, img), both(theirs, mol, img), rtol=1e-3)
        sec = seconds({
            "chunks": lambda ours=ours: both(ours, mol, img),
            "loop": lambda theirs=theirs: both(theirs, mol, img),
        }, 7, warm=2)  # fmt: skip
        numbers = {f"{way}_sec": value for way, value in sec.items()}
        about = f"a loop over pairs of views, {SHAPE}, forward and backward"
        report(name, sec["loop"] / sec["chunks"], 5, about, **numbers)


def point(way: str, compounds: int) -> dict:
    """Peak memory above the inputs of one way of IMM, in this process."""
    mol, img = inputs(compounds)
    both(WAYS[way], *(x[:8].detach().requires_grad_() for x in (mol, img)))  # allocated once
    mol.grad, img.grad = torch.zeros_like(mol), torch.zeros_like(img)
    before = memory(reset=True)
    value = WAYS[way](mol, img)
    value.backward()
    return {"mib": memory() - before, "value": value.item()}


def measure_memory() -> None:
    found = {}
    for way, compounds in (
        ("chunks", 384),
        ("chunks", 768),
        ("chunks", 1536),
        ("loop", 384),
        ("loop", 1536),
        ("matrix", 384),
        ("matrix", 1536),
    ):
        command = [sys.executable, __file__, "point", way, str(compounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{way}_{compounds}"] = json.loads(done.stdout.splitlines()[-1])
    values = [found[f"{way}_384"]["value"] for way in WAYS]
    assert max(values) - min(values) < 1e-3, found
    mib = {name: row["mib"] for name, row in found.items()}
    numbers = {f"{name}_mib": value for name, value in mib.items()}
    unit = "times less memory"
    for way in ("matrix", "loop"):
        what = {"matrix": "all (N M)² scores at once", "loop": "a loop over pairs of views"}[way]
        for n in (384, 1536):
            report(f"memory_{way}_{n}", mib[f"{way}_{n}"] / mib[f"chunks_{n}"], 2,
                   f"{what}, N = {n:,}; M = 6, d = 1,024", unit, **numbers)  # fmt: skip
    report("memory_linear", mib["chunks_1536"] / mib["chunks_384"], 5,
           "IMM of a quarter of the compounds: 4 is linear, 16 by the square",
           "at most times the memory", **numbers)  # fmt: skip


class Trainer:
    """The steps of one run on random fields, as `train.fit` makes them."""

    def __init__(self, kind, config, compounds: int = 64, views: int = 3, px: int = 48):
        from hcs_utils.learning.molecule_encoders import molecule_encoder  # slow to import
        from hcs_utils.learning.molecules import Graphs

        torch.manual_seed(0)
        rng, n = np.random.default_rng(0), compounds * views
        graphs = Graphs.build(["C" * (1 + k % 12) + SMILES for k in range(compounds)], workers=1)
        fields = torch.from_numpy(rng.integers(0, 256, (n, 5, px, px), dtype=np.uint8))
        batch = np.tile(np.arange(views), compounds)
        levels = {"source": batch, "batch": batch, "plate": batch, "well": np.arange(n)}
        self.fabric = devices.fabric("auto", "32-true")
        norm = Normaliser(torch.full((views, 5), 99.0), torch.full((views, 5), 60.0))
        stream = CompoundMinibatches(
            fields, np.arange(n), np.repeat(np.arange(compounds), views), levels, batch,
            norm.to(self.fabric.device), WellViews(ViewsConfig.for_fields(px), count=views), graphs,
            compounds=compounds,
        )  # fmt: skip
        self.there = stream(0, self.fabric.device)
        image = encoder("small", tuple("abcde"))
        space = Space(image, molecule_encoder("gin_small"), width=WIDTH)
        self.method = kind(space, config).to(self.fabric.device).train()
        self.config = train.TrainConfig(steps=1000)
        groups = train._groups(self.method, self.config.weight_decay)
        self.module, self.optimizer = self.fabric.setup(self.method, torch.optim.AdamW(groups))

    def step(self):
        there = lambda *_: self.there  # noqa: E731
        train._step(self.fabric, self.module, there, self.optimizer, self.config, 100)

    def bare(self):
        """Forward of both encoders and heads, and backward of the sum."""
        mol, img = self.method.outputs(self.there)
        self.fabric.backward(mol.sum() + img.sum())
        self.optimizer.zero_grad(set_to_none=True)


def measure_step() -> None:
    for name, kind, config in (
        ("clip", CLIP, CLIPConfig()), ("emm", EMM, EMMConfig()), ("imm", IMM, IMMConfig()),
    ):  # fmt: skip
        run = Trainer(kind, config)
        sec = seconds({"bare": run.bare, "step": run.step}, 9, warm=2)
        numbers = {f"{way}_sec": value for way, value in sec.items()}
        about = "forward and backward of encoders and heads, 64 compounds, 3 views of 40 px"
        unit = "of the speed of forward and backward alone"
        report(f"step_{name}", sec["bare"] / sec["step"], 0.8, about, unit, **numbers)


def main(names: list[str]) -> None:
    if not GPU:
        torch.set_num_threads(1)
    if names[:1] == ["point"]:
        print(json.dumps(point(names[1], int(names[2]))))
        return
    for name in names or ("losses", "memory", "step"):
        globals()[f"measure_{name}"]()


if __name__ == "__main__":
    main(sys.argv[1:])

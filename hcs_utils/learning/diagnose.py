"""The collapse doctor: is a run learning, or has it collapsed, and which way?"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm

from hcs_utils.errors import InputError
from hcs_utils.learning import signs
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.compound_minibatches import CompoundMinibatches
from hcs_utils.learning.methods.barlow_only import BYOLBarlow, DINOBarlow
from hcs_utils.learning.methods.cdcl import CDCL
from hcs_utils.learning.methods.dino import DINO
from hcs_utils.learning.methods.pairs import teacher_temperature
from hcs_utils.learning.methods.supervised import Supervised
from hcs_utils.learning.minibatches import Minibatches
from hcs_utils.learning.verdicts import DEAD, RULES, SETTLED, trivial_loss, verdict
from hcs_utils.learning.views import colour, crop

__all__ = ["RULES", "SETTLED", "Doctor", "examine", "read", "trivial_loss", "verdict"]

Signs = dict[str, float]


def examine(
    features: ArrayLike,
    second: ArrayLike | None = None,
    probability: ArrayLike | None = None,
    treatment: ArrayLike | None = None,
    batch: ArrayLike | None = None,
    k: int = 10,
    classes: int = 0,
) -> Signs:
    """Vital signs of an embedding [n d] of training fields; the more is given, the more are found.

    ``second``: the same fields seen otherwise (another crop, another checkpoint). ``probability``
    [m K]: what the teacher says. ``treatment`` and ``batch`` [n] go together, and
    only of fields that were trained on. ``classes``: of a classifier, which needs no more than
    C − 1 directions; 0 for all else.
    """
    values, sd = np.asarray(features), signs.dimension_sd(features)
    rank = signs.effective_rank(values)
    most = min(len(values) - 1, values.shape[1], classes - 1 if classes else values.shape[1])
    found = {
        "effective_rank": rank,
        "rank_share": min(1.0, max(0.0, (rank - 1) / (most - 1))) if most > 1 else math.nan,
        "stable_rank": signs.stable_rank(values),
        "spread": float(sd.mean()),
        "variance_hinge": float(np.maximum(0, 1 - sd).mean()),
        "dead_share": float((sd < DEAD).mean()),
        "cosine": signs.mean_cosine(values),
    }
    if second is not None:
        found["agreement"] = signs.agreement(values, second, k)
    if probability is not None:
        found["sample_entropy"], found["marginal_entropy"] = signs.entropies(probability)
    if treatment is not None and batch is not None:
        found["batch_shared"] = signs.shared(values, batch, treatment, k)
        found["treatment_shared"] = signs.shared(values, treatment, batch, k)
    return found


class Doctor:
    """A monitor for `train.fit`: vital signs from two fixed crops of a few training fields.

    It looks at the stream's training fields alone, in evaluation mode, and draws no random number
    after it was made: weights are the same with it and without. ``labels`` adds what neighbours
    share, batch or treatment, on the same fields; nothing of it reaches the training. ``say``
    prints a sentence when a verdict turns bad, once for each.
    """

    def __init__(
        self,
        stream: Minibatches | CompoundMinibatches,
        fields: int = 192,
        k: int = 10,
        labels: bool = False,
        seed: int = 0,
        say: bool = True,
    ):
        chosen = np.random.default_rng([seed, 9]).permutation(len(stream.rows))[:fields]
        chosen.sort()
        self.k, self.labels, self.say = max(1, min(k, len(chosen) // 4)), labels, say
        self.treatment, self.batch = stream.label[chosen], stream.domain[chosen]
        self.plate, self.normaliser = torch.from_numpy(stream.plate[chosen]), stream.normaliser
        images = stream.images[torch.from_numpy(stream.rows[chosen])].cpu()
        views = getattr(
            stream.views, "crops", stream.views
        )  # of compounds: how their views are cut
        self.views = 2 + 2 * views.locals_per_image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cut = [crop(images, views.global_size, views.global_scale) for _ in range(2)]
        self.crops = [one.byte() for one in cut]  # kept as bytes: large fields are many
        self.signs: Signs = {}
        self._said: set[str] = set()

    def __call__(self, step: int, method: nn.Module) -> Signs:
        """The signs of this moment, to be logged; ``trivial_loss`` among them."""
        first, second, said = self.look(method)
        classes = method.head.out_features if isinstance(method, Supervised) else 0
        self.signs = self._examine(first, second, said, classes)
        self.signs |= _trivial(method, self.views) | _centres(method.state_dict())
        return dict(self.signs)

    def look(self, method: nn.Module) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Features [n d] of both crops, and what the teacher says of them [2 n K], if there is one.

        The module is in evaluation mode meanwhile, and afterwards as it was.
        """
        with _evaluating(method):
            first, second = self.features(method.encoder)
            said = _said(method, torch.cat([first, second]), np.tile(self.batch, 2))
        said = None if said is None else said.cpu().numpy()
        return first.cpu().numpy(), second.cpu().numpy(), said

    @torch.no_grad()
    def features(self, network: nn.Module) -> list[Tensor]:
        """Features [n d] of both crops, on the network's own device and in its own mode."""
        device = next(network.parameters()).device
        norm, found = self.normaliser.to(device), []
        for crops in self.crops:
            parts = zip(crops.split(64), self.plate.split(64), strict=True)
            seen = [colour(x.to(device).float(), p.to(device), norm) for x, p in parts]
            found.append(torch.cat([network(x).float() for x in seen]))
        return found

    def _examine(self, first, second, probability=None, classes=0) -> Signs:
        labels = {"treatment": self.treatment, "batch": self.batch} if self.labels else {}
        return examine(first, second, probability, k=self.k, classes=classes, **labels)

    def line(self, row: Mapping[str, float | int]) -> str:
        """The live line of a logged row, with the signs of the last checkpoint."""
        known = {**self.signs, **row}
        name, advice = verdict(known)
        if self.say and self.signs and name not in ("healthy", "too early", *self._said):
            self._said.add(name)
            tqdm.write(f"Step {row['step']}: {name}: {advice}.")
        parts = [f"loss {row['loss']:.3f}"]
        if math.isfinite(known.get("trivial_loss", math.nan)):
            parts = [f"loss {row['loss'] / known['trivial_loss']:.2f} of trivial"]
        if self.signs:
            parts.append(f"rank {known['effective_rank']:.0f}")
        if "sample_entropy" in known:
            parts.append(f"says {known['sample_entropy']:.2f}/{known['marginal_entropy']:.2f}")
        return ", ".join([*parts, name] if self.signs else parts)


def read(run: Path | str, stream: Minibatches | None = None, name: str = "small") -> Signs:
    """What the folder of a run still tells, for `verdict`: its log, its centres, its trivial loss.

    Also of runs that no doctor watched. With the ``stream`` it was trained on, the encoder
    ``name`` takes the weights of ``model.safetensors`` and is examined, labels included.
    """
    run = Path(run)
    try:
        about = json.loads((run / "run.json").read_text())
        with open(run / "log.csv", newline="") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        found: Signs = {}
        for row in rows:
            found |= row
        found |= {"loss": float(np.mean([row["loss"] for row in rows[-5:]]))}
        found |= _trivial_of_record(about)
        with safe_open(run / "resume.safetensors", "pt") as file:
            known = ("centers.centers", "criterion.center")
            there = [key for key in known if f"model.{key}" in file.keys()]  # noqa: SIM118
            found |= _centres({key: file.get_tensor(f"model.{key}") for key in there})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{run} is not the folder of a finished run ({type(error).__name__}: {error}). It "
            "should hold run.json, log.csv and resume.safetensors."
        ) from error
    if stream is None:
        return found
    weights = run / "model.safetensors"
    with safe_open(weights, "pt") as file:
        channels = tuple(json.loads(file.metadata()["channels"]))
    doctor, network = Doctor(stream, labels=True), encoder(name, channels, str(weights))
    classes = about["shapes"]["head.weight"][0] if about["method"] == "Supervised" else 0
    first, second = (x.cpu().numpy() for x in doctor.features(network.eval()))
    return found | doctor._examine(first, second, classes=classes)


@contextmanager
def _evaluating(method: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def _said(method: nn.Module, features: Tensor, domain: np.ndarray) -> Tensor | None:
    """Probabilities [n K] of the teacher, centred and sharpened; None without a teacher.

    Sharpened as most of training is: by the temperature that the teacher's rises to.
    """
    if not isinstance(method, DINO):
        return None
    out, temperature = method.teacher_head(features), teacher_temperature(method.config, 1.0)
    if isinstance(method, CDCL):
        domain = np.zeros_like(domain) if method.rule == "one" else domain
        out = method.centers(out, torch.from_numpy(domain).to(out.device))
        temperature = teacher_temperature(method.cdcl, 1.0)
    else:
        out = out - method.criterion.center.view(1, -1)
    return torch.softmax(out / temperature, -1)


def _trivial(method: nn.Module, views: int) -> Signs:
    """As `trivial_loss`, from the method's own configuration; nothing for a method unknown here."""
    if isinstance(method, Supervised):
        return {"trivial_loss": trivial_loss("supervised", method.head.out_features)}
    if isinstance(method, CDCL):
        settings = vars(method.cdcl) | {"views": views}
        return {"trivial_loss": trivial_loss("cdcl", method.config.width, **settings)}
    if isinstance(method, DINOBarlow | BYOLBarlow):
        one = trivial_loss("barlow", method.config.width, **vars(method.barlow))
        return {"trivial_loss": one * _pairs(type(method).__name__, method.barlow.form, views)}
    known = getattr(method, "trivial_loss", None)
    return {} if known is None else {"trivial_loss": float(known)}


def _trivial_of_record(about: dict) -> Signs:
    """The same from a run's ``run.json``."""
    own, views = about["config"], 2 + 2 * about["views"]["locals_per_image"]
    if about["method"] == "Supervised":
        return {"trivial_loss": trivial_loss("supervised", about["shapes"]["head.weight"][0])}
    if about["method"] in ("DINO", "DINOCrossBatch"):
        return {"trivial_loss": trivial_loss("dino", own["config"]["width"])}
    if about["method"] == "CDCL":
        settings = own["cdcl"] | {"views": views}
        return {"trivial_loss": trivial_loss("cdcl", own["config"]["width"], **settings)}
    if about["method"] in ("BYOL", "BYOLCrossBatch"):
        return {"trivial_loss": 2 * trivial_loss("byol", own["config"]["width"])}
    if about["method"] in ("DINOBarlow", "BYOLBarlow"):
        pairs = _pairs(about["method"], own["barlow"]["form"], views)
        return {
            "trivial_loss": pairs * trivial_loss("barlow", own["config"]["width"], **own["barlow"])
        }
    return {}


def _pairs(method: str, form: str, views: int) -> int:
    """Over how many pairs of views the form "paper" sums; "released" takes the mean."""
    return 1 if form == "released" else 2 if method == "BYOLBarlow" else 2 * (views - 1)


def _centres(state: Mapping[str, Tensor]) -> Signs:
    """Mean length of the centres in logits, and the RMS distance of several from their mean."""
    if "centers.centers" in state:
        c = state["centers.centers"]
        c = c[c.norm(dim=1) > 0]  # a batch that was not trained on has none
        if len(c):
            spread = (c - c.mean(0)).norm(dim=1).square().mean().sqrt()
            return {"centre_norm": float(c.norm(dim=1).mean()), "centre_spread": float(spread)}
    elif "criterion.center" in state:
        return {"centre_norm": float(state["criterion.center"].norm())}
    return {}

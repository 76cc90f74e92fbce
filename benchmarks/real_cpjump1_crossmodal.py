"""Are real molecules found among the cells they were given to, when neither was trained on?

CPJUMP1, seven plates of compounds, U2OS, 24 h and 48 h. The image side is a well's profile through
a small MLP, the molecule side ECFP bits through an MLP, or its graph through a small GIN. A third
of the compounds is held out (molecules by the first block of the InChIKey); views are wells of a
compound on different plates. Beside CLIP, EMM and IMM: the space untrained, trained on pairs that
were shuffled, and EMM with a well's row and column in the place of its profile: every plate has
the same layout. Needs the folder cpjump1_profiles in $HCS_SHARED or in ../shared/data beside the
checkout. A record for each run; five seeds, about 20 minutes of one core:

    python benchmarks/real_cpjump1_crossmodal.py [--seeds 0 1 2 3 4] [--encoders ecfp gin_small]
"""

import argparse
import copy
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from hcs_utils import files, records
from hcs_utils.data import profiles
from hcs_utils.evaluation import postprocess
from hcs_utils.evaluation.retrieval import retrieval
from hcs_utils.learning import train
from hcs_utils.learning.compound_minibatches import (
    CompoundMinibatch,
    CompoundMinibatches,
    WellViews,
)
from hcs_utils.learning.methods.clip import CLIP, CLIPConfig
from hcs_utils.learning.methods.emm import EMM, EMMConfig
from hcs_utils.learning.methods.imm import IMM, IMMConfig
from hcs_utils.learning.molecule_encoders import molecule_encoder
from hcs_utils.learning.molecules import Fingerprints, Graphs
from hcs_utils.learning.space import Space
from hcs_utils.learning.views import Normaliser, ViewsConfig

SCREEN, PRESET, EXPERIMENT = "cpjump1", "real", "crossmodal"
METHODS = {"clip": (CLIP, CLIPConfig), "emm": (EMM, EMMConfig), "imm": (IMM, IMMConfig)}


@dataclass(frozen=True)
class Settings:
    """One run's; the same for every method."""

    molecule_encoder: str = "ecfp"
    held_out: int = 100  # compounds, and the size of a pool
    compounds: int = 100  # N of a minibatch
    views: int = 3  # M, wells on different plates
    steps: int = 400
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    dropout: float = 0.2  # of features, bits and in heads
    width: int = 128
    temperature: float = 0.1
    largest: float = 5.0  # |z| of a feature


class Screen:
    """Wells of compounds with a structure: z-scored by the controls of their plate."""

    def __init__(self, folder: Path):
        table, features, _ = profiles.cpjump1(folder)
        control = (table["role"] == "negcon").to_numpy()
        z = postprocess.zscore_by_controls(features, table["plate"].to_numpy(), control)
        kept = ~control & (table["smiles"] != "").to_numpy()
        self.table = table[kept].reset_index(drop=True)
        self.features = z[kept].astype(np.float32)
        self.code, key = pd.factorize(_first_blocks(self.table["smiles"]), sort=True)
        first = pd.Series(np.arange(len(self.code))).groupby(self.code).first()
        self.names, self.smiles = key, self.table["smiles"].iloc[first].tolist()
        self.molecules = {
            "ecfp": Fingerprints.build(self.smiles), "gin_small": Graphs.build(self.smiles)
        }  # fmt: skip
        digests = [files.sha256(path) for path in sorted(folder.glob("*.gz"))]
        self.digest = files.sha256("".join(digests).encode())

    def split(self, seed: int, held_out: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes of compounds to train on and to judge by; no molecule is in both."""
        order = np.random.default_rng([seed, 30]).permutation(len(self.names))
        return np.sort(order[held_out:]), np.sort(order[:held_out])

    def of_position(self) -> "Screen":
        """The same wells with their row and column, one of 16 and of 24, and nothing of cells."""
        other, well = copy.copy(self), self.table["well"]
        at = [well.str[:1].astype("category").cat.codes, well.str[1:].astype(int) - 1]
        ones = [np.eye(n)[place.to_numpy()] for n, place in zip((16, 24), at, strict=True)]
        other.features = 3 * np.concatenate(ones, axis=1).astype(np.float32)
        return other


def _first_blocks(smiles: pd.Series) -> np.ndarray:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    keys = {s: Chem.MolToInchiKey(Chem.MolFromSmiles(s)) for s in smiles.unique()}
    RDLogger.EnableLog("rdApp.*")
    return smiles.map(keys).str[:14].to_numpy(str)


class Wells(CompoundMinibatches):
    """Minibatches of compounds with profiles of wells in the place of images."""

    def __init__(self, screen: Screen, chosen: np.ndarray, c: Settings, molecule_of, seed: int):
        rows = np.flatnonzero(np.isin(screen.code, chosen))
        t = screen.table.iloc[rows]
        profile = torch.from_numpy(screen.features.clip(-c.largest, c.largest))
        plate = pd.factorize(t["plate"])[0]
        levels = {"source": plate * 0, "batch": plate, "plate": plate, "well": t["well"].to_numpy()}
        norm = Normaliser(torch.zeros(1, 1), torch.ones(1, 1))
        super().__init__(
            profile, rows, screen.code[rows], levels, np.zeros(len(screen.code), int), norm,
            WellViews(ViewsConfig(), count=c.views), screen.molecules[c.molecule_encoder],
            molecule_of, compounds=c.compounds, seed=seed, names=screen.names,
        )  # fmt: skip

    def __call__(self, step: int, device) -> CompoundMinibatch:
        compound, position = (drawn[self.part] for drawn in self.draw(step))
        seen = self.images[torch.from_numpy(self.rows[position].ravel())]
        of = compound if self.molecule_of is None else self.molecule_of[compound]
        label, domain = (torch.from_numpy(x) for x in (compound, self.domain[position]))
        return CompoundMinibatch(
            seen[..., None, None], self.molecules[of], self.views.count, label, domain
        )


class Profile(nn.Module):
    """An encoder of profiles: features dropped, one hidden layer."""

    channels, num_features = (), 256

    def __init__(self, features: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, 256), nn.BatchNorm1d(256)
        )

    def forward(self, x):
        return self.layers(x)


class Bits(nn.Module):
    """Fingerprints with some bits dropped, before their encoder."""

    def __init__(self, encoder: nn.Module, dropout: float):
        super().__init__()
        self.encoder, self.num_features = encoder, encoder.num_features
        self.drop = nn.Dropout(dropout)

    def forward(self, bits):
        return self.encoder(self.drop(bits) if torch.is_tensor(bits) else bits)


def made(screen: Screen, method: str, c: Settings, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    molecule = Bits(molecule_encoder(c.molecule_encoder), c.dropout)
    image = Profile(screen.features.shape[1], c.dropout)
    kind, config = METHODS[method]
    space = Space(image, molecule, c.width, c.dropout)
    return kind(space, config(temperature=c.temperature))


@torch.no_grad()
def judged(screen: Screen, space: Space, test: np.ndarray, c: Settings) -> dict[str, tuple]:
    """HR@k and MRR of held-out compounds both ways: of one well each, and of all wells' mean."""
    space.eval()
    rows = np.flatnonzero(np.isin(screen.code, test))
    x = torch.from_numpy(screen.features[rows].clip(-c.largest, c.largest))
    img = nn.functional.normalize(space.images(x[..., None, None]), dim=-1).numpy()
    mol = space.molecules(screen.molecules[c.molecule_encoder][test]).numpy()
    mean = pd.DataFrame(img).groupby(screen.code[rows]).mean().loc[test].to_numpy()
    out = {}
    for name, (a, b), names in (
        ("m2i", (mol, img), (test, screen.code[rows])),
        ("i2m", (img, mol), (screen.code[rows], test)),
        ("m2i_mean", (mol, mean), None),
        ("i2m_mean", (mean, mol), None),
    ):
        how = {"names": names} if names else {"unit": test}
        for metric, row in retrieval(a, b, pool=len(test), pools=50, **how).iterrows():
            key = f"{name}_{str(metric).replace('@', '')}"
            out[key] = (row["value"], row["low"], row["high"])
            out[f"chance_{str(metric).replace('@', '')}"] = row["chance"]
    return out


def run(
    screen: Screen, method: str, c: Settings, seed: int, pairs: str = "true"
) -> tuple[dict[str, tuple], list[dict]]:
    """Metrics of held-out compounds, and the log; `pairs` true, shuffled, none or position."""
    screen = screen.of_position() if pairs == "position" else screen
    chosen, test = screen.split(seed, c.held_out)
    assert not set(screen.names[chosen]) & set(screen.names[test])
    net, log = made(screen, method, c, seed), []
    if pairs != "none":
        of = np.arange(len(screen.names))
        if pairs == "shuffled":
            of[chosen] = np.random.default_rng([seed, 31]).permutation(chosen)
        config = train.TrainConfig(
            steps=c.steps, learning_rate=c.learning_rate, weight_decay=c.weight_decay,
            accelerator="cpu", checkpoint_every=c.steps, seed=seed,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            log = train.fit(net, Wells(screen, chosen, c, of, seed), config, folder, progress=False)
    return judged(screen, net.space, test, c), log


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--encoders", nargs="+", default=["ecfp", "gin_small"])
    given = parser.parse_args(arguments)
    folder = files.shared_data("cpjump1_profiles")
    if folder is None:
        print("The profiles of CPJUMP1 are not on this machine; see $HCS_SHARED.")
        return 0
    torch.set_num_threads(1)
    screen = Screen(folder)
    kinds = [(method, "true") for method in METHODS]
    nulls = [("clip", "none"), *((method, "shuffled") for method in METHODS), ("emm", "position")]
    runs = [
        (f"{'' if pairs == 'true' else pairs + '_'}{method}_{encoder}", method, encoder, pairs)
        for encoder in given.encoders
        for method, pairs in kinds + (nulls if encoder == "ecfp" else [])
    ]
    for name, method, encoder, pairs in runs:
        for seed in given.seeds:
            began, c = time.perf_counter(), Settings(molecule_encoder=encoder)
            metrics, log = run(screen, method, c, seed, pairs)
            if log:
                metrics["loss_end"] = log[-1]["loss"]
                metrics["train_m2i_first"] = log[-1]["m2i_first"]
            name = name.replace("none_clip", "random")
            records.save_record(
                experiment=EXPERIMENT, screen=SCREEN, method=name, preset=PRESET,
                parameters=vars(c) | {"method": method, "pairs": pairs}, fold=0, seed=seed,
                metrics=metrics, device=records.device(), seconds=time.perf_counter() - began,
                manifest_sha256=screen.digest,
            )  # fmt: skip
            shown = "  ".join(f"{k} {metrics[k][0]:.3f}" for k in ("m2i_mrr", "m2i_mean_mrr",
                              "i2m_mean_mrr", "m2i_mean_hr10"))  # fmt: skip
            print(f"{name:24}s{seed}  {shown}  {time.perf_counter() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

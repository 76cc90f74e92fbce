"""Maps of held-out compounds' fields for chapter 33, as the cross-modal paper's figure 2.

    crossmodal_maps.py --preset standard --runs build/runs --seed 0

For each method: embed the test fields with the space that `--runs` holds
(`<screen>/crossmodal/<method>-f<fold>-s<seed>-<key>/model.safetensors`, which a run of notebook 32
leaves), and place them by UMAP of cosines. Writes `<out>/<preset>/crossmodal_maps.parquet`: a row a
field, with its `source`, `batch` and `compound`, and `<method>.x`, `<method>.y`, rounded to 0.01.
Negative controls are left out, and of more than `--most` fields a random part is taken.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import maps
from hcs_utils import crossmodal, crossmodal_settings, files, prepare, records, runs
from hcs_utils import crossmodal_assemble as assemble
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures
from hcs_utils.evaluation.neighbours import unit
from hcs_utils.learning.embed import embed, features
from hcs_utils.learning.minibatches import Chosen

METHODS = "clip,emm,imm"


def place(
    paths: dict[str, Path], settings: crossmodal_settings.CrossmodalSettings, screen, most: int
) -> pd.DataFrame:
    """The table of maps, one row a field shown; only fields that are shown are embedded."""
    of = assemble.ready(settings, screen)
    test = np.flatnonzero(of.table["split"].eq("test"))
    rows = test[maps.shown(of.table.iloc[test], most, settings.seed)]
    table = of.table.iloc[rows].reset_index(drop=True)
    made = table[["source", "batch", "compound"]].copy()
    for method, path in paths.items():
        network = crossmodal.load(dataclasses.replace(settings, method=method), screen, path)
        z = features(
            embed(network, Chosen(of.images, rows), table["site_id"], of.plate[rows],
                  of.normaliser, of.crops.global_size, screen.channels)
        )  # fmt: skip
        xy = figures.umap(unit(z), settings.seed)  # of cosines, as the paper
        for axis, at in zip("xy", xy.T, strict=True):
            made[f"{method}.{axis}"] = at.astype(np.float32).round(2)
        print(f"{method}: {len(rows)} fields placed", flush=True)
    return made.astype({name: "category" for name in ("source", "batch", "compound")})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=METHODS, help="names, with commas between")
    parser.add_argument("--runs", type=Path, default=files.checkout() / "build" / "runs")
    parser.add_argument("--weights", nargs="*", default=[], help="METHOD=PATH, instead of --runs")
    parser.add_argument("--out", type=Path, default=files.checkout() / "book" / "results")
    parser.add_argument("--most", type=int, default=2500, help="fields shown")
    given = parser.parse_args()
    named = dict(pair.split("=", 1) for pair in given.weights)
    try:
        asked = runs.preset(given.preset) | {"seed": given.seed}
        settings = crossmodal_settings.from_parameters(asked)
        screen = prepare.prepare(settings.screen, settings.size, settings.image_px)
        home, fold = f"{screen.name}/crossmodal", settings.fold
        paths = {
            method: Path(named[method])
            if method in named
            else maps.weights(given.runs, home, method, fold, given.seed)
            for method in given.methods.split(",")
        }
        made = place(paths, settings, screen, given.most)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    about = {"preset": given.preset, "fold": fold, "seed": given.seed, "screen": screen.name}
    about["git_revision"] = records.git_revision()
    about["weights"] = {method: files.sha256(path)[:16] for method, path in paths.items()}
    maps.save(made, given.out / given.preset / "crossmodal_maps.parquet", about)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Maps of the unseen batches for chapter 23, as figure 2 of the CDCL paper, from trained weights.

    maps.py --preset standard --runs build/runs --fold 1 --seed 0

For each method: embed the validation and test fields with the encoder that `--runs` holds
(`<screen>/<method>-f<fold>-s<seed>-<key>/model.safetensors`, which a run of notebook 22 leaves),
and place them by UMAP, raw and after Z-norm. Writes `<out>/<preset>/maps.parquet`: a row a field,
with its `batch` and `treatment`, and `x` and `y` of each map, rounded to 0.01 and named
`<method>.raw.x` and so on. Negative controls are left out, and of more than `--most` fields a
random part is taken: the file stays below 300 KB.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hcs_utils import assemble, experiments, files, records, runs
from hcs_utils.errors import InputError
from hcs_utils.evaluation import figures
from hcs_utils.learning.backbones import encoder
from hcs_utils.learning.embed import embed, features
from hcs_utils.settings import from_parameters

METHODS = "dino,dino_cb,cdcl,supervised"


def weights(folder: Path, screen: str, method: str, fold: int, seed: int) -> Path:
    """The one file of trained weights of that run below `folder`."""
    name = f"{method}-f{fold}-s{seed}"
    found = sorted((folder / screen).glob(f"{name}-*/model.safetensors"))
    if len(found) != 1:
        what = "no finished run" if not found else f"{len(found)} runs"
        raise InputError(
            f"{folder / screen} has {what} {name}-*; give a folder that holds just one "
            f"of each method with --runs, or name it: --weights {method}=PATH."
        )
    return found[0]


def place(
    paths: dict[str, Path], settings: experiments.Settings, screen, most: int
) -> pd.DataFrame:
    """The table of maps, one row a field shown; only fields of unseen batches are embedded."""
    part = experiments.split(screen.table, settings.fold, settings.folds)
    table = screen.table.assign(split=part)
    norm, plate = experiments.normaliser(screen, settings.image_norm)
    views = assemble.views(settings, min(screen.store.shape[-2:]))
    unseen = np.flatnonzero(table["split"] != "train")
    table, plate = table.iloc[unseen].reset_index(drop=True), plate[unseen]
    images = screen.images()[torch.from_numpy(unseen)]
    rows = shown(table, most, settings.seed)
    made = table.loc[rows, ["split", "batch", "treatment"]].reset_index(drop=True)
    for method, path in paths.items():
        network = encoder(settings.encoder, screen.channels, str(path))
        z = features(
            embed(network, images, table["site_id"], plate, norm, views.global_size,
                  screen.channels)
        )  # fmt: skip
        for space, values in (("raw", z), ("znorm", experiments.znorm(z, table, settings))):
            xy = figures.umap(values[rows], settings.seed)
            for axis, at in zip("xy", xy.T, strict=True):
                made[f"{method}.{space}.{axis}"] = at.astype(np.float32).round(2)
            print(f"{method} {space}: {len(rows)} fields placed", flush=True)
    return made.astype({"split": "category", "batch": "category", "treatment": "category"})


def shown(table: pd.DataFrame, most: int, seed: int) -> np.ndarray:
    """Rows that are no negative controls, at most so many, in their order."""
    rows = np.flatnonzero(table["role"] != "negcon")
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return rows


def save(made: pd.DataFrame, path: Path, about: dict) -> None:
    made.attrs = about
    with files.replacing(path) as temporary:
        made.to_parquet(temporary, compression="zstd", index=False)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=METHODS, help="names, with commas between")
    parser.add_argument("--runs", type=Path, default=files.checkout() / "build" / "runs")
    parser.add_argument("--weights", nargs="*", default=[], help="METHOD=PATH, instead of --runs")
    parser.add_argument("--out", type=Path, default=files.checkout() / "book" / "results")
    parser.add_argument("--most", type=int, default=2500, help="fields shown")
    given = parser.parse_args()
    named = dict(pair.split("=", 1) for pair in given.weights)
    try:
        asked = {**runs.preset(given.preset), "fold": given.fold, "seed": given.seed}
        settings = from_parameters(asked)
        screen = experiments.prepare(settings.screen, settings.size, settings.image_px)
        paths = {
            method: Path(named[method])
            if method in named
            else weights(given.runs, screen.name, method, given.fold, given.seed)
            for method in given.methods.split(",")
        }
        made = place(paths, settings, screen, given.most)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    about = {"preset": given.preset, "fold": given.fold, "seed": given.seed}
    about |= {"screen": screen.name, "git_revision": records.git_revision()}
    about["weights"] = {method: files.sha256(path)[:16] for method, path in paths.items()}
    save(made, given.out / given.preset / "maps.parquet", about)
    return 0


if __name__ == "__main__":
    sys.exit(main())

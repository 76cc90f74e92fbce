"""How likely every crop of a screen is abnormal: in parts, resumable, in memory of one chunk."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from hcs_utils import files
from hcs_utils.data.store import Store
from hcs_utils.errors import InputError
from hcs_utils.learning.minibatches import Stored
from hcs_utils.learning.views import Normaliser, colour

Scored = tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]


def scores(
    encoder: nn.Module, head: Callable[[Tensor], Tensor], images, plate: Int[np.ndarray, " n"],
    normaliser: Normaliser, *, chunk: int = 256, rows: Sequence[int] | np.ndarray | None = None,
) -> Iterator[Scored]:  # fmt: skip
    """Rows of ``images`` and of each the probability of abnormal, ``chunk`` crops at a time.

    ``head`` turns features [n d] into logits: [n 2] of normal and abnormal, as a fine-tuned
    `evaluation.probes` has them, or [n] or [n 1], whose sigmoid is the score. ``plate`` is the row
    of ``normaliser`` of every image. Whole crops are seen, as they are stored. Without ``rows``,
    all: one for each of ``plate``. The encoder is in evaluation mode while a chunk is judged.
    """
    rows = np.arange(len(plate)) if rows is None else np.asarray(rows, np.int64)
    norm = normaliser.to(next(encoder.parameters()).device)
    for start in range(0, len(rows), chunk):
        own = rows[start : start + chunk]
        yield own, _judged(encoder, head, images[torch.from_numpy(own)], plate[own], norm)


@torch.no_grad()
def _judged(encoder, head, crops, plate, norm) -> np.ndarray:
    device, was_training = norm.mean.device, encoder.training
    encoder.eval()
    x = colour(crops.to(device).float(), torch.from_numpy(plate).to(device), norm)
    out = head(encoder(x).float())
    encoder.train(was_training)
    if out.ndim == 2 and out.shape[1] == 2:
        out = out[:, 1] - out[:, 0]  # the softmax of two is the sigmoid of their difference
    if out.ndim == 2 and out.shape[1] == 1:
        out = out[:, 0]
    if out.shape != (len(crops),):
        raise InputError(
            f"The head gives {list(out.shape)} for {len(crops)} crops: it must give two logits, of "
            "normal and abnormal, or one."
        )
    return torch.sigmoid(out.float()).cpu().numpy()


def screen(
    store: Store, encoder: nn.Module, head: nn.Module, plate: Int[np.ndarray, " n"],
    normaliser: Normaliser, folder: str | Path, *,
    per_part: int = 8192, chunk: int = 256, progress: bool = True,
) -> Path:  # fmt: skip
    """Judge every crop of a store; leave tables of `site_id` and `qc_score` in ``folder``.

    Each ``per_part`` crops are a Parquet file, written whole, so a run that was killed goes on
    with the first that is missing. A folder of another store, encoder, head or normaliser is
    refused. Memory does not grow with the crops, but for the store's own list of sites: keep a
    store a plate, or some plates, where there are millions (`qc_crops.plan`).
    """
    if tuple(store.channels) != tuple(encoder.channels):
        raise InputError(
            f"the images have the channels {list(store.channels)}, the encoder was made for "
            f"{list(encoder.channels)}. Name and order must agree."
        )
    if len(plate) != len(store):
        raise InputError(f"{len(plate)} plates were given for {len(store)} crops: one for each.")
    folder, images, chunk = Path(folder), Stored(store), min(chunk, per_part)
    _claim(folder, _identity(store, encoder, head, plate, normaliser, per_part))
    starts = range(0, len(store), per_part)
    bar = tqdm(total=len(store), unit="crop", disable=not progress, mininterval=2)
    for start in starts:
        rows = np.arange(start, min(start + per_part, len(store)))
        path = folder / f"part-{start // per_part:05d}.parquet"
        if not path.exists():
            found = scores(encoder, head, images, plate, normaliser, chunk=chunk, rows=rows)
            values = np.concatenate([value for _, value in found])
            table = pd.DataFrame({"site_id": store.site_ids[rows], "qc_score": values})
            with files.replacing(path) as part:
                table.to_parquet(part, index=False)
        bar.update(len(rows))
    bar.close()
    return folder


def parts(folder: str | Path) -> Iterator[pd.DataFrame]:
    """The tables that `screen` left, one after the other: `site_id` and `qc_score` of each crop.

    Raises `InputError` where a part is missing: that run has not ended.
    """
    folder = Path(folder)
    about = files.read_json(folder / "screen.json")
    if about is None:
        raise InputError(f"There are no scores in {folder}: screen a store first.")
    count = -(-about["crops"] // about["per_part"])
    paths = [folder / f"part-{number:05d}.parquet" for number in range(count)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {count} parts ({missing[0]} first): the run has not "
            "ended. The same command goes on with it."
        )
    for path in paths:
        yield pd.read_parquet(path)


def _identity(store, encoder, head, plate, normaliser, per_part) -> dict:
    """What must agree for a folder to be gone on with."""
    digest = hashlib.sha256()
    for module in (encoder, head):
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    levels = hashlib.sha256()
    for value in (normaliser.mean, normaliser.std, torch.from_numpy(plate)):
        levels.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    sites = hashlib.sha256("\n".join([*store.site_ids[:1], *store.site_ids[-1:]]).encode())
    return {
        "manifest_sha256": store.manifest_sha256, "crops": len(store), "sites": sites.hexdigest(),
        "weights": digest.hexdigest(), "levels": levels.hexdigest(), "per_part": per_part,
    }  # fmt: skip


def _claim(folder: Path, now: dict) -> None:
    before = files.read_json(folder / "screen.json")
    if before is None:
        folder.mkdir(parents=True, exist_ok=True)
        with files.replacing(folder / "screen.json") as part:
            part.write_text(json.dumps(now, indent=1), "utf-8")
        return
    differ = [name for name, value in now.items() if before.get(name) != value]
    if differ:
        raise InputError(
            f"{folder} holds scores of another run ({', '.join(differ)} differ). Choose another "
            "folder, or remove that one."
        )

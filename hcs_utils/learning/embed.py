"""Features of every site, in a table that joins on ``site_id``."""

import numpy as np
import pandas as pd
import torch
from torch import nn

from hcs_utils.errors import InputError
from hcs_utils.learning.views import Normaliser, centre, colour


@torch.no_grad()
def embed(
    encoder: nn.Module,
    images,
    site_ids,
    plate: np.ndarray,
    normaliser: Normaliser,
    size: int,
    channels: tuple[str, ...],
    minibatch: int = 512,
) -> pd.DataFrame:
    """Encoder features [n d] of the middle ``size`` px of each field, as columns z000, z001, …

    ``images`` is indexed by position; ``plate`` holds each site's row of ``normaliser``. Refuses
    channels other than those, in that order, that the encoder was made for.
    """
    if tuple(channels) != tuple(encoder.channels):
        raise InputError(
            f"the images have the channels {list(channels)}, the encoder was made for "
            f"{list(encoder.channels)}. Name and order must agree: map them in the screen's file."
        )
    device = next(encoder.parameters()).device
    was_training, norm, parts = encoder.training, normaliser.to(device), []
    encoder.eval()
    for start in range(0, len(site_ids), minibatch):
        rows = torch.arange(start, min(start + minibatch, len(site_ids)))
        crops = centre(images[rows].to(device), size)
        crops = colour(crops, torch.from_numpy(plate[rows.numpy()]).to(device), norm)
        parts.append(encoder(crops).float().cpu().numpy())
    encoder.train(was_training)
    return as_table(np.concatenate(parts), site_ids)


def as_table(values: np.ndarray, site_ids) -> pd.DataFrame:
    """An embedding [n d] as a table: site_id, then z000, z001, …"""
    table = pd.DataFrame(values, columns=[f"z{k:03d}" for k in range(values.shape[1])])
    table.insert(0, "site_id", np.asarray(site_ids))
    return table


def features(table: pd.DataFrame) -> np.ndarray:
    """The z columns [n d] of an embedding table as float64."""
    return table[[name for name in table if name.startswith("z") and name[1:].isdigit()]].to_numpy(
        float
    )

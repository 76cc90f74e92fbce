"""What sources, batches, plates, wells and fields do to a picture besides the treatment."""

import numpy as np
import pandas as pd

from hcs_utils.data.screens.drawing import CHANNELS, Nuisance

_CELLS = 12.0  # expected in a field of 48 px


def nuisance(
    place: tuple[int, int, int], wells: pd.DataFrame, size: int, strengths: tuple, seed: int, rng
) -> Nuisance:
    """One row a field of ``wells`` (columns edge, across, down) on a plate.

    ``place`` numbers source, batch and plate, each of which has random numbers of its own, shared
    by all its fields; ``strengths`` are those of batch effects (source, batch, plate and position
    on it) and of field effects; ``rng`` gives the latter.
    """
    n, c, (s, f) = len(wells), len(CHANNELS), strengths
    lab, day, own = (np.random.default_rng([seed, k, place[k]]) for k in range(3))
    edge, across, down = (wells[k].to_numpy() for k in ("edge", "across", "down"))

    gain = 0.2 * lab.standard_normal(c) + 0.3 * day.standard_normal(c)
    gain = s * (gain + 0.08 * own.standard_normal(c))
    gain = gain + f * 0.22 * rng.standard_normal((n, c))
    drift = 0.1 * own.standard_normal() * across + 0.06 * own.standard_normal() * down
    drift = 1 + s * (drift + 0.12 * day.standard_normal() * edge)

    background = 0.3 * lab.standard_normal(c) + 0.4 * day.standard_normal(c)
    background = s * background + f * 0.4 * rng.standard_normal((n, c))
    seeding = np.exp(s * 0.22 * day.standard_normal() + f * 0.35 * rng.standard_normal(n))
    blur = 0.2 + s * (0.1 * lab.random() + 0.1 * day.random()) + f * 0.35 * rng.random(n) ** 2
    talk = 0.02 * lab.random((c, c)) + 0.05 * day.random((c, c))
    light = s * (0.08 * lab.standard_normal(5) + 0.14 * day.standard_normal(5))
    return Nuisance(
        density=_CELLS * (size / 48) ** 2 * seeding * (1 - min(0.3 * s, 0.9) * edge),
        cell_size=np.exp(s * 0.05 * day.standard_normal() + f * 0.14 * rng.standard_normal(n)),
        gain=40_000 * np.clip(drift, 0.2, None)[:, None] * np.exp(gain),
        background=60 * np.exp(background),
        defocus_px=blur,
        light=light + f * 0.2 * rng.standard_normal((n, 5)),
        crosstalk=np.broadcast_to(np.eye(c) + s * talk * (1 - np.eye(c)), (n, c, c)),
        read_noise=np.full(n, 5 * np.exp(s * 0.4 * lab.standard_normal())),
    )

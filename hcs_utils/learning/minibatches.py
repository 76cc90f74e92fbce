"""Which sites, and which partners, the network sees at each step."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hcs_utils.errors import InputError
from hcs_utils.learning.views import Normaliser, ViewsConfig, multi_crop


@dataclass
class Minibatch:
    """Everything a method's loss needs; views are ordered as :func:`views.multi_crop` says."""

    global_views: Float[Tensor, "m c g g"]  # m = 2 n
    local_views: Float[Tensor, "l c s s"]
    label: Int[Tensor, " n"]  # treatment
    domain: Int[Tensor, "2 n"]  # batch of the first and of the second image
    rows: Int[Tensor, " n"] | None = None  # which image, of those trained on, where it is told


class Stored:
    """The images of a store on disk, indexed as a tensor in memory would be."""

    def __init__(self, store):
        self.store = store

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.store.read(rows.cpu().numpy()))


class Chosen:
    """Some rows of images, indexed from 0, of whatever kind the images are."""

    def __init__(self, images, rows: np.ndarray):
        self.images, self.rows = images, torch.from_numpy(rows)

    def __getitem__(self, places: Tensor) -> Tensor:
        return self.images[self.rows[places]]


class PartnerIndex:
    """Draws, for each site, another site of the same treatment from another batch, uniformly.

    One index built once; each draw is three look-ups, whatever the size of the screen.
    """

    def __init__(self, treatment: Int[np.ndarray, " n"], batch: Int[np.ndarray, " n"]):
        order = np.lexsort((batch, treatment))
        t, b = treatment[order], batch[order]
        edge = np.flatnonzero(np.r_[True, (t[1:] != t[:-1]) | (b[1:] != b[:-1]), True])
        cell = np.repeat(np.arange(len(edge) - 1), np.diff(edge))
        t_edge = np.flatnonzero(np.r_[True, t[1:] != t[:-1], True])
        t_cell = np.repeat(np.arange(len(t_edge) - 1), np.diff(t_edge))
        self.order = order
        self.start, self.stop = np.empty((2, len(t)), int)  # of the treatment, in sorted order
        self.own, self.own_count = np.empty((2, len(t)), int)  # of the (treatment, batch) block
        self.start[order], self.stop[order] = t_edge[t_cell], t_edge[t_cell + 1]
        self.own[order], self.own_count[order] = edge[cell], np.diff(edge)[cell]
        self.others = self.stop - self.start - self.own_count
        if (self.others == 0).any():
            alone = np.unique(treatment[self.others == 0])
            raise InputError(
                f"{len(alone)} of {len(np.unique(treatment))} treatments occur in one batch only, "
                "so they have no partner in another batch. Leave them out, or train with a method "
                "that needs no pairs (dino, supervised)."
            )

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A partner for each of ``rows``: same treatment, never the same batch."""
        place = self.start[rows] + rng.integers(self.others[rows])
        return self.order[np.where(place >= self.own[rows], place + self.own_count[rows], place)]


class Minibatches:
    """Minibatch number ``step`` of an endless, shuffled stream; the same step, the same sites.

    ``images`` is indexed by the rows of ``rows``: a uint8 tensor in memory, or anything whose
    ``images[rows]`` gives one. ``partner`` is "self" (two crops of one image) or "other_batch".
    ``size`` counts the minibatch of all processes that train together; see `share`.
    """

    def __init__(
        self, images, rows, label, domain, plate, normaliser: Normaliser, views: ViewsConfig,
        *, size: int, partner: str = "self", seed: int = 0,
    ):  # fmt: skip
        if len(rows) < size:
            raise InputError(f"{len(rows)} training images are fewer than a minibatch of {size}")
        self.images, self.rows = images, np.asarray(rows)
        self.label, self.domain, self.plate = label, domain, plate
        self.normaliser, self.views, self.size, self.seed = normaliser, views, size, seed
        self.pairs = PartnerIndex(label, domain) if partner == "other_batch" else None
        self.per_epoch = len(rows) // size
        self.share(0, 1)

    def share(self, rank: int, ranks: int) -> None:
        """Give this process its share of every minibatch: number ``rank`` of ``ranks`` equal ones.

        One after the other the shares are the minibatch of one process, whatever their number.
        """
        if self.size % ranks:
            raise InputError(
                f"A minibatch of {self.size} cannot be shared equally by {ranks} processes: choose "
                f"a minibatch that {ranks} divides, such as {-(-self.size // ranks) * ranks}."
            )
        n = self.size // ranks
        self.part = slice(rank * n, (rank + 1) * n)

    def draw(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions [n] of the anchors of this step and of their partners, of all processes."""
        epoch, k = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, 5, epoch]).permutation(len(self.rows))
        anchor = order[k * self.size : (k + 1) * self.size]
        if self.pairs is None:
            return anchor, anchor
        return anchor, self.pairs.draw(anchor, np.random.default_rng([self.seed, 6, step]))

    def __call__(self, step: int, device) -> Minibatch:
        both = np.stack(self.draw(step))[:, self.part]  # 2 n
        images = self.images[torch.from_numpy(self.rows[both.ravel()])].to(device)  # 2n c y x
        first, second = images.chunk(2)
        plates = torch.from_numpy(self.plate[both]).to(device)
        global_, local = multi_crop(first, second, plates, self.normaliser, self.views)
        label = torch.from_numpy(self.label[both[0]]).to(device)
        return Minibatch(global_, local, label, torch.from_numpy(self.domain[both]).to(device))

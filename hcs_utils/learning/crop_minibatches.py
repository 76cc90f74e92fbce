"""Which crops a method without labels sees at each step, and how: two views of each."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hcs_utils.errors import InputError
from hcs_utils.learning.minibatches import Minibatch, Minibatches
from hcs_utils.learning.qc_views import QCViews, qc_view
from hcs_utils.learning.views import Normaliser, colour


class CropMinibatches(Minibatches):
    """Minibatch number ``step`` of an endless, shuffled stream of crops; the same step, the same.

    ``images`` is indexed by the rows of ``rows``; ``plate``, for each of ``rows``, is its row of
    ``normaliser``. No label is read: a minibatch's ``label`` and ``domain`` are the plate. Its
    ``rows`` are positions in ``rows``. An epoch leaves out the crops that fill no minibatch, others
    each time. ``size`` counts the minibatch of all processes that train together; see `share`.
    """

    def __init__(
        self, images, rows, plate, normaliser: Normaliser, views: QCViews | None = None,
        *, size: int, seed: int = 0,
    ):  # fmt: skip
        self.rows, self.plate = np.asarray(rows), np.asarray(plate)
        if size < 2:
            raise InputError(f"A minibatch of {size} has nothing to compare: choose 2 or more.")
        if len(self.rows) < size:
            raise InputError(
                f"{len(self.rows)} crops to train on are fewer than a minibatch of {size}. Take "
                "more plates or crops a field, or a smaller minibatch."
            )
        if len(self.plate) != len(self.rows):
            raise InputError(
                f"{len(self.plate)} plates were given for {len(self.rows)} crops: one for each."
            )
        self.images, self.normaliser, self.views = images, normaliser, views or QCViews()
        self.label = self.domain = self.plate
        self.size, self.seed, self.pairs = size, seed, None
        self.per_epoch = len(self.rows) // size
        self.order = (-1, np.empty(0, np.int64))  # epoch, and the positions in its order
        self.share(0, 1)

    def draw(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions [n] of the crops of this step, of all processes; an epoch is shuffled once."""
        epoch, k = divmod(step, self.per_epoch)
        if self.order[0] != epoch:
            rng = np.random.default_rng([self.seed, 5, epoch])
            self.order = epoch, rng.permutation(len(self.rows))
        anchor = self.order[1][k * self.size : (k + 1) * self.size]
        return anchor, anchor

    def plain(self, places: np.ndarray, device) -> Float[Tensor, "n c y x"]:
        """The crops at these positions in ``rows`` as they are stored, normalised by plate."""
        crops = self.images[torch.from_numpy(self.rows[places])].to(device)
        plate = torch.from_numpy(self.plate[places]).to(device)
        return colour(crops.float(), plate, self.normaliser)

    def __call__(self, step: int, device) -> Minibatch:
        own = self.draw(step)[0][self.part]
        crops = self.images[torch.from_numpy(self.rows[own])].to(device)  # n c y x
        if crops.shape[-1] != crops.shape[-2]:
            raise InputError(
                f"Crops are {crops.shape[-2]}×{crops.shape[-1]} px, but turning needs squares."
            )
        plate = torch.from_numpy(self.plate[own]).to(device)
        views = torch.cat([qc_view(crops, self.views) for _ in range(2)])
        views = colour(views, plate.repeat(2), self.normaliser)
        return Minibatch(
            views, views[:0], plate, plate.repeat(2, 1), torch.from_numpy(own).to(device)
        )

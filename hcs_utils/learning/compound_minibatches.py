"""Compounds with several views of their wells: the minibatch of the cross-modal methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hcs_utils.errors import InputError
from hcs_utils.learning.views import Normaliser, ViewsConfig, colour, crop

PREFER = ("source", "batch", "plate")  # what views differ in first; wells come last, always
_SHOWN = 10  # compounds named in one message


@dataclass
class CompoundMinibatch:
    """N compounds, each with one molecule and M views: crops of fields of M wells."""

    images: Float[Tensor, "nm c g g"]  # compound by compound: its M views are neighbours
    molecules: Any  # N molecules, as the molecule encoder takes them: a Batch, or bits [n b]
    views: int  # M
    label: Int[Tensor, " n"]  # compound
    domain: Int[Tensor, "n m"]  # batch of each view


@dataclass(frozen=True)
class WellViews:
    """What the views of a compound are: how many, as different as they can be, cut how."""

    crops: ViewsConfig
    count: int = 3  # M; EMM/IMM: 3 released
    prefer: tuple[str, ...] = PREFER
    repeat: str = "refuse"  # "resample": wells again where a compound has fewer than views


class ViewIndex:
    """Draws M fields of each compound from as many sources as it has, then batches, then wells.

    `levels` names the groups of fields, the coarsest first; the last is the well. View by view,
    the coarsest level that still has an unused group gives one of these, each with equal chance,
    and in it a field with equal chance. So no draw could have more sources; none with as many
    sources could have more batches; and so on. Where no well is unused ("resample"), an unused
    field is drawn, and any field where there is none.

    Tables are built once; a view is a few look-ups for all compounds, however large the screen.
    """

    def __init__(self, compound: Int[np.ndarray, " f"], levels: Sequence[np.ndarray]):
        keys = [_codes(level).astype(np.int32) for level in levels]
        self.order = np.lexsort((*keys[::-1], compound))  # by compound, then from coarse to fine
        own = compound[self.order]
        new = np.r_[True, own[1:] != own[:-1]]
        start = np.flatnonzero(new)
        self.compounds = own[start]  # their codes, in rising order
        group, edges = [], []
        for key in keys:
            key = key[self.order]
            new[1:] |= key[1:] != key[:-1]  # a group lies in one group of each coarser level
            group.append(np.cumsum(new, dtype=np.int32) - 1)
            edges.append(np.r_[np.flatnonzero(new), len(own)].astype(np.int32))
        group.append(np.arange(len(own), dtype=np.int32))  # each field by itself
        edges.append(np.arange(len(own) + 1, dtype=np.int32))
        self.group = np.stack(group)  # of each field, at each level
        self.edge = np.concatenate(edges)  # where groups begin, level after level
        self.offset = np.cumsum([0, *(len(edge) for edge in edges[:-1])])
        self.first = self.group[:, start]  # group of each compound's first field
        last = np.r_[start[1:], len(own)] - 1
        self.count = self.group[:, last] - self.first + 1  # groups of each compound
        self.wells, self.fields = self.count[-2], self.count[-1]

    def draw(
        self, places: Int[np.ndarray, " n"], views: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "n {views}"]:
        """Fields, as positions in what the index was built of, of the compounds at `places`."""
        count, first = self.count[:, places], self.first[:, places]
        drawn = np.empty((len(places), views), np.int64)
        for k in range(views):
            enough = count > k
            level = np.where(enough.any(0), enough.argmax(0), len(count) - 1)
            at = np.arange(len(places))
            used = np.sort(self.group[level[:, None], drawn[:, :k]] - first[level, at][:, None])
            left = count[level, at] - k
            chosen = rng.integers(np.where(left > 0, left, count[level, at]))
            for taken in used.T:  # pass over what is used, the lowest first
                chosen += (chosen >= taken) & (left > 0)
            edge = self.offset[level] + first[level, at] + chosen
            begin, end = self.edge[edge], self.edge[edge + 1]
            drawn[:, k] = begin + rng.integers(end - begin)
        return self.order[drawn]


class CompoundMinibatches:
    """Minibatch number `step` of an endless, shuffled stream of compounds; no compound twice.

    `rows` are those of `images` to learn from; `compound` codes each of them, and `levels` holds
    source, batch, plate and well of each (well: unique within its plate); `plate` is the row of
    `normaliser` of every image. `molecules[codes]` gives the molecules of compounds (`Graphs` or
    `Fingerprints`), with `molecule_of` the row of each code where that differs. An error calls a
    compound `names[code]`, where given.

    A compound with fewer wells than views raises `InputError`, unless ``views.repeat`` is
    "resample": then wells are drawn again, as the released code does with images of a batch.
    `size`, in compounds, is that of all processes that train together; see `share`.
    """

    def __init__(
        self, images, rows, compound, levels: Mapping[str, np.ndarray], plate,
        normaliser: Normaliser, views: WellViews, molecules, molecule_of=None,
        *, compounds: int, seed: int = 0, names=None,
    ):  # fmt: skip
        self.images, self.rows = images, np.asarray(rows)
        self.label, self.domain = np.asarray(compound), np.asarray(levels["batch"])
        self.plate, self.normaliser, self.views = plate, normaliser, views
        self.molecules, self.molecule_of = molecules, molecule_of
        self.size, self.seed = compounds, seed
        known = (*PREFER, "well")
        if unknown := [name for name in views.prefer if name not in known]:
            raise InputError(f"prefer names {unknown[0]!r}; there are: {', '.join(known)}.")
        if views.repeat not in ("refuse", "resample"):
            raise InputError(f"repeat is {views.repeat!r}; choose 'refuse' or 'resample'.")
        plates, wells = _codes(levels["plate"]), _codes(levels["well"])
        wells = plates * (wells.max(initial=0) + 1) + wells
        self.index = ViewIndex(
            self.label, [*(levels[name] for name in views.prefer if name != "well"), wells]
        )
        self._check(names)
        self.per_epoch = len(self.index.compounds) // compounds
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))  # of one epoch
        self.share(0, 1)

    def _check(self, names) -> None:
        count, m = len(self.index.compounds), self.views.count
        if self.size < 2 or m < 1:
            raise InputError(
                f"A minibatch of {self.size} compounds with {m} views is none to learn from: take "
                "two compounds or more, and one view or more."
            )
        if count < self.size:
            raise InputError(
                f"{count} training compounds are fewer than a minibatch of {self.size}: choose "
                f"compounds={max(2, count // 2)} or fewer."
            )
        few = self.index.compounds[self.index.wells < m]
        if len(few) and self.views.repeat == "refuse":
            named = ", ".join(str(c if names is None else names[c]) for c in few[:_SHOWN])
            raise InputError(
                f"{len(few)} of {count} compounds have fewer wells than the {m} views asked of "
                f"each: {named}{', …' if len(few) > _SHOWN else ''}. Leave them out, choose "
                f"views={self.index.wells.min()}, or repeat='resample', which shows wells twice."
            )

    def share(self, rank: int, ranks: int) -> None:
        """Give this process its share of every minibatch: number `rank` of `ranks` equal ones.

        One after the other the shares are the minibatch of one process, whatever their number.
        """
        if self.size % ranks:
            raise InputError(
                f"A minibatch of {self.size} compounds cannot be shared equally by {ranks} "
                f"processes: choose one that {ranks} divides, such as "
                f"{-(-self.size // ranks) * ranks}."
            )
        n = self.size // ranks
        self.part = slice(rank * n, (rank + 1) * n)

    def draw(self, step: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, "n m"]]:
        """Codes of this step's compounds and positions of their views, of all processes."""
        epoch, k = divmod(step, self.per_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 15, epoch])
            self._order = epoch, rng.permutation(len(self.index.compounds))
        places = self._order[1][k * self.size : (k + 1) * self.size]
        rng = np.random.default_rng([self.seed, 16, step])
        return self.index.compounds[places], self.index.draw(places, self.views.count, rng)

    def __call__(self, step: int, device) -> CompoundMinibatch:
        compound, position = (drawn[self.part] for drawn in self.draw(step))
        rows, crops = self.rows[position].ravel(), self.views.crops
        images = crop(
            self.images[torch.from_numpy(rows)].to(device), crops.global_size, crops.global_scale
        )
        plate = torch.from_numpy(self.plate[rows]).to(device)
        seen = colour(images, plate, self.normaliser, crops)
        of = compound if self.molecule_of is None else self.molecule_of[compound]
        molecules = self.molecules[torch.from_numpy(of)].to(device)
        label, domain = (torch.from_numpy(x).to(device) for x in (compound, self.domain[position]))
        return CompoundMinibatch(seen, molecules, self.views.count, label, domain)


def _codes(values) -> np.ndarray:
    return pd.factorize(np.asarray(values), sort=True)[0]

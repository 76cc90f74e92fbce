"""Compounds with several views of their wells: the minibatch of the cross-modal methods."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class CompoundMinibatch:
    """N compounds, each with one molecule and M views: crops of fields of M wells."""

    images: Float[Tensor, "nm c g g"]  # compound by compound: its M views are neighbours
    molecules: Any  # N molecules, as the molecule encoder takes them: a Batch, or bits [n b]
    views: int  # M
    label: Int[Tensor, " n"]  # compound
    domain: Int[Tensor, "n m"]  # batch of each view

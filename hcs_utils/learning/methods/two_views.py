"""Two views through one encoder and one projector: what quality control's methods share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hcs_utils.learning.methods.centers import all_rows
from hcs_utils.learning.minibatches import Minibatch


def projections(
    encoder: nn.Module, projector: nn.Module, minibatch: Minibatch
) -> Float[Tensor, "2 n k"]:
    """Raw outputs of both views of the images of all processes, in float32 at least.

    The encoder sees both views at once, the projector one at a time: so are their batch norms'
    statistics. A loss of these rows is the same in every process, and is that of one process with
    the joined minibatch. In CPU processes batch norms see only their own share of it.
    """
    z = torch.stack([projector(h) for h in encoder(minibatch.global_views).chunk(2)])
    return all_rows(z.to(torch.promote_types(z.dtype, torch.float32)), 1)


def prototypes_used(scores: Float[Tensor, "2 n k"]) -> Float[Tensor, ""]:
    """How many prototypes are the nearest of any view: 1 where all outputs have become alike."""
    used = torch.zeros(scores.shape[-1], device=scores.device)
    used[scores.detach().argmax(-1).flatten()] = 1
    return used.sum()

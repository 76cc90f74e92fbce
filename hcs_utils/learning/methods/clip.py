"""CLIP between molecules and images (cross-modal paper, 4.3), on which EMM and IMM build."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hcs_utils.errors import InputError
from hcs_utils.learning.compound_minibatches import CompoundMinibatch
from hcs_utils.learning.methods.centers import all_rows
from hcs_utils.learning.methods.contrast import log_ratio
from hcs_utils.learning.methods.sides import check, check_settings, found_first
from hcs_utils.learning.space import Space


@dataclass(frozen=True)
class CLIPConfig:
    """The paper gives no temperature; released values in brackets, fixed there."""

    temperature: float | int = 0.1  # τ, at the start where it is learned [CLIP 0.5, EMM, IMM 1]
    learn_temperature: bool = False
    temperature_min: float | int = 0.01  # bounds of a learned τ, enforced after every step
    temperature_max: float | int = 1.0
    form: str = "paper"  # of the loss, or "released"

    def __post_init__(self):
        check_settings(self)


def clip_loss(
    mol: Float[Tensor, "n d"], img: Float[Tensor, "n d"], temperature: float | int | Tensor,
    form: str = "paper",
) -> Float[Tensor, ""]:  # fmt: skip
    r"""Which image is this molecule's, and which molecule this image's, of N?

    ``paper``: the symmetric InfoNCE that "CLIP" names (the paper writes no equation), with
    :math:`s_{ij} = \cos(u_i^{mol}, u_j^{img})`,

    ```{math}
    -\frac{1}{2N} \sum_i \left[ \log \frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ij}/\tau}}
    + \log \frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ji}/\tau}} \right]
    ```

    ``released``: its second half alone, images asking for molecules, and j ≠ i below the line.
    """
    check(temperature, mol, img)
    mol, img = mol[:, None], img[:, None]
    if form == "released":
        return log_ratio(img, mol, temperature)
    ways = (log_ratio(a, b, temperature, own_below=True) for a, b in ((mol, img), (img, mol)))
    return sum(ways) / 2


class CLIP(nn.Module):
    """A space trained so that a molecule is nearest to the cells it was given to.

    Of several views of a compound CLIP takes the first. The minibatches of all processes are one.
    """

    def __init__(self, space: Space, config: CLIPConfig | None = None):
        super().__init__()
        self.space, self.config = space, config or CLIPConfig()
        self.compounds = self.views = 0  # N and M of the last minibatch
        if self.config.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(self.config.temperature)))

    @property
    def encoder(self) -> Space:
        return self.space

    @property
    def temperature(self) -> float | Tensor:
        learned = self.config.learn_temperature
        return self.log_temperature.exp() if learned else float(self.config.temperature)

    @property
    def trivial_loss(self) -> float:
        """The loss where all outputs are equal; NaN before the first minibatch, whose N counts."""
        others = self.compounds - (self.config.form == "released")
        return math.log(others) if others > 1 else math.nan

    def objective(self, mol: Tensor, img: Tensor) -> Tensor:
        """The loss of molecules [n w] and images [n m w]."""
        return clip_loss(mol, img[:, 0], self.temperature, self.config.form)

    def outputs(self, minibatch: CompoundMinibatch) -> tuple[Tensor, Tensor]:
        """Molecules [n w] and images [n m w] of all processes, in float32 at least."""
        n, m = len(minibatch.label), minibatch.views
        if len(minibatch.images) != n * m:
            raise InputError(
                f"A minibatch of {n} compounds with {m} views each needs {n * m} images, and has "
                f"{len(minibatch.images)}."
            )
        mol, img = self.space.molecules(minibatch.molecules), self.space(minibatch.images)
        kind = torch.promote_types(img.dtype, torch.float32)
        return all_rows(mol.to(kind)), all_rows(img.to(kind).view(n, m, -1))

    def loss(self, minibatch: CompoundMinibatch, progress: float) -> tuple[Tensor, dict]:
        """The loss, and beside it τ and how often, of the N at hand, the right one is nearest."""
        mol, img = self.outputs(minibatch)
        self.compounds, self.views = img.shape[:2]
        with torch.autocast(mol.device.type, enabled=False):
            found = found_first(mol, img[:, 0])
            found["temperature"] = torch.as_tensor(self.temperature).detach().to(mol)
            return self.objective(mol, img), found

    def before_step(self, progress: float) -> None:
        """Nothing is frozen here."""

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """A learned temperature goes back between its bounds."""
        if self.config.learn_temperature:
            low, high = self.config.temperature_min, self.config.temperature_max
            self.log_temperature.clamp_(math.log(low), math.log(high))

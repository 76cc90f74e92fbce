"""EMM: a molecule and several views of its cells, one by one (cross-modal paper, equation 1)."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from hcs_utils.learning.methods.clip import CLIP, CLIPConfig
from hcs_utils.learning.methods.contrast import log_ratio
from hcs_utils.learning.methods.sides import check


@dataclass(frozen=True)
class EMMConfig(CLIPConfig):
    """As CLIP's."""


def emm_loss(
    mol: Float[Tensor, "n d"], img: Float[Tensor, "n m d"], temperature: float | int | Tensor,
    form: str = "paper",
) -> Float[Tensor, ""]:  # fmt: skip
    r"""Are all views of this molecule's cells nearer to it than views of other compounds?

    ``paper`` (equation 1), with :math:`s_{iju} = \cos(u_i^{mol}, u_{ju}^{img})`,

    ```{math}
    -\frac1N \sum_i \log \frac{\sum_u e^{s_{iiu}/\tau}}{\sum_{j \ne i} \sum_u e^{s_{iju}/\tau}}
    ```

    Molecules ask, images do not: one way. The positives are not below the line, so the loss has no
    floor at 0. ``released``: a mean of logs, each view against the same view of others,

    ```{math}
    -\frac{1}{NM} \sum_i \sum_u \log \frac{e^{s_{iiu}/\tau}}{\sum_{j \ne i} e^{s_{iju}/\tau}}
    ```
    """
    check(temperature, mol, img)
    if form == "released":
        views = (log_ratio(mol[:, None], view, temperature) for view in img.split(1, 1))
        return sum(views) / img.shape[1]
    return log_ratio(mol[:, None], img, temperature)


class EMM(CLIP):
    """The space of molecules and several views (extra-modality multiview)."""

    def __init__(self, space, config: EMMConfig | None = None):
        super().__init__(space, config or EMMConfig())

    @property
    def trivial_loss(self) -> float:
        """ln (N − 1) of equal outputs, in both forms; NaN before the first minibatch."""
        return math.log(self.compounds - 1) if self.compounds > 2 else math.nan

    def objective(self, mol: Tensor, img: Tensor) -> Tensor:
        return emm_loss(mol, img, self.temperature, self.config.form)

"""IMM: EMM, and views of one compound pulled together (cross-modal paper, equation 2)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hcs_utils.errors import InputError
from hcs_utils.learning.methods.contrast import log_ratio
from hcs_utils.learning.methods.emm import EMM, EMMConfig, emm_loss
from hcs_utils.learning.methods.sides import check


@dataclass(frozen=True)
class IMMConfig(EMMConfig):
    gamma: float | int = 0.5  # γ, weight of the pairs of images (paper and code)
    pairs: str = "distinct"  # B_M: a ≠ b, or "all" with a = b

    def __post_init__(self):
        super().__post_init__()
        if self.gamma < 0 or self.pairs not in ("distinct", "all"):
            raise InputError(
                f"gamma is {self.gamma} and pairs {self.pairs!r}: gamma must not be below 0, and "
                "pairs is 'distinct' or 'all'."
            )


def imm_loss(
    mol: Float[Tensor, "n d"], img: Float[Tensor, "n m d"], temperature: float | int | Tensor,
    gamma: float | int = 0.5, form: str = "paper", pairs: str = "distinct",
) -> Float[Tensor, ""]:  # fmt: skip
    r"""EMM, and: are views of a compound's cells nearer to each other than to others' views?

    ``paper`` (equation 2), with :math:`t_{ia,jb} = \cos(u_{ia}^{img}, u_{jb}^{img})`,

    ```{math}
    L_{EMM} - \frac{\gamma}{N} \sum_i \log \frac{\sum_{(a,b) \in B_M} e^{t_{ia,ib}/\tau}}
    {\sum_{j \ne i} \sum_{(a,b) \in B_M} e^{t_{ia,jb}/\tau}}
    ```

    The paper's :math:`B_M`, "all possible index pairs", can be read in two ways. ``distinct``:
    ordered, a ≠ b; ``all``: with a = b, where M of the M² own terms are :math:`e^{1/\tau}` whatever
    is learned. ``released``: a sum over the pairs a < b of (molecule, view 1, …, view M), weight 1
    with the molecule and γ without it, of

    ```{math}
    -\frac1N \sum_i \log \frac{e^{t_{ia,ib}/\tau}}{\sum_{j \ne i} e^{t_{ia,jb}/\tau}}
    ```

    That is M times EMM's released form, and its pairs of views are one-way: their order counts.
    """
    check(temperature, mol, img)
    m = img.shape[1]
    if m < 2 and form == "paper" and pairs == "distinct":
        raise InputError(
            "IMM compares views of one compound, and got 1 view. Give two or more, or use EMM."
        )
    if form == "released":
        views = img.split(1, 1)
        ordered = ((a, b) for k, a in enumerate(views) for b in views[k + 1 :])
        within = sum(log_ratio(a, b, temperature) for a, b in ordered)
        return m * emm_loss(mol, img, temperature, form) + gamma * within
    same = torch.eye(m, dtype=torch.bool, device=img.device) if pairs == "distinct" else None
    return emm_loss(mol, img, temperature) + gamma * log_ratio(img, img, temperature, same)


class IMM(EMM):
    """The space of molecules and several views, views among themselves, too (intra-modality)."""

    def __init__(self, space, config: IMMConfig | None = None):
        super().__init__(space, config or IMMConfig())

    @property
    def trivial_loss(self) -> float:
        """EMM's for each of its terms: 1 and γ, or the weights of the released pairs."""
        m, gamma = self.views, float(self.config.gamma)
        paper = self.config.form == "paper"
        return super().trivial_loss * (1 + gamma if paper else m + gamma * m * (m - 1) / 2)

    def objective(self, mol: Tensor, img: Tensor) -> Tensor:
        c = self.config
        return imm_loss(mol, img, self.temperature, c.gamma, c.form, c.pairs)

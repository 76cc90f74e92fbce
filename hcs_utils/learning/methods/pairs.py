"""What DINO's and CDCL's losses share: temperatures, pairs of views, and their terms."""

import torch
from jaxtyping import Float
from torch import Tensor


def cross_entropies(q: Float[Tensor, "t b k"], log_p: Float[Tensor, "v b k"]) -> Tensor:
    """−Σ q log p of each teacher view with each student view, mean over the images [t v]."""
    return -torch.einsum("tbk,vbk->tv", q, log_p) / q.shape[1]


def pair_mask(terms: Float[Tensor, "2 v"], view_pairs: str = "all") -> Float[Tensor, "2 v"]:
    """1 for the pairs a loss is made of, else 0; views ordered as ``views.multi_crop`` says.

    ``all``: a teacher view with every other student view, 14 of eight. ``cross``: with those of
    the other image only, 8 of eight: v0 with v1, v5–7; v1 with v0, v2–4.
    """
    teacher = torch.arange(2, device=terms.device)[:, None]
    student = torch.arange(terms.shape[1], device=terms.device)
    if view_pairs == "cross":  # views by their image: 0, 1, then the local crops of each
        student = torch.where(student < 2, student, 2 * (student - 2) // max(1, len(student) - 2))
    return (teacher != student).to(terms)


def pair_mean(terms: Float[Tensor, "2 v"], view_pairs: str = "all") -> Float[Tensor, ""]:
    """Mean of the terms of those pairs."""
    mask = pair_mask(terms, view_pairs)
    return (terms * mask).sum() / mask.sum()


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of softmax(logits) in nats; ln K when uniform, 0 when one output wins."""
    log_p = torch.log_softmax(logits.detach().float(), -1)
    return -(log_p.exp() * log_p).sum(-1).mean()


def teacher_temperature(config, progress: float) -> float:
    """Linear over the first ``temperature_share`` of training, then constant."""
    start, end = config.teacher_temperature, config.teacher_temperature_end
    if end is None:
        return start
    return start + (end - start) * min(1.0, progress / config.temperature_share)

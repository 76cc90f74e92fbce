"""Slow loops of the cross-modal losses, term by term from the equations and the released code."""

import torch
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a @ a).sqrt() / (b @ b).sqrt()


def log_ratio(above: list[Tensor], below: list[Tensor], tau) -> Tensor:
    """log of a sum of exponentials over another one."""
    up, down = (sum((s / tau).exp() for s in part) for part in (above, below))
    return (up / down).log()


def clip(mol: Tensor, img: Tensor, tau, form: str = "paper") -> Tensor:
    n, total = len(mol), 0.0
    for i in range(n):
        if form == "released":  # NTXent: images ask, the positive is not below the line
            others = [cosine(mol[j], img[i]) for j in range(n) if j != i]
            total = total - log_ratio([cosine(mol[i], img[i])], others, tau)
            continue
        to_image = [cosine(mol[i], img[j]) for j in range(n)]
        to_molecule = [cosine(mol[j], img[i]) for j in range(n)]
        for scores in (to_image, to_molecule):
            total = total - log_ratio([scores[i]], scores, tau) / 2
    return total / n


def emm(mol: Tensor, img: Tensor, tau, form: str = "paper") -> Tensor:
    n, m, total = len(mol), img.shape[1], 0.0
    for i in range(n):
        if form == "paper":  # equation 1
            own = [cosine(mol[i], img[i, u]) for u in range(m)]
            others = [cosine(mol[i], img[j, u]) for j in range(n) if j != i for u in range(m)]
            total = total - log_ratio(own, others, tau)
        else:  # NTXentMultiplePositives
            for u in range(m):
                others = [cosine(mol[i], img[j, u]) for j in range(n) if j != i]
                total = total - log_ratio([cosine(mol[i], img[i, u])], others, tau) / m
    return total / n


def imm(mol, img, tau, gamma=0.5, form: str = "paper", pairs: str = "distinct") -> Tensor:
    n, m = img.shape[:2]
    if form == "released":  # MultiviewIntraModalNTXentLoss
        slots, total = [mol, *img.unbind(1)], 0.0
        for a in range(m + 1):
            for b in range(a + 1, m + 1):
                weight = 1.0 if a == 0 else gamma
                for i in range(n):
                    own = [cosine(slots[a][i], slots[b][i])]
                    others = [cosine(slots[a][i], slots[b][j]) for j in range(n) if j != i]
                    total = total - weight * log_ratio(own, others, tau) / n
        return total
    chosen = [(a, b) for a in range(m) for b in range(m) if pairs == "all" or a != b]
    total = emm(mol, img, tau)  # equation 2
    for i in range(n):
        own = [cosine(img[i, a], img[i, b]) for a, b in chosen]
        others = [cosine(img[i, a], img[j, b]) for j in range(n) if j != i for a, b in chosen]
        total = total - gamma / n * log_ratio(own, others, tau)
    return total


def drawn(seed: int = 0, n: int = 5, m: int = 3, d: int = 4) -> tuple[Tensor, Tensor]:
    """Projections of molecules [n d] and of images [n m d], in double."""
    g = torch.Generator().manual_seed(seed)
    mol = torch.randn(n, d, generator=g, dtype=torch.double)
    return mol, torch.randn(n, m, d, generator=g, dtype=torch.double)


def with_gradients(loss, mol: Tensor, img: Tensor, tau: float) -> tuple[Tensor, ...]:
    """The value, and its gradients by molecules, images and temperature."""
    leaves = [mol.clone().requires_grad_(), img.clone().requires_grad_()]
    leaves.append(torch.tensor(tau, dtype=torch.double, requires_grad=True))
    value = loss(*leaves)
    value.backward()
    return (value.detach(), *(x.grad for x in leaves))

"""Slow loops of the losses, written from the papers with explicit matrices, to check fast code."""

import math

import torch
import torch.nn.functional as F


def softmax(x):
    e = torch.exp(x - x.max())
    return e / e.sum()


def cross_entropy(q, p):
    return -(q * torch.log(p)).sum()


def pairs(views, which="all"):
    """(teacher view, student view): each of the two global views with every other view."""
    if which == "cross":  # facts A3: teacher v0 with v1, v5–7; teacher v1 with v0, v2–4
        return {2: [(0, 1), (1, 0)], 8: [(0, 1), *((0, j) for j in (5, 6, 7)),
                                         (1, 0), *((1, j) for j in (2, 3, 4))]}[views]  # fmt: skip
    return [(i, j) for i in (0, 1) for j in range(views) if i != j]


def dino(teacher, student, centre, teacher_temperature, student_temperature, which="all"):
    """Mean over pairs and images of the cross-entropy; one centre for all images."""
    terms = []
    for i, j in pairs(len(student), which):
        for b in range(student.shape[1]):
            q = softmax((teacher[i, b] - centre) / teacher_temperature)
            terms.append(cross_entropy(q, softmax(student[j, b] / student_temperature)))
    return sum(terms) / len(terms)


def one_hot(domain, domains, dtype):
    return torch.stack([(torch.arange(domains) == d).to(dtype) for d in domain])


def correlation(a, b):
    """R [k k] of two outputs [b k], each column through a batch norm without affine part."""
    a, b = (F.batch_norm(x, None, None, training=True, eps=1e-5) for x in (a, b))
    return a.T @ b / len(a)


def barlow_paper(a, b, alpha):
    r, total = correlation(a, b), 0
    for i in range(len(r)):
        others = torch.cat([r[i, :i], r[i, i + 1 :]])
        total = total + (1 - r[i, i]) ** 2 + alpha * (others**2).sum()
    return total


def barlow_released(a, b, weight=0.95):
    r = correlation(a, b)
    eye = torch.eye(len(r), dtype=torch.bool)
    on = ((r[eye] - 1) ** 2).mean()
    off = (r[~eye] ** 2).mean()
    return ((1 - weight) * on + weight * off) / ((1 - weight) + weight / 100)


def cdcl(
    student, teacher, domain, centres, form, weight_dino=0.25, weight=0.95,
    student_temperature=0.1, teacher_temperature=0.04, which="all",
):  # fmt: skip
    """λ L_DINO + (1 − λ) L_Barlow, a centre for each domain, picked by a one-hot product."""
    k, n = student.shape[-1], student.shape[1]
    dino_terms, barlow_terms = [], []
    for i, j in pairs(len(student), which):
        own = one_hot(domain[i], len(centres), teacher.dtype) @ centres
        t, s = (teacher[i] - own) / teacher_temperature, student[j] / student_temperature
        q, p = (torch.stack([softmax(row) for row in x]) for x in (t, s))
        entropy = sum(cross_entropy(q[b], p[b]) for b in range(n)) / n
        if form == "released":
            dino_terms.append(entropy / math.log(k))
            barlow_terms.append(barlow_released(t, s, weight))
        else:
            dino_terms.append(entropy)
            barlow_terms.append(barlow_paper(q, p, weight / ((1 - weight) * (k - 1))))
    count = len(dino_terms) if form == "released" else 1  # means, or the paper's sums
    return (weight_dino * sum(dino_terms) + (1 - weight_dino) * sum(barlow_terms)) / count


def temperature(step, steps, epochs=200, warmup=10, start=0.04, end=0.07):
    """Of the teacher at a step, as the released code reads it from a list of epochs."""
    epoch = step * epochs / steps
    return start + (end - start) * epoch / warmup if epoch < warmup else end


def update_centres(centres, teacher, domain, form, frequencies, momentum=0.9):
    """New centres [d k], one domain after the other, from teacher rows [b k]."""
    new = centres.clone()
    if form == "one":  # a single centre, all rows alike
        return momentum * new + (1 - momentum) * sum(teacher) / len(teacher)
    total = sum(frequencies)
    for d in range(len(centres)):
        rows = [teacher[i] for i in range(len(teacher)) if int(domain[i]) == d]
        if not rows:
            continue
        gain = 1 - momentum
        if form == "released":
            gain = gain * (len(rows) / len(teacher)) / (frequencies[d] / total)
        new[d] = centres[d] * (1 - gain) + gain * sum(rows) / len(rows)
    return new

"""Classifiers put upon an encoder: a linear one on its features, or one that trains it on."""

import copy
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import nn

from hcs_utils.data.store import Store
from hcs_utils.errors import InputError
from hcs_utils.evaluation.checks import listed
from hcs_utils.evaluation.classification import scores
from hcs_utils.evaluation.neighbours import checked_features, checked_labels
from hcs_utils.learning import train, views
from hcs_utils.learning.minibatches import Stored

GRID = tuple(10.0**k for k in range(-4, 3))  # of C, the inverse weight of the penalty


@dataclass(frozen=True)
class ProbeConfig:
    """How a head, or a head and its encoder, are trained; the defaults fine-tune as QC does."""

    epochs: int = 50
    minibatch: int = 32  # QC gives it for the linear probe only
    learning_rate: float = 1e-3
    momentum: float = 0.9
    milestones: tuple[int, ...] = (25, 40)  # epochs after which the rate is 0.1 of what it was
    weight_decay: float = 0.0
    optimiser: str = "sgd"  # or "adamw": warm-up and cosine as train.fit, gradients cut at 3.0
    balanced: bool = True  # classes weigh the same in the loss, however many sites each has


QC_FINETUNE = ProbeConfig()  # QC paper, section 3.3, item 3
QC_LINEAR = ProbeConfig(epochs=150, milestones=(40, 70, 120))  # the same, item 2
# CDCL tells neither length nor optimiser of the MoA fine-tuning in its table 2a; these are those of
# its pre-training as released, the number of epochs is our guess.
CDCL_MOA = ProbeConfig(50, 92, 7e-4, 0.9, (), 4e-3, "adamw", balanced=False)


@dataclass
class Probe:
    """A trained probe: its `scores` on the query and what they come from."""

    scores: dict[str, float]
    predicted: np.ndarray  # label of each row of the query
    share: np.ndarray  # [m, c] of each class
    classes: np.ndarray  # [c]
    log: pd.DataFrame  # an epoch a row: loss, accuracy on the bank, learning_rate
    encoder: nn.Module  # trained on, where it was not frozen; the one given is not changed
    head: nn.Linear


def linear_probe(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    query: ArrayLike,
    query_labels: ArrayLike,
    groups: ArrayLike | None = None,
    form: str = "tuned",
    seed: int = 0,
) -> dict[str, float]:
    """Logistic regression on frozen features: `classification.scores` on the query, and `c`.

    "tuned": features scaled by mean and deviation of the bank, classes weighing the same, C chosen
    from `GRID` by the balanced accuracy of up to five folds inside the bank, of whole `groups`
    (well or batch of each row of the bank; rows without it). The query is never looked at.
    "crossmodal": as that paper's code, C = 1, no scaling, no weights. At most 1,000 iterations.
    Features `[n, d]`, `[m, d]`; raises `InputError` for one class, or one the bank has not.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    bank, query = checked_features(bank, "bank"), checked_features(query, "query")
    if query.shape[1:] != bank.shape[1:]:
        raise InputError(f"The bank has {bank.shape[1]} features and the query {query.shape[1]}.")
    labels = checked_labels(bank_labels, bank, "bank_labels")
    truth = checked_labels(query_labels, query, "query_labels")
    _known_classes(labels, truth)
    if form not in ("tuned", "crossmodal"):
        raise InputError(f'form must be "tuned" or "crossmodal", got {form!r}.')

    def model(c):
        if form == "crossmodal":
            return LogisticRegression(C=c, max_iter=1000)
        weighted = LogisticRegression(C=c, max_iter=1000, class_weight="balanced")
        return make_pipeline(StandardScaler(), weighted)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=_not_converged())
        c = 1.0 if form == "crossmodal" else _best_c(model, bank, labels, groups, seed)
        fitted = model(c).fit(bank, labels)
    share = fitted.predict_proba(query)
    return scores(truth, fitted.predict(query), share, fitted.classes_) | {"c": c}


def finetune(
    encoder: nn.Module,
    images,
    label: ArrayLike,
    bank: ArrayLike,
    query: ArrayLike,
    *,
    plate: np.ndarray,
    normaliser: views.Normaliser,
    channels: tuple[str, ...],
    size: int,
    config: ProbeConfig | None = None,
    frozen: bool = False,
    seed: int = 0,
) -> Probe:
    """Train a linear layer, and unless `frozen` a copy of `encoder` with it, to name `label`.

    `images` is a store, or uint8 `[n c y x]`; `label` `[n]`; `bank`, `query` are row numbers or
    masks; `plate`, `normaliser`, `channels`, `size` as for `embed`. Training sees a random square
    of `size` px, flipped and turned; frozen features and the query are of the middle square.
    Without `config`: `QC_FINETUNE`, or `QC_LINEAR` if frozen. Same seed, same result on a CPU.
    Raises `InputError` for channels of another model, one class, or one that the bank has not.
    Source: QC paper, section 3.3, which names no augmentation here.
    """
    if tuple(channels) != tuple(encoder.channels):
        raise InputError(
            f"The images have the channels {list(channels)}, the encoder was made for "
            f"{list(encoder.channels)}. Name and order must agree: map them in the screen's file."
        )
    config = config or (QC_LINEAR if frozen else QC_FINETUNE)
    label = np.asarray(label)
    bank, query = _rows(bank, "bank", len(label)), _rows(query, "query", len(label))
    used = np.concatenate([bank, query])
    checked_labels(label[used], used, "label")
    _known_classes(label[bank], label[query])
    twice = np.intersect1d(bank, query)
    if len(twice):
        raise InputError(
            f"{len(twice)} rows are in bank and query: {listed([str(r) for r in twice])}. Split by "
            "whole wells or batches."
        )
    classes, code = np.unique(label[bank], return_inverse=True)
    device = next(encoder.parameters()).device
    images = Stored(images) if isinstance(images, Store) else images
    normaliser, plates = normaliser.to(device), torch.as_tensor(plate, device=device)

    def pixels(rows, cut=views.centre):
        rows = torch.as_tensor(rows)
        crops = cut(images[rows].to(device), size)
        return views.colour(crops, plates[rows.to(device)], normaliser)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = copy.deepcopy(encoder)
        head = nn.Linear(encoder.num_features, len(classes)).to(device)
        truth = torch.as_tensor(code, device=device)
        if frozen:
            h = _features(network, lambda rows: pixels(bank[rows]), len(bank))
            log = train_head(head, lambda rows: h[rows], truth, config, seed)
        else:
            both = nn.Sequential(network, head)
            log = train_head(both, lambda rows: pixels(bank[rows], views.crop), truth, config, seed)
    with torch.no_grad():
        h = _features(network, lambda rows: pixels(query[rows]), len(query))
        share = head(h).double().softmax(1).cpu().numpy()
    predicted = classes[share.argmax(axis=1)]
    found = scores(label[query], predicted, share, classes)
    return Probe(found, predicted, share, classes, log, network, head)


def train_head(module: nn.Module, inputs, code, config: ProbeConfig, seed: int) -> pd.DataFrame:
    """Train `module` on `inputs(rows)`, in minibatches of the rows of `code`, by cross-entropy.

    An epoch shuffles all rows; minibatches are of nearly the same size, so that none is a lone row.
    Returns the log, an epoch a row. A loss that is not finite raises `InputError`.
    """
    count = torch.bincount(code).float()
    weight = len(code) / (len(count) * count) if config.balanced else None
    parts = max(1, math.ceil(len(code) / config.minibatch))
    optimizer, rate = _optimizer(module, config, parts)
    module.train()
    log = []
    for epoch in range(config.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(code))
        loss_sum, right = 0.0, 0
        for number, rows in enumerate(np.array_split(order, parts)):
            optimizer.param_groups[0]["lr"] = rate(epoch, epoch * parts + number)
            truth = code[rows]
            logits = module(inputs(rows))
            loss = F.cross_entropy(logits, truth, weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.optimiser == "adamw":
                nn.utils.clip_grad_norm_(module.parameters(), 3.0)
            optimizer.step()
            loss_sum += float(loss.detach()) * len(rows)
            right += int((logits.argmax(1) == truth).sum())
        row = {"epoch": epoch + 1, "loss": loss_sum / len(code), "accuracy": right / len(code)}
        if not math.isfinite(row["loss"]):
            raise InputError(
                f"The loss is {row['loss']} in epoch {epoch + 1}: give a learning_rate below "
                f"{config.learning_rate}, or features and pixels of a smaller scale."
            )
        log.append(row | {"learning_rate": optimizer.param_groups[0]["lr"]})
    module.eval()
    return pd.DataFrame(log)


def _optimizer(module: nn.Module, config: ProbeConfig, parts: int):
    """The optimiser, and its learning rate by epoch and step."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        sgd = torch.optim.SGD(module.parameters(), rate, config.momentum, weight_decay=decay)
        return sgd, lambda epoch, step: rate * 0.1 ** sum(epoch >= m for m in config.milestones)
    if config.optimiser != "adamw":
        raise InputError(f'optimiser must be "sgd" or "adamw", got {config.optimiser!r}.')
    schedule = train.TrainConfig(steps=config.epochs * parts, learning_rate=rate)
    adamw = torch.optim.AdamW(module.parameters(), rate, weight_decay=decay)
    return adamw, lambda epoch, step: train.learning_rate(schedule, step)


@torch.no_grad()
def _features(network: nn.Module, inputs, count: int, minibatch: int = 512) -> torch.Tensor:
    network.eval()
    parts = [slice(start, start + minibatch) for start in range(0, count, minibatch)]
    return torch.cat([network(inputs(rows)).float() for rows in parts])


def _best_c(model, bank, labels, groups, seed: int) -> float:
    """The C with the highest mean over folds, the smallest of several."""
    from sklearn.metrics import recall_score
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else checked_labels(groups, bank, "groups")
    names, code = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"All rows of the bank belong to one group ({names[0]}), so C cannot be chosen by "
            'groups; give a finer one, such as the well, or form="crossmodal".'
        )
    most = int(np.unique(labels, return_counts=True)[1].max())
    if most < 2:
        raise InputError(
            "No label of the bank stands on two rows, so C cannot be chosen inside the bank; give "
            'more rows, or form="crossmodal".'
        )
    count = min(5, len(names), most)
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        pairs = list(folds.split(bank, labels, code))
    pairs = [(a, b) for a, b in pairs if len(np.unique(labels[a])) > 1 and len(b)]
    mean = np.zeros(len(GRID))
    for k, c in enumerate(GRID):
        for fit, test in pairs:
            found = model(c).fit(bank[fit], labels[fit]).predict(bank[test])
            asked = np.unique(labels[test])
            mean[k] += recall_score(
                labels[test], found, labels=asked, average="macro", zero_division=0
            )
    return GRID[int(mean.argmax())]


def _known_classes(bank: np.ndarray, query: np.ndarray) -> None:
    classes = np.unique(bank)
    if len(classes) < 2:
        raise InputError(f"The bank has one class only ({classes[0]}); nothing can be learned.")
    absent = np.setdiff1d(np.unique(query), classes)
    if len(absent):
        raise InputError(
            f"The bank has {len(bank)} rows of {len(classes)} classes; {len(absent)} of the query "
            f"are not among them: {listed([str(c) for c in absent])}. Label at least one row "
            "of each, or leave those rows out of the query."
        )


def _rows(rows: ArrayLike, name: str, n: int) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.dtype == bool and rows.shape == (n,):
        rows = np.flatnonzero(rows)
    whole = rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer)
    if not whole or not rows.size or rows.min() < 0 or rows.max() >= n:
        raise InputError(
            f"{name} must be a mask [{n}], or row numbers from 0 to {n - 1}, and hold at least one "
            f"row; got {rows.dtype} of shape {rows.shape}."
        )
    return rows


def _not_converged():
    from sklearn.exceptions import ConvergenceWarning

    return ConvergenceWarning

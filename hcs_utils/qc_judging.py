"""What an encoder for quality control is judged by: three tasks, few labels, each drawn anew."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import nn

from hcs_utils.data import label_draws
from hcs_utils.errors import InputError
from hcs_utils.evaluation import abnormal
from hcs_utils.judging import Scores
from hcs_utils.learning.embed import embed, features
from hcs_utils.learning.views import Normaliser

FROZEN = {
    "knn": abnormal.knn_scores,
    "linear": abnormal.linear_scores,
    "logistic": abnormal.logistic_scores,
}
TASKS = (*FROZEN, "finetuned")
METRICS = ("accuracy", "f1", "auc")
_FARTHEST = 10.0  # sd: where a scaled feature ends
_STEPS = 32  # labels an optimiser step; QC paper, section 3.3


@runtime_checkable
class Asked(Protocol):
    """What of a run's settings the judgement reads."""

    label_budgets: tuple[int, ...]
    draws: int
    null_draws: int
    feature_scale: str
    linear_epochs: int
    linear_rate: float
    finetune_epochs: int
    finetune_steps: int
    finetune_optimizer: str
    finetune_rate: float
    precision: str
    seed: int


@dataclass
class Question:
    """Crops in memory, what is true of them, which may be labelled and which are judged.

    `asked` names groups of rows: "" the test plates' (the names of its metrics have no prefix),
    "shift" another cell line's, "val" the validation plates'. No group shares a plate with `pool`.
    """

    images: torch.Tensor  # uint8 [n c y x]
    plate: np.ndarray  # [n] row of the normaliser
    normaliser: Normaliser
    channels: tuple[str, ...]
    abnormal: np.ndarray  # [n] bool
    field: np.ndarray  # [n] of which crops are one whole: numbers
    fault: np.ndarray  # [n] "" of a normal crop, else what is wrong, or "abnormal"
    pool: np.ndarray  # rows that labels are drawn from
    asked: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        judged = np.unique(np.concatenate([*self.asked.values()]))
        if len(both := np.intersect1d(self.pool, judged)):
            raise InputError(
                f"{len(both)} crops may be labelled and are judged, too: split by whole plates."
            )

    @cached_property
    def names(self) -> np.ndarray:
        return np.arange(len(self.abnormal)).astype(str)

    def drawn(self, budget: int, draws: int, seed: int) -> np.ndarray:
        """Rows [draws budget] that get a label, half of them abnormal."""
        return np.stack([
            label_draws.draw(self.abnormal, self.field, self.pool, budget, 1000 * seed + draw)
            for draw in range(draws)
        ])  # fmt: skip


def judge(network: nn.Module | None, question: Question, settings: Asked) -> Scores:
    """Every metric of a run, by name; `network` None is the classical measures of image quality.

    ``<task>_<metric>_<budget>`` for the tasks knn, linear (the paper's layer), logistic (until it
    converges) and finetuned (not of measures), the metrics accuracy, f1 and auc, and each number of
    labels: means over the draws, intervals over draws and fields (`abnormal.intervals`). Beside
    them ``<task>_accuracy_sd_<budget>`` and ``…_worst_…`` over draws; ``<task>_accuracy_null_…``,
    labels shuffled; ``shift_…`` on the other cell line and ``val_…`` on validation plates, both of
    the most labels; ``recall_<fault>_<task>_<budget>`` at the threshold of 0.5, for the most and
    the fewest labels, with `normal` for the specificity. ``shift_<task>_accuracy_minibatches_…``
    is `abnormal.by_minibatches`. `chance` is a coin's.
    """
    scores: Scores = {"chance": 0.5, "judged": float(len(question.asked[""]))}
    scores |= frozen(scaled(measured(network, question), question, settings), question, settings)
    return scores if network is None else scores | finetuned(network, question, settings)


def measured(network: nn.Module | None, question: Question) -> np.ndarray:
    """Features [n d] of every crop: the encoder's, or the measures of image quality."""
    if network is None:
        from hcs_utils.data import image_quality

        table = image_quality.measures(question.images.numpy(), question.channels)
        return table.to_numpy(float)
    return features(embed(
        network, question.images, question.names, question.plate, question.normaliser,
        min(question.images.shape[-2:]), question.channels,
    ))  # fmt: skip


def scaled(x: np.ndarray, question: Question, settings: Asked) -> np.ndarray:
    """Features scaled by mean and sd of the crops that may be labelled; no label is read.

    "standard" ends at 10 sd and makes NaN the mean; "none" leaves them as they are.
    """
    if settings.feature_scale == "none":
        return x
    known = x[question.pool]
    mean, sd = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    varied = sd > 1e-9 * np.maximum(1e-3, np.abs(mean))
    if not varied.any():
        raise InputError("All crops have the same features: the encoder has collapsed.")
    x = np.nan_to_num((x - mean)[:, varied] / sd[varied], posinf=_FARTHEST, neginf=-_FARTHEST)
    return np.clip(x, -_FARTHEST, _FARTHEST)


def frozen(x: np.ndarray, question: Question, settings: Asked) -> Scores:
    """k-NN and both linear layers on features [n d] that stay as they are; see `judge`."""
    scores: Scores = {}
    for budget, parts in _budgets(question, settings):
        rows = question.drawn(budget, settings.draws, settings.seed)
        labels = question.abnormal[rows]
        query = np.concatenate([question.asked[part] for part in parts])
        for task, of in FROZEN.items():
            options = {}
            if task == "linear":
                options = {"epochs": settings.linear_epochs, "rate": settings.linear_rate}
            found = of(x, rows, labels, x[query], **options)
            null = None
            if task != "logistic":
                wrong = abnormal.shuffled(labels, settings.seed)
                null = of(x, rows, wrong, x[question.asked[""]], **options)
            scores |= _said(task, budget, found, null, question, settings)
    return scores


def finetuned(network: nn.Module, question: Question, settings: Asked) -> Scores:
    """A linear layer and the encoder trained on together, anew for each draw; see `judge`."""
    scores: Scores = {}
    for budget, parts in _budgets(question, settings):
        rows = question.drawn(budget, settings.draws, settings.seed)
        labels = question.abnormal[rows]
        query = np.concatenate([question.asked[part] for part in parts])
        found = finetuned_scores(network, question, rows, labels, query, settings)
        null = None
        if few := min(settings.null_draws, settings.draws):
            wrong = abnormal.shuffled(labels[:few], settings.seed)
            test = question.asked[""]
            null = finetuned_scores(network, question, rows[:few], wrong, test, settings)
        scores |= _said("finetuned", budget, found, null, question, settings)
    return scores


def finetuned_scores(
    network: nn.Module,
    question: Question,
    rows: np.ndarray,
    labels: np.ndarray,
    query: np.ndarray,
    settings: Asked,
) -> np.ndarray:
    """Probability [r m] that each row of `query` is abnormal, by an encoder trained on each draw.

    `rows`, `labels` `[r, b]`. See `evaluation.probes.finetune`; a draw begins from `network`.
    """
    from hcs_utils.evaluation import probes

    config, found = schedule(rows.shape[1], settings), np.empty((len(rows), len(query)))
    network = _Halved(network, settings.precision)
    named = np.where(question.abnormal, "yes", "no")
    for draw, (chosen, label) in enumerate(zip(rows, labels, strict=True)):
        named[chosen] = np.where(label, "yes", "no")
        probe = probes.finetune(
            network, question.images, named, chosen, query, plate=question.plate,
            normaliser=question.normaliser, channels=question.channels,
            size=min(question.images.shape[-2:]), config=config, seed=1000 * settings.seed + draw,
        )  # fmt: skip
        found[draw] = probe.share[:, 1]  # of no, yes
        named[chosen] = np.where(question.abnormal[chosen], "yes", "no")
    return found


def schedule(budget: int, settings: Asked):
    """How long the encoder is trained on, in epochs: the paper's, or as many steps as are allowed.

    The rate falls at the same shares of the epochs as the paper's: 25 and 40 of 50.
    """
    from hcs_utils.evaluation.probes import ProbeConfig

    epochs, parts = settings.finetune_epochs, math.ceil(budget / _STEPS)
    if settings.finetune_steps:
        epochs = min(epochs, math.ceil(settings.finetune_steps / parts))
    falls = (math.ceil(epochs * 0.5), math.ceil(epochs * 0.8))
    decay = 1e-4 if settings.finetune_optimizer == "adamw" else 0.0
    return ProbeConfig(
        epochs, _STEPS, settings.finetune_rate, 0.9, falls, decay, settings.finetune_optimizer,
        balanced=False,
    )  # fmt: skip


class _Halved(nn.Module):
    """An encoder whose arithmetic is of 16 bits where the settings' is; its answers are float32."""

    def __init__(self, network: nn.Module, precision: str):
        super().__init__()
        self.network, self.channels = network, network.channels
        self.num_features, self.on = network.num_features, precision != "32-true"

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.on):
            return self.network(x).float()


def _budgets(question: Question, settings: Asked) -> Iterator[tuple[int, list[str]]]:
    """Each number of labels, and the groups that are judged by so many: of the most labels, all."""
    first = settings.label_budgets[0]
    for budget in settings.label_budgets:
        yield budget, [part for part in question.asked if not part or budget == first]


def _said(
    task: str,
    budget: int,
    found: np.ndarray,
    null: np.ndarray | None,
    question: Question,
    settings: Asked,
) -> Scores:
    """Metrics by name, of scores [r m] of the groups judged by so many labels, in their order."""
    scores, budgets, start = {}, settings.label_budgets, 0
    for part, rows in question.asked.items():
        if part and budget != budgets[0]:
            continue
        own = found[:, start : start + len(rows)]
        start += len(rows)
        truth, unit = question.abnormal[rows], question.field[rows]
        prefix = f"{part}_" if part else ""
        got = abnormal.intervals(truth, own, unit, seed=settings.seed)
        scores |= {f"{prefix}{task}_{name}_{budget}": got[name] for name in METRICS}
        accuracy = abnormal.measures(truth, own)["accuracy"]
        sd = float(accuracy.std(ddof=1)) if len(accuracy) > 1 else math.nan
        scores[f"{prefix}{task}_accuracy_sd_{budget}"] = sd
        scores[f"{prefix}{task}_accuracy_worst_{budget}"] = float(accuracy.min())
        if part == "shift":
            batched = abnormal.by_minibatches(truth, own, seed=settings.seed)
            scores[f"shift_{task}_accuracy_minibatches_{budget}"] = float(batched.mean())
        if not part and budget in (budgets[0], budgets[-1]) and task != "logistic":
            each = abnormal.recalls(own, question.fault[rows], unit, seed=settings.seed)
            scores |= {f"recall_{name}_{task}_{budget}": value for name, value in each.items()}
    if null is not None:
        rows = question.asked[""]
        got = abnormal.intervals(question.abnormal[rows], null, question.field[rows])
        scores[f"{task}_accuracy_null_{budget}"] = got["accuracy"]
    return scores


def counts(question: Question) -> pd.DataFrame:
    """How many crops of each fault ("normal" first) may be labelled and are judged."""
    groups = {"may be labelled": question.pool} | {
        {"": "test"}.get(part, part): rows for part, rows in question.asked.items()
    }
    named = np.where(question.fault == "", "normal", question.fault)
    table = pd.DataFrame(
        {key: pd.Series(named[rows]).value_counts() for key, rows in groups.items()}
    )
    order = ["normal", *sorted(set(table.index) - {"normal"})]
    return table.reindex(order).fillna(0).astype(int)

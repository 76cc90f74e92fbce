"""What the vital signs of a run mean: by rules with stated thresholds, the first that holds."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

from hcs_utils.errors import InputError

DEAD = 0.01  # sd of a dimension, where 1 fills the sphere: what rounding and one field can make
SETTLED = 50  # steps: batch norm's running means keep 0.9**50 = 0.5 % of their first values
Rule = tuple[str, Callable[[Mapping[str, float]], bool], str]

# The first rule that holds is the verdict. A sign that is not there is NaN, and fires no rule.
# Every threshold lies in a gap: what runs on the simulated screen showed (tiny encoder,
# 100 to 300 steps) stands after it as healthy | broken, and chapter 04 shows the runs.
RULES: tuple[Rule, ...] = (
    (
        "too early",
        lambda s: s["step"] < SETTLED,
        f"fewer than {SETTLED} steps: the network's running means still hold their first values",
    ),
    (
        "constant",
        lambda s: s["spread"] < DEAD,  # 0.16 and above | 0.002
        "all fields get the same features. Lower learning_rate; see that weight_decay is small, "
        "that images are no empty squares, and, for a method without pairs of opposites, that the "
        "teacher follows slowly (momentum_start) and is centred",
    ),
    (
        "low rank",
        lambda s: s["rank_share"] < 0.05,  # 0.28 and above | 0.03 and below
        "features lie on a few lines: one direction in twenty is in use. Lower learning_rate or "
        "weight_decay; give a Barlow or variance term more weight",
    ),
    (
        "dead dimensions",
        lambda s: s["dead_share"] > 0.5,  # 0.06 and below | 0.8 and above
        "most dimensions are the same for all fields: their units have died. Lower learning_rate, "
        "lengthen the warm-up, keep clip_norm; begin again, dead units do not come back",
    ),
    (
        "one prototype",
        lambda s: s["said"] < 0.02 and s["sample_entropy"] < 0.9,  # 0.04 and above | 0
        "the teacher gives every field the same answer, so that views agree for nothing. See that "
        "the centre is updated (center_momentum below 1); raise teacher_temperature",
    ),
    (
        "uniform teacher",
        lambda s: s["said"] < 0.02,
        "the teacher prefers no output, so the student has nothing to copy. Lower "
        "teacher_temperature; if it is low already, go on for longer or lower learning_rate",
    ),
    (
        "cheated loss",  # from the log alone
        lambda s: s["loss"] < 0.05 * s["trivial_loss"] and s["teacher_entropy"] < 0.05,
        "the loss is near 0 while the teacher says one thing: it may say it of all fields. "
        "See that the centre is updated; examine the features",
    ),
    (
        "not learning",
        lambda s: s["loss"] > 0.98 * s["trivial_loss"],
        "the loss is that of a network which says nothing. Train for longer; else change "
        "learning_rate by a factor of three, both ways",
    ),
    (
        "no agreement",
        lambda s: s["agreement"] < 0.03,  # 0.08 and above | 0: chance
        "two crops of one field have other neighbours: the features follow the crop, not the "
        "field. Train for longer, or with larger crops",
    ),
    (
        "batch lock",
        lambda s: (
            s["batch_shared"] > max(0.05, 2 * s["treatment_shared"])
        ),  # 0.04 | 0.1, raw pixels
        "the features are in health and tell the batch, not the treatment: the microscope's day. "
        "Normalise by controls (image_norm), or pair fields across batches (dino_cb, cdcl)",
    ),
)


def verdict(log) -> tuple[str, str]:
    """Name and advice: ("healthy", …), or the first of `RULES` that holds.

    ``log``: one dict of signs, or the rows of a log (a list of dicts, or a DataFrame), of which
    the last value of each sign counts, and of the noisy loss the mean of the last five.
    """
    s = _last(log)
    s["said"] = s["marginal_entropy"] - s["sample_entropy"]  # mutual information over ln K
    for name, holds, advice in RULES:
        if holds(s):
            return name, advice
    return "healthy", "none of the known ways to collapse; whether it is useful, only k-NN can say"


def _last(log) -> defaultdict:
    rows = log.to_dict("records") if hasattr(log, "to_dict") else log
    rows = [rows] if isinstance(rows, Mapping) else list(rows)
    if not rows:
        raise InputError("The log is empty: nothing was logged before the run ended.")
    found = defaultdict(lambda: math.nan)
    for row in rows:
        found |= {k: float(v) for k, v in row.items() if v is not None and not math.isnan(v)}
    losses = [row["loss"] for row in rows[-5:] if "loss" in row]
    if losses:
        found["loss"] = sum(losses) / len(losses)
    return found


def trivial_loss(name: str, size: int, **settings) -> float:
    r"""The loss of a network that has learned nothing, whatever its input.

    ``size`` is C, K or N. ``supervised``: ln C, each class 1/C (label smoothing changes nothing,
    the target still sums to 1). ``dino``: ln K; student outputs that are equal give 1/K each, and
    :math:`-\sum_k q_k \ln(1/K) = \ln K` for any q. ``barlow``: K, as constant columns correlate
    with nothing (R = 0), and 1 in the form "released" before its factor (1−w) / ((1−w) + w/100).
    ``cdcl``: λ · DINO + (1−λ) · Barlow of those, summed over the 2(V−1) pairs of ``views`` V, or
    the V of ``view_pairs`` "cross", in the form "paper"; in "released" their means, DINO over ln K.
    ``barlow_independent``: columns that have nothing in common have :math:`E[R_{kl}^2] = 1/(B-1)`
    for a ``minibatch`` of B, so K + (K + αK(K−1)) / (B−1). ``clip``: ln N, all N candidates alike.
    ``byol``: 2 − 2·0 = 2 for independent directions; constant ones reach 0, its least: there a low
    loss proves nothing.
    """
    w, form = settings.get("off_diagonal", 0.95), settings.get("form", "paper")
    if name in ("supervised", "dino", "clip"):
        return math.log(size)
    if name == "byol":
        return 2.0
    if name == "barlow_independent":
        many = settings["minibatch"]
        return size + size * (1 + w / (1 - w)) / (many - 1)
    barlow = float(size) if form == "paper" else (1 - w) / ((1 - w) + w / 100)
    if name == "barlow":
        return barlow
    if name == "cdcl":
        share = settings.get("weight_dino", 0.25)
        if form == "released":
            return share + (1 - share) * barlow
        views = settings.get("views", 8)
        pairs = views if settings.get("view_pairs") == "cross" else 2 * (views - 1)
        return pairs * (share * math.log(size) + (1 - share) * barlow)
    raise InputError(
        f"no trivial loss is known for {name!r}; there are supervised, dino, cdcl, barlow, "
        "barlow_independent, clip and byol."
    )

"""Ten labels: quality control of your own screen from a few clicks, as plain functions.

The state of a session is a table of crops, a matrix of features and a file of answers; everything
else follows from them. So a session that is begun again goes on where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from hcs_utils.data import columns, image_quality, quality
from hcs_utils.data.labels import ABNORMAL, LABELS, NORMAL, LabelFile
from hcs_utils.data.manifest import nearest
from hcs_utils.data.store import Store
from hcs_utils.errors import InputError
from hcs_utils.evaluation import suggestions
from hcs_utils.evaluation.figures import composite
from hcs_utils.evaluation.suggestions import MODELS

FILE = "labels.csv"
_AT_ONCE = 1024  # crops measured together
HOW = ("informative", "random")
_NEEDED = ("site_id", "parent", "plate", "well")


@dataclass(frozen=True)
class Session:
    """Crops to judge, what is known of each, and the answers given so far (on the disk)."""

    folder: Path
    crops: pd.DataFrame  # with site_id, parent (the field's), plate, well
    x: Float[np.ndarray, "n d"]  # standardised features, row by row
    z: Float[np.ndarray, "n k"]  # their first principal components, to tell like from unlike
    labels: LabelFile
    seed: int = 0  # of random suggestions


def begin(
    folder: str | Path, crops: pd.DataFrame, features: pd.DataFrame | np.ndarray, seed: int = 0
) -> Session:
    """Begin to judge crops, or go on where the answers in `folder` end.

    `crops`: `site_id` of the crop, `parent` (that of its field), `plate`, `well`; see
    `qc_crops.read`. `features`: a row a crop, measures of image quality or an encoder's embedding;
    a table with the column `site_id` is joined by it. Each feature is centred by its median and
    scaled by its quartiles, cut off at ±5; a missing value is the median, a constant says nothing.

    Raises `InputError` for columns that lack, crops named twice, features that do not fit, and
    answers in `folder` about crops that are not these.
    """
    lacking = [name for name in _NEEDED if name not in crops]
    if lacking or crops.empty:
        what = f"lacks {', '.join(lacking)}" if lacking else "has no rows"
        raise InputError(f"The table of crops {what}; it needs {', '.join(_NEEDED)}, a row a crop.")
    crops = crops.reset_index(drop=True)
    twice = crops["site_id"][columns.repeated(crops["site_id"])].unique().tolist()
    if twice:
        raise InputError(
            f"{len(twice)} crops are there more than once, such as {', '.join(twice[:5])}: an "
            "answer would be of which? Name each crop once."
        )
    x = suggestions.standardised(_matrix(crops, features))
    labels = LabelFile(Path(folder) / FILE)
    known = labels.history()["site_id"]
    strange = known[~known.isin(crops["site_id"])].unique().tolist()
    if strange:
        raise InputError(
            f"{labels.path} has answers about {len(strange)} crops that are not among these "
            f"{len(crops)}, such as {', '.join(strange[:5])}. Give the crops that they are about, "
            "or another folder for these."
        )
    return Session(Path(folder), crops, x, suggestions.principal(x), labels, seed)


def suggest(session: Session, n: int = 6, how: str = "informative") -> list[str]:
    """The `site_id` of the next crops to look at, fewer than `n` where fewer have no answer.

    "informative": first *farthest-first*, a crop of the middle and then each time the one least
    like all before (in five principal components), as faults are unlike one another; once both
    labels are there, farthest-first among the half of the crops about which `scores` is least sure.
    "random": by lot, from the seed; what the gain is measured against. A field gives its second
    crop only when all gave one.
    """
    if how not in HOW:
        raise InputError(f"how is {how!r}; choose one of {', '.join(HOW)}.")
    answered = session.crops["site_id"].isin(session.labels.standing()["site_id"]).to_numpy()
    free, done = np.flatnonzero(~answered), np.flatnonzero(answered)
    n = min(n, len(free))
    field = pd.factorize(session.crops["parent"])[0]
    if how == "random":
        rng = np.random.default_rng([session.seed, len(done)])
        order = rng.permutation(free)
        order = order[np.argsort(np.isin(field[order], field[done]), kind="stable")]
        return session.crops["site_id"].iloc[order[:n]].tolist()
    if session.labels.table()["label"].nunique() == 2:
        unsure = np.abs(_probability(session, "logistic")[free] - 0.5)
        free = free[np.argsort(unsure, kind="stable")[: max(n, len(free) // 2)]]
    rows = suggestions.farthest_first(session.z, free, done, field, n)
    return session.crops["site_id"].iloc[rows].tolist()


def answer(session: Session, site_id: str, label: str, who: str = "") -> None:
    """Keep one answer, "normal" or "abnormal", about a crop; on return it is on the disk."""
    _check_known(session, site_id)
    session.labels.answer(site_id, label, who)


def answer_by(session: Session, truth: pd.Series, count: int, how: str = "informative") -> None:
    """Answer from a table of truth in place of a person, until `count` crops have a label.

    `truth`: True where a crop is abnormal, by its `site_id`; six suggestions at a time.
    """
    while (given := len(session.labels.table())) < count:
        asked = suggest(session, min(6, count - given), how)
        if not asked:
            raise InputError(f"There are {given} crops to answer about, fewer than {count}.")
        for site_id in asked:
            answer(session, site_id, ABNORMAL if truth[site_id] else NORMAL, who="truth")


def settle(session: Session, site_id: str, label: str, who: str = "") -> None:
    """Answer anew about a crop that was answered before; the answers before no longer count."""
    _check_known(session, site_id)
    session.labels.settle(site_id, label, who)


def so_far(session: Session) -> dict[str, int]:
    """How many crops are normal, abnormal, contradictory, and answered more than once alike."""
    label = session.labels.table()["label"]
    return {
        NORMAL: int(label.eq(NORMAL).sum()),
        ABNORMAL: int(label.eq(ABNORMAL).sum()),
        "contradictory": session.labels.contradictions()["site_id"].nunique(),
        "repeated": session.labels.duplicates()["site_id"].nunique(),
    }


def scores(session: Session, model: str = "logistic") -> pd.DataFrame:
    """Of each crop the probability that it is abnormal (`qc_score`), and its `label` if it has one.

    By logistic regression on the features ("logistic", both classes weighing the same whatever
    their number) or the vote of the 5 nearest labelled crops ("knn"). Where you answered, your
    answer is the score. Contradictory answers teach nothing until they are settled.

    Raises `InputError` with fewer labels than classes, or labels of one class only.
    """
    if model not in MODELS:
        raise InputError(f"model is {model!r}; choose one of {', '.join(MODELS)}.")
    found = session.crops[["site_id"]].copy()
    label = session.labels.table().set_index("site_id")["label"].reindex(found["site_id"])
    found["label"] = label.fillna("").to_numpy(str)
    score = _probability(session, model)
    score = np.where(
        found["label"] == ABNORMAL, 1.0, np.where(found["label"] == NORMAL, 0.0, score)
    )
    return found.assign(qc_score=score)[["site_id", "qc_score", "label"]]


def fields(session: Session, model: str = "logistic") -> pd.DataFrame:
    """Of each field: `site_id`, `plate`, `well`, `crops`, `answered`, and its `qc_score`.

    A field is as bad as its worst crop: a speck of debris lies in one of them. So more crops a
    field, more fields above a score.
    """
    found = scores(session, model)
    crops = session.crops.assign(qc_score=found["qc_score"], answered=found["label"].ne(""))
    by = crops.groupby("parent", sort=False)
    table = by.agg(
        plate=("plate", "first"), well=("well", "first"), crops=("site_id", "size"),
        answered=("answered", "sum"), qc_score=("qc_score", "max"),
    )  # fmt: skip
    return table.rename_axis("site_id").reset_index()


def plate_map(session: Session, at: float | int = 0.5, model: str = "logistic") -> pd.DataFrame:
    """Of each well: `plate`, `well`, its `fields`, and what share of them is `abnormal`.

    A field is abnormal if its `qc_score` is at least `at`.
    """
    table = fields(session, model).assign(abnormal=lambda t: t["qc_score"] >= _checked_at(at))
    by = table.groupby(["plate", "well"])
    return by.agg(fields=("site_id", "size"), abnormal=("abnormal", "mean")).reset_index()


def to_drop(session: Session, at: float | int = 0.5, model: str = "logistic") -> pd.DataFrame:
    """The fields with a `qc_score` of at least `at`, worst first; columns as in `fields`."""
    table = fields(session, model)
    table = table[table["qc_score"] >= _checked_at(at)]
    return table.sort_values("qc_score", ascending=False, kind="stable", ignore_index=True)


def write(
    session: Session, root: str | Path, at: float | int = 0.5, model: str = "logistic"
) -> Path:
    """Keep `qc_flag` (score of at least `at`) and `qc_score` of every field beside the screen.

    `root`: the screen's, as in `prepare.Screen.root`; `prepare` leaves flagged fields out from then
    on. Raises `InputError` while answers contradict each other.
    """
    torn = session.labels.contradictions()["site_id"].unique().tolist()
    if torn:
        raise InputError(
            f"{len(torn)} crops were called normal and abnormal: {', '.join(torn[:5])}. Settle "
            "them first (`settle`)."
        )
    table = fields(session, model)
    table["qc_flag"] = table["qc_score"] >= _checked_at(at)
    return quality.write(root, table[list(quality.COLUMNS)])


def measured(images: Store) -> pd.DataFrame:
    """`site_id` and measures of image quality of every crop of a store, some at a time."""
    rows = np.array_split(np.arange(len(images)), -(-len(images) // _AT_ONCE))
    parts = [image_quality.measures(images.read(part), images.channels) for part in rows]
    return pd.concat(parts, ignore_index=True).assign(site_id=images.site_ids)


def pictures(
    session: Session, images: Store | np.ndarray, site_ids: Sequence[str], least: int = 32
) -> list[UInt8[np.ndarray, "y x 3"]]:
    """Crops as colour pictures: channels red, green and blue as such, others in their own colours.

    `images`: the store of the crops, or an array uint8 [n c y x] in the order of `session.crops`.
    Raises `InputError` where crops are smaller than `least` pixels: too little to judge by.
    """
    side, channels = min(images.shape[-2:]), getattr(images, "channels", ("red", "green", "blue"))
    if side < least:
        raise InputError(
            f"The crops are {images.shape[-2]}×{images.shape[-1]} pixels, smaller than the {least} "
            "asked for, so little of a fault can be seen. Cut larger ones, or ask for less."
        )
    if isinstance(images, Store):
        found = images.read(images.rows(site_ids))
    else:
        if len(images) != len(session.crops):
            raise InputError(f"{len(images)} images do not fit {len(session.crops)} crops.")
        found = images[pd.Index(session.crops["site_id"]).get_indexer(site_ids)]
    if tuple(channels) == ("red", "green", "blue") and found.shape[1] == 3:
        return list(np.moveaxis(found, 1, -1))
    return [composite(image, channels) for image in found]


def _matrix(crops: pd.DataFrame, features: pd.DataFrame | np.ndarray) -> np.ndarray:
    if isinstance(features, pd.DataFrame) and "site_id" in features:
        lacking = crops["site_id"][~crops["site_id"].isin(features["site_id"])].tolist()
        if lacking or features["site_id"].duplicated().any():
            what = (
                f"lack {len(lacking)} crops, such as {lacking[0]}" if lacking else "name one twice"
            )
            raise InputError(f"The features {what}. Give a row of features for each crop.")
        features = features.set_index("site_id").loc[crops["site_id"]]
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(crops) or not values.shape[1]:
        raise InputError(
            f"Features of shape {values.shape} do not fit {len(crops)} crops: give a row a crop."
        )
    return values


def _probability(session: Session, model: str) -> np.ndarray:
    """Of every crop the probability that it is abnormal, from the labels that stand."""
    labels = session.labels.table()
    count = {name: int(labels["label"].eq(name).sum()) for name in LABELS}
    if len(labels) < len(LABELS):
        raise InputError(
            f"There are fewer labels ({len(labels)}) than classes (2): answer about a normal and "
            "an abnormal crop at least."
        )
    if not all(count.values()):
        there = NORMAL if count[NORMAL] else ABNORMAL
        other = ABNORMAL if count[NORMAL] else NORMAL
        raise InputError(
            f"All {len(labels)} labels are {there}: one class only, so there is nothing to tell "
            f"apart. Go on until one crop is {other}."
        )
    rows = pd.Index(session.crops["site_id"]).get_indexer(labels["site_id"])
    y = labels["label"].eq(ABNORMAL).to_numpy()
    return suggestions.probability(session.x, rows, y, model)


def _check_known(session: Session, site_id: str) -> None:
    if not session.crops["site_id"].eq(site_id).any():
        near = nearest(str(site_id), session.crops["site_id"].tolist()[:10_000])
        raise InputError(f"There is no crop {site_id!r} in this session{near}.")


def _checked_at(at: float | int) -> float:
    if not 0 < at <= 1:
        raise InputError(f"at is {at}: give the score to drop from, above 0 and at most 1.")
    return float(at)

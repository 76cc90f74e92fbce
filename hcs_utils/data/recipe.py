"""What a screen's preprocessing is asked for, and the plan that each plate's job reads."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from hcs_utils import files
from hcs_utils.data import formats
from hcs_utils.data import manifest as manifests
from hcs_utils.data.images import map_threads
from hcs_utils.data.manifest import PATH
from hcs_utils.data.sites import Sites, attempt
from hcs_utils.errors import InputError

ILLUM = "illum_"  # prefix of the columns that hold a channel's illumination function
_WORDS = ("source", "batch", "plate")  # in braces in a path to one, besides {channel}
_SMOOTH = 1 / 8  # of the image's shorter side: width of the filter that fits one


@dataclass(frozen=True)
class Recipe:
    """What becomes of every site, in this order; the defaults change only the grey levels."""

    treatment_fields: int = 0  # fields kept of a treated well; 0: all
    control_fields: int = 0  # and of a control well
    seed: int = 0  # which fields
    illumination: str = "none"  # "fit" by plate, or "files": columns illum_<channel>
    crop_px: int = 0  # the central square, in the files' pixels; 0: no cut
    size: int = 0  # side of the stored square, each pixel the mean of its area; 0: as cut
    scale: str = "image"  # or "plate", "screen": whose percentiles become 0 and 255
    low: float | int = 1.0
    high: float | int = 99.0
    form: str = "zarr"  # or "png", "jxl"
    distance: float | int = 0.0  # Butteraugli's, of JPEG-XL; 0: lossless

    def __post_init__(self) -> None:
        """Raise `InputError` naming every setting that cannot be."""
        choices = {"scale": ("image", "plate", "screen"), "illumination": ("none", "fit", "files")}
        choices["form"] = ("zarr", *formats.FORMS)
        wrong = [
            f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}."
            for name, known in choices.items()
            if getattr(self, name) not in known
        ]
        for name in ("treatment_fields", "control_fields", "crop_px", "size"):
            if getattr(self, name) < 0:
                wrong.append(f"{name} is {getattr(self, name)}; give a whole number from 0 up.")
        if not 0 <= self.low < self.high <= 100:
            wrong.append(
                f"Percentiles must satisfy 0 ≤ low < high ≤ 100, not {self.low}, {self.high}."
            )
        if not 0 <= self.distance <= 25 or (self.distance and self.form != "jxl"):
            wrong.append(f"distance is {self.distance}; 0 to 25 with form 'jxl', else 0.")
        if self.scale == "screen" and self.illumination == "fit":
            wrong.append("scale 'screen' is taken before any plate's light is fitted: choose "
                         "scale 'plate' or 'image', or illumination 'files'.")  # fmt: skip
        if wrong:
            raise InputError("\n".join(["This recipe cannot be:", *wrong]))
        for name in ("low", "high", "distance"):
            object.__setattr__(self, name, float(getattr(self, name)))


#: The cross-modal paper's: six fields of a treated well, three of a control, 768² pixels, PNG.
PAPER = Recipe(crop_px=768, scale="image", form="png", treatment_fields=6, control_fields=3)


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """For each name one that any file system takes: no two alike, none that leaves its folder."""
    names = list(dict.fromkeys(names))
    folded = Counter(name.casefold() for name in names)
    plain = {name: re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] for name in names}
    for digits in (8, 16, 64):
        safe = {
            name: short
            if short and short == name and folded[name.casefold()] == 1
            else f"{short or 'x'}-{files.sha256(name.encode())[:digits]}"
            for name, short in plain.items()
        }
        if len({short.casefold() for short in safe.values()}) == len(names):
            break
    return safe


# A plate's sites


class _Rows(Sequence):
    """Columns of a table as a tuple a row, made when it is asked for: a screen has millions."""

    def __init__(self, frame: pd.DataFrame, names: list[str]):
        self.columns = [frame[name] for name in names]

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, row: int) -> tuple[str, ...]:
        return tuple(column.iat[row] for column in self.columns)


def sites_of(frame: pd.DataFrame, asked: dict) -> Sites:
    """The sites of some rows, as the plan's request has them cut, resized and lit."""
    recipe, names = Recipe(**asked["recipe"]), manifests.channels(frame)
    sites = Sites(
        Path(asked["root"]),
        frame["site_id"].tolist(),
        _Rows(frame, [PATH + name for name in names]),
        names,
        crop_px=recipe.crop_px,
        size=recipe.size,
        low=recipe.low,
        high=recipe.high,
    )
    if recipe.illumination == "none":
        return sites
    return replace(
        sites, correct={"fit": _fitted, "files": _filed}[recipe.illumination](sites, frame)
    )


def _fitted(sites: Sites, _: pd.DataFrame) -> Callable[[np.ndarray, int], np.ndarray] | None:
    """What corrects a plate's images by the function fitted to all of them that can be read."""
    from hcs_utils.data import illumination  # takes a second to import, which most jobs can save

    try:
        shape = sites.shape(sites.raw)
    except InputError:  # each site will tell why
        return None
    rows = range(len(sites.site_ids))
    fields = map_threads(lambda row: attempt(sites.raw, row), rows, ahead=4)
    fields = (image for image in fields if not isinstance(image, str) and image.shape == shape)
    function = illumination.fit(fields, min(shape[1:]) * _SMOOTH)
    return lambda image, row: illumination.correct(image, function)


def _filed(sites: Sites, frame: pd.DataFrame) -> Callable[[np.ndarray, int], np.ndarray]:
    """What corrects an image by the files that its row names."""
    from hcs_utils.data import illumination

    base = os.path.realpath(sites.root)
    one = "illum" in frame and ILLUM + sites.channels[0] not in frame
    named = _Rows(frame, ["illum"] if one else [ILLUM + name for name in sites.channels])
    words = _Rows(frame, list(_WORDS))

    @lru_cache(maxsize=4)
    def function(paths: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        for path in paths:
            if not manifests.within(os.path.realpath(os.path.join(base, path)), base):
                raise InputError(f"{path} leaves the screen's folder. Copy the file into it.")
        return np.stack([illumination.load(os.path.join(base, path), shape) for path in paths])

    def correct(image: np.ndarray, row: int) -> np.ndarray:
        paths = named[row] * len(sites.channels) if one else named[row]
        for word, value in zip(_WORDS, words[row], strict=True):
            paths = tuple(path.replace(f"{{{word}}}", value) for path in paths)
        pairs = zip(paths, sites.channels, strict=True)
        paths = tuple(path.replace("{channel}", channel) for path, channel in pairs)
        return illumination.correct(image, function(paths, image.shape[1:]))

    return correct

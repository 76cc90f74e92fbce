"""Sites as image files: PNG or JPEG-XL, a file a channel, in the tree that JUMP's images lie in."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd

from hcs_utils import files
from hcs_utils.errors import InputError

FORMS = ("png", "jxl")
# One pass of Huffman codes over differences to the mean of the pixels to the left and above: on
# microscopy, whose noise holds no repeats to search for, as small as Pillow's default file or
# smaller, and eight to twenty times as fast.
_PNG = {"level": 1, "strategy": 2, "filter": 64}
# Effort (1 … 10): lossless, 2 is the first that makes files smaller than the PNG; lossy, beyond 3
# it takes five times as long for a few per cent.
_EFFORT = {True: 2, False: 3}
_NAME = re.compile(r"[^\s./\\:][^/\\:\0]*")


def encode(plane: np.ndarray, form: str, distance: float | int = 0.0) -> bytes:
    """One plane [y x], uint8, as a PNG or JPEG-XL file.

    `distance` is Butteraugli's, for JPEG-XL: 0 is lossless, 1 hardly visible, up to 25. A PNG is
    always lossless.
    """
    if plane.dtype != np.uint8 or plane.ndim != 2 or 0 in plane.shape:
        raise InputError(f"A plane of y by x in uint8 is needed, not {plane.dtype} {plane.shape}.")
    plane = np.ascontiguousarray(plane)
    if form == "png" and distance == 0:
        return imagecodecs.png_encode(plane, **_PNG)
    if form == "png":
        raise InputError(f"PNG is lossless: distance {distance} is not possible. Use 0, or 'jxl'.")
    if form != "jxl":
        raise InputError(f"form is {form!r}; choose one of {', '.join(map(repr, FORMS))}.")
    if not 0 <= distance <= 25:
        raise InputError(f"distance is {distance}; give 0 (lossless) to 25.")
    if not imagecodecs.JPEGXL.available:
        raise InputError(
            "This imagecodecs was built without JPEG-XL. Install its wheel, or use form 'png'."
        )
    lossless = distance == 0
    options = {"lossless": True} if lossless else {"distance": float(distance)}
    return imagecodecs.jpegxl_encode(plane, effort=_EFFORT[lossless], numthreads=1, **options)


def write_site(
    folder: str | Path,
    stem: str,
    image: np.ndarray,
    channels: Sequence[str],
    form: str,
    distance: float | int = 0.0,
) -> dict[str, str]:
    """Write an image [c y x] uint8 as `{stem}__{channel}.{form}`; the file name of each channel.

    Each file is there whole or not at all if the process is killed; flushing it to disk, against
    a power cut, is left to whoever finishes the folder. The folder is made if need be.
    """
    if len(image) != len(channels):
        raise InputError(f"{stem}: {len(image)} planes do not fit {len(channels)} channels.")
    names = {channel: f"{stem}__{channel}.{form}" for channel in channels}
    if not (stem and all(channels) and all(map(_NAME.fullmatch, names.values()))):
        listed = ", ".join(map(repr, names.values()))
        raise InputError(f"These cannot be names of files: {listed}. Name without '/'.")
    folder = Path(folder)
    for plane, name in zip(image, names.values(), strict=True):
        content = encode(plane, form, distance)
        temporary = folder / f".{name}.{os.getpid()}.part"
        with files.storage_errors(folder / name):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
                os.replace(temporary, folder / name)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    return names


def jump_place(row: Mapping[str, object] | pd.Series) -> tuple[str, str]:
    """Folder and stem of a manifest's row in JUMP's tree, as `gwatkinson/jump_download` has it.

    `{source}/{batch}/{plate}` and `{source}__{plate}__{well}__{site}`.
    """
    parts = {name: str(row[name]) for name in ("source", "batch", "plate", "well", "site")}
    bad = [f"{name} {value!r}" for name, value in parts.items() if not _NAME.fullmatch(value)]
    if bad:
        raise InputError(f"{', '.join(bad)} cannot name a folder or file. Rename without '/'.")
    stem = "__".join(parts[name] for name in ("source", "plate", "well", "site"))
    return "/".join(parts[name] for name in ("source", "batch", "plate")), stem

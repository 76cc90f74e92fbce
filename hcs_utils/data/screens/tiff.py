"""Writes plain 16-bit TIFFs: the smallest file that every reader opens, at little cost."""

import struct
from functools import cache
from pathlib import Path

import numpy as np

_SHORT, _LONG, _RATIONAL = 3, 4, 5


def write(path: Path | str, plane: np.ndarray, pixel_size_um: float | int) -> None:
    """One grey plane [y x] uint16, not compressed, with its resolution (TIFF 6.0, section 4)."""
    if plane.dtype != np.uint16 or plane.ndim != 2:
        raise ValueError(f"a plane [y x] of uint16 is wanted, got {plane.dtype} {plane.shape}")
    with open(path, "wb") as file:
        file.write(_head(*plane.shape, pixel_size_um))
        file.write(np.ascontiguousarray(plane, "<u2"))


@cache
def _head(height: int, width: int, pixel_size_um: float | int) -> bytes:
    entries = [
        (256, _LONG, width), (257, _LONG, height), (258, _SHORT, 16),  # bits a sample
        (259, _SHORT, 1),  # no compression
        (262, _SHORT, 1),  # 0 is black
        (273, _LONG, None),  # where the pixels start
        (277, _SHORT, 1), (278, _LONG, height), (279, _LONG, 2 * height * width),
        (282, _RATIONAL, None), (283, _RATIONAL, None), (296, _SHORT, 3),  # pixels a centimetre
    ]  # fmt: skip
    resolution = 8 + 2 + 12 * len(entries) + 4  # behind the header and the list
    known = {273: resolution + 8, 282: resolution, 283: resolution}
    listed = b"".join(
        struct.pack("<HHI", tag, kind, 1)
        + struct.pack(
            "<HH" if kind == _SHORT else "<I",
            *([value, 0] if kind == _SHORT else [known.get(tag, value)]),
        )
        for tag, kind, value in entries
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + listed + struct.pack("<I", 0)
    return head + struct.pack("<II", round(1e7 / pixel_size_um), 1000)

"""The store: every site of a screen as 8-bit planes in one Zarr v3 group.

`images[site, channel, y, x]` uint8, one zstd chunk a site, sharded; the group's attributes name
the sites, the channels in order, the pixel size, the manifest's hash and the parameters.
"""

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import imagecodecs
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from hcs_utils import __version__, files
from hcs_utils.errors import InputError

FORMAT = 1
_SHARD_SITES = 256
_SHARD_BYTES = 64 << 20  # of pixels, before compression


class Store:
    """A finished store, opened for reading: see `open_store`."""

    def __init__(
        self, path: str | Path, attributes: dict, shape: tuple[int, ...], shard_sites: int
    ):
        self.path = Path(path)
        self.site_ids = np.array(attributes["site_ids"], dtype=str)
        self.channels = tuple(attributes["channels"])
        self.pixel_size_um = attributes["pixel_size_um"]
        self.manifest_sha256 = attributes["manifest_sha256"]
        self.parameters = attributes["parameters"]
        self.failed = [tuple(pair) for pair in attributes["failed"]]
        self.shape = shape
        self._shard_sites = shard_sites
        self._row = {site: row for row, site in enumerate(attributes["site_ids"])}

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, site_ids: Iterable[str]) -> np.ndarray:
        """Row numbers of sites, for `read`; `InputError` naming those that the store has not."""
        site_ids = list(site_ids)
        found = [self._row.get(site, -1) for site in site_ids]
        unknown = [site for site, row in zip(site_ids, found, strict=True) if row < 0]
        if unknown:
            shown = ", ".join(map(str, unknown[:20])) + (" …" if len(unknown) > 20 else "")
            raise InputError(
                f"{self.path} lacks {len(unknown)} of {len(found)} sites: {shown}. They failed in "
                "preprocessing, or belong to another manifest."
            )
        return np.array(found, dtype=np.int64)

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images [n c y x], uint8, of some rows in the order given (repeats allowed)."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise InputError(f"{self.path} has rows 0 to {len(self) - 1}, asked for {rows}.")
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        shard = rows // self._shard_sites
        order = np.argsort(shard, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(shard[order])) + 1) if rows.size else []
        if out.nbytes < 4 << 20:
            for at in parts:
                self._read_shard(rows, at, out)
        else:  # decoding lets other threads run
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                list(pool.map(lambda at: self._read_shard(rows, at, out), parts))
        return out

    def _read_shard(self, rows: np.ndarray, at: np.ndarray, out: np.ndarray) -> None:
        """Fill `out[at]` from the one shard of `rows[at]`; six times as fast as by way of Zarr."""
        number, size = int(rows[at[0]]) // self._shard_sites, self._shard_sites
        path = _shard_path(self.path, number)
        try:
            content, index = _open_shard(path, size)
            for k, row in zip(at.tolist(), (rows[at] % size).tolist(), strict=True):
                start, length = (int(value) for value in index[row])
                imagecodecs.zstd_decode(content[start : start + length], out=out[k].reshape(-1))
        except (OSError, ValueError, RuntimeError) as error:
            raise _damaged(path, self.path, error) from error

    def encoded(self) -> Iterator[memoryview]:
        """The chunk of each site in order, as it lies in the store."""
        size = self._shard_sites
        for number in range(-(-len(self) // size)):
            path = _shard_path(self.path, number)
            try:
                content, index = _open_shard(path, size)
                index = index[: len(self) - number * size]
                if index.sum(0)[1] + 16 * size + 4 != len(content):
                    raise ValueError("it has not the size that its index tells")
                yield from (content[start : start + length] for start, length in index.tolist())
            except (OSError, ValueError) as error:
                raise _damaged(path, self.path, error) from error


def _shard_path(store: Path, number: int) -> Path:
    return store / "images" / "c" / str(number) / "0" / "0" / "0"


def _open_shard(path: Path, size: int) -> tuple[memoryview, np.ndarray]:
    """A shard's bytes, and start and length of each of its `size` chunks."""
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return content, np.frombuffer(content[-(16 * size + 4) : -4], "<u8").reshape(size, 2)


def _damaged(path: Path, store: Path, error: Exception) -> InputError:
    return InputError(
        f"The shard {path} is damaged ({error}). Delete {store} and preprocess again."
    )


def open_store(path: str | Path) -> Store:
    """Open a finished store for reading; `InputError` when there is none at `path`."""
    attributes = read_attributes(path)
    if attributes is None:
        raise InputError(f"There is no finished store at {path}. Preprocess the screen first.")
    images = zarr.open_array(Path(path) / "images", mode="r")
    return Store(path, attributes, images.shape, images.shards[0])


def read_attributes(path: str | Path) -> dict | None:
    """The attributes of a finished store; None when `path` is not one."""
    try:
        group = json.loads((Path(path) / "zarr.json").read_text("utf-8"))
        attributes = group["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return attributes if attributes.get("hcs_utils_format") == FORMAT else None


def refuse_foreign(path: Path) -> None:
    """Raise `InputError` where a store would replace something that is no store of ours."""
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and read_attributes(path) is None:
        raise InputError(f"{path} exists and is no store of this project. Choose another path.")


def create(path: str | Path, sites: int, shape: tuple[int, int, int]) -> zarr.Array:
    """Start a store of at most `sites` images of `shape` [c y x]; write it a shard at a time."""
    shard = max(1, min(_SHARD_SITES, _SHARD_BYTES // int(np.prod(shape))))
    return zarr.create_group(path, overwrite=True).create_array(
        "images",
        shape=(sites, *shape),
        chunks=(1, *shape),
        shards=(shard, *shape),
        dtype="uint8",
        compressors=ZstdCodec(level=1, checksum=True),
        config={"write_empty_chunks": True},  # a file that is missing is then always a fault
        dimension_names=("site", "channel", "y", "x"),
    )


def open_started(path: str | Path, sites: int) -> zarr.Array:
    """The images of a store that `create` started, with room for `sites`."""
    images = zarr.open_array(Path(path) / "images", mode="r+")
    images.resize((sites, *images.shape[1:]))
    return images


def write_shard(images: zarr.Array, start: int, block: np.ndarray) -> None:
    """Write sites [n c y x] from row `start`, which begins a shard."""
    with zarr.config.set({"codec_pipeline.batch_size": 64}):  # twice as fast as one by one
        images[start : start + len(block)] = block


def concatenate(path: str | Path, parts: Sequence[str | Path]) -> int:
    """Start a store at `path` with the sites of finished stores, in order; gives their number.

    Chunks are copied as they are, not decoded; `finish` then names the sites. A shard that is
    there already is kept: the same call goes on where a killed one stopped.
    """
    shape = {open_store(part).shape[1:] for part in parts}
    if len(shape) != 1:
        raise InputError(f"Stores of one image size can be joined, not of {sorted(shape)}.")
    sites = sum(len(open_store(part)) for part in parts)
    path = Path(path)
    if not (path / "images" / "zarr.json").exists():
        create(path, sites, shape.pop())
    size = zarr.open_array(path / "images", mode="r").shards[0]
    chunks = (chunk for part in parts for chunk in open_store(part).encoded())
    for number in range(-(-sites // size)):
        block = list(islice(chunks, size))
        if not (target := _shard_path(path, number)).exists():
            with files.replacing(target) as temporary:
                temporary.write_bytes(_shard(block, size))
    return sites


def _shard(chunks: list[memoryview], size: int) -> bytes:
    """Chunks as the one file that Zarr makes of them: end to end, then where each lies, CRC."""
    index = np.full((size, 2), 2**64 - 1, "<u8")  # no chunk
    lengths = np.array([len(chunk) for chunk in chunks], "<u8")
    index[: len(chunks), 1] = lengths
    index[: len(chunks), 0] = np.cumsum(lengths) - lengths
    return b"".join([*chunks, index.tobytes(), _crc32c(index.tobytes()).to_bytes(4, "little")])


def _crc32c(content: bytes) -> int:
    """Castagnoli's cyclic redundancy check, as Zarr puts it after a shard's index."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [(crc >> 1) ^ (0x82F63B78 if crc & 1 else 0) for crc in table]
    return table


_CRC = _crc_table()


def finish(
    path: str | Path,
    site_ids: Sequence[str],
    channels: Sequence[str],
    *,
    pixel_size_um: float | None = None,
    manifest_sha256: str = "",
    parameters: dict | None = None,
    levels: dict | None = None,
    failed: Sequence[Sequence[str]] = (),
) -> None:
    """Cut a started store to the sites written and name them: only now can it be opened."""
    open_started(path, len(site_ids))
    zarr.open_group(path, mode="r+").attrs.put(
        {
            "hcs_utils_format": FORMAT,
            "hcs_utils_version": __version__,
            "channels": list(channels),
            "pixel_size_um": pixel_size_um,
            "manifest_sha256": manifest_sha256,
            "parameters": parameters or {},
            "levels": levels or {},
            "failed": [list(pair) for pair in failed],
            "site_ids": [str(site) for site in site_ids],
        }
    )


def write_store(
    path: str | Path,
    images: np.ndarray,
    site_ids: Sequence[str],
    channels: Sequence[str],
    **attributes,
) -> Store:
    """Write images [n c y x] uint8 as a store in one go; `attributes` as in `finish`."""
    if images.dtype != np.uint8 or images.shape[:2] != (len(site_ids), len(channels)):
        raise InputError(
            f"A store takes uint8 images [site channel y x]: {len(site_ids)} sites and "
            f"{len(channels)} channels do not fit {images.dtype} {images.shape}."
        )
    refuse_foreign(Path(path))
    with files.replacing(path) as temporary:
        array = create(temporary, len(images), images.shape[1:])
        for start in range(0, len(images), array.shards[0]):
            write_shard(array, start, images[start : start + array.shards[0]])
        finish(temporary, site_ids, channels, **attributes)
    return open_store(path)

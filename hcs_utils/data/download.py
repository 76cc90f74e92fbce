"""One file brought here whole: tried again, gone on with, verified, and only then named."""

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hcs_utils import files
from hcs_utils.data.web import Client, Remote, Reply, Trouble

_STEP = 2**20  # a try that brings this many new bytes (or all) is no lost one


@dataclass(frozen=True)
class Options:
    """How to fetch.

    `retries` counts tries in a row that bring a file no further; the wait before try k is
    `backoff_sec` · 2ᵏ, at most `longest_sec`, times a random factor of 0.5 to 1, and never less
    than the server asks for (up to `longest_sec`).
    """

    workers: int = 8
    retries: int = 6
    timeout_sec: float | int = 60  # without a byte
    backoff_sec: float | int = 1.0
    longest_sec: float | int = 60
    endpoint: str | None = None  # of an S3-compatible store other than Amazon's
    verify: bool = False  # hash the files that are here already, too
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


DEFAULT = Options()


@dataclass(frozen=True)
class Item:
    """A remote file, and its place below the root; sizes and checksums as far as known."""

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None  # hexadecimal, as `md5`
    md5: str | None = None


@dataclass(frozen=True)
class Failure:
    """A file that is not here, and why."""

    item: Item
    reason: str
    passing: bool = False  # later it may work


@dataclass(frozen=True)
class Done:
    """A file that is here; `check`: sha256, md5, size, or none when nothing was known of it."""

    item: Item
    size: int
    check: str


async def persist(attempt: Callable, options: Options, reached: Callable[[], int] = int):
    """Call `attempt` until it succeeds; raise the last `Trouble` when tries are used up.

    `reached` tells how far the file is, in bytes: tries that get further are not counted.
    """
    lost, best = 0, 0
    while True:
        try:
            return await attempt()
        except Trouble as trouble:
            far = reached()
            if far >= best + _STEP:
                lost, best = 0, far
            if not trouble.again:
                raise
            if lost >= options.retries:
                tries = f"{options.retries + 1} tries"
                reason = trouble.reason if not lost else f"{trouble.reason}; {tries}"
                raise Trouble(reason, True, status=trouble.status) from trouble
            wait = min(options.backoff_sec * 2**lost, options.longest_sec)
            wait = max(wait * random.uniform(0.5, 1.0), trouble.wait_sec or 0.0)
            lost += 1
        await options.pause(min(wait, float(options.longest_sec)))


async def bring(
    client: Client,
    item: Item,
    known: Remote | None,
    root: Path,
    options: Options,
    count: Callable[[int], None],
) -> Done | Failure:
    """Fetch one file below `root`; `count` is told the bytes that come (negative: given up)."""
    target, tries, far = root / item.path, 0, 0

    def counted(new: int) -> None:
        nonlocal far
        far += new
        count(new)

    async def attempt() -> Done:
        nonlocal tries
        tries += 1
        remote = known if tries == 1 and known is not None else await client.head(item.url)
        return await _attempt(client, item, remote, target, counted)

    try:
        return await persist(attempt, options, lambda: far)
    except Trouble as trouble:
        return Failure(item, trouble.reason, trouble.again)


async def _attempt(
    client: Client, item: Item, remote: Remote, target: Path, count: Callable[[int], None]
) -> Done:
    if None not in (item.size, remote.size) and item.size != remote.size:
        raise Trouble(f"it has {remote.size} bytes there, and should have {item.size}", False)
    part = part_path(target, item.url, remote)
    with files.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    start, size = usable(part, remote), item.size if item.size is not None else remote.size
    if size is None or start < size or not part.exists():
        try:
            async with client.get(item.url, start) as reply:
                remote = _agreed(remote, reply)
                part = _renamed(part, part_path(target, item.url, remote), reply.start, count)
                await _write(reply, part, count)
        except Trouble as trouble:
            if trouble.status == 416:  # the part is not one of this file
                _drop(part, count)
            raise
        size = item.size if item.size is not None else remote.size
    return await asyncio.to_thread(_finish, item, remote, size, part, target, count)


def _agreed(before: Remote, reply: Reply) -> Remote:
    """What is now known of the file; raises where a part is of another version."""
    now = reply.remote
    if before.version and now.version and before.version != now.version:
        if reply.start:
            raise Trouble("the file changed while it was fetched", True, status=416)
        return now
    if reply.start and before.size is not None and now.size not in (None, before.size):
        raise Trouble("the file changed while it was fetched", True, status=416)
    return Remote(
        before.size if before.size is not None else now.size,
        before.version or now.version,
        now.md5 or before.md5,
        now.sha256 or before.sha256,
    )


def _renamed(old: Path, new: Path, start: int, count: Callable[[int], None]) -> Path:
    if start == 0 and new != old:
        _drop(old, count)
    if start == 0:
        count(-_size(new))  # it is written over
        return new
    return old


async def _write(reply: Reply, part: Path, count: Callable[[int], None]) -> None:
    with files.storage_errors(part):
        file = part.open("r+b" if reply.start else "wb", buffering=0)
    with file:
        file.seek(reply.start)
        async for chunk in reply.chunks:
            with files.storage_errors(part):
                left = memoryview(chunk)
                while left:  # an unbuffered write may take a part only
                    written = file.write(left)
                    left = left[written:]
                    count(written)


def _finish(
    item: Item,
    remote: Remote,
    size: int | None,
    part: Path,
    target: Path,
    count: Callable[[int], None],
) -> Done:
    """Give a file whose size and checksum are right its name; drop wrong bytes."""
    got = part.stat().st_size
    if size is not None and got < size:
        raise Trouble(f"only {got} of {size} bytes came", True)
    if size is not None and got > size:
        _drop(part, count)
        raise Trouble(f"{got} bytes came, {size} were announced", True)
    wanted = checksum(item, remote)
    if wanted is not None and (found := digest(part, wanted[0])) != wanted[1]:
        _drop(part, count)
        raise Trouble(f"wrong bytes: their {wanted[0]} is {found}, not {wanted[1]}", True)
    with files.storage_errors(target):
        files.move_into_place(part, target)
    return Done(item, got, "size" if wanted is None and size is not None else _name(wanted))


def checksum(item: Item, remote: Remote) -> tuple[str, str] | None:
    """Name and value of the checksum to hold a file to: the user's before the server's."""
    for source in (item, remote):
        for name in ("sha256", "md5"):
            if value := getattr(source, name):
                return name, value.lower()
    return None


def _name(wanted: tuple[str, str] | None) -> str:
    return "none" if wanted is None else wanted[0]


def digest(path: Path, name: str) -> str:
    """The sha256 or md5 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(name, usedforsecurity=False)
        ).hexdigest()


def same(target: Path, item: Item, remote: Remote, verify: bool) -> bool:
    """Whether the file here is theirs, by its size; by its checksum too with `verify`."""
    size = item.size if item.size is not None else remote.size
    if not target.is_file() or (size is not None and target.stat().st_size != size):
        return False
    wanted = checksum(item, remote) if verify else None
    return wanted is None or digest(target, wanted[0]) == wanted[1]


def part_path(target: Path, url: str, remote: Remote) -> Path:
    """Where a file is kept while it comes: beside its place, one name for each version of it."""
    key = files.sha256(f"{url} {remote.version} {remote.size}".encode())[:12]
    return target.with_name(f"{_stem(target)}.{key}.part")


def _stem(target: Path) -> str:
    """A hidden name, short enough for any file system, which no other file's part begins with."""
    return f".{target.name[:40]}.{files.sha256(target.name.encode())[:16]}"


def sweep(wanted: dict[Path, Path]) -> int:
    """Remove parts of other versions (`wanted`: place → its part); the bytes that became free."""
    folders: dict[Path, dict[str, str]] = {}
    for target, part in wanted.items():
        folders.setdefault(target.parent, {})[_stem(target)] = part.name
    freed = 0
    for folder, stems in folders.items():
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in [e for e in entries if e.name.endswith(".part")]:
                if stems.get(entry.name.rsplit(".", 2)[0], entry.name) != entry.name:
                    freed += entry.stat().st_size
                    os.unlink(entry.path)
    return freed


def usable(part: Path, remote: Remote) -> int:
    """Bytes of a part that can be gone on with: none unless the server names versions."""
    size = _size(part) if remote.version is not None else 0
    return size if remote.size is None or size <= remote.size else 0


def _drop(part: Path, count: Callable[[int], None]) -> None:
    count(-_size(part))
    part.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0

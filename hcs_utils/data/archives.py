"""Zip archives unpacked below a root: no member leaves it, each is whole or absent."""

import os
import shutil
import stat
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from hcs_utils import files
from hcs_utils.data.download import Done, Failure, Item
from hcs_utils.data.selection import check_paths, some
from hcs_utils.data.transfer import Report, in_units
from hcs_utils.errors import InputError

MOST = 200  # times its own size that an archive may unpack to; images rarely reach 10
_SMALL = 10**9  # bytes below which any ratio is accepted


def unpack(
    archive: str | Path,
    root: str | Path,
    wanted: Callable[[str], bool] | None = None,
    strip: str = "",
    progress: bool = False,
) -> Report:
    """Unpack the members whose place is `wanted`; what is here already, by size, is kept.

    A member's place below `root` is its name, without the leading folders `strip`.

    Each member is held to its CRC-32 and named only when whole; a damaged one is listed as failed
    and the rest is done.

    Raises `InputError` before anything is written when the archive cannot be read, when a member
    would leave `root`, is a link or encrypted, when it would unpack to more than `MOST` times its
    size, or when the disk has not enough room.
    """
    archive, root = Path(archive), Path(root)
    begun = time.monotonic()
    try:
        with zipfile.ZipFile(archive) as source:
            members = [m for m in source.infolist() if not m.is_dir() and not _of_macos(m)]
            _check(archive, members, root, strip)
            places = {m.filename.removeprefix(strip): m for m in members}
            places = {p: m for p, m in places.items() if wanted is None or wanted(p)}
            here = [p for p, m in places.items() if _here(root / p, m)]
            todo = {p: m for p, m in places.items() if not _here(root / p, m)}
            _check_room(list(todo.values()), root)
            bar = tqdm(
                todo.items(),
                f"Unpacking {archive.name}",
                unit="file",
                disable=None if progress else True,
            )
            results = [_member(source, archive, member, root, place) for place, member in bar]
    except FileNotFoundError:
        raise InputError(f"There is no archive {archive}.") from None
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{archive} is no readable zip archive ({error}). Delete it and fetch it again."
        ) from error
    done = [r for r in results if isinstance(r, Done)]
    failed = [r for r in results if isinstance(r, Failure)]
    kept = [_item(archive, places[place], place) for place in here]
    return Report(done, kept, failed, time.monotonic() - begun)


def places(archive: Path, strip: str = "") -> list[str]:
    """Where the files of an archive go, below the folder it is unpacked in."""
    with zipfile.ZipFile(archive) as source:
        members = [m for m in source.infolist() if not m.is_dir() and not _of_macos(m)]
    return [member.filename.removeprefix(strip) for member in members]


def _of_macos(member: zipfile.ZipInfo) -> bool:
    return member.filename.startswith("__MACOSX/")


def _check(archive: Path, members: list[zipfile.ZipInfo], root: Path, strip: str) -> None:
    names = [member.orig_filename.removeprefix(strip) for member in members]
    check_paths(names, root)
    bad = [m.filename for m in members if stat.S_ISLNK(m.external_attr >> 16) or m.flag_bits & 1]
    bad += [name for name, count in Counter(names).items() if count > 1]
    if bad:
        listed = "\n".join(some(bad))
        raise InputError(f"{archive} holds links, encrypted files or a name twice:\n{listed}")
    size, total = archive.stat().st_size, sum(member.file_size for member in members)
    if total > max(MOST * size, _SMALL):
        raise InputError(
            f"{archive} ({in_units(size)}) would unpack to {in_units(total)}, more than {MOST} "
            "times its size: no archive of images does. It was not unpacked."
        )


def _check_room(todo: list[zipfile.ZipInfo], root: Path) -> None:
    folder = Path(os.path.abspath(root))
    while not folder.exists():
        folder = folder.parent
    total, free = sum(m.file_size for m in todo), shutil.disk_usage(folder).free
    if total > free:
        raise InputError(
            f"{in_units(total)} are to be unpacked and {in_units(free)} are free in {root}. "
            "Free some space, or choose another root."
        )


def _here(target: Path, member: zipfile.ZipInfo) -> bool:
    return target.is_file() and target.stat().st_size == member.file_size


def _item(archive: Path, member: zipfile.ZipInfo, place: str) -> Item:
    return Item(f"{archive.name}: {member.filename}", place, member.file_size)


def _member(
    source: zipfile.ZipFile, archive: Path, member: zipfile.ZipInfo, root: Path, place: str
) -> Done | Failure:
    target = root / place
    part = target.with_name(f".{files.sha256(target.name.encode())[:16]}.{os.getpid()}.part")
    item = _item(archive, member, place)
    try:
        with files.storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as packed, open(part, "wb") as file:
                shutil.copyfileobj(packed, file, 2**20)
            if part.stat().st_size != member.file_size:
                return Failure(item, f"damaged: not the {member.file_size} bytes it should be")
            os.replace(
                part, target
            )  # not flushed: the archive is still here, and sizes are checked
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return Failure(item, f"damaged, or packed in a way that is not known: {error}")
    finally:
        part.unlink(missing_ok=True)
    return Done(item, member.file_size, "crc32")

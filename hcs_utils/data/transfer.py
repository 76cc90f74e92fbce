"""Any subset of a screen brought to this disk: stated first, in parallel, resumed, verified."""

import math
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from hcs_utils import files
from hcs_utils.data import download
from hcs_utils.data.download import DEFAULT, Done, Failure, Item, Options, persist
from hcs_utils.data.selection import checked, some
from hcs_utils.data.tasks import each, run
from hcs_utils.data.web import Client, Remote, Trouble, is_s3
from hcs_utils.errors import InputError

_SHOWN = 20  # files named in one message
_LIST_FROM = 20  # wanted files in one S3 folder from which on the folder is listed


@dataclass
class Plan:
    """What a fetch will do; bytes are counted where the server or the item states them."""

    root: Path
    todo: list[tuple[Item, Remote]] = field(default_factory=list)
    present: list[Item] = field(default_factory=list)
    stale: list[Item] = field(default_factory=list)  # here with another size: also in `todo`
    absent: list[Failure] = field(default_factory=list)
    begun_bytes: int = 0  # of files in `todo` that are here in part
    free_bytes: int = 0

    @property
    def files(self) -> int:
        return len(self.todo)

    @property
    def bytes(self) -> int:
        """Bytes still to come, of the files whose size is known."""
        return sum(_size(item, remote) or 0 for item, remote in self.todo) - self.begun_bytes

    @property
    def unknown(self) -> int:
        """Files whose size nobody states."""
        return sum(_size(item, remote) is None for item, remote in self.todo)

    def __str__(self) -> str:
        lines = [f"{self.files} files, {in_units(self.bytes)} to fetch into {self.root}"]
        if self.unknown:
            lines[0] += f", and {self.unknown} of them of a size not stated"
        lines[0] += f"; {in_units(self.free_bytes)} are free there."
        if self.present:
            lines.append(f"{len(self.present)} files are here already and are kept.")
        if self.begun_bytes:
            lines.append(f"{in_units(self.begun_bytes)} of the rest are here in part.")
        if self.stale:
            lines.append(f"{len(self.stale)} files here differ from theirs and are replaced:")
            lines += some(item.path for item in self.stale)
        if self.absent:
            lines.append(f"{len(self.absent)} files cannot be fetched:")
            lines += some(f"{f.item.url}: {f.reason}" for f in self.absent)
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """What a fetch did: every item asked for is in one of `done`, `kept` and `failed`."""

    done: list[Done]
    kept: list[Item]
    failed: list[Failure]
    seconds: float

    def __str__(self) -> str:
        size = sum(d.size for d in self.done)
        lines = [
            f"{len(self.done)} files fetched ({in_units(size)} in {self.seconds:.0f} s), "
            f"{len(self.kept)} kept, {len(self.failed)} failed."
        ]
        checks = [(name, sum(d.check == name for d in self.done)) for name in _CHECKS]
        told = [f"{n} {_CHECKS[name]}" for name, n in checks if n]
        if told:
            lines.append(f"Verified: {', '.join(told)}.")
        if self.failed:
            lines += some(f"{f.item.url}: {f.reason}" for f in self.failed)
            lines.append("The same command goes on where this one stopped.")
        return "\n".join(lines)


_CHECKS = {
    "sha256": "by SHA-256",
    "md5": "by MD5",
    "crc32": "by CRC-32",
    "size": "by size alone (no checksum is offered)",
    "none": "not at all (neither size nor checksum is offered)",
}


def plan(
    items: Iterable[Item],
    root: str | Path,
    options: Options = DEFAULT,
) -> Plan:
    """Ask for sizes and compare with what is here; nothing is written.

    Raises `InputError` for addresses that cannot be asked, for paths that leave `root` or meet,
    and when no server answers.
    """
    root = Path(root)
    items = checked(list(items), root)
    made = Plan(root, free_bytes=_free(root))
    asked = run(_ask(items, root, options))
    for item in items:
        remote, here = asked[item.path], (root / item.path).is_file()
        if isinstance(remote, Failure):
            made.present += [item] if here else []
            made.absent += [] if here else [remote]
        elif download.same(root / item.path, item, remote, options.verify):
            made.present.append(item)
        else:
            made.stale += [item] if here else []
            made.begun_bytes += download.usable(_part(root, item, remote), remote)
            made.todo.append((item, remote))
    return made


def fetch(
    what: Plan | Iterable[Item],
    root: str | Path | None = None,
    options: Options = DEFAULT,
    progress: bool = False,
) -> Report:
    """Bring a plan's files, or items into `root`; stopped, the same call goes on.

    A file has its name only when it is whole and verified. What fails does not stop the rest.

    Raises `InputError` when the disk has not enough room, before or on the way; files that are
    done stay, and so do parts.
    """
    if not isinstance(what, Plan):
        if root is None:
            raise InputError("fetch needs the root to put the files in.")
        what = plan(what, root, options)
    begun = time.monotonic()
    with files.locked(what.root):
        parts = {what.root / item.path: _part(what.root, item, r) for item, r in what.todo}
        free = what.free_bytes + download.sweep(parts)
        if what.bytes > free:
            raise InputError(
                f"{in_units(what.bytes)} are to come and {in_units(free)} are free in "
                f"{what.root}. Free some space, choose another root, or fetch fewer files."
            )
        results = run(_bring_all(what, options, progress))
    done = [r for r in results if isinstance(r, Done)]
    kept = what.present + [r for r in results if isinstance(r, Item)]
    failed = what.absent + [r for r in results if isinstance(r, Failure)]
    return Report(done, kept, failed, time.monotonic() - begun)


def in_units(size: int) -> str:
    """Bytes as people read them, in powers of 1000."""
    power = min(int(math.log10(size) // 3), 5) if size >= 1000 else 0
    return (
        f"{size / 1000**power:.{1 if power else 0}f} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"
    )


async def _ask(items: list[Item], root: Path, options: Options) -> dict[str, Remote | Failure]:
    """What the servers say of each item, by path; S3 folders of many files are listed."""
    told = {i.path: Remote() for i in items if i.size is not None and _here(root, i, options)}
    folders: dict[str, list[Item]] = {}
    for item in items:
        if is_s3(item.url) and item.path not in told:
            folders.setdefault(item.url.rpartition("/")[0], []).append(item)
    many = [folder for folder, wanted in folders.items() if len(wanted) > _LIST_FROM]
    few = replace(options, retries=min(options.retries, 2))
    reached, silent, said = False, 0, ""  # silent: files in a row that no answer came for
    async with Client(options.workers, options.timeout_sec, options.endpoint) as client:

        async def list_one(folder: str) -> None:
            try:
                found = await persist(lambda: client.listing(folder), few)
            except Trouble:
                return  # not every public bucket may be listed: ask file by file
            for item in folders[folder]:
                missing = Failure(item, "404: not there")
                told[item.path] = found.get(item.url, missing)

        async def head_one(item: Item) -> None:
            nonlocal reached, silent, said
            told[item.path] = Remote()
            if silent >= (_giving_up(options) if reached else options.workers):
                return
            try:
                told[item.path] = await persist(lambda: client.head(item.url), few)
                reached, silent = True, 0
            except Trouble as trouble:
                if not trouble.again:
                    told[item.path] = Failure(item, trouble.reason)
                reached |= trouble.status is not None
                silent, said = silent + trouble.again, f"{item.url}: {trouble.reason}"

        await each(list_one, many, options.workers)
        await each(head_one, [i for i in items if i.path not in told], options.workers)
    if silent and not reached:
        raise InputError(f"No server answers. {said}")
    return told


def _giving_up(options: Options) -> int:
    """Files in a row without an answer after which no more are tried."""
    return max(3 * options.workers, 10)


async def _bring_all(made: Plan, options: Options, progress: bool) -> list[Done | Item | Failure]:
    """One result for each item of the plan, in its order; an `Item` was here by now."""
    results: dict[str, Done | Item | Failure] = {}
    broken = 0  # files in a row given up while the server may answer again
    bar = tqdm(
        total=None if made.unknown else made.bytes, unit="B", unit_scale=True, smoothing=0.05,
        disable=None if progress else True, desc=f"0/{made.files} files", dynamic_ncols=True,
    )  # fmt: skip
    async with Client(options.workers, options.timeout_sec, options.endpoint) as client:

        async def one(job: tuple[Item, Remote]) -> None:
            nonlocal broken
            item, remote = job
            if broken >= _giving_up(options):
                reason = "not tried: the server had stopped answering"
                results[item.path] = Failure(item, reason, True)
            elif item not in made.stale and download.same(
                made.root / item.path, item, remote, False
            ):
                results[item.path] = item  # another command has brought it meanwhile
            else:
                result = await download.bring(client, item, remote, made.root, options, bar.update)
                broken = broken + 1 if isinstance(result, Failure) and result.passing else 0
                results[item.path] = result
            bar.set_description_str(f"{len(results)}/{made.files} files", refresh=False)

        with bar:
            await each(one, made.todo, options.workers)
    return [results[item.path] for item, _ in made.todo]


def _here(root: Path, item: Item, options: Options) -> bool:
    return not options.verify and download.same(root / item.path, item, Remote(), False)


def _part(root: Path, item: Item, remote: Remote) -> Path:
    return download.part_path(root / item.path, item.url, remote)


def _size(item: Item, remote: Remote) -> int | None:
    return item.size if item.size is not None else remote.size


def _free(root: Path) -> int:
    folder = Path(os.path.abspath(root))
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free

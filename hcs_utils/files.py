"""Files written whole or not at all, their hashes, and where data lives."""

import errno
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hcs_utils.errors import InputError

try:
    import fcntl
except ImportError:
    fcntl = None

_ADVICE = {
    errno.ENOSPC: "no space is left on the disk; free some, or choose another place with $HCS_DATA",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another place",
    errno.EROFS: "the file system is read-only; choose a place that can be written",
    errno.EACCES: "permission denied; choose a folder you may write to, or change its permissions",
    errno.EPERM: "the system does not permit it; choose a folder you may write to",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another path",
}


@contextmanager
def storage_errors(path: str | Path) -> Iterator[None]:
    """Turn "disk full", "read-only" and "permission denied" into an `InputError` naming `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        raise InputError(f"Cannot write {path}: {_ADVICE[error.errno]}.") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file or folder whole or not at all: yields a temporary sibling to write to.

    On success it is flushed to disk and takes the place of `path`; on any exception it is
    removed and `path` stays as it was.

    Raises `InputError` when the disk is full or the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(temporary)
            yield temporary
            move_into_place(temporary, path)
        except BaseException:
            with suppress(OSError):
                remove(temporary)
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it for this process alone; another waits until it is released."""
    if fcntl is None:  # Windows has no such lock: run one command at a time there
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    while True:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _same(descriptor, folder):  # else the one before has deleted it: once more
                yield
                return
        finally:
            os.close(descriptor)


def _same(descriptor: int, folder: Path) -> bool:
    return folder.exists() and os.path.samestat(os.fstat(descriptor), os.stat(folder))


def move_into_place(temporary: Path, path: Path) -> None:
    """Flush `temporary` (a file or folder) to disk and let it take the place of `path`."""
    _flush(temporary)
    if temporary.is_dir() and path.is_dir():  # a folder cannot be renamed over a full one
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        remove(old)
        path.rename(old)
        temporary.rename(path)
        remove(old)
    else:
        os.replace(temporary, path)
    _fsync(path.parent)


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder; nothing there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        _fsync(file)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot fsync
            raise
    finally:
        os.close(descriptor)


def write_json(path: str | Path, content: dict) -> None:
    """Write a dictionary as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), "utf-8")


def read_json(path: str | Path) -> dict | None:
    """Read a JSON file; None when there is none."""
    return json.loads(Path(path).read_text("utf-8")) if Path(path).exists() else None


def sha256(content: str | Path | bytes) -> str:
    """SHA-256, as 64 hexadecimal digits, of some bytes or of the file at a path."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkout() -> Path | None:
    """The folder of this project's source that we run in or from; None for an installed package."""
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if _is_checkout(folder):
                return folder
    return None


def _is_checkout(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    return project.get("project", {}).get("name") == "hcs-utils"


def data_root() -> Path:
    """Where screens and stores live: `$HCS_DATA`, else `data/` in the checkout or here."""
    if os.environ.get("HCS_DATA"):
        return Path(os.environ["HCS_DATA"]).expanduser()
    return (checkout() or Path.cwd()) / "data"


def shared_data(name: str) -> Path | None:
    """A folder of real data for trials, in `$HCS_SHARED` or `../shared/data`; None where absent."""
    home = checkout()
    root = os.environ.get("HCS_SHARED") or (home and home.parent / "shared" / "data")
    folder = Path(root) / name if root else None
    return folder if folder is not None and folder.is_dir() else None

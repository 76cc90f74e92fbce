"""Which files of a screen are wanted, and where each may lie: the remote side is not trusted."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

import pandas as pd

from hcs_utils.data.download import Item
from hcs_utils.data.manifest import PATH, PLANE, channels, nearest, normalise_wells, text, within
from hcs_utils.data.web import is_s3
from hcs_utils.errors import InputError

URL = "url_"  # prefix of columns that hold a channel's address, where it is not base + path
ILLUM = "illum_"  # prefix of columns that hold a channel's illumination function
_SHOWN = 20  # files named in one message
_WANTED = ("sources", "batches", "plates", "treatments", "compounds", "wells", "sites")


def select(
    manifest: pd.DataFrame,
    *,
    channels: Iterable[str] | None = None,
    **wanted: Iterable[str | int] | None,
) -> pd.DataFrame:
    """The rows and channels that are asked for; None asks for all.

    `wanted`: sources, batches, plates, treatments, compounds, wells (`a1` is A01) and sites, each
    a list of names; a row must be in every one of them.

    Raises `InputError` with the nearest names where a name is not there, or where no row is left.
    """
    frame, chosen = manifest, _asked(wanted)
    for column, names in chosen.items():
        here = text(manifest[column])
        if column == "well":
            names = list(normalise_wells(pd.Series(names, dtype="str")))
        _known(names, column, here)
        frame = frame[text(frame[column]).isin(names)]
    if frame.empty:
        asked = "; ".join(f"{k}: {', '.join(v)}" for k, v in chosen.items())
        raise InputError(f"No site is in all of these at once: {asked}. Ask for fewer at a time.")
    return _with_channels(frame, channels).reset_index(drop=True)


def _asked(wanted: Mapping[str, Iterable[str | int] | None]) -> dict[str, list[str]]:
    """Manifest column → names asked for."""
    unknown = [name for name in wanted if name not in _WANTED]
    if unknown:
        near = nearest(unknown[0], _WANTED)
        raise InputError(f"Cannot choose by {unknown[0]}{near}; by: {', '.join(_WANTED)}.")
    singular = {name: "batch" if name == "batches" else name.removesuffix("s") for name in wanted}
    return {
        singular[name]: [str(value) for value in values]
        for name, values in wanted.items()
        if values is not None
    }


def _known(names: list[str], column: str, here: pd.Series) -> None:
    present = set(here)
    unknown = [name for name in dict.fromkeys(names) if name not in present]
    if unknown:
        listed = "\n".join(some(f"- {name}{nearest(name, sorted(present))}" for name in unknown))
        raise InputError(f"The screen has no such {column}:\n{listed}")


def _with_channels(manifest: pd.DataFrame, wanted: Iterable[str] | None) -> pd.DataFrame:
    if wanted is None:
        return manifest
    here, names = channels(manifest), list(dict.fromkeys(wanted))
    folded = {name.casefold(): name for name in here}
    unknown = [name for name in names if name.casefold() not in folded]
    if unknown:
        listed = "\n".join(f"- {name}{nearest(name, here)}" for name in unknown)
        raise InputError(f"The screen has no such channel:\n{listed}\nIt has: {', '.join(here)}.")
    keep = {folded[name.casefold()] for name in names}
    drop = [p + name for name in here if name not in keep for p in (PATH, URL, ILLUM)]
    return manifest.drop(columns=drop, errors="ignore")


def items_of(
    manifest: pd.DataFrame, base: str | None = None, illumination: bool = False
) -> list[Item]:
    """The files of a manifest, each once: `path_<channel>` below the root, fetched from `base`.

    A channel with a column `url_<channel>` is fetched from those addresses instead. Planes of one
    file (`#k`) are one item. `illumination`: the files of columns `illum_<channel>`, too.
    """
    items: dict[str, Item] = {}
    for name in channels(manifest):
        own = URL + name if URL + name in manifest else None
        if own is None and base is None:
            raise InputError(
                f"Where is channel {name}? Give a base address, or a column {URL}{name}."
            )
        columns = [PATH + name]
        columns += [ILLUM + name] if illumination and base and ILLUM + name in manifest else []
        for column in columns:
            paths = text(manifest[column]).str.replace(PLANE, "", regex=True)
            given = column.startswith(PATH) and own is not None
            urls = text(manifest[own]) if given else [address(base, path) for path in paths]
            for path, url in zip(paths, urls, strict=True):
                if path:
                    items.setdefault(path, Item(url, path))
    return list(items.values())


def with_checksums(items: list[Item], listed: str | Path) -> list[Item]:
    """The items with the checksums of a list as `sha256sum` or `md5sum` write it.

    Each line holds hexadecimal digits, spaces, and a path below the root; paths that are not
    among the items are passed over.
    """
    try:
        lines = Path(listed).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The checksums {listed} cannot be read: {error}") from error
    sums: dict[str, dict[str, str]] = {}
    bad = []
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-fA-F]{64}|[0-9a-fA-F]{32}) [ *](?:\./)?(.+)", line)
        if match:
            kind = "sha256" if len(match[1]) == 64 else "md5"
            sums.setdefault(match[2], {})[kind] = match[1].lower()
        elif line.strip():
            bad.append(f"line {number}: {line!r}")
    if bad:
        raise InputError(f"{listed} is no list of SHA-256 or MD5 sums:\n" + "\n".join(some(bad)))
    return [replace(item, **sums.get(item.path, {})) for item in items]


def address(base: str, path: str) -> str:
    """The address of a relative path below a base: quoted for https, as it is for s3."""
    check_address(base)
    return f"{base.rstrip('/')}/{path if is_s3(base) else quote(path)}"


def bad_path(path: str) -> bool:
    """Whether a relative path from elsewhere would leave the root or cannot be a file's name."""
    names = path.split("/")
    return (
        bool(re.search(r"^~|^[A-Za-z]:|\\|[\x00-\x1f\x7f]", path))
        or any(name in ("", ".", "..") or len(name.encode()) > 255 for name in names)
        or bool(re.fullmatch(r"\..*\.part", names[-1]))
    )


def checked(items: list[Item], root: Path) -> list[Item]:
    """The items once each, or one error that names all whose path or address is no good."""
    unique = {item.path: item for item in reversed(items)}
    check_paths(list(unique)[::-1], root)
    _refuse(
        [item.path for item in items if unique[item.path].url != item.url],
        "Paths that stand for several addresses; give each file a path of its own",
    )
    for item in unique.values():
        check_address(item.url)
    return list(unique.values())[::-1]


def check_paths(paths: Sequence[str], root: Path) -> None:
    """Raise one `InputError` naming all paths that would leave `root`, links followed, or meet."""
    bad = [path for path in paths if bad_path(path)]
    base = os.path.realpath(root)
    folders = {str(f) for p in paths if not bad_path(p) for f in PurePosixPath(p).parents}
    leading = {f for f in folders if not within(os.path.realpath(os.path.join(base, f)), base)}
    bad += [path for path in paths if str(PurePosixPath(path).parent) in leading]
    _refuse(bad, "Paths that would leave the screen's root or name no file; nothing was fetched")
    met = [path for path in paths if path in folders or (root / path).is_dir()]
    met += [folder for folder in sorted(folders) if (root / folder).is_file()]
    _refuse(met, "Paths that are a file and a folder at once, here or there")


def check_address(url: str) -> None:
    """Raise `InputError` unless an address is https://, http:// or s3:// with a host or bucket."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "s3") or not parts.netloc:
        raise InputError(f"{url!r} is no address to fetch from: give https://… or s3://bucket/….")


def _refuse(paths: Sequence[str], what: str) -> None:
    if paths:
        unique = list(dict.fromkeys(map(repr, paths)))
        raise InputError(f"{what}:\n" + "\n".join(some(unique)))


def some(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = [f"  … and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"  {line}" for line in lines[:_SHOWN]] + more

"""What `hcs fetch` does: tables, manifest, choice, plan, question, files, report."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import typer

from hcs_utils import files
from hcs_utils.data import archives, manifest, remote, selection, transfer
from hcs_utils.data.download import DEFAULT, Item, Options
from hcs_utils.data.screens import public
from hcs_utils.errors import InputError


class Stopped(Exception):
    """The user said no, or asked for the plan alone."""


@dataclass(frozen=True)
class Wish:
    """What to fetch and how to ask: names of `choice` are those of `selection.select`."""

    root: Path | None = None  # None: the screen's own place
    base: str | None = None
    choice: dict[str, list[str] | None] = field(default_factory=dict)
    channels: list[str] | None = None
    options: Options = DEFAULT
    yes: bool = False
    plan_only: bool = False
    manifest: Path | None = None  # where the manifest of what is here goes
    drop_archives: bool = False
    illumination: bool = False  # the illumination functions, too
    checksums: Path | None = None  # a list as sha256sum or md5sum write it


def command(name: str, wish: Wish) -> int:
    """Fetch a screen by its name, or a manifest's or `screen.yaml`'s images; the exit code."""
    path = Path(name)
    try:
        if path.suffix in (".yaml", ".yml", ".parquet"):
            whole = own(path, wish)
        else:
            root = wish.root or files.data_root() / remote.known(name)
            whole = screen(name, replace(wish, root=root))
    except Stopped as stopped:
        typer.echo(str(stopped))
        return 0
    except KeyboardInterrupt:
        typer.secho("Stopped. The same command goes on from here.", fg="yellow", err=True)
        return 130
    return 0 if whole else 1


def screen(name: str, wish: Wish) -> bool:
    """Fetch a public screen: its tables, those of the chosen plates, then the images.

    The adapter of that name in `hcs_utils.data.screens` makes the manifest of the tables that are
    below the root. Returns whether everything asked for is here.
    """
    where = remote.home(name)
    typer.echo(f"{name}, from {wish.base or where.base}. {where.note}")
    first = replace(wish, plan_only=False)  # a plan of the images needs the tables
    whole = _get("tables", remote.tables(where, wish.base), first)
    small = [place for place in where.whole if "metadata" in place]
    tables = [item for item in remote.archives(where, wish.base) if _ends(item, small)]
    whole &= _archives(where, tables, first, None)
    plates = {key: wish.choice.get(key) for key in ("sources", "batches", "plates")}
    found = remote.plate_tables(where, wish.root, wish.base, **plates)
    whole &= _get("tables of plates", found, first)
    table = _manifest(name, wish)
    table = selection.select(table, channels=wish.channels, **wish.choice)
    if where.whole or where.archives:
        names = manifest.channels(table)
        zips = remote.archives(where, wish.base, sorted(set(table["plate"])), names)
        paths = {item.path for item in selection.items_of(table, wish.base or where.base)}
        whole &= _archives(where, [i for i in zips if not _ends(i, small)], wish, paths)
    else:
        whole &= _get("images", _images(table, wish, wish.base or where.base), wish)
    return _write_manifest(table, wish, wish.root / "manifest.parquet") and whole


def own(path: Path, wish: Wish) -> bool:
    """Fetch the images of a manifest or a `screen.yaml` from `wish.base`."""
    if path.suffix in (".yaml", ".yml"):
        from hcs_utils.data.screens import own as reader

        table = reader.from_yaml(path, check_files=False)
    else:
        table = manifest.read(path)
    wish = replace(wish, root=wish.root or Path(table.attrs.get("root", path.parent)))
    table = selection.select(table, channels=wish.channels, **wish.choice)
    whole = _get("images", _images(table, wish, wish.base), wish)
    if wish.manifest is None:
        return whole
    return _write_manifest(table, wish, wish.manifest) and whole


def _images(table: pd.DataFrame, wish: Wish, base: str | None) -> list[Item]:
    return selection.items_of(table, base, wish.illumination)


def _manifest(name: str, wish: Wish) -> pd.DataFrame:
    """The manifest of all that the tables below the root speak of, images here or not."""
    options: dict = {}
    if name == "jump":  # what was asked for, source 7 too
        options = {"without": (), "plates": wish.choice.get("plates")}
    if name == "rxrx1" and (wish.choice.get("batches") or wish.choice.get("plates")):
        options = {"cell_type": None}
    table = public.tables(name, wish.root, check=False, **options)
    if left_out := table.attrs.get("left_out"):
        typer.echo(f"Not in the manifest, by the tables that are here: {len(left_out)}")
        typer.echo("\n".join(selection.some(left_out[:3])))
    return table


def _ends(item: Item, names: list[str]) -> bool:
    return any(item.path.endswith(name) for name in names)


def _get(what: str, items: list[Item], wish: Wish) -> bool:
    """State, ask, fetch and report; whether all items are here."""
    if not items:
        return True
    if wish.checksums is not None:
        items = selection.with_checksums(items, wish.checksums)
    typer.echo(f"Asking for sizes of {len(items)} files ({what}) …")
    made = transfer.plan(items, wish.root, wish.options)
    typer.echo(f"{what.capitalize()}: {made}")
    if not made.todo:
        return not made.absent
    _ask(wish)
    report = transfer.fetch(made, options=wish.options, progress=True)
    typer.secho(f"{what.capitalize()}: {report}", fg="yellow" if report.failed else None)
    return not report.failed


def _ask(wish: Wish) -> None:
    if wish.plan_only:
        raise Stopped("This was the plan of the images; nothing was fetched of them.")
    if wish.yes:
        return
    if not _terminal():
        raise InputError("There is no terminal to ask at. Add --yes to fetch this.")
    if not typer.confirm("Fetch them?", default=True):
        raise Stopped("Nothing was fetched.")


def _terminal() -> bool:
    return sys.stdin.isatty()


def _archives(where: remote.Home, items: list[Item], wish: Wish, paths: set[str] | None) -> bool:
    """Fetch zip archives, unpack what is wanted of them, and drop them if asked to."""
    todo = [item for item in items if not _dropped(wish.root, item, paths)]
    if not todo:
        return True
    whole = _get("archives", todo, wish)
    for item in todo:
        archive = wish.root / item.path
        if not archive.is_file():
            continue  # among the failed
        wanted = None if paths is None else lambda place: _below(where, place) in paths
        report = archives.unpack(
            archive, wish.root / where.into, wanted, where.strip, progress=True
        )
        typer.echo(f"{archive.name}: {len(report.done)} files unpacked, {len(report.kept)} kept.")
        if report.failed:
            whole = False
            typer.secho(f"{report}", fg="yellow")
        elif wish.drop_archives:
            places = archives.places(archive, where.strip)
            files.write_json(_note(archive), {"holds": [_below(where, p) for p in places]})
            archive.unlink()
    return whole


def _below(where: remote.Home, place: str) -> str:
    return f"{where.into}/{place}" if where.into else place


def _note(archive: Path) -> Path:
    return archive.with_name(archive.name + ".unpacked.json")


def _dropped(root: Path, item: Item, paths: set[str] | None) -> bool:
    """Whether an archive was dropped, and all that is wanted of it now is here."""
    note = files.read_json(_note(root / item.path)) or {}
    wanted = [p for p in note.get("holds", []) if paths is None or p in paths]
    return bool(note) and all((root / place).is_file() for place in wanted)


def _write_manifest(table: pd.DataFrame, wish: Wish, default: Path) -> bool:
    """Write the rows whose files are all here; whether that is every row."""
    path = wish.manifest or default
    paths = [manifest.PATH + name for name in manifest.channels(table)]
    whole = pd.Series(True, index=table.index)
    for column in paths:
        place = table[column].str.replace(manifest.PLANE, "", regex=True)
        whole &= place.map(lambda p: (wish.root / p).is_file())
    table = table[whole]
    table.attrs.pop("left_out", None)
    table.attrs["root"] = str(wish.root.resolve())
    if path.parent.resolve() == wish.root.resolve():
        del table.attrs["root"]  # beside its images: both may be moved
    if len(table):
        manifest.write(table, path)
        typer.echo(f"{path}: {len(table)} sites.")
    missing = int((~whole).sum())
    if missing:
        typer.secho(f"{missing} sites are not in it: a file of each is not here.", fg="yellow")
    return missing == 0

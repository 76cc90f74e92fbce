"""`hcs quality`: what was found of each field of a screen, shown, taken from a table, forgotten."""

from pathlib import Path
from typing import Annotated

import typer

from hcs_utils.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Fields that quality control flagged, and left out.")
Screen = Annotated[
    Path, typer.Argument(help="A manifest (.parquet), a screen.yaml, or jump and such.")
]


@app.command()
def show(screen: Screen) -> None:
    """How many fields are judged and flagged, plate by plate."""
    from hcs_utils.data import quality

    table, root, _ = read_screen(screen, None)
    table = quality.with_quality(table, root)
    plates = quality.by_plate(table)
    judged = plates["judged"].sum()
    typer.echo(f"{screen}: {len(table)} fields, {judged} judged, {table['qc_flag'].sum()} flagged.")
    if judged:
        typer.echo(plates.round(3).to_string(index=False))


@app.command()
def write(
    screen: Screen,
    table: Annotated[
        Path, typer.Argument(help="CSV of site_id, qc_flag, qc_score, a row a field.")
    ],
) -> None:
    """Keep flags from a table beside the screen; every run then leaves flagged fields out."""
    import pandas as pd

    from hcs_utils.data import quality

    manifest, root, _ = read_screen(screen, None)
    try:
        flags = pd.read_csv(table, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"There is no table {table}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"The table {table} cannot be read: {error}.") from error
    quality.refuse_unknown(flags, manifest)
    quality.write(root, flags)
    table = quality.with_quality(manifest, root)
    typer.echo(quality.told(table, "drop") or f"None of {len(manifest)} fields is flagged.")


@app.command()
def clear(screen: Screen) -> None:
    """Forget what was judged; nothing is left out any more."""
    from hcs_utils.data import quality

    _, root, _ = read_screen(screen, None)
    typer.echo(f"{screen}: {quality.clear(root)} fields were judged; that is forgotten.")


def read_screen(screen: Path, root: Path | None) -> tuple:
    """Manifest, folder of its images, and their pixel size in um where it is known."""
    from hcs_utils.data import manifest
    from hcs_utils.data.screens import own, public
    from hcs_utils.files import data_root

    if screen.suffix in (".yaml", ".yml"):
        table = own.from_yaml(screen)
    elif str(screen) in public.NAMES and not screen.is_file():
        root = root or data_root() / screen
        table = public.fetched(str(screen), root)
    else:
        table = manifest.read(screen)
    known = table.attrs
    return table, Path(root or known.get("root") or screen.parent), known.get("pixel_size_um")

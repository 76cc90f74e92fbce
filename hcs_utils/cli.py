"""The command line, `hcs`: a few lines over the wings, each imported only when its turn comes."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from hcs_utils import cli_quality
from hcs_utils.cli_quality import read_screen
from hcs_utils.errors import InputError


class OneMessage(TyperGroup):
    """Ends a command whose input cannot be used with one message and exit code 2."""

    def invoke(self, ctx) -> object:
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=OneMessage,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="High-content screens past their batch effects: from raw images to judged embeddings.",
)
app.add_typer(cli_quality.app, name="quality")
Screen = Annotated[
    Path,
    typer.Argument(
        help="A manifest (.parquet), a screen.yaml beside your own images, or jump and such."
    ),
]
Root = Annotated[
    Path | None, typer.Option(help="The folder that image paths start from, if not the screen's.")
]


@app.command()
def validate(screen: Screen, root: Root = None) -> None:
    """Check a manifest row by row, and that its images are there."""
    table, root, _ = read_screen(screen, root)
    from hcs_utils.data import manifest

    table = manifest.validate(table, root)
    typer.echo(f"{screen} is valid: {_counts(table)}.")
    typer.echo(f"Channels: {', '.join(manifest.channels(table))}. Images below {root}.")
    if not (table["role"] == "negcon").any():
        typer.echo("No negative controls: Z-norm by controls will not work; use all samples.")


@app.command()
def preprocess(
    screen: Screen,
    out: Annotated[Path, typer.Option(help="The store to write, such as images.zarr.")],
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the stored square, in pixels.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="What is brought to one range: screen, plate or image.")
    ] = "screen",
    root: Root = None,
) -> None:
    """Turn a screen's images into one Zarr store; stopped, the same command carries on."""
    table, root, pixel_size_um = read_screen(screen, root)
    from hcs_utils.data import preprocess as step

    report = step.preprocess(table, root, out, size=size, scale=scale, pixel_size_um=pixel_size_um)
    typer.echo(f"{out}: {report.done} sites written, {report.skipped} were there already.")
    _tell_failed(report.failed)


def _tell_failed(failed: list) -> None:
    if failed:
        shown = "\n".join(f"  {site}: {reason}" for site, reason in failed[:10])
        more = f"\n  and {len(failed) - 10} more" if len(failed) > 10 else ""
        typer.secho(f"{len(failed)} sites left out:\n{shown}{more}", fg="yellow", err=True)


@app.command()
def crop(
    screen: Screen,
    out: Annotated[Path, typer.Option(help="The store of crops to write, such as crops.zarr.")],
    size: Annotated[int, typer.Option(min=8, help="Side of a crop, in pixels.")] = 128,
    channel: Annotated[str, typer.Option(help="The channel that shows nuclei.")] = "DNA",
    border: Annotated[
        str, typer.Option(help="Crops over the image's edge: drop, shift, zeros or reflect.")
    ] = "drop",
    max_per_field: Annotated[int, typer.Option(min=0, help="By lot; 0: all.")] = 0,
    diameter_px: Annotated[float, typer.Option(min=0, help="Of a nucleus; 0: 12 µm.")] = 0.0,
    root: Root = None,
) -> None:
    """Find nuclei and cut a crop of all channels around each, into one store."""
    table, root, pixel_size_um = read_screen(screen, root)
    from hcs_utils.data import cells

    report = cells.crop_screen(
        table, root, out, size=size, channel=channel, border=border, max_per_field=max_per_field,
        diameter_px=diameter_px, pixel_size_um=pixel_size_um,
    )  # fmt: skip
    typer.echo(
        f"{out}: {report.crops} crops of {report.nuclei} nuclei in {report.fields} fields; "
        f"{report.beyond} reached over an edge (border rule: {border})."
    )
    _tell_failed(report.failed)


_WHAT, _WHERE = "What", "From where, to where"
Names = Annotated[
    list[str] | None, typer.Option(help="A,B or the option twice.", rich_help_panel=_WHAT)
]
Exact = Annotated[
    list[str] | None, typer.Option(help="A name; repeat the option.", rich_help_panel=_WHAT)
]


def _where(help: str):
    return typer.Option(help=help, rich_help_panel=_WHERE)


@app.command()
def fetch(
    screen: Annotated[
        str, typer.Argument(help="jump, cpg0004, rxrx1, bbbc021, bbbc022; a manifest; screen.yaml.")
    ],
    batches: Names = None,
    plates: Names = None,
    wells: Names = None,
    sites: Names = None,
    channels: Names = None,
    sources: Names = None,
    treatments: Exact = None,
    compounds: Exact = None,
    illumination: Annotated[
        bool,
        typer.Option("--illumination", help="Illumination functions too.", rich_help_panel=_WHAT),
    ] = False,
    root: Annotated[
        Path | None, _where("The screen's folder; else data/SCREEN or the manifest's.")
    ] = None,
    base: Annotated[str | None, _where("https://… or s3://bucket/prefix that holds it.")] = None,
    endpoint: Annotated[str | None, _where("An S3 store other than Amazon's.")] = None,
    checksums: Annotated[
        Path | None, _where("A list as sha256sum or md5sum write it, to hold files to.")
    ] = None,
    manifest: Annotated[Path | None, _where("File for the manifest of what was chosen.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Files at a time.")] = 8,
    retries: Annotated[
        int, typer.Option(min=0, max=100, help="Tries again of a file that comes no further.")
    ] = 6,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte.")] = 60.0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash the files that are here already, too.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what images would come; stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch without asking.")] = False,
    drop_archives: Annotated[
        bool, typer.Option("--drop-archives", help="Delete each zip once it is unpacked.")
    ] = False,
) -> None:
    """Fetch a screen, or any part of it, over HTTPS or from a public S3 bucket.

    Files and bytes are stated first, then asked about. Stopped or killed, the same command goes
    on. A file has its name only when it is whole and verified. Exit code 1: some files failed.
    """
    from hcs_utils import fetching
    from hcs_utils.data.download import Options

    names = dict(batches=batches, plates=plates, wells=wells, sites=sites, sources=sources)
    choice = {key: _words(value) for key, value in names.items()}
    wish = fetching.Wish(
        root, base, choice | {"treatments": treatments, "compounds": compounds}, _words(channels),
        Options(workers, retries, timeout, endpoint=endpoint, verify=verify),
        yes, plan, manifest, drop_archives, illumination, checksums,
    )  # fmt: skip
    raise typer.Exit(fetching.command(screen, wish))


def _words(values: list[str] | None) -> list[str] | None:
    words = [word.strip() for value in values or [] for word in value.split(",")]
    return [word for word in words if word] or None


@app.command()
def simulate(
    size: Annotated[str, typer.Argument(help="smoke, quick, standard or full.")],
    out: Annotated[Path | None, typer.Option(help="Folder; else data/simulated/SIZE.")] = None,
) -> None:
    """Draw a screen with a known truth, as files that a real screen would bring."""
    from hcs_utils.data import manifest
    from hcs_utils.data.screens import simulated

    if size not in simulated.SIZES:
        raise InputError(f"Unknown size {size!r}; there are: {', '.join(simulated.SIZES)}.")
    out = simulated.home(size) if out is None else out
    simulated.draw(out, simulated.SIZES[size], progress=True)
    table = simulated.manifest(out)
    table.attrs["pixel_size_um"] = simulated.PIXEL_SIZE_UM
    manifest.write(table, out / "manifest.parquet")
    typer.echo(f"{out / 'manifest.parquet'}: {_counts(table)}.")


@app.command()
def run(
    notebook: Annotated[Path, typer.Argument(help="A notebook, or its name: 22_cdcl_run.")],
    preset: Annotated[str, typer.Option(help="smoke, quick, standard, full or paper.")] = "quick",
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE, as often as needed.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the executed notebook goes.")] = None,
) -> None:
    """Run a notebook with papermill; unknown parameters are refused before anything runs."""
    from hcs_utils import runs
    from hcs_utils.files import checkout

    home = checkout() or Path.cwd()
    if not notebook.exists():
        named = home / "notebooks" / f"{notebook.name.removesuffix('.ipynb')}.ipynb"
        notebook = named if named.exists() else notebook
    out = home / "build" / "executed" / preset / f"{notebook.stem}.ipynb" if out is None else out
    try:
        runs.execute(notebook, out, runs.parsed(param or []), preset)
    except runs.NotebookError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Executed notebook: {out}")


@app.command()
def report(
    results: Annotated[Path | None, typer.Argument(help="Folder of records.")] = None,
) -> None:
    """Mean ± sd of every metric and method, from the records of runs."""
    from hcs_utils import records

    results = records.results_root() if results is None else results
    table = records.load_records(results)
    if table.empty:
        raise InputError(f"No records below {results}; a run writes one when it is done.")
    metrics = [name[:-4] for name in table.columns if name.endswith("_low")]
    for (preset, experiment, screen), rows in table.groupby(["preset", "experiment", "screen"]):
        typer.secho(f"\n{experiment} · {screen} · preset {preset}", bold=True)
        for metric in metrics:
            if rows[metric].notna().any():
                typer.echo(f"  {metric}")
                for method, (mean, sd, n) in records.summary(rows, metric).iterrows():
                    spread = f" ± {sd:.3f}" if n > 1 else "        "
                    typer.echo(f"    {method:<14} {mean:.3f}{spread}  n = {n:.0f}")


def _counts(table) -> str:
    wells = len(table[["plate", "well"]].drop_duplicates())
    return (
        f"{len(table)} sites in {wells} wells, {table['plate'].nunique()} plates, "
        f"{table['batch'].nunique()} batches; {table['treatment'].nunique()} treatments"
    )


if __name__ == "__main__":
    app()

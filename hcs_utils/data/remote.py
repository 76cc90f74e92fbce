"""Where public screens live: addresses as their pages document them, each with its source.

No address could be reached from where this was written, so all are untried; every one can be
replaced by the user. Places below the root are the remote ones, so that the adapters in
`hcs_utils.data.screens` find tables and images where the screen's own tables say.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hcs_utils.data.download import Item
from hcs_utils.data.manifest import nearest, text
from hcs_utils.data.selection import address, select
from hcs_utils.errors import InputError

_GALLERY = "s3://cellpainting-gallery"  # github.com/broadinstitute/cellpainting-gallery, README
_BBBC = "https://data.broadinstitute.org/bbbc"  # bbbc.broadinstitute.org
_JUMP = "https://github.com/jump-cellpainting/datasets/raw/main/metadata"  # README there
_TARGETS = "https://github.com/jump-cellpainting/JUMP-Target/raw/master"  # README there
_TARGET2 = "JUMP-Target-2_compound_metadata.tsv"
_LINCS = "https://github.com/broadinstitute/lincs-cell-painting/raw/master/metadata"
_LINCS_BATCH = "2016_04_01_a549_48hr_batch1"


@dataclass(frozen=True)
class Home:
    """Where one screen's tables and images are; places are relative to the root."""

    base: str  # of the images, and of all that has no address of its own
    tables: Mapping[str, str]  # place → address, or a place below the base
    plates: tuple[str, ...] = ()  # table of plates, and its columns of source, batch, plate
    plate_tables: tuple[str, ...] = ()  # places with {source}, {batch}, {plate}
    archives: str = ""  # zip with {plate} and {channel}; several for all plates: see `whole`
    whole: tuple[str, ...] = ()  # zips of the whole screen
    channels: Mapping[str, str] = field(default_factory=dict)  # channel → {channel} in `archives`
    strip: str = ""  # folder that the archives' members begin with and the places do not
    into: str = ""  # folder below the root that archives are unpacked in
    note: str = ""


HOMES = {
    # layout: broadinstitute.github.io/cellpainting-gallery, "folder structure"; load_data:
    # jump-cellpainting/datasets, notebook "sample"; the tables' addresses are used by the JUMP hub
    "jump": Home(
        base=f"{_GALLERY}/cpg0016-jump",
        tables={
            **{
                f"metadata/{name}": f"{_JUMP}/{name}"
                for name in ("plate.csv.gz", "well.csv.gz", "compound.csv.gz", "orf.csv.gz",
                             "crispr.csv.gz", "perturbation_control.csv")
            },
            f"metadata/{_TARGET2}": f"{_TARGETS}/{_TARGET2}",
        },
        plates=("metadata/plate.csv.gz", "Metadata_Source", "Metadata_Batch", "Metadata_Plate"),
        plate_tables=(
            "{source}/workspace/load_data_csv/{batch}/{plate}/load_data_with_illum.parquet",
        ),
        note="CC0. 2,525 plates; a plate has some 17,000 files and tens of GB.",
    ),
    # github.com/broadinstitute/lincs-cell-painting, folder metadata; images: the gallery's README.
    # Whether the bucket holds load_data.csv of every plate was an open question there (issue 90)
    "cpg0004": Home(
        base=f"{_GALLERY}/cpg0004-lincs",
        tables={
            f"metadata/{_LINCS_BATCH}/barcode_platemap.csv":
                f"{_LINCS}/platemaps/{_LINCS_BATCH}/barcode_platemap.csv",
            **{
                f"metadata/{_LINCS_BATCH}/platemap/C-7161-01-LM6-{k:03d}.txt":
                    f"{_LINCS}/platemaps/{_LINCS_BATCH}/platemap/C-7161-01-LM6-{k:03d}.txt"
                for k in range(1, 29)
            },
            **{
                f"metadata/{name}": f"{_LINCS}/moa/{name}"
                for name in ("repurposing_info.tsv", "repurposing_simple.tsv")
            },
        },
        plates=(f"metadata/{_LINCS_BATCH}/barcode_platemap.csv", "=broad", f"={_LINCS_BATCH}",
                "Assay_Plate_Barcode"),
        plate_tables=("{source}/workspace/load_data_csv/{batch}/{plate}/load_data.csv",),
        note="CC0. Some 140 plates of 384 wells.",
    ),
    # rxrx.ai/rxrx1, "Download": two archives and nothing smaller
    "rxrx1": Home(
        base="https://storage.googleapis.com/rxrx/rxrx1",
        tables={},
        whole=("rxrx1-metadata.zip", "rxrx1-images.zip"),
        strip="rxrx1/",
        note="CC BY-NC-SA 4.0. One archive of about 47 GB: single plates cannot be fetched; what "
        "you choose is unpacked from it, HUVEC alone unless you name batches or plates.",
    ),
    # bbbc.broadinstitute.org/BBBC021: one archive of about 750 MB for each of 55 plates
    "bbbc021": Home(
        base=f"{_BBBC}/BBBC021",
        tables={n: n for n in ("BBBC021_v1_image.csv", "BBBC021_v1_compound.csv",
                               "BBBC021_v1_moa.csv")},
        archives="BBBC021_v1_images_{plate}.zip",
        into="images",
        note="AstraZeneca's, for research; see the collection's terms. A plate is one archive: "
        "wells, sites and channels are chosen when it is unpacked.",
    ),
    # bbbc.broadinstitute.org/BBBC022: one archive for each of 20 plates and 5 channels
    "bbbc022": Home(
        base=f"{_BBBC}/BBBC022",
        tables={"BBBC022_v1_image.csv": "BBBC022_v1_image.csv"},
        archives="BBBC022_v1_images_{plate}w{channel}.zip",
        channels={"Hoechst": "1", "ER": "2", "Syto": "3", "PhGolgi": "4", "Mito": "5"},
        into="images",
        note="A plate and channel is one archive: wells and sites are chosen when it is unpacked.",
    ),
}  # fmt: skip


def home(name: str) -> Home:
    """The home of a screen by its name."""
    return HOMES[known(name)]


def known(name: str) -> str:
    """The name, if it is one of a public screen."""
    if name not in HOMES:
        near = nearest(name, list(HOMES))
        raise InputError(
            f"Unknown screen {name!r}{near}; there are: {', '.join(HOMES)}. For your own, give a "
            "manifest (.parquet) or a screen.yaml, and --base."
        )
    return name


def tables(where: Home, base: str | None = None) -> list[Item]:
    """The tables of the whole screen. With `base` they are below it, at their places."""
    return [
        Item(_at(base or where.base, place if base else other), place)
        for place, other in where.tables.items()
    ]


def _at(base: str, other: str) -> str:
    return other if "://" in other else address(base, other)


def plate_tables(
    where: Home,
    root: str | Path,
    base: str | None = None,
    *,
    sources: Iterable[str] | None = None,
    batches: Iterable[str] | None = None,
    plates: Iterable[str] | None = None,
) -> list[Item]:
    """The tables of the chosen plates, named by the screen's table of plates below `root`."""
    if not where.plate_tables:
        return []
    path, *columns = where.plates
    try:
        table = pd.read_csv(Path(root) / path, dtype=str, keep_default_na=False)
        rows = pd.DataFrame(
            {
                name: column[1:] if column.startswith("=") else text(table[column])
                for name, column in zip(("source", "batch", "plate"), columns, strict=True)
            },
            index=table.index,
        ).drop_duplicates()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"The table of plates, {Path(root) / path}, cannot be read ({error}). Delete it and "
            "fetch again."
        ) from error
    if columns[1].startswith("="):  # a name of the store's: the manifest's batches are others
        batches = None
    chosen = select(rows, sources=sources, batches=batches, plates=plates)
    places = [
        place.format(**row) for row in chosen.to_dict("records") for place in where.plate_tables
    ]
    return [Item(address(base or where.base, place), place) for place in places]


def archives(
    where: Home,
    base: str | None = None,
    plates: Iterable[str] = (),
    channels: Iterable[str] | None = None,
) -> list[Item]:
    """The zip archives that hold the chosen plates and channels."""
    names = list(where.whole)
    if where.archives:
        wanted = where.channels if channels is None else channels
        marks = [where.channels.get(name, name) for name in wanted] or [""]
        names += [where.archives.format(plate=p, channel=m) for p in plates for m in marks]
    names = list(dict.fromkeys(names))
    return [Item(address(base or where.base, name), f"archives/{name}") for name in names]

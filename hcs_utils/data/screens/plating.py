"""One plate of the simulated screen, in memory: its wells, its pictures and their truth."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from hcs_utils.data.screens import compounds, effects, faults
from hcs_utils.data.screens.drawing import LINES, TRAITS, draw_fields
from hcs_utils.data.screens.layouts import layout
from hcs_utils.errors import InputError


@dataclass(frozen=True)
class SimulatedConfig:
    """How large the screen is and how strongly its batches and fields differ."""

    treatments: int = 16  # besides the controls: compounds times doses
    levels: int = 2  # values a trait can take: 2 = −1, 1; 3 = −1, 0, 1; 0 = any
    doses_um: tuple[float | int, ...] = (10.0,)  # of every compound; the last for positive controls
    structure_share: float | int = 0.5  # of the phenotype's variance, explained by structure
    sources: int = 2
    batches: int = 12
    plates: int = 2  # a batch
    wells: int = 2  # a treatment and plate
    control_wells: int = 6  # negative-control wells a plate
    positive_wells: int = 2  # positive-control wells a plate
    sites: int = 5  # fields a well
    size: int = 48  # px, square fields
    phenotype_strength: float | int = 1.0
    batch_strength: float | int = 1.0  # the dial: 0 switches off what differs between batches
    field_strength: float | int = 1.0  # nuisance from field to field within a well
    fault_rate: float | int = 0.0  # share of fields with a fault for quality control to find
    seed: int = 0
    drawing: int = 2  # raised when the same numbers come to draw other pictures

    def __post_init__(self):
        if not self.doses_um or self.treatments % len(self.doses_um):
            raise InputError(
                f"{self.treatments} treatments cannot be compounds at {len(self.doses_um)} doses "
                "each; choose a multiple."
            )


@dataclass(frozen=True)
class LibraryConfig(SimulatedConfig):
    """A library of many compounds: each batch has each of them once, dealt over its plates.

    As in a screening campaign, library plate p holds the same compounds in every batch.
    """

    treatments: int = 700
    levels: int = 0
    structure_share: float | int = 0.8
    plates: int = 2
    wells: int = 1
    control_wells: int = 24
    positive_wells: int = 4
    sites: int = 2
    field_strength: float | int = 0.5


@dataclass(frozen=True)
class QCConfig(SimulatedConfig):
    """A screen for quality control: larger fields, of which a third has one of seven faults."""

    treatments: int = 6
    batches: int = 8
    plates: int = 3
    wells: int = 4
    size: int = 96
    fault_rate: float | int = 0.35
    cell_line: str = "u2os"  # or mcf7: small round cells in islands, to test on

    def __post_init__(self):
        super().__post_init__()
        if self.cell_line not in LINES:
            raise InputError(f"cell_line is {self.cell_line!r}; there are: {', '.join(LINES)}.")


_QC = {
    "smoke": QCConfig(
        treatments=4, batches=4, plates=2, wells=1, control_wells=3, positive_wells=1, sites=4
    ),
    "quick": QCConfig(batches=6, plates=2, wells=2, sites=5),
    "standard": QCConfig(),
    "full": QCConfig(
        treatments=48, levels=3, sources=4, batches=12, plates=4, control_wells=16,
        positive_wells=4, wells=1, sites=8,
    ),
}  # fmt: skip


def _shifted(config: QCConfig) -> QCConfig:
    """Another laboratory's small screen of another cell line, for tests only."""
    return replace(
        config, cell_line="mcf7", seed=1, sources=1, batches=max(2, config.batches // 3),
        plates=min(2, config.plates),
    )  # fmt: skip


SIZES = {
    "smoke": SimulatedConfig(
        treatments=4, batches=6, plates=1, control_wells=3, positive_wells=1, sites=2
    ),
    "quick": SimulatedConfig(),
    "standard": SimulatedConfig(
        treatments=48, levels=3, doses_um=(0.6, 10.0), size=64, control_wells=8, sites=4
    ),
    "full": SimulatedConfig(
        treatments=240, levels=3, sources=4, batches=24, plates=4, wells=1, control_wells=30,
        positive_wells=4, sites=2, size=64,
    ),
    "molecules-smoke": LibraryConfig(
        treatments=48, batches=4, plates=1, control_wells=3, positive_wells=1
    ),
    "molecules-quick": LibraryConfig(sources=3, batches=6),
    "molecules-standard": LibraryConfig(treatments=1600, sources=4, batches=8, plates=5),
    "molecules-full": LibraryConfig(  # with the positive control all 3,200 of the library
        treatments=3199, sources=10, batches=20, plates=10, size=64
    ),
    **{f"qc-{size}": config for size, config in _QC.items()},
    **{f"qc-{size}-shift": _shifted(config) for size, config in _QC.items()},
}  # fmt: skip


def name_of(config: SimulatedConfig, index: int) -> tuple[str, str, str]:
    batch = index // config.plates
    source = batch % config.sources
    return f"S{source + 1}", f"B{batch + 1:02d}", f"B{batch + 1:02d}P{index % config.plates + 1}"


@cache
def compounds_of(config: SimulatedConfig) -> pd.DataFrame:
    """The compounds in the order of their codes; the last one is the positive control."""
    count = config.treatments // len(config.doses_um) + 1
    return compounds.compounds(count, config.seed, config.levels, config.structure_share)


def wells_of(config: SimulatedConfig, plate: int, rng: np.random.Generator) -> pd.DataFrame:
    """What each well of a plate got. Odd sources keep one layout, with controls on the rim."""
    source = plate // config.plates % config.sources
    fixed = source % 2 == 1
    own = np.arange(config.treatments)
    if isinstance(config, LibraryConfig):
        own = own[plate % config.plates :: config.plates]
    wells = layout(
        len(own), config.wells, config.control_wells, config.positive_wells, fixed,
        np.random.default_rng([config.seed, 6, source]) if fixed else rng,
    )  # fmt: skip
    treatment = wells.pop("treatment").to_numpy()
    treatment = np.where(treatment < 0, treatment, own[np.maximum(treatment, 0)])
    last = config.treatments - 1 + len(config.doses_um)  # the positive control's highest dose
    number, dose = np.divmod(np.where(treatment == -2, last, treatment), len(config.doses_um))
    none = treatment == -1
    name = compounds_of(config)["compound"].to_numpy()
    wells["compound"] = np.where(none, compounds.CONTROL, name[number])
    wells["dose_um"] = np.where(none, 0.0, np.array(config.doses_um, float)[dose])
    return wells


def _traits(config: SimulatedConfig, wells: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Traits [wells t]: codes by dose, and biology that differs from well to well."""
    known = compounds_of(config).set_index("compound")
    known = known.reindex(wells["compound"])  # none of the negative control
    share = compounds.effect(wells["dose_um"], known["ec50_um"])
    code = known[[f"code_{t}" for t in TRAITS]].to_numpy()
    traits = np.nan_to_num(config.phenotype_strength * share[:, None] * code)
    return traits + 0.1 * rng.standard_normal(traits.shape)


def plate_fields(config: SimulatedConfig, plate: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The truth of one plate, one row a field, and its images [n c y x] uint16."""
    return draw_plate(config, plate)[:2]


def draw_plate(config: SimulatedConfig, plate: int) -> tuple[pd.DataFrame, np.ndarray, dict]:
    """As :func:`plate_fields`, and the masks [y x] of local faults by row."""
    rng = np.random.default_rng([config.seed, 4, plate])
    source, batch, name = name_of(config, plate)
    wells = wells_of(config, plate, rng)
    traits = _traits(config, wells, rng)
    fields = wells.loc[wells.index.repeat(config.sites)].reset_index(drop=True)
    index = plate // config.plates
    nuisance = effects.nuisance(
        (index % config.sources, index, plate), fields, config.size,
        (config.batch_strength, config.field_strength), config.seed, rng,
    )  # fmt: skip
    line = LINES[getattr(config, "cell_line", "u2os")]
    traits_of = np.repeat(traits, config.sites, 0)
    images, cells = draw_fields(traits_of, nuisance, config.size, rng, line)
    fields["site"] = np.tile(np.arange(1, config.sites + 1), len(wells))
    fields = fields.assign(source=source, batch=batch, plate=name, cells=cells)
    fields["site_id"] = name + "_" + fields["well"] + "_s" + fields["site"].astype(str)
    fields[[f"trait_{t}" for t in TRAITS]] = np.repeat(traits, config.sites, 0)
    for key in ("density", "cell_size", "defocus_px"):
        fields[key] = getattr(nuisance, key)
    masks = _put_faults(config, plate, fields, images)
    return fields.drop(columns=["edge", "across", "down"]), images, masks


def _put_faults(config: SimulatedConfig, plate: int, fields: pd.DataFrame, images) -> dict:
    """Spoil some fields, in place; the others are the same whatever the rate."""
    rng = np.random.default_rng([config.seed, 7, plate])
    spoilt = np.flatnonzero(rng.random(len(fields)) < config.fault_rate)
    fields["fault"], fields["severity"], fields["mask"] = "", 0.0, ""
    masks = {}
    for row in spoilt:
        fault, severity = str(rng.choice(faults.FAULTS)), float(rng.uniform(0.3, 1))
        images[row], mask = faults.apply(images[row], fault, severity, rng)
        fields.loc[row, ["fault", "severity"]] = fault, severity
        if fault in faults.LOCAL:
            masks[row] = mask
            well, site = fields.loc[row, ["well", "site"]]
            fields.loc[row, "mask"] = f"truth/masks/{fields['plate'][row]}/{well}_s{site}.png"
        elif fault in ("empty", "dead"):
            fields.loc[row, "cells"] = 0
    return masks

"""One plate: its layout, its doses, its controls; and the sizes of whole screens."""

from dataclasses import fields, replace

import numpy as np
import pytest

from hcs_utils.data.screens.drawing import TRAITS
from hcs_utils.data.screens.faults import FAULTS
from hcs_utils.data.screens.plating import (
    SIZES,
    LibraryConfig,
    QCConfig,
    SimulatedConfig,
    draw_plate,
    plate_fields,
    wells_of,
)
from hcs_utils.errors import InputError


def wells(config, plate, seed=0):
    return wells_of(config, plate, np.random.default_rng([seed, plate]))


LIBRARIES = [size for size, config in SIZES.items() if isinstance(config, LibraryConfig)]


@pytest.mark.parametrize("size", sorted(set(SIZES) - set(LIBRARIES)))
def test_every_plate_of_every_size_has_all_treatments_and_controls(size):
    config = SIZES[size]
    for plate in range(0, config.batches * config.plates, 5):
        table = wells(config, plate)
        counts = table.groupby(["compound", "dose_um"]).size()
        assert counts.pop(("DMSO", 0.0)) == config.control_wells >= 3
        count = config.treatments // len(config.doses_um)
        positive = (f"SIM-{count:04d}", config.doses_um[-1])
        assert counts.pop(positive) == config.positive_wells >= 1
        assert len(counts) == config.treatments and (counts == config.wells).all()


@pytest.mark.parametrize("size", LIBRARIES)
def test_a_batch_has_each_compound_of_the_library_once_and_a_plate_always_the_same(size):
    config = SIZES[size]
    batches = [
        [wells(config, b * config.plates + p) for p in range(config.plates)] for b in range(2)
    ]
    for first, second in zip(*batches, strict=True):
        assert (first["compound"] == "DMSO").sum() == config.control_wells
        assert set(first["compound"]) == set(second["compound"])
        assert len(first) <= 384 and not first.duplicated("well").any()
    counts = sum(table["compound"].value_counts().reindex(
        [f"SIM-{k:04d}" for k in range(config.treatments + 1)], fill_value=0
    ) for table in batches[0])  # fmt: skip
    assert (counts[:-1] == 1).all() and counts.iloc[-1] == config.positive_wells * config.plates


def test_a_library_is_as_large_as_it_should_be():
    count = {size: SIZES[f"molecules-{size}"].treatments for size in ("quick", "standard", "full")}
    assert count == {"quick": 700, "standard": 1600, "full": 3199}
    fields, images = plate_fields(SIZES["molecules-smoke"], 3)
    assert len(fields) == len(images) == 104 and set(fields["source"]) == {"S2"}


def test_full_is_the_size_that_it_should_be():
    config = SIZES["full"]
    a_plate = len(wells(config, 0)) * config.sites
    assert config.batches == 24 and config.treatments >= 200
    assert config.batches * config.plates * a_plate >= 50_000


def test_odd_sources_keep_their_layout_and_the_others_do_not():
    config = SIZES["quick"]  # two plates a batch, sources in turn
    tables = [wells(config, k).set_index("well") for k in range(8)]
    alike = [[a["compound"].equals(b["compound"]) for b in tables] for a in tables]
    fixed = np.arange(8) // 2 % 2 == 1
    np.testing.assert_array_equal(alike, np.outer(fixed, fixed) | np.eye(8, dtype=bool))


def test_compounds_come_in_all_doses_and_weaker_ones_show_less():
    config = SimulatedConfig(
        treatments=12, doses_um=(0.1, 0.6, 10.0), levels=3, batches=1, plates=1, sites=1, size=24
    )
    fields, _ = plate_fields(config, 0)
    size = np.abs(fields[[f"trait_{t}" for t in TRAITS]]).sum(axis=1)
    treated = fields["dose_um"] > 0
    by_dose = size[treated].groupby([fields["compound"], fields["dose_um"]]).mean().unstack()
    tested = by_dose.dropna()
    assert len(tested) == 4 and set(by_dose.index) - set(tested.index) == {"SIM-0004"}
    assert (tested[0.1] < tested[0.6]).all() and (tested[0.6] < tested[10.0]).all()
    assert size[~treated].mean() < tested[10.0].min() / 3


def test_doses_that_do_not_divide_the_treatments_are_told():
    with pytest.raises(InputError, match="16 treatments cannot be compounds at 3 doses each"):
        SimulatedConfig(doses_um=(1.0, 2.0, 3.0))


def test_the_rim_of_a_plate_has_fewer_cells():
    config = replace(SIZES["quick"], field_strength=0.0, sites=8, size=40, batch_strength=1.5)
    cells = []
    for plate in (0, 4):
        fields, _ = plate_fields(config, plate)
        rim = fields["well"].str[0].isin(["A", "H"]) | fields["well"].str[1:].isin(["01", "12"])
        cells.append(fields["cells"].groupby(rim).mean())
    assert all(c[True] < 0.9 * c[False] for c in cells)


def test_a_whole_plate_of_the_full_size_is_drawn():
    config = replace(SIZES["full"], fault_rate=0.05)
    fields, images, masks = draw_plate(config, 7)
    assert images.shape == (len(fields), 5, 64, 64) and images.dtype == np.uint16
    assert len(fields) == 548 and fields["site_id"].is_unique
    assert set(masks) == set(np.flatnonzero(fields["mask"] != ""))
    assert (images.std((1, 2, 3)) > 0).all()


def test_sizes_that_were_there_before_draw_what_they_drew():
    """Mean grey level of each channel of two fields, as drawn before there were cell lines."""
    _, images = plate_fields(SIZES["quick"], 0)
    before = [[124.87, 102.27, 89.19, 116.5, 74.19], [116.55, 84.95, 69.23, 134.51, 85.37]]
    np.testing.assert_allclose(images[[0, 7]].mean((2, 3)), before, atol=0.02)
    assert {f.name for f in fields(SIZES["full"])} == {
        "treatments", "levels", "doses_um", "structure_share", "sources", "batches", "plates",
        "wells", "control_wells", "positive_wells", "sites", "size", "phenotype_strength",
        "batch_strength", "field_strength", "fault_rate", "seed", "drawing",
    }  # fmt: skip


def test_quality_control_has_forty_fields_of_each_fault_on_a_third_of_its_plates():
    config = SIZES["qc-standard"]
    count = config.batches * config.plates
    of_a_plate = len(wells(config, 0)) * config.sites
    expected = count / 3 * of_a_plate * config.fault_rate / len(FAULTS)
    assert count >= 16
    assert expected > 40 + 2 * expected**0.5  # so that chance leaves 40 of them


def test_the_shifted_screen_is_of_another_cell_line_laboratory_and_compounds():
    for size in ("smoke", "quick", "standard", "full"):
        ours, shifted = SIZES[f"qc-{size}"], SIZES[f"qc-{size}-shift"]
        assert (ours.cell_line, shifted.cell_line) == ("u2os", "mcf7")
        assert ours.seed != shifted.seed and ours.size == shifted.size
        assert shifted.batches * shifted.plates < ours.batches * ours.plates
    first, second = (plate_fields(SIZES[f"qc-smoke{k}"], 0)[0] for k in ("", "-shift"))
    assert len(first) == len(second) and (first["cells"] > 0).mean() > 0.6
    with pytest.raises(InputError, match="cell_line is 'hela'; there are: u2os, mcf7"):
        QCConfig(cell_line="hela")

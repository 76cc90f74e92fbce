"""Crops for quality control: every field has some, faults keep their grey levels, truth by mask."""

import subprocess
import sys
from dataclasses import replace

import imagecodecs
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from hcs_utils.data import cells, images, qc_crops, store
from hcs_utils.data.screens import faults, plating, simulated
from hcs_utils.errors import InputError

CONFIG = replace(
    plating.SIZES["qc-smoke"], batches=2, plates=1, treatments=2, sites=8, fault_rate=0.6
)
BBBC022 = 2_122_341  # crops of the paper's screen


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """Root, manifest and a store of crops of 96 drawn fields."""
    root = tmp_path_factory.mktemp("qc")
    simulated.draw(root / "screen", CONFIG)
    table = simulated.manifest(root / "screen")
    report = qc_crops.cut(table, root / "screen", root / "crops.zarr", progress=False)
    return root / "screen", table, root / "crops.zarr", report


def test_every_field_gives_crops_and_the_report_adds_up(screen):
    root, table, path, report = screen
    crops = qc_crops.read(path)
    assert report.fields == len(table) == crops["parent"].nunique() and not report.failed
    assert report.crops == len(crops) == len(store.open_store(path))
    assert report.grid == crops["found"].eq("grid").sum() > 0
    assert crops.groupby("parent").size().max() <= 4
    assert crops["site_id"].is_unique
    assert crops["site_id"].str.contains("__g").equals(crops["found"].eq("grid"))
    empty = simulated.truth(root).set_index("site_id")["fault"].eq("empty")
    of_empty = crops["parent"].map(empty)
    assert of_empty.any() and crops.loc[of_empty, "found"].eq("grid").all()
    assert crops[crops["found"] == "nucleus"]["parent"].nunique() > 0.5 * len(table)


def test_a_crop_is_its_place_in_the_field_on_the_scale_of_its_plate(screen):
    root, table, path, _ = screen
    opened, crops = store.open_store(path), qc_crops.read(path)
    attributes = store.read_attributes(path)
    assert opened.channels == ("red", "green", "blue") == qc_crops.COLOURS
    assert opened.pixel_size_um == simulated.PIXEL_SIZE_UM
    fields = table.set_index("site_id")
    for row in range(0, len(crops), 29):
        crop = crops.iloc[row]
        field = images.read_site(root, fields.loc[crop["parent"]], ("AGP", "Mito", "DNA"))
        low, high = np.array(attributes["levels"][crop["plate"]])[:, :, None, None]
        scaled = np.rint(np.clip((field - low) / (high - low) * 255, 0, 255))
        top, left, side = crop["top"], crop["left"], crop["crop_px"]
        expected = scaled[:, top : top + side, left : left + side]
        assert np.abs(opened.read([row])[0] - expected).max() <= 1


def test_grey_levels_are_medians_over_fields_so_that_bright_faults_do_not_set_them(screen):
    root, table, path, _ = screen
    levels = store.read_attributes(path)["levels"]
    of = table[table["plate"] == table["plate"].iloc[0]].reset_index(drop=True)
    single = np.array(  # with numpy, all 48 fields of the plate
        [
            np.percentile(images.read_site(root, row, ("AGP", "Mito", "DNA")), [1, 99.5], (1, 2))
            for _, row in of.iterrows()
        ]
    )
    low, high = np.median(single, axis=0)
    np.testing.assert_allclose(levels[of["plate"][0]][0], low)
    np.testing.assert_allclose(levels[of["plate"][0]][1], low + 1.5 * (high - low))
    assert max(levels[of["plate"][0]][1]) < 20_000  # though some fields reach 65,535


def test_the_scale_of_the_plate_shows_what_that_of_the_plane_hides(screen, tmp_path):
    root, table, path, _ = screen
    qc_crops.cut(table, root, tmp_path / "plane.zarr", scale="plane", progress=False)
    truth = qc_crops.truth(qc_crops.read(path), root)
    mean = {}
    for scale, where in (("plate", path), ("plane", tmp_path / "plane.zarr")):
        opened = store.open_store(where)
        grey = opened.read(np.arange(len(opened))).mean((1, 2, 3))
        mean[scale] = pd.Series(grey).groupby(truth["fault"].to_numpy()).mean()
    empty = {scale: of["empty"] / of[""] for scale, of in mean.items()}
    assert empty["plate"] < 0.5 < 0.8 < empty["plane"]
    assert mean["plate"]["saturation"] > 2 * mean["plate"][""]


def test_truth_follows_whole_field_faults_and_the_masks_of_local_ones(screen):
    root, _, path, _ = screen
    crops = qc_crops.read(path).sample(frac=1, random_state=0)
    found = qc_crops.truth(crops, root, least=0.05)
    assert found.index.equals(crops.index)
    fields = simulated.truth(root).set_index("site_id")
    seen = set()
    for row in crops.index:
        field, crop, ours = fields.loc[crops["parent"][row]], crops.loc[row], found.loc[row]
        share = float(field["fault"] != "")
        if field["fault"] in faults.LOCAL:
            mask = imagecodecs.png_decode((root / field["mask"]).read_bytes()) > 0
            top, left = crop["top"], crop["left"]
            share = np.mean([mask[y, x] for y in range(top, top + 48)
                             for x in range(left, left + 48)])  # fmt: skip
        assert ours["covered"] == pytest.approx(share)
        spoilt = share >= 0.05
        assert ours["abnormal"] == spoilt
        assert ours["fault"] == (field["fault"] if spoilt else "")
        assert ours["severity"] == (field["severity"] if spoilt else 0)
        seen.add((field["fault"], spoilt))
    assert {("debris", True), ("debris", False), ("", False), ("empty", True)} <= seen


def test_a_store_cut_in_the_same_way_is_left_and_another_way_replaces_it(screen, tmp_path):
    root, table, *_ = screen
    path, some = tmp_path / "crops.zarr", table.iloc[:12]
    first = qc_crops.cut(some, root, path, progress=False)
    before = (path / "crops.parquet").stat().st_mtime_ns
    assert qc_crops.cut(some, root, path, progress=False) == first
    assert (path / "crops.parquet").stat().st_mtime_ns == before
    fewer = qc_crops.cut(some, root, path, max_per_field=1, progress=False)
    assert fewer.crops == 12 < first.crops


def test_fields_without_nuclei_may_be_left_out_and_broken_files_are_listed(screen, tmp_path):
    root, table, *_ = screen
    path = tmp_path / "crops.zarr"
    broken = table.copy()
    broken.loc[0, "path_Mito"] = "images/none.tiff"
    report = qc_crops.cut(broken, root, path, without_nuclei="leave_out", progress=False)
    crops = qc_crops.read(path)
    assert crops["found"].eq("nucleus").all() and report.grid == 0
    assert [site for site, _ in report.failed] == [table["site_id"][0]]
    assert (tmp_path / "crops.zarr.failed.csv").exists()
    assert qc_crops.cut(broken, root, path, without_nuclei="leave_out", progress=False) == report


def test_the_grid_lies_in_the_middle_and_does_not_overlap():
    tiles = qc_crops._grid((100, 150), 48, "s")
    crops, kept = cells.crop(np.arange(15_000).reshape(1, 100, 150), tiles, 48)
    assert len(tiles) == len(kept) == 2 * 3 and not kept["beyond"].any()
    assert len(np.unique(crops)) == crops.size
    assert (kept["top"].min(), kept["left"].min()) == (2, 3)
    assert qc_crops._grid((40, 150), 48, "s").empty


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"composite": ("AGP", "Mitos", "DNA")}, r"no channel 'Mitos' \(nearest: Mito\); the"),
        ({"composite": ("AGP", "DNA")}, "composite names 2 channels; give three"),
        ({"nucleus_channel": "dna"}, r"no channel 'dna' \(nearest: DNA, RNA\); the"),
        ({"size": 128}, "A crop of 128×128 does not fit into an image of 96×96"),
        ({"without_nuclei": "drop"}, "without_nuclei is 'drop'; choose 'grid' or 'leave_out'"),
        ({"scale": "image"}, "scale is 'image'; choose 'plate' or 'plane'"),
    ],
)
def test_what_cannot_be_cut_is_told(screen, tmp_path, options, said):
    root, table, *_ = screen
    with pytest.raises(InputError, match=said):
        qc_crops.cut(table.iloc[:3], root, tmp_path / "c.zarr", progress=False, **options)
    assert not (tmp_path / "c.zarr").exists()


def test_truth_needs_a_simulated_screen_and_its_own_crops(screen, tmp_path):
    root, _, path, _ = screen
    crops = qc_crops.read(path).head()
    with pytest.raises(InputError, match="only simulated screens know their faults"):
        qc_crops.truth(crops, tmp_path)
    with pytest.raises(InputError, match="1 fields of the crops are not in"):
        qc_crops.truth(crops.assign(parent="elsewhere"), root)


# Two million crops, planned


def test_a_plan_covers_every_row_once_and_no_job_has_two_plates():
    plate = np.repeat(["a", "b", "a", "c"], [5, 1, 40, 7])
    table = pd.DataFrame({"plate": plate})
    jobs = qc_crops.plan(table, 3, crop_px=64, most=30)
    rows = np.concatenate([np.arange(j.start, j.start + j.rows) for j in jobs.itertuples()])
    np.testing.assert_array_equal(rows, np.arange(len(table)))
    for job in jobs.itertuples():
        assert set(plate[job.start : job.start + job.rows]) == {job.plate}
    assert jobs["plate"].tolist() == ["a", "b", *4 * ["a"], "c"]
    assert jobs["crops"].max() <= 30 and (jobs["crops"] == 3 * jobs["rows"]).all()
    np.testing.assert_allclose(jobs["mib"], jobs["crops"] * 3 * 64 * 64 / 2**20)
    assert qc_crops.plan(table.head(0)).empty
    with pytest.raises(InputError, match="most 0"):
        qc_crops.plan(table, most=0)


_PLAN = """
import resource, sys
from hcs_utils.data import qc_crops
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
jobs = qc_crops.plan(sys.argv[1])
last = qc_crops.rows_of(sys.argv[1], *jobs.loc[len(jobs) - 1, ["start", "rows"]].tolist())
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(jobs), jobs["crops"].sum(), last["site_id"].iloc[-1], jobs["crops"].max(), after - before)
"""


def test_the_crops_of_the_paper_are_planned_in_memory_that_they_do_not_fill(tmp_path):
    grown = {}
    for name, count in (("tenth", BBBC022 // 10), ("all", BBBC022)):
        path, plates = tmp_path / f"{name}.parquet", 20
        edges = np.linspace(0, count, plates + 1).astype(int)
        schema = pa.schema([("site_id", pa.string()), ("plate", pa.string())])
        with parquet.ParquetWriter(path, schema) as writer:
            for k in range(plates):
                ids = [f"crop{n}" for n in range(edges[k], edges[k + 1])]
                table = {"site_id": ids, "plate": [f"P{k:02d}"] * len(ids)}
                writer.write_table(pa.table(table, schema))
        command = [sys.executable, "-c", _PLAN, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        jobs, crops, last, most, kib = done.stdout.split()
        assert (int(crops), last) == (count, f"crop{count - 1}") and int(most) <= 1 << 14
        assert int(jobs) == plates * -(-(count // plates) // (1 << 14))
        grown[name] = int(kib) / 1024
    assert grown["all"] < grown["tenth"] + 30  # MiB, of a column of 2.1 million plates and more


def test_rows_of_a_table_are_read_from_where_they_lie(tmp_path):
    path = tmp_path / "t.parquet"
    table = pd.DataFrame({"a": np.arange(100), "b": np.arange(100) * 2})
    table.to_parquet(path, row_group_size=7)
    for start, rows in ((0, 100), (6, 2), (7, 7), (95, 5), (20, 1)):
        found = qc_crops.rows_of(path, start, rows, ["b"])
        assert found["b"].tolist() == table["b"][start : start + rows].tolist()
    with pytest.raises(InputError, match="has rows 0 to 99; asked for 2 from 99"):
        qc_crops.rows_of(path, 99, 2)

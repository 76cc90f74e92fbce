"""Crops hold the pixels around their nuclei; the border rule loses and invents none silently."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import disk

from hcs_utils.data import cells, images, manifest, store
from hcs_utils.errors import InputError

CHANNELS = ("DNA", "ER")
PLACES = {  # y, x of the nuclei of each field of 120 × 140 pixels
    "f1": [(30, 30), (60, 100), (90, 40), (8, 70)],
    "f2": [(60, 70)],
    "f3": [],
    "f4": [(40, 40), (41, 100), (80, 70)],
}
TABLE = pd.DataFrame({"nucleus": [0, 1, 2], "y": [10.2, 3.5, 49.9], "x": [20.0, 59.2, 0.0]})


def field(places, rng) -> np.ndarray:
    plane = np.zeros((120, 140))
    for place in places:
        plane[disk(place, 8, shape=plane.shape)] = 2_000
    plane = rng.poisson(ndimage.gaussian_filter(plane, 1) + 100)
    return np.stack([plane, rng.poisson(300 + plane[::-1] / 9)]).astype(np.uint16)


@pytest.fixture
def screen(tmp_path):
    """Root and manifest of four fields."""
    rng = np.random.default_rng(0)
    root = tmp_path / "screen"
    root.mkdir()
    rows = []
    for k, (site, places) in enumerate(PLACES.items()):
        for channel, plane in zip(CHANNELS, field(places, rng), strict=True):
            tifffile.imwrite(root / f"{site}_{channel}.tif", plane)
        paths = {f"path_{channel}": f"{site}_{channel}.tif" for channel in CHANNELS}
        rows.append(
            {"site_id": site, "source": "s", "batch": "b", "plate": "p", "well": f"A0{k + 1}",
             "site": 1, "treatment": "dmso", "compound": "dmso", "smiles": "", "dose_um": np.nan,
             "role": "negcon", "moa": "", "target": "", **paths}
        )  # fmt: skip
    return root, manifest.validate(pd.DataFrame(rows))


def cut(screen, path, **options):
    root, frame = screen
    options = {"size": 24, "diameter_px": 16, "progress": False} | options
    return cells.crop_screen(frame, root, path, **options)


@given(
    st.tuples(st.integers(5, 40), st.integers(5, 40)),
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), max_size=9),
    st.sampled_from(cells.BORDERS),
)
def test_a_crop_is_what_lies_around_its_nucleus(shape, size, shares, border):
    image = np.random.default_rng(0).integers(1, 256, (2, *shape)).astype(np.uint8)
    places = np.array(shares).reshape(-1, 2) * np.array(shape)
    table = pd.DataFrame({"nucleus": range(len(places)), "y": places[:, 0], "x": places[:, 1]})
    crops, kept = cells.crop(image, table, size, border)
    assert len(crops) == len(kept)
    mode = {"zeros": "constant", "reflect": "reflect"}.get(border, "edge")
    padded = np.pad(image, ((0, 0), (99, 99), (99, 99)), mode=mode)
    for out, row in zip(crops, kept.to_dict("records"), strict=True):
        top, left = row["top"], row["left"]
        expected = padded[:, 99 + top : 99 + top + size, 99 + left : 99 + left + size]
        np.testing.assert_array_equal(out, expected)
        apart = np.abs([row["y"] - top - size // 2, row["x"] - left - size // 2])
        inside = top >= 0 and left >= 0 and top + size <= shape[0] and left + size <= shape[1]
        if row["beyond"]:
            assert inside if border == "shift" else not inside
        else:
            assert inside and (apart <= 0.5).all()
    if border == "drop":
        assert not kept["beyond"].any()
        _, all_of_them = cells.crop(image, table, size, "shift")
        assert kept["nucleus"].tolist() == all_of_them["nucleus"][~all_of_them["beyond"]].tolist()
    else:
        assert len(kept) == len(table)


def test_each_border_rule_does_what_its_name_says():
    image = np.arange(1, 50 * 60 + 1, dtype=np.uint16).reshape(1, 50, 60)
    crops, kept = cells.crop(image, TABLE, 10, "drop")
    assert kept["nucleus"].tolist() == [0] and crops[0, 0, 5, 5] == image[0, 10, 20]
    crops, kept = cells.crop(image, TABLE, 10, "shift")
    assert kept[["top", "left"]].to_numpy().tolist() == [[5, 15], [0, 50], [40, 0]]
    assert kept["beyond"].tolist() == [False, True, True] and (crops > 0).all()
    crops, kept = cells.crop(image, TABLE, 10, "zeros")
    assert kept[["top", "left"]].to_numpy().tolist() == [[5, 15], [-1, 54], [45, -5]]
    assert crops[1, 0, 5, 5] == image[0, 4, 59] and (crops[1, 0, 0] == 0).all()
    crops, _ = cells.crop(image, TABLE, 10, "reflect")
    assert crops[1, 0, 0, 5] == image[0, 1, 59] and (crops > 0).all()


def test_a_crop_larger_than_the_image_is_refused_unless_filled():
    image = np.ones((1, 50, 60), np.uint8)
    for border in ("drop", "shift"):
        with pytest.raises(InputError, match=r"51×51 does not fit into an image of 50×60"):
            cells.crop(image, TABLE, 51, border)
    assert cells.crop(image, TABLE, 151, "reflect")[0].all()
    with pytest.raises(InputError, match="'pad'; choose one of 'drop', 'shift'"):
        cells.crop(image, TABLE, 10, "pad")


@pytest.mark.parametrize("border", cells.BORDERS)
def test_a_screens_crops_and_their_table_agree(screen, tmp_path, border):
    report = cut(screen, tmp_path / "crops.zarr", border=border)
    total = 7 if border == "drop" else 8
    assert (report.fields, report.empty, report.nuclei) == (4, 1, 8)
    assert (report.crops, report.beyond, report.not_chosen) == (total, 1, 0)
    table, opened = (
        cells.read_crops(tmp_path / "crops.zarr"),
        store.open_store(tmp_path / "crops.zarr"),
    )
    assert opened.site_ids.tolist() == table["site_id"].tolist() and opened.channels == CHANNELS
    assert opened.manifest_sha256 == manifest.digest(table)
    assert table["beyond"].sum() == total - 7
    for site, places in PLACES.items():
        own = table[table["parent"] == site]
        apart = np.hypot(*(own[["y", "x"]].to_numpy()[:, None] - np.array(places or [(0, 0)])).T)
        assert (apart.min(axis=0, initial=99) < 1.5).all()
        image = images.to_uint8(
            images.read_site(screen[0], screen[1].set_index("site_id").loc[site], CHANNELS)
        )
        expected, _ = cells.crop(image, own, 24, border)
        np.testing.assert_array_equal(opened.read(opened.rows(own["site_id"])), expected)
    assert set(table["well"]) == {"A01", "A02", "A04"} and set(table["role"]) == {"negcon"}


def test_a_store_of_fields_can_be_cut_as_well(screen, tmp_path):
    root, frame = screen
    pixels = np.stack(
        [images.to_uint8(images.read_site(root, row, CHANNELS)) for _, row in frame.iterrows()]
    )
    fields = store.write_store(
        tmp_path / "f.zarr", pixels[:3], ["f1", "f2", "f3"], CHANNELS, pixel_size_um=0.75
    )
    report = cells.crop_screen(frame, fields, tmp_path / "c.zarr", size=24, progress=False)
    assert report.crops == 4 and report.failed == [("f4", f"is not in {fields.path}")]
    opened, table = store.open_store(tmp_path / "c.zarr"), cells.read_crops(tmp_path / "c.zarr")
    assert opened.pixel_size_um == 0.75
    crops, _ = cells.crop(pixels[1], table[table["parent"] == "f2"], 24)
    np.testing.assert_array_equal(opened.read([3]), crops)


def test_max_per_field_keeps_the_same_nuclei_whatever_the_other_fields(screen, tmp_path):
    root, frame = screen
    report = cut(screen, tmp_path / "a.zarr", max_per_field=2, seed=3)
    assert (report.crops, report.not_chosen, report.beyond) == (5, 2, 1)
    whole = cells.read_crops(tmp_path / "a.zarr")
    assert whole["parent"].value_counts().to_dict() == {"f1": 2, "f4": 2, "f2": 1}
    cut((root, frame.iloc[[3]]), tmp_path / "b.zarr", max_per_field=2, seed=3)
    alone = cells.read_crops(tmp_path / "b.zarr")["site_id"]
    assert set(alone) == set(whole["site_id"][whole["parent"] == "f4"])
    others = [set(_chosen(screen, tmp_path, seed)) for seed in range(4)]
    assert len(set(map(frozenset, others))) > 1


def _chosen(screen, tmp_path, seed):
    cut(screen, tmp_path / "s.zarr", max_per_field=1, seed=seed)
    return cells.read_crops(tmp_path / "s.zarr")["site_id"]


def test_shards_fill_across_fields(screen, tmp_path, monkeypatch):
    cut(screen, tmp_path / "one.zarr")
    monkeypatch.setattr(store, "_SHARD_SITES", 2)
    cut(screen, tmp_path / "two.zarr")
    one, two = (store.open_store(tmp_path / f"{name}.zarr") for name in ("one", "two"))
    assert len(list((tmp_path / "two.zarr" / "images" / "c").iterdir())) == 4
    np.testing.assert_array_equal(one.read(range(7)), two.read(range(7)))


def test_a_field_that_cannot_be_read_is_listed_and_the_rest_is_cut(screen, tmp_path):
    (screen[0] / "f4_ER.tif").write_bytes((screen[0] / "f4_ER.tif").read_bytes()[:700])
    report = cut(screen, tmp_path / "crops.zarr")
    assert report.crops == 4 and report.fields == 3
    assert report.failed[0][0] == "f4" and "damaged or truncated" in report.failed[0][1]
    listed = pd.read_csv(tmp_path / "crops.zarr.failed.csv")
    assert listed["site_id"].tolist() == ["f4"]
    assert store.open_store(tmp_path / "crops.zarr").failed == report.failed


def test_what_is_interrupted_leaves_the_old_store(screen, tmp_path, monkeypatch):
    cut(screen, tmp_path / "crops.zarr")
    before = sorted(
        (p, p.read_bytes()) for p in (tmp_path / "crops.zarr").rglob("*") if p.is_file()
    )

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            cut(screen, tmp_path / "crops.zarr", size=16)
    cut(screen, tmp_path / "crops.zarr")  # the same once more: byte for byte
    after = sorted((p, p.read_bytes()) for p in (tmp_path / "crops.zarr").rglob("*") if p.is_file())
    assert before == after
    assert sorted(p.name for p in tmp_path.iterdir()) == ["crops.zarr", "screen"]


def test_input_that_gives_no_crops_is_refused_with_the_reason(screen, tmp_path):
    root, frame = screen
    path = tmp_path / "crops.zarr"
    with pytest.raises(InputError, match=r"No crop can be cut from 1 fields: 0 nuclei found"):
        cut((root, frame.iloc[[2]]), path)
    with pytest.raises(InputError, match=r"f1: A crop of 500×500 does not fit"):
        cut(screen, path, size=500)
    with pytest.raises(InputError, match=r"no channel 'dna' \(nearest: DNA\)"):
        cut(screen, path, channel="dna")
    with pytest.raises(InputError, match="Give pixel_size_um"):
        cut(screen, path, diameter_px=0)
    path.mkdir()
    (path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="no store of this project"):
        cut(screen, path)
    assert (path / "mine.txt").exists()

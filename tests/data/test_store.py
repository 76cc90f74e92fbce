"""The store gives back what was written, fast, and names what it lacks."""

import json
import pickle

import numpy as np
import pytest
import zarr

from hcs_utils.data import store
from hcs_utils.errors import InputError

RNG = np.random.default_rng(0)


def noise(sites, shape=(3, 8, 9)):
    return RNG.poisson(20, (sites, *shape)).astype(np.uint8)


def written(path, images):
    names = [f"s{k}" for k in range(len(images))]
    return store.write_store(path, images, names, [f"c{k}" for k in range(images.shape[1])])


def test_what_is_written_is_read_in_any_order(tmp_path):
    images = noise(600)
    images[300] = 0
    got = written(tmp_path / "s.zarr", images)
    rows = RNG.permutation(600)
    np.testing.assert_array_equal(got.read(rows), images[rows])
    np.testing.assert_array_equal(got.read([5, 5, 599, 300]), images[[5, 5, 599, 300]])
    assert got.read([]).shape == (0, 3, 8, 9)
    assert got.shape == images.shape and len(got) == 600


def test_a_shard_that_is_all_zero_reads_as_zero(tmp_path):
    images = noise(600)
    images[256:512] = 0
    np.testing.assert_array_equal(written(tmp_path / "s.zarr", images).read(range(600)), images)


def test_zarr_reads_the_same_pixels_and_the_layout_is_the_contract(tmp_path):
    images = noise(300)
    written(tmp_path / "s.zarr", images)
    group = zarr.open_group(tmp_path / "s.zarr", mode="r")
    np.testing.assert_array_equal(group["images"][:], images)
    assert group["images"].chunks == (1, 3, 8, 9)
    assert group["images"].shards == (256, 3, 8, 9)
    assert group["images"].metadata.dimension_names == ("site", "channel", "y", "x")
    assert group.attrs["channels"] == ["c0", "c1", "c2"]
    assert group.attrs["site_ids"][299] == "s299"


def test_large_images_get_small_shards(tmp_path):
    array = store.create(tmp_path / "s.zarr", 10, (5, 2000, 2000))
    assert array.shards == (3, 5, 2000, 2000)


def test_attributes_come_back(tmp_path):
    got = store.write_store(
        tmp_path / "s.zarr",
        noise(2),
        ["a", "b"],
        ["dna", "er", "agp"],
        pixel_size_um=0.65,
        manifest_sha256="f00",
        parameters={"size": 8},
        failed=[("c", "is empty")],
    )
    assert got.channels == ("dna", "er", "agp")
    assert (got.pixel_size_um, got.manifest_sha256) == (0.65, "f00")
    assert (got.parameters, got.failed) == ({"size": 8}, [("c", "is empty")])
    assert got.site_ids.tolist() == ["a", "b"]


def test_rows_follow_names_and_unknown_names_are_listed(tmp_path):
    got = written(tmp_path / "s.zarr", noise(5))
    assert got.rows(["s4", "s0", "s4"]).tolist() == [4, 0, 4]
    with pytest.raises(InputError, match=r"lacks 2 of 3 sites: x, y"):
        got.rows(["x", "s0", "y"])
    for rows in ([5], [-1]):
        with pytest.raises(InputError, match="rows 0 to 4"):
            got.read(rows)


def test_what_is_no_finished_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished store"):
        store.open_store(tmp_path / "none.zarr")
    store.create(tmp_path / "started.zarr", 4, (1, 8, 8))
    with pytest.raises(InputError, match="no finished store"):
        store.open_store(tmp_path / "started.zarr")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "zarr.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="no finished store"):
        store.open_store(tmp_path / "bad")
    with pytest.raises(InputError, match="2 sites and 1 channels do not fit"):
        store.write_store(tmp_path / "x", noise(2), ["a", "b"], ["dna"])


def test_a_damaged_shard_is_named(tmp_path):
    got = written(tmp_path / "s.zarr", noise(300))
    shard = tmp_path / "s.zarr" / "images" / "c" / "1" / "0" / "0" / "0"
    content = shard.read_bytes()
    for damaged in (
        b"",
        content[:1000],
        bytes(40) + content[40:],
        content[:99] + b"?" + content[100:],
    ):
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            got.read([256])
    shard.unlink()
    with pytest.raises(InputError, match="damaged"):
        got.read([256])
    assert got.read([0]).shape == (1, 3, 8, 9)


@pytest.mark.parametrize("sites", [(3, 4, 9), (8,), (16, 1), (5, 3, 8)])
def test_stores_joined_are_the_bytes_of_one_and_zarr_reads_them(tmp_path, monkeypatch, sites):
    monkeypatch.setattr(store, "_SHARD_SITES", 8)
    images = noise(sum(sites))
    parts = [tmp_path / f"{k}.zarr" for k in range(len(sites))]
    for path, block in zip(parts, np.split(images, np.cumsum(sites)[:-1]), strict=True):
        written(path, block)
    names = [f"s{k}" for k in range(len(images))]
    for _ in range(2):  # once more: what is there is kept
        assert store.concatenate(tmp_path / "all.zarr", parts) == len(images)
    store.finish(tmp_path / "all.zarr", names, ["c0", "c1", "c2"])
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "all.zarr" / "images")[:], images)
    written(tmp_path / "one.zarr", images)
    for file in (path for path in (tmp_path / "one.zarr").rglob("*") if path.is_file()):
        joined = tmp_path / "all.zarr" / file.relative_to(tmp_path / "one.zarr")
        assert joined.read_bytes() == file.read_bytes()


def test_stores_that_cannot_be_joined_are_named(tmp_path):
    first, second = tmp_path / "a.zarr", tmp_path / "b.zarr"
    written(first, noise(3))
    written(second, noise(3, (3, 8, 8)))
    with pytest.raises(InputError, match=r"one image size .*\(3, 8, 8\), \(3, 8, 9\)"):
        store.concatenate(tmp_path / "c.zarr", [first, second])
    shard = first / "images" / "c" / "0" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[-4200:])
    with pytest.raises(InputError, match=r"a\.zarr.* is damaged"):
        store.concatenate(tmp_path / "c.zarr", [first])


def test_a_store_travels_to_worker_processes(tmp_path):
    images = noise(10)
    got = pickle.loads(pickle.dumps(written(tmp_path / "s.zarr", images)))
    np.testing.assert_array_equal(got.read([3]), images[[3]])


def test_thousands_of_sites_are_read_in_any_order(tmp_path):
    images = RNG.integers(0, 99, (5000, 5, 48, 48), dtype=np.uint8)
    got = written(tmp_path / "s.zarr", images)
    rows = RNG.permutation(5000)
    np.testing.assert_array_equal(got.read(rows), images[rows])

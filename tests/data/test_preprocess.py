"""Preprocessing is exact, complete, resumable to the byte, and never leaves half a store."""

import errno
import os
import signal
import subprocess
import sys
import time

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile

from hcs_utils.data import images, store
from hcs_utils.data.preprocess import Report, control_statistics, preprocess
from hcs_utils.errors import InputError
from hcs_utils.files import sha256


def screen(root, plates=2, wells=6, size=24, seed=0):
    """A folder of two-channel images and its manifest; the second plate is twice as bright."""
    rng = np.random.default_rng(seed)
    rows = []
    for plate in range(plates):
        (root / f"p{plate}").mkdir(parents=True, exist_ok=True)
        for well in range(wells):
            name = f"p{plate}/{well}"
            level = 1000 * (plate + 1)
            planes = rng.integers(0, level, (2, size, size)).astype(np.uint16)
            tifffile.imwrite(root / f"{name}_dna.tif", planes[0])
            (root / f"{name}_er.png").write_bytes(imagecodecs.png_encode(planes[1]))
            rows.append(
                {
                    "site_id": f"p{plate}w{well}",
                    "source": "lab",
                    "batch": f"b{plate}",
                    "plate": f"p{plate}",
                    "well": f"{chr(65 + well % 16)}{1 + well // 16:02d}",
                    "site": 1,
                    "treatment": "dmso" if well < 3 else "drug",
                    "compound": "dmso" if well < 3 else "drug",
                    "smiles": "",
                    "dose_um": np.nan,
                    "role": "negcon" if well < 3 else "trt",
                    "moa": "",
                    "target": "",
                    "path_dna": f"{name}_dna.tif",
                    "path_er": f"{name}_er.png",
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "screen"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "images.zarr"


def run(*arguments, **options):
    return preprocess(*arguments, progress=False, **options)


def fingerprint(path):
    return {str(file.relative_to(path)): sha256(file) for file in path.rglob("*") if file.is_file()}


def test_every_site_is_in_the_store_with_its_own_pixels(root, out):
    manifest = screen(root)
    assert run(manifest, root, out, scale="image", pixel_size_um=0.65) == Report(12, 0, [])
    got = store.open_store(out)
    assert got.channels == ("dna", "er") and got.shape == (12, 2, 24, 24)
    assert got.pixel_size_um == 0.65
    assert set(got.site_ids) == set(manifest["site_id"])
    for row in (0, 7):
        site = manifest.iloc[row]
        raw = images.read_site(root, site, ("dna", "er"))
        expected = np.stack([images.to_uint8(plane) for plane in raw])
        np.testing.assert_array_equal(got.read(got.rows([site["site_id"]]))[0], expected)
    assert os.listdir(out.parent) == ["images.zarr"]


def test_progress_prints_nothing_where_nobody_watches(root, out, capfd):
    assert preprocess(screen(root), root, out).done == 12
    assert capfd.readouterr() == ("", "")


def test_one_scale_for_the_screen_keeps_what_one_for_each_plate_takes_away(root, out):
    manifest = screen(root)
    brightness = {}
    for scale in ("screen", "plate"):
        run(manifest, root, out, scale=scale)
        got = store.open_store(out)
        mean = got.read(np.arange(12)).mean((1, 2, 3))
        second = np.char.startswith(got.site_ids, "p1")
        brightness[scale] = mean[second].mean() / mean[~second].mean()
    assert brightness["screen"] == pytest.approx(2, rel=0.1)
    assert brightness["plate"] == pytest.approx(1, rel=0.05)


def test_screen_levels_are_the_percentiles_over_the_screen(root, out):
    manifest = screen(root)
    run(manifest, root, out, low=10.0, high=90.0)
    raw = np.stack([images.read_site(root, row, ("dna", "er")) for _, row in manifest.iterrows()])
    low, high = np.percentile(raw, [10, 90], axis=(0, 2, 3))
    expected = images.rescale(raw, low[:, None, None], high[:, None, None])
    got = store.open_store(out)
    found = got.read(got.rows(manifest["site_id"]))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_size_cuts_the_central_square_and_resizes_it(root, out):
    manifest = screen(root, plates=1)
    wide = np.tile(np.arange(40, dtype=np.uint16) * 100, (24, 1))
    for name in [*manifest["path_dna"]]:
        tifffile.imwrite(root / name, wide)
    for name in [*manifest["path_er"]]:
        (root / name).write_bytes(imagecodecs.png_encode(wide))
    run(manifest, root, out, size=12, pixel_size_um=0.5, low=0.0, high=100.0)
    got = store.open_store(out)
    assert got.shape == (6, 2, 12, 12)
    assert got.pixel_size_um == 1.0
    expected = np.rint((np.arange(12) * 2) / 22 * 255)  # columns 8 … 31 in twos
    np.testing.assert_array_equal(got.read([3])[0, 1, 5], expected)


def test_unreadable_images_are_listed_and_the_rest_is_finished(root, out):
    manifest = screen(root)
    (root / manifest["path_dna"][1]).write_bytes(b"")
    (root / manifest["path_er"][2]).write_bytes((root / manifest["path_er"][2]).read_bytes()[:200])
    (root / manifest["path_dna"][4]).unlink()
    tifffile.imwrite(root / manifest["path_dna"][8], np.zeros((5, 5), np.uint16))
    report = run(manifest, root, out)
    assert report.done == 8
    assert [site for site, _ in report.failed] == ["p0w1", "p0w2", "p0w4", "p1w2"]
    for (_, reason), words in zip(
        report.failed, ["0 bytes", "truncated", "No such file", "24×24"], strict=True
    ):
        assert words in reason
    listed = pd.read_csv(out.parent / "images.zarr.failed.csv")
    assert listed["site_id"].tolist() == ["p0w1", "p0w2", "p0w4", "p1w2"]
    got = store.open_store(out)
    assert len(got) == 8 and not set(got.site_ids) & set(listed["site_id"])
    assert got.failed == report.failed
    before = fingerprint(out)
    assert run(manifest, root, out) == Report(0, 8, report.failed)
    assert fingerprint(out) == before


def test_an_odd_first_image_is_the_one_that_fails(root, out):
    manifest = screen(root)
    for name in manifest["path_dna"][:1], manifest["path_er"][:1]:
        tifffile.imwrite(root / name[0], np.zeros((5, 5), np.uint16))
    report = run(manifest, root, out)
    assert report.done == 11 and report.failed[0][0] == "p0w0"


def test_mended_images_come_in_with_the_next_call(root, out):
    manifest = screen(root)
    whole = (root / manifest["path_dna"][1]).read_bytes()
    (root / manifest["path_dna"][1]).write_bytes(b"")
    first = run(manifest, root, out)
    before = out.stat().st_mtime_ns
    assert run(manifest, root, out) == Report(0, 11, first.failed)
    assert out.stat().st_mtime_ns == before
    (root / manifest["path_dna"][1]).write_bytes(whole)
    assert run(manifest, root, out) == Report(12, 0, [])
    assert os.listdir(out.parent) == ["images.zarr"]


def test_a_finished_store_is_left_alone_until_something_changes(root, out):
    manifest = screen(root)
    run(manifest, root, out)
    before = fingerprint(out)
    (root / manifest["path_dna"][0]).write_bytes(b"")  # would fail if it were read again
    assert run(manifest.sample(frac=1, random_state=0), root, out) == Report(0, 12, [])
    assert fingerprint(out) == before
    assert run(manifest, root, out, size=8).done == 11
    assert run(manifest.iloc[1:6], root, out, size=8).done == 5
    assert len(store.open_store(out)) == 5


def test_row_order_of_the_manifest_does_not_change_a_byte(root, out, tmp_path):
    manifest = screen(root)
    run(manifest, root, out)
    run(manifest.sample(frac=1, random_state=1), root, tmp_path / "again.zarr")
    assert fingerprint(out) == fingerprint(tmp_path / "again.zarr")


KILLED = """
import sys, time
import pandas as pd
from hcs_utils.data import images, preprocess, sites, store
store._SHARD_SITES = 16
real = sites.read_site
sites.read_site = lambda *a: (time.sleep(float(sys.argv[4])), real(*a))[1]
preprocess.preprocess(pd.read_pickle(sys.argv[1]), sys.argv[2], sys.argv[3], progress=False)
"""


def test_kill_9_then_the_same_command_gives_the_same_bytes(root, out, tmp_path):
    manifest = screen(root, wells=48)
    (root / manifest["path_dna"][20]).write_bytes(b"")
    manifest.to_pickle(tmp_path / "m.pkl")

    def command(path, wait):
        arguments = [str(tmp_path / "m.pkl"), str(root), str(path), str(wait)]
        return [sys.executable, "-c", KILLED, *arguments]

    subprocess.run(command(tmp_path / "whole.zarr", 0), check=True)
    progress = out.parent / "images.zarr.part" / "progress.json"
    for shards in (1, 3):
        process = subprocess.Popen(command(out, 0.05))
        until = time.monotonic() + 60
        while not progress.exists() or f'"written": {16 * shards}' not in progress.read_text():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not out.exists()
    subprocess.run(command(out, 0), check=True)
    assert fingerprint(out) == fingerprint(tmp_path / "whole.zarr")
    assert len(store.open_store(out)) == 95
    assert sorted(os.listdir(out.parent)) == ["images.zarr", "images.zarr.failed.csv"]


def test_what_a_killed_run_has_done_is_not_done_again(root, out, monkeypatch):
    manifest = screen(root, wells=48)
    monkeypatch.setattr(store, "_SHARD_SITES", 16)
    real = store.write_shard

    def dies(array, start, block):
        if start == 48:
            raise KeyboardInterrupt
        real(array, start, block)

    monkeypatch.setattr(store, "write_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        run(manifest, root, out)
    monkeypatch.setattr(store, "write_shard", real)
    assert run(manifest, root, out) == Report(48, 48, [])
    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(store, "write_shard", dies)
        run(manifest, root, out, size=8)
    monkeypatch.setattr(store, "write_shard", real)
    assert run(manifest, root, out, size=12) == Report(96, 0, [])  # other parameters: from scratch


def test_two_at_once_wait_for_each_other(root, out, tmp_path):
    manifest = screen(root, wells=8)
    manifest.to_pickle(tmp_path / "m.pkl")
    arguments = [str(tmp_path / "m.pkl"), str(root), str(out), "0.01"]
    both = [subprocess.Popen([sys.executable, "-c", KILLED, *arguments]) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(store.open_store(out)) == 16
    assert os.listdir(out.parent) == ["images.zarr"]


def test_a_full_disk_is_one_message_and_no_store(root, out, monkeypatch):
    manifest = screen(root)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_shard", full)
        with pytest.raises(InputError, match="no space is left"):
            run(manifest, root, out)
    assert not out.exists()
    assert run(manifest, root, out).done == 12


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only, where the system allows it")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_then_has_space(root, small_disk):
    manifest = screen(root, wells=12, size=120)  # 690 KB that do not compress
    path = small_disk / "images.zarr"
    with pytest.raises(InputError, match="no space is left"):
        run(manifest, root, path)
    assert not path.exists()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert run(manifest, root, path).done == 24


def test_a_folder_that_is_really_read_only(root, small_disk):
    manifest = screen(root)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(InputError, match="read-only"):
        run(manifest, root, small_disk / "images.zarr")


def test_nothing_readable_is_an_error_that_lists_the_reasons(root, out):
    manifest = screen(root)
    for name in manifest["path_dna"]:
        (root / name).write_bytes(b"")
    with pytest.raises(InputError, match="None of 12 sites") as caught:
        run(manifest, root, out)
    assert str(caught.value).count("0 bytes") == 12
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": "plates"}, "'screen', 'plate' or 'image'"),
        ({"low": 99.0, "high": 1.0}, "low < high"),
        ({"size": 0}, "whole number of pixels"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_read(root, out, options, words):
    with pytest.raises(InputError, match=words):
        run(screen(root), root, out, **options)
    assert not out.parent.exists()


def test_a_folder_that_is_no_store_is_never_replaced(root, out, tmp_path):
    manifest = screen(root)
    with pytest.raises(InputError, match="no store of this project"):
        run(manifest, root, root)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="no store of this project"):
        run(manifest, root, tmp_path / "file")
    with pytest.raises(InputError, match="no folder"):
        run(manifest, tmp_path / "nowhere", out)
    assert len(list(root.rglob("*.tif"))) == 12


def test_links_that_leave_the_root_fail_as_sites(root, out, tmp_path):
    manifest = screen(root)
    target = root / manifest["path_dna"][0]
    target.rename(tmp_path / "outside.tif")
    target.symlink_to(tmp_path / "outside.tif")
    report = run(manifest, root, out)
    assert report.failed[0][0] == "p0w0" and "leaves the screen's folder" in report.failed[0][1]


def test_control_statistics_are_those_of_the_controls_pixels(root, out):
    manifest = screen(root)
    run(manifest, root, out)
    got = store.open_store(out)
    table = control_statistics(got, manifest)
    assert table.columns.tolist() == ["mean_dna", "mean_er", "std_dna", "std_er"]
    assert table.index.tolist() == ["p0", "p1"] and table.index.name == "plate"
    for plate in ("p0", "p1"):
        pixels = got.read(got.rows([f"{plate}w{well}" for well in range(3)])).astype(float)
        np.testing.assert_allclose(table.loc[plate, "mean_er"], pixels[:, 1].mean())
        np.testing.assert_allclose(table.loc[plate, "std_dna"], pixels[:, 0].std())
    everything = control_statistics(got, manifest, by="batch", over="all")
    pixels = got.read(got.rows([f"p1w{well}" for well in range(6)]))
    np.testing.assert_allclose(everything.loc["b1", "mean_dna"], pixels[:, 0].mean())


def test_plates_without_controls_are_named(root, out):
    manifest = screen(root)
    run(manifest, root, out)
    bare = manifest.assign(role=manifest["role"].where(manifest["plate"] == "p0", "trt"))
    with pytest.raises(InputError, match=r"1 of 2 groups of plate: p1\..*over='all'"):
        control_statistics(store.open_store(out), bare)
    with pytest.raises(InputError, match="no site in common"):
        control_statistics(store.open_store(out), manifest.assign(site_id="another"))

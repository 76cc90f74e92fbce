"""Archives unpack below the root, whole, once, or not at all."""

import os
import zipfile

import numpy as np
import pytest

from hcs_utils.data import archives
from hcs_utils.errors import InputError

RNG = np.random.default_rng(0)
MEMBERS = {f"plate/{k}.tif": RNG.bytes(1000 + k) for k in range(5)}


def packed(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def archive(tmp_path):
    return packed(tmp_path / "a.zip", MEMBERS)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def test_members_come_out_whole_and_once(archive, root):
    report = archives.unpack(archive, root)
    assert len(report.done) == 5 and tree(root) == MEMBERS
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*.tif")}
    again = archives.unpack(archive, root)
    assert len(again.kept) == 5 and again.done == []
    assert times == {p: p.stat().st_mtime_ns for p in root.rglob("*.tif")}


def test_a_broken_off_unpacking_goes_on_member_by_member(archive, root, monkeypatch):
    replace, left = os.replace, [2]

    def stop(*words):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return replace(*words)

    monkeypatch.setattr(archives.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        archives.unpack(archive, root)
    assert len(tree(root)) == 2  # and nothing under a temporary name
    monkeypatch.setattr(archives.os, "replace", replace)
    report = archives.unpack(archive, root)
    assert (len(report.kept), len(report.done)) == (2, 3) and tree(root) == MEMBERS


def test_a_member_cut_short_here_is_unpacked_again(archive, root):
    archives.unpack(archive, root)
    (root / "plate/3.tif").write_bytes(b"short")
    assert [d.item.path for d in archives.unpack(archive, root).done] == ["plate/3.tif"]
    assert tree(root) == MEMBERS


def test_only_what_is_wanted_is_unpacked_without_the_leading_folder(archive, root):
    report = archives.unpack(archive, root, wanted=lambda place: place == "2.tif", strip="plate/")
    assert [d.item.path for d in report.done] == ["2.tif"]
    assert tree(root) == {"2.tif": MEMBERS["plate/2.tif"]}
    assert archives.places(archive, "plate/") == [f"{k}.tif" for k in range(5)]


@pytest.mark.parametrize("name", ["../a", "/etc/a", "x/../../a", "a\\..\\b", "C:/a", "x//a"])
def test_a_member_that_leaves_the_root_stops_all_before_anything_is_written(tmp_path, root, name):
    archive = packed(tmp_path / "a.zip", {"good": b"x", name: b"x"})
    with pytest.raises(InputError, match="leave the screen's root") as told:
        archives.unpack(archive, root)
    assert repr(name) in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_links_encrypted_members_and_names_twice_are_refused(tmp_path, root):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", "2")
    secret = bytearray(packed(tmp_path / "secret.zip", {"a": b"1"}).read_bytes())
    secret[secret.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(secret)
    for name in ("link", "twice", "secret"):
        with pytest.raises(InputError, match="links, encrypted files or a name twice"):
            archives.unpack(tmp_path / f"{name}.zip", root)
    assert not root.exists()


def test_a_bomb_is_not_unpacked(tmp_path, root, monkeypatch):
    monkeypatch.setattr(archives, "_SMALL", 1000)
    zeros = {"a": bytes(2_000_000)}
    bomb = packed(tmp_path / "a.zip", zeros, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"would unpack to 2\.0 MB, more than 200 times its size"):
        archives.unpack(bomb, root)
    assert not root.exists()
    half = {"a": RNG.bytes(20_000) + bytes(1_000_000)}  # ratio 50: dark images
    dark = packed(tmp_path / "b.zip", half, compression=zipfile.ZIP_DEFLATED)
    assert len(archives.unpack(dark, root).done) == 1


def test_too_little_room_is_told_before_anything_is_written(archive, root, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"5\.0 kB are to be unpacked and 10 B are free"):
        archives.unpack(archive, root)
    assert not root.exists()


def test_a_damaged_member_is_listed_and_the_rest_is_done(archive, root):
    content = bytearray(archive.read_bytes())
    content[content.index(MEMBERS["plate/1.tif"]) + 500] ^= 1
    archive.write_bytes(content)
    report = archives.unpack(archive, root)
    assert [f.item.path for f in report.failed] == ["plate/1.tif"]
    assert "damaged" in report.failed[0].reason and "CRC" in report.failed[0].reason
    assert sorted(tree(root)) == [f"plate/{k}.tif" for k in (0, 2, 3, 4)]


@pytest.mark.parametrize("content", [b"", b"no zip", b"cut"])
def test_what_is_no_archive_is_told(archive, root, content):
    archive.write_bytes(archive.read_bytes()[:3000] if content == b"cut" else content)
    with pytest.raises(InputError, match="no readable zip archive"):
        archives.unpack(archive, root)
    with pytest.raises(InputError, match="There is no archive"):
        archives.unpack(archive.with_name("none.zip"), root)


def test_notes_that_macos_adds_stay_in_the_archive(tmp_path, root):
    archive = packed(tmp_path / "a.zip", {"a.tif": b"1", "__MACOSX/._a.tif": b"2"})
    archives.unpack(archive, root)
    assert list(tree(root)) == ["a.tif"]

"""Files are written whole or not at all, and a full or read-only disk is one clear message."""

import errno
import hashlib
import os
import subprocess

import pytest

from hcs_utils import files
from hcs_utils.errors import InputError


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only, where the system allows it")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_file_appears_whole_and_its_temporary_is_gone(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.replacing(path) as part:
        assert part.parent == path.parent
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert entries(path.parent) == ["a.txt"]


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["a.txt"]


def test_a_folder_replaces_a_full_folder(tmp_path):
    path = tmp_path / "store"
    for content in ("one", "two"):
        with files.replacing(path) as part:
            (part / content).mkdir(parents=True)
            (part / content / "x").write_text(content)
    assert entries(tmp_path) == ["store"]
    assert entries(path) == ["two"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_storage_trouble_is_one_clear_message(tmp_path, number, words):
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match=words) as caught, files.replacing(path) as part:
        part.write_text("half")
        raise OSError(number, os.strerror(number))
    assert str(path) in str(caught.value)
    assert entries(tmp_path) == []


def test_other_system_errors_keep_their_name(tmp_path):
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "a"):
        (tmp_path / "nothing").read_text()


def test_a_disk_that_is_really_full(small_disk):
    path = small_disk / "big.bin"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="no space is left"), files.replacing(path) as part:
        part.write_bytes(bytes(4 << 20))
    assert path.read_bytes() == b"old"
    assert entries(small_disk) == ["big.bin"]


def test_a_folder_that_is_really_read_only(small_disk):
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    if subprocess.run(remount, capture_output=True).returncode:
        pytest.skip("this system does not remount a file system read-only")
    with pytest.raises(InputError, match="read-only"), files.replacing(small_disk / "a") as part:
        part.write_text("x")


def test_json_comes_back_and_is_none_where_there_is_none(tmp_path):
    files.write_json(tmp_path / "a.json", {"µ": [1, None, 0.5]})
    assert files.read_json(tmp_path / "a.json") == {"µ": [1, None, 0.5]}
    assert files.read_json(tmp_path / "b.json") is None


def test_sha256_of_bytes_and_of_a_file_agree_with_hashlib(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert files.sha256(content) == files.sha256(tmp_path / "f") == expected


def test_data_root_follows_the_environment_then_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("HCS_DATA", str(tmp_path / "elsewhere"))
    assert files.data_root() == tmp_path / "elsewhere"
    monkeypatch.delenv("HCS_DATA")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "hcs-utils"\n')
    inside = tmp_path / "notebooks"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert files.checkout() == tmp_path
    assert files.data_root() == tmp_path / "data"


def test_a_foreign_project_is_no_checkout(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HCS_DATA")  # the tests' own
    monkeypatch.setattr(files, "__file__", str(tmp_path / "site-packages" / "files.py"))
    assert files.checkout() is None
    assert files.data_root() == tmp_path / "data"

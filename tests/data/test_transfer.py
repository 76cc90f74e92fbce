"""Files come whole and verified, or are listed as failed, whatever the server does."""

import asyncio
import base64
import errno
import hashlib
import os
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcs_utils import files
from hcs_utils.data import download, transfer, web
from hcs_utils.data.download import Item, Options
from hcs_utils.errors import InputError
from tests.data.faulty_server import FaultyServer

RNG = np.random.default_rng(0)


def noise(size):
    return RNG.bytes(size)


@pytest.fixture
def server():
    with FaultyServer() as server:
        yield server


class Naps(list):
    """A pause that lasts no time and remembers how long it should have been."""

    async def __call__(self, seconds):
        self.append(seconds)
        await asyncio.sleep(0)


def options(**changes):
    return Options(**(dict(pause=Naps(), timeout_sec=5, workers=4) | changes))


def items(server, names=None, **known):
    return [Item(server.url(n), f"images/{n}", **known) for n in names or sorted(server.files)]


def tree(root):
    """Every file below the root but unfinished ones, and every hidden one."""
    files = [path for path in root.rglob("*") if path.is_file()]
    named = {str(p.relative_to(root)): p.read_bytes() for p in files if p.name[0] != "."}
    return named, [path for path in files if path.name[0] == "."]


def expected(server):
    return {f"images/{name}": content for name, content in server.files.items()}


# Stated first


def test_the_plan_states_files_and_bytes_and_writes_nothing(server, tmp_path):
    server.files = {"a.tif": noise(1000), "b.tif": noise(500)}
    made = transfer.plan(items(server, ["a.tif", "b.tif", "none.tif"]), tmp_path / "root")
    assert (made.files, made.bytes, made.unknown) == (2, 1500, 0)
    assert [(f.item.path, f.reason) for f in made.absent] == [("images/none.tif", "404: not there")]
    assert "2 files, 1.5 kB to fetch" in str(made) and "none.tif" in str(made)
    assert made.free_bytes > 0
    assert list(tmp_path.iterdir()) == []
    assert {method for method, _, _ in server.asked} == {"HEAD"}
    assert [name for _, name, _ in server.asked].count("none.tif") == 1


def test_sizes_that_nobody_states_are_said_so(server, tmp_path):
    server.files, server.sizes, server.checksums = {"a": noise(9)}, False, False
    made = transfer.plan(items(server), tmp_path)
    assert (made.files, made.bytes, made.unknown) == (1, 0, 1)
    assert "of a size not stated" in str(made)
    report = transfer.fetch(made, options=options())
    assert [d.check for d in report.done] == ["none"]
    assert "1 not at all" in str(report)
    assert tree(tmp_path) == (expected(server), [])


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_server_that_answers_get_alone_is_fetched_from(server, tmp_path, status):
    server.files, server.heads = {"a": noise(99)}, {"a": [status]}
    made = transfer.plan(items(server), tmp_path)
    assert (made.files, made.unknown) == (1, 1)
    assert transfer.fetch(made, options=options()).failed == []
    assert tree(tmp_path)[0] == expected(server)


def test_no_server_at_all_is_told_soon(tmp_path):
    with FaultyServer() as gone:
        url = gone.url("a")
    wanted = [Item(url + str(k), f"{k}.tif") for k in range(200)]
    naps = Naps()
    with pytest.raises(InputError, match=r"No server answers.*127\.0\.0\.1"):
        transfer.plan(wanted, tmp_path, options(pause=naps))
    assert len(naps) < 50  # not tried for all 200
    with pytest.raises(InputError, match="No server answers"):
        transfer.plan(wanted[:1], tmp_path, options())


def test_sizes_are_not_asked_for_ever(server, tmp_path):
    server.files = {f"{k:03d}": noise(9) for k in range(120)}
    server.heads = {name: [503] * 9 for name in sorted(server.files)[1:]}
    made = transfer.plan(items(server), tmp_path, options())
    assert (made.files, made.unknown) == (120, 119)
    assert len(server.asked) <= 1 + 3 * (12 + 4)
    assert transfer.fetch(made, options=options()).failed == []


# Fetched, kept, in parallel


def test_files_arrive_and_a_second_time_nothing_is_asked_for(server, tmp_path):
    server.files = {f"{k}.tif": noise(3000 + k) for k in range(30)}
    report = transfer.fetch(items(server), tmp_path, options())
    assert len(report.done) == 30 and report.failed == report.kept == []
    assert {d.check for d in report.done} == {"md5"}
    assert tree(tmp_path) == (expected(server), [])
    server.reset()
    again = transfer.fetch(items(server), tmp_path, options())
    assert len(again.kept) == 30 and again.done == []
    assert sum(server.served.values()) == 0


def test_files_come_several_at_a_time_but_no_more_than_asked(server, tmp_path):
    server.files = {str(k): noise(10) for k in range(24)}
    server.latency_sec = 0.03
    transfer.fetch(items(server), tmp_path, options(workers=4))
    assert 2 <= server.most <= 4


def test_the_same_bytes_from_within_a_running_loop(server, tmp_path):
    server.files = {"a": noise(99)}

    async def notebook():
        return transfer.fetch(items(server), tmp_path, options())

    assert len(asyncio.run(notebook()).done) == 1


def test_a_file_of_another_size_is_replaced_and_that_is_said(server, tmp_path):
    server.files = {"a": noise(50)}
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").write_bytes(b"old")
    made = transfer.plan(items(server), tmp_path)
    assert "1 files here differ from theirs and are replaced:\n  images/a" in str(made)
    transfer.fetch(made, options=options())
    assert tree(tmp_path) == (expected(server), [])


def test_wrong_bytes_of_the_right_size_here_are_found_when_asked_to(server, tmp_path):
    server.files = {"a": noise(50)}
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").write_bytes(bytes(50))
    assert transfer.plan(items(server), tmp_path).files == 0
    assert transfer.plan(items(server), tmp_path, options(verify=True)).files == 1


# Faults that pass


PASSING = [
    ["drop"], ["truncate"], ["wrong"], [500], [502], [503], [504], [429], ["hang"],
    ["drop", "drop", "drop"], ["drop", "norange"], ["drop", "change"], ["change"], ["elsewhere"],
    ["wrong", "drop", 503, "truncate", "wrong"],
]  # fmt: skip


@pytest.mark.parametrize("faults", PASSING, ids=lambda faults: "-".join(map(str, faults)))
def test_a_fault_that_passes_leaves_the_right_bytes(server, tmp_path, faults):
    server.files = {"a": noise(300_000), "b": noise(10)}
    server.script = {"a": list(faults)}
    if faults == ["elsewhere"]:
        server.script = {"a": ["elsewhere"]}  # to itself: the next answer is a plain one
    report = transfer.fetch(items(server), tmp_path, options(timeout_sec=0.3))
    assert [f.reason for f in report.failed] == []
    assert tree(tmp_path) == (expected(server), [])


def test_a_broken_transfer_goes_on_where_it_stopped(server, tmp_path):
    server.files = {"a": noise(3_000_000)}
    server.script = {"a": ["truncate", "truncate"]}
    transfer.fetch(items(server), tmp_path, options())
    assert server.gets("a") == [None, "bytes=1500000-", "bytes=2250000-"]
    assert server.served["a"] == 3_000_000


def test_a_part_of_another_version_is_not_gone_on_with(server, tmp_path):
    server.files = {"a": noise(100_000)}
    server.script = {"a": ["truncate", "change"]}
    transfer.fetch(items(server), tmp_path, options())
    assert server.gets("a") == [None, "bytes=50000-", None]
    assert tree(tmp_path) == (expected(server), [])


def test_without_a_version_a_part_is_begun_anew(server, tmp_path):
    server.files, server.etags = {"a": noise(100_000)}, False
    server.script = {"a": ["truncate"]}
    transfer.fetch(items(server), tmp_path, options())
    assert server.gets("a") == [None, None]
    assert tree(tmp_path) == (expected(server), [])


def test_waits_double_with_a_random_factor_and_honour_the_server(server, tmp_path):
    server.files, server.always = {"a": b"x"}, {"a": 503}
    naps = Naps()
    transfer.fetch(items(server), tmp_path, options(pause=naps, backoff_sec=2.0, longest_sec=20))
    full = [2, 4, 8, 16, 20, 20]
    assert all(f / 2 <= nap <= f for f, nap in zip(full, naps, strict=True))
    naps.clear()
    server.retry_after = 7
    transfer.fetch(items(server), tmp_path, options(pause=naps, backoff_sec=0.1, longest_sec=20))
    assert naps == [7] * 6
    naps.clear()
    server.retry_after = 900  # longer than the user would wait
    transfer.fetch(items(server), tmp_path, options(pause=naps, longest_sec=20))
    assert naps == [20] * 6


def test_tries_that_bring_a_file_further_are_not_counted(server, tmp_path):
    server.files = {"a": noise(2**24)}
    server.script = {"a": ["truncate"] * 4}  # 8, 4, 2 and 1 MiB
    report = transfer.fetch(items(server), tmp_path, options(retries=1))
    assert report.failed == [] and server.served["a"] == 2**24
    server.files["b"] = noise(2**21)
    server.always = {"b": "truncate"}  # 1 MiB, then halves of what is left
    (failure,) = transfer.fetch(items(server, ["b"]), tmp_path, options(retries=1)).failed
    assert "2 tries" in failure.reason


# Faults that stay


@pytest.mark.parametrize(
    ("fault", "told", "tries"),
    [
        (404, "404: not there", 1),
        (403, "403: access without a login is refused", 1),
        (410, "no longer there", 1),
        (500, "answered 500; 4 tries", 4),
        ("wrong", "wrong bytes: their md5 is", 4),
        ("hang", "no answer in time; 4 tries", 4),
        ("drop", "the connection broke", None),
        ("truncate", "bytes came; 4 tries", None),
    ],
)
def test_a_fault_that_stays_is_listed_and_the_rest_is_done(server, tmp_path, fault, told, tries):
    server.files = {"a": noise(1000), "b": noise(10)}
    server.always = {"a": fault}
    report = transfer.fetch(items(server), tmp_path, options(retries=3, timeout_sec=0.2))
    assert [d.item.path for d in report.done] == ["images/b"]
    (failure,) = report.failed
    assert failure.item.path == "images/a" and told in failure.reason
    assert tries is None or len(server.gets("a")) == tries
    assert list(tree(tmp_path)[0]) == ["images/b"]
    assert failure.reason in str(report) and "The same command goes on" in str(report)
    server.reset()
    assert transfer.fetch(items(server), tmp_path, options()).failed == []
    assert tree(tmp_path) == (expected(server), [])


def test_wrong_bytes_are_not_kept_even_in_part(server, tmp_path):
    server.files, server.always = {"a": noise(1000)}, {"a": "wrong"}
    transfer.fetch(items(server), tmp_path, options(retries=1))
    assert tree(tmp_path) == ({}, [])


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_the_users_checksum_is_held_to(server, tmp_path, name):
    server.files, server.checksums = {"a": noise(1000)}, False
    right = hashlib.new(name, server.files["a"]).hexdigest()
    report = transfer.fetch(items(server, **{name: "0" * len(right)}), tmp_path, options(retries=1))
    assert f"wrong bytes: their {name} is {right}" in report.failed[0].reason
    report = transfer.fetch(items(server, **{name: right.upper()}), tmp_path, options())
    assert [d.check for d in report.done] == [name]


def test_the_users_size_is_held_to(server, tmp_path):
    server.files = {"a": noise(1000)}
    for size in (999, 1001):
        report = transfer.fetch(items(server, size=size), tmp_path, options(retries=1))
        reason = f"it has 1000 bytes there, and should have {size}"
        assert [f.reason for f in report.failed] == [reason]
    assert server.gets("a") == [] and tree(tmp_path) == ({}, [])
    server.heads = {"a": [405, 405]}  # a server that does not tell beforehand
    report = transfer.fetch(items(server, size=999), tmp_path, options(retries=1))
    assert "1000 bytes came, 999 were announced" in report.failed[0].reason


def test_a_server_that_stops_answering_is_not_asked_for_every_file(server, tmp_path):
    server.files = {f"{k:03d}": noise(9) for k in range(120)}
    made = transfer.plan(items(server), tmp_path, options())
    server.always = dict.fromkeys(server.files, 503)
    server.asked.clear()
    report = transfer.fetch(made, options=options(retries=1))
    assert len(report.failed) == 120
    assert "had stopped answering" in report.failed[-1].reason
    assert len([a for a in server.asked if a[0] == "GET"]) <= 2 * (12 + 4)


def test_a_redirect_from_https_to_http_is_refused():
    class Response:
        url = type("Url", (), {"scheme": "http"})
        status = 200

    with pytest.raises(web.Trouble, match="led from https to http"):
        web._check("https://host/a", Response)


# The disk


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


def test_too_little_room_is_told_before_anything_is_fetched(server, small_disk):
    server.files = {"a": noise(2_000_000)}
    with pytest.raises(InputError, match=r"2\.0 MB are to come and 1\.0 MB are free"):
        transfer.fetch(items(server), small_disk, options())
    assert server.gets("a") == [] and tree(small_disk) == ({}, [])


def test_a_disk_that_fills_up_on_the_way_loses_nothing(server, small_disk):
    server.files = {"a": noise(100_000), "b": noise(3_000_000)}
    made = transfer.plan(items(server), small_disk)
    made.free_bytes = 10**12  # as if another program took the room meanwhile
    with pytest.raises(InputError, match="no space is left on the disk"):
        transfer.fetch(made, options=options(workers=1))
    named, parts = tree(small_disk)
    assert named == {"images/a": server.files["a"]}
    assert len(parts) == 1 and parts[0].stat().st_size > 800_000
    server.files["b"] = server.files["b"][:1000]  # room again, and a new version
    assert transfer.fetch(items(server), small_disk, options()).failed == []
    assert tree(small_disk) == (expected(server), [])


def test_a_file_where_a_folder_should_be_is_one_clear_error(server, tmp_path):
    server.files = {"a": noise(9)}
    (tmp_path / "images").write_text("mine")
    with pytest.raises(InputError, match=r"a file and a folder at once.*\n  'images'"):
        transfer.fetch(items(server), tmp_path, options())
    assert (tmp_path / "images").read_text() == "mine"


def test_a_place_that_cannot_be_written_stops_all_with_one_message(server, tmp_path, monkeypatch):
    server.files = {str(k): noise(9) for k in range(20)}

    def refuse(*words):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(InputError, match="permission denied"):
        transfer.fetch(items(server), tmp_path, options())
    assert tree(tmp_path)[0] == {}


# Names


@pytest.mark.parametrize(
    "path",
    ["../a", "/etc/a", "x/../../a", "x/./a", "x//a", "", "a\\b", "..\\a", "C:/a", "~/a", "a\0b",
     "a\nb", "x/..", ".", "a" * 256, "x/.a.0123.part"],
)  # fmt: skip
def test_no_name_from_elsewhere_leaves_the_root(server, tmp_path, path):
    bad = [Item(server.url("a"), path), Item(server.url("a"), "good")]
    with pytest.raises(InputError, match="leave the screen's root") as told:
        transfer.fetch(bad, tmp_path / "root", options())
    assert repr(path) in str(told.value) and "good" not in str(told.value)
    assert server.asked == [] and list(tmp_path.iterdir()) == []


def test_a_link_that_leads_out_of_the_root_is_refused(server, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leave the screen's root"):
        transfer.fetch([Item(server.url("a"), "x/a")], tmp_path / "root", options())


def test_paths_that_meet_are_refused(server, tmp_path):
    for other in (Item(server.url("b"), "x/a"), Item(server.url("b"), "x")):
        with pytest.raises(InputError, match=r"several addresses|a file and a folder"):
            transfer.plan([Item(server.url("a"), "x/a"), other], tmp_path)


def test_addresses_that_are_none_are_refused(tmp_path):
    for url in ("ftp://host/a", "file:///etc/passwd", "/etc/passwd", "https://", "s3://"):
        with pytest.raises(InputError, match="is no address to fetch from"):
            transfer.plan([Item(url, "a")], tmp_path)


# Whatever happens

FAULTS = st.sampled_from(
    ["drop", "truncate", "wrong", "norange", "change", "elsewhere", 500, 503, 404, 403, 416]
)


@pytest.fixture(scope="module")
def long_server():
    with FaultyServer() as server:
        yield server


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    script=st.dictionaries(st.sampled_from("abc"), st.lists(FAULTS, max_size=5), max_size=3),
    always=st.dictionaries(st.sampled_from("abc"), FAULTS, max_size=1),
    sizes=st.tuples(*[st.sampled_from([0, 1, 5000, 300_000])] * 3),
    etags=st.booleans(),
    workers=st.integers(1, 3),
)
def test_the_tree_is_the_source_or_the_report_names_what_is_missing(
    long_server, tmp_path_factory, script, always, sizes, etags, workers
):
    server, root = long_server, tmp_path_factory.mktemp("tree")
    server.reset()
    server.files = {name: noise(size) for name, size in zip("abc", sizes, strict=True)}
    server.script, server.always, server.etags = script, always, etags
    report = transfer.fetch(items(server), root, options(retries=3, workers=workers))
    failed = {f.item.path for f in report.failed}
    named, _ = tree(root)
    assert {d.item.path for d in report.done} == set(named)
    assert set(named) | failed == set(expected(server)) and not set(named) & failed
    # "change" gives a file new bytes: what came is whole, of the version it was answered with
    assert all(named[path] == expected(server)[path] for path in named)
    server.reset()  # and the same call finishes the rest
    assert transfer.fetch(items(server), root, options()).failed == []
    assert tree(root) == (expected(server), [])


# Small parts


@pytest.mark.parametrize(
    ("size", "told"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (85_300_000_000_000, "85.3 TB")],
)
def test_bytes_as_people_read_them(size, told):
    assert transfer.in_units(size) == told


def test_an_etag_is_a_checksum_only_where_amazon_says_so():
    tag = {"ETag": '"' + "a" * 32 + '"', "Content-Length": "3"}
    assert web.described(tag, 200).md5 is None
    assert web.described(tag | {"x-amz-request-id": "1"}, 200).md5 == "a" * 32
    assert web.described({"ETag": '"' + "a" * 32 + '-2"'}, 200, amazon=True).md5 is None
    secret = {"x-amz-server-side-encryption": "aws:kms"}
    assert web.described(tag | secret, 200, amazon=True).md5 is None


def test_checksums_that_servers_offer_are_read():
    # RFC 1864's form; Google's; Amazon's, whole and of parts
    md5, sha = hashlib.md5(b"x"), hashlib.sha256(b"x")
    b64 = base64.b64encode(md5.digest()).decode()
    assert web.described({"Content-MD5": b64}, 200).md5 == md5.hexdigest()
    assert web.described({"Content-MD5": b64}, 206).md5 is None  # may be of the range
    assert web.described({"x-goog-hash": f"crc32c=AAAAAA==,md5={b64}"}, 200).md5 == md5.hexdigest()
    b64 = base64.b64encode(sha.digest()).decode()
    assert web.described({"x-amz-checksum-sha256": b64}, 200).sha256 == sha.hexdigest()
    assert web.described({"x-amz-checksum-sha256": b64 + "-4"}, 200).sha256 is None
    assert web.described({"Content-MD5": "no base64 !"}, 200).md5 is None


def test_a_wait_is_seconds_or_a_date():
    assert web._seconds("120") == 120
    assert web._seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert web._seconds("Wed, 21 Oct 2122 07:28:00 GMT") > 10**9
    assert web._seconds("soon") is None


def test_a_part_has_one_name_for_each_version(tmp_path):
    target = tmp_path / ("ü" * 120)  # 240 bytes
    one = download.part_path(target, "https://h/a", web.Remote(5, '"1"'))
    two = download.part_path(target, "https://h/a", web.Remote(5, '"2"'))
    assert one != two and len(one.name.encode()) <= 255 and one.parent == tmp_path
    one.write_bytes(b"")

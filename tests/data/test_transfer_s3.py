"""Unsigned S3, against moto's server, with files where cpg0016 has them."""

import hashlib
import logging

import numpy as np
import pytest
from typer.testing import CliRunner

from hcs_utils.cli import app
from hcs_utils.data import transfer, web
from hcs_utils.data.download import Item, Options, part_path
from tests.data import public_screens

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto.server")

# moto and botocore: datetime.utcnow and the like, in their own code
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BUCKET = "cellpainting-gallery"
IMAGES = "cpg0016-jump/source_4/images/2021_04_26_Batch1/images/BR00117035__2021-05-02T16_02_51"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def s3(endpoint):
    """The owner of the bucket; whoever fetches has no key."""
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="owner",
        aws_secret_access_key="secret",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET, ACL="public-read")
    return client


@pytest.fixture(scope="module")
def plate(s3):
    """The images of three wells: key → bytes."""
    images = {
        f"{IMAGES}/Images/r01c{well:02d}f{site:02d}p01-ch{channel}sk1fk1fl1.tiff": RNG.bytes(2000)
        for well in (1, 2, 3)
        for site in (1, 2)
        for channel in range(1, 6)
    }
    for key, content in images.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    return images


@pytest.fixture
def options(endpoint, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    async def pause(seconds):
        pass

    return Options(endpoint=endpoint, pause=pause, workers=4, retries=2)


def item(key, **known):
    return Item(f"s3://{BUCKET}/{key}", key, **known)


def test_a_folder_is_listed_fetched_and_verified_by_md5(plate, options, tmp_path, monkeypatch):
    heads = []
    monkeypatch.setattr(web.Client, "head", lambda self, url: heads.append(url))
    made = transfer.plan(list(map(item, plate)), tmp_path, options)
    assert (made.files, made.bytes, made.unknown) == (30, 60_000, 0)
    assert heads == []  # thirty sizes in one request
    report = transfer.fetch(made, options=options)
    assert {d.check for d in report.done} == {"md5"} and report.failed == []
    assert {p: (tmp_path / p).read_bytes() for p in plate} == plate


def test_a_few_files_are_asked_for_one_by_one(plate, options, tmp_path, monkeypatch):
    monkeypatch.setattr(web.Client, "listing", None)
    keys = list(plate)[:5]
    report = transfer.fetch(list(map(item, keys)), tmp_path, options)
    assert len(report.done) == 5 and {d.check for d in report.done} == {"md5"}


def test_a_part_is_gone_on_with(s3, options, tmp_path):
    content = RNG.bytes(1_000_000)
    s3.put_object(Bucket=BUCKET, Key="big", Body=content)
    job, known = transfer.plan([item("big")], tmp_path, options).todo[0]
    part_path(tmp_path / "big", job.url, known).write_bytes(content[:400_000])
    made = transfer.plan([item("big")], tmp_path, options)
    assert (made.bytes, made.begun_bytes) == (600_000, 400_000)
    assert "400.0 kB of the rest are here in part" in str(made)
    assert transfer.fetch(made, options=options).failed == []
    assert (tmp_path / "big").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["big"]


def test_a_part_with_wrong_bytes_is_found_by_its_checksum(s3, options, tmp_path):
    content = RNG.bytes(10_000)
    s3.put_object(Bucket=BUCKET, Key="big", Body=content)
    made = transfer.plan([item("big")], tmp_path, options)
    job, known = made.todo[0]
    part_path(tmp_path / "big", job.url, known).write_bytes(bytes(5000))
    assert transfer.fetch([item("big")], tmp_path, options).failed == []
    assert (tmp_path / "big").read_bytes() == content


def test_an_upload_in_parts_has_no_md5_and_is_held_to_its_size(s3, options, tmp_path):
    content = RNG.bytes(6 * 2**20)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    about = dict(Bucket=BUCKET, Key="parts", UploadId=upload)
    tags = []
    for number, body in enumerate((content[: 5 * 2**20], content[5 * 2**20 :]), 1):
        tag = s3.upload_part(PartNumber=number, Body=body, **about)["ETag"]
        tags.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(MultipartUpload={"Parts": tags}, **about)
    report = transfer.fetch([item("parts")], tmp_path, options)
    assert [d.check for d in report.done] == ["size"]
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "parts").unlink()
    report = transfer.fetch([item("parts", sha256=sha256)], tmp_path, options)
    assert [d.check for d in report.done] == ["sha256"]


def test_what_is_not_there_is_listed_at_once(plate, options, tmp_path):
    gone = [item(f"{IMAGES}/Images/none.tiff"), Item("s3://no-such-bucket/a", "a")]
    made = transfer.plan([*gone, *map(item, plate)], tmp_path, options)
    assert [f.item for f in made.absent] == gone
    assert all("404: not there" in f.reason for f in made.absent)
    assert len(transfer.fetch(made, options=options).failed) == 2


def test_names_with_any_character_come(s3, options, tmp_path):
    keys = ["a b/c+d.tif", "a b/#1?.tif", "a b/ü%20.tif"]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    assert transfer.fetch(list(map(item, keys)), tmp_path, options).failed == []
    assert [(tmp_path / key).read_text() for key in keys] == keys


def test_a_plate_of_jump_by_its_name(s3, endpoint, tmp_path):
    for name, content in public_screens.jump().items():
        s3.put_object(Bucket=BUCKET, Key=f"cpg0016-jump/{name}", Body=content)
    words = ["fetch", "jump", "--base", public_screens.GALLERY, "--endpoint", endpoint]
    words += ["--plates", "BR00117035", "--channels", "DNA", "--root", str(tmp_path), "--yes"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "Images: 4 files fetched (4.0 kB" in result.stdout and "4 by MD5" in result.stdout
    assert len(list(tmp_path.rglob("*.tiff"))) == 4


def test_a_refusal_says_what_403_may_mean():
    class ClientError(Exception):
        response = {  # noqa: RUF012
            "Error": {"Code": "AccessDenied"},
            "ResponseMetadata": {"HTTPStatusCode": 403, "HTTPHeaders": {}},
        }

    told = web.as_trouble(ClientError())
    assert not told.again and "403: access without a login is refused" in told.reason


@pytest.mark.parametrize("code", ["SlowDown", "RequestTimeout", "InternalError"])
def test_s3_says_wait_in_its_own_words(code):
    class ClientError(Exception):
        response = {  # noqa: RUF012
            "Error": {"Code": code},
            "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {"retry-after": "3"}},
        }

    told = web.as_trouble(ClientError())
    assert told.again and told.wait_sec == 3

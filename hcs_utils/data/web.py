"""Files on web servers and in public S3 buckets: what is known of them, and their bytes."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module

from hcs_utils.errors import InputError

AGAIN = frozenset({408, 416, 425, 429, 500, 502, 503, 504})  # statuses that may pass
_CHUNK = 2**18  # bytes read at a time
_LIBRARIES = ("aiohttp", "botocore", "aiobotocore", "urllib3", "s3fs", "fsspec")
_REASONS = {
    401: "401: a login is asked for, and access here is without one",
    403: "403: access without a login is refused (a public bucket that may not be listed also says "
    "this of a file that is not there); check the address and the bucket's terms",
    404: "404: not there",
    410: "410: no longer there",
    429: "429: too many requests",
}


class Trouble(Exception):
    """A request that failed: whether trying `again` may help, and the wait the server asks for."""

    def __init__(
        self, reason: str, again: bool, wait_sec: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.again, self.wait_sec, self.status = reason, again, wait_sec, status


@dataclass(frozen=True)
class Remote:
    """What a server says of a file; None where it says nothing."""

    size: int | None = None
    version: str | None = None  # ETag, else the time of the last change
    md5: str | None = None  # hexadecimal, as `sha256`
    sha256: str | None = None


@dataclass(frozen=True)
class Reply:
    """An answer with a body: from which byte on, and its bytes as they come."""

    remote: Remote
    start: int
    chunks: AsyncIterator[bytes]


class Client:
    """One session for HTTPS and unsigned S3; `async with` opens and closes it.

    `endpoint`: address of an S3-compatible store other than Amazon's.
    """

    def __init__(self, workers: int, timeout_sec: float | int, endpoint: str | None = None) -> None:
        self._workers, self._timeout, self._endpoint = workers, timeout_sec, endpoint
        self._http = self._s3 = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *error: object) -> None:
        for session in (self._http, self._s3):
            if session is not None:
                await session.close()

    async def head(self, url: str) -> Remote:
        """What the server says of a file; nothing where it answers no such question."""
        with _troubles():
            try:
                if is_s3(url):
                    bucket, key = s3_parts(url)
                    client = await self._bucket()
                    answer = await client.head_object(
                        Bucket=bucket, Key=key, ChecksumMode="ENABLED"
                    )
                    return described(_headers(answer), 200, amazon=True)
                session = await self._session()
                async with session.head(url, allow_redirects=True) as response:
                    _check(url, response)
                    return described(response.headers, 200)
            except Exception as error:
                told = as_trouble(error)
                if told is None or told.status not in (400, 403, 405, 501):
                    raise
                return Remote()  # some servers answer GET only: the transfer will tell

    @asynccontextmanager
    async def get(self, url: str, start: int = 0) -> AsyncIterator[Reply]:
        """The file's bytes from `start` on; from 0 where the server knows no ranges."""
        asked = {"Range": f"bytes={start}-"} if start else {}
        with _troubles():
            if is_s3(url):
                bucket, key = s3_parts(url)
                client = await self._bucket()
                answer = await client.get_object(Bucket=bucket, Key=key, **asked)
                async with answer["Body"] as body:
                    status = answer["ResponseMetadata"]["HTTPStatusCode"]
                    chunks = body.iter_chunks(_CHUNK)
                    yield _reply(_headers(answer), status, start, chunks, amazon=True)
                return
            session = await self._session()
            async with session.get(url, headers=asked, allow_redirects=True) as response:
                _check(url, response)
                chunks = response.content.iter_chunked(_CHUNK)
                yield _reply(response.headers, response.status, start, chunks)

    async def listing(self, folder: str) -> dict[str, Remote]:
        """Every file directly in an S3 folder, by address; sizes and versions in a few requests."""
        bucket, prefix = s3_parts(folder.rstrip("/") + "/")
        found = {}
        with _troubles():
            client = await self._bucket()
            pages = client.get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
                for entry in page.get("Contents", []):
                    tag = entry.get("ETag")
                    known = Remote(int(entry["Size"]), tag, _plain_md5(tag))
                    found[f"s3://{bucket}/{entry['Key']}"] = known
        return found

    async def _session(self):
        async with self._opening:
            if self._http is None:
                aiohttp, http = _library("aiohttp"), _library("fsspec.implementations.http")
                wait = aiohttp.ClientTimeout(
                    total=None, sock_connect=self._timeout, sock_read=self._timeout
                )
                options = {
                    "timeout": wait, "auto_decompress": False, "trust_env": True,
                    "headers": {"Accept-Encoding": "identity"},
                }  # fmt: skip
                system = http.HTTPFileSystem(
                    asynchronous=True, skip_instance_cache=True, client_kwargs=options
                )
                self._http = await system.set_session()
        return self._http

    async def _bucket(self):
        async with self._opening:
            if self._s3 is None:
                options = {
                    "connect_timeout": self._timeout, "read_timeout": self._timeout,
                    "max_pool_connections": self._workers, "retries": {"total_max_attempts": 1},
                }  # fmt: skip
                system = _library("s3fs").S3FileSystem(
                    anon=True, asynchronous=True, skip_instance_cache=True,
                    endpoint_url=self._endpoint, config_kwargs=options,
                )  # fmt: skip
                self._s3 = await system.set_session()
        return self._s3


def is_s3(url: str) -> bool:
    return url.startswith("s3://")


def s3_parts(url: str) -> tuple[str, str]:
    """Bucket and key of an s3:// address; a key may hold any character, `?` and `#` too."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def described(headers: Mapping[str, str], status: int, amazon: bool = False) -> Remote:
    """What the headers of an answer say of the whole file; of S3's ETags an MD5 can be read."""
    names = {name.lower(): value for name, value in headers.items()}
    size = names.get("content-length") if status == 200 else None
    if status == 206 and (match := re.search(r"/(\d+)$", names.get("content-range", ""))):
        size = match[1]
    tag = names.get("etag")
    md5 = _hexadecimal(names.get("content-md5"), 16) if status == 200 else None
    if match := re.search(r"md5=([\w+/=]+)", names.get("x-goog-hash", "")):
        md5 = md5 or _hexadecimal(match[1], 16)
    secret = names.get("x-amz-server-side-encryption", "AES256") != "AES256"
    if (amazon or "x-amz-request-id" in names) and not secret:
        md5 = md5 or _plain_md5(tag)
    sha256 = _hexadecimal(names.get("x-amz-checksum-sha256"), 32)
    if names.get("x-amz-checksum-type") == "COMPOSITE":
        sha256 = None
    whole = int(size) if size is not None and size.isdigit() else None
    return Remote(whole, tag or names.get("last-modified"), md5, sha256)


def _plain_md5(tag: str | None) -> str | None:
    """The ETag where it is the MD5 of the file, as it is for S3 uploads of one part."""
    match = re.fullmatch(r'"?([0-9a-fA-F]{32})"?', tag or "")
    return match[1].lower() if match else None


def _hexadecimal(text: str | None, length: int) -> str | None:
    try:
        digest = base64.b64decode(text or "", validate=True)
    except binascii.Error:
        return None
    return digest.hex() if len(digest) == length else None


def _headers(answer: dict) -> dict[str, str]:
    return answer["ResponseMetadata"]["HTTPHeaders"]


def _reply(
    headers: Mapping[str, str], status: int, start: int, chunks, amazon: bool = False
) -> Reply:
    if status == 206:
        names = {name.lower(): value for name, value in headers.items()}
        match = re.match(r"bytes (\d+)-", names.get("content-range", ""))
        if match is None or int(match[1]) != start:
            raise Trouble("the server sent another part than the one asked for", True, status=416)
    elif start:
        start = 0
    return Reply(described(headers, status, amazon), start, chunks)


def _check(url: str, response) -> None:
    if url.startswith("https:") and response.url.scheme != "https":
        raise Trouble(f"led from https to {response.url.scheme}: refused", False)
    if response.status not in (200, 206):
        raise _status(response.status, response.headers.get("Retry-After"))


def _status(status: int, wait: str | None = None, code: str = "") -> Trouble:
    again = status in AGAIN or code in ("RequestTimeout", "SlowDown", "InternalError")
    reason = _REASONS.get(status, f"the server answered {status}{f' ({code})' if code else ''}")
    return Trouble(reason, again, _seconds(wait), status)


def _seconds(wait: str | None) -> float | None:
    """A Retry-After header, seconds or a date, as seconds from now."""
    if wait is None:
        return None
    if wait.strip().isdigit():
        return float(wait)
    try:
        until = parsedate_to_datetime(wait)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


@contextmanager
def _troubles() -> Iterator[None]:
    """Turn what the libraries raise into `Trouble`."""
    try:
        yield
    except Exception as error:
        told = as_trouble(error)
        if told is None or told is error:
            raise
        raise told from error


def as_trouble(error: Exception) -> Trouble | None:
    """The `Trouble` that an exception of the network means; None for any other exception."""
    if isinstance(error, Trouble):
        return error
    answer = getattr(error, "response", None)
    if isinstance(answer, dict) and "ResponseMetadata" in answer:  # botocore's ClientError
        about = answer["ResponseMetadata"]
        headers, code = about.get("HTTPHeaders", {}), str(answer.get("Error", {}).get("Code", ""))
        return _status(about.get("HTTPStatusCode", 500), headers.get("retry-after"), code)
    name = type(error).__name__
    if name in ("ClientPayloadError", "IncompleteReadError", "ResponseStreamingError"):
        return Trouble("the connection broke off in the middle", True)
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return Trouble("no answer in time", True)
    if name in (
        "InvalidURL",
        "InvalidUrlClientError",
        "NonHttpUrlClientError",
        "ParamValidationError",
    ):
        return Trouble(f"no address that can be asked: {error}", False)
    if type(error).__module__.partition(".")[0] in _LIBRARIES or isinstance(error, ConnectionError):
        return Trouble(f"the connection broke ({str(error) or name})", True)
    return None


def _library(name: str):
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"Fetching needs {name.partition('.')[0]}: install the extra, hcs-utils[scale]."
        ) from error

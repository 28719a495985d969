"""Image bytes in S3-compatible storage: `ObjectStore`, by obstore: a put costs 0.16 ms, with boto3 2.8."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import IO, TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError, GenericError, NotFoundError
from obstore.store import S3Store

from core.errors import ObjectNotFoundError, StorageUnavailableError, WastestreamError
from core.formats.layout import ImageBytes
from core.image_header import MAX_BYTES, MEDIA_TYPES
from core.metrics import STORAGE_ERRORS, STORAGE_SECONDS, Timer
from core.s3 import MISSING, REQUEST_TIMEOUT, make_store
from core.settings import Settings
from core.shards import ARCHIVE, StoredObject, object_key

if TYPE_CHECKING:
    from obstore import GetResult  # types only

Content = ImageBytes | list[ImageBytes]
"""Bytes of an object, in one piece or several."""

_TYPES: Final = {**MEDIA_TYPES, ARCHIVE[1:]: "application/x-tar", "gz": "application/gzip"}
_PART: Final = 8 * 1024 * 1024  # bytes of a part of a large object
_PROBE: Final = ".ping"
_PROBE_BYTES: Final = 1024 * 1024  # at most
_PROBE_PUT_INTERVAL: Final = 10
"""Seconds between probes that put while all goes well: buckets with versions keep each of them."""

_NO_RANGES: Final = "non-partial response"  # as obstore says that a server sent the whole object
_EMPTY: Final = "InvalidRange"  # as servers say that an object is empty

_MAX_PUTS: Final = 4
_MAX_DELETED: Final = 200  # keys in one call: a fifth of a second of the local S3 server's time

_RETRY_TIMEOUT: Final = 3
"""Timeout of all attempts of a call, seconds; the caller waits out longer outages."""

_SLOW_TIMEOUT: Final = 3600  # of a request whose response is read while it is worked on
_PROBE_TIMEOUT: Final = 3
_PROBE_RETRY_TIMEOUT: Final = 1
"""The same for a probe: a readiness check names the failing part before its client gives up."""

_CAUSES: Final = (
    ("NoSuchBucket", "The bucket does not exist: start the stack again, or make it (docs/operations.md)"),
    (
        f"{MISSING}|CredentialRetrievalError|MetadataRetrievalError|InvalidIdentityToken|AssumeRole",
        "There are no credentials for storage: check WASTESTREAM_S3_CREDENTIALS, and the role or variables",
    ),
    ("RequestTimeTooSkewed", "Storage finds this machine's clock wrong: synchronise the clocks (NTP)"),
    (
        "StorageFull|QuotaExceeded|InsufficientStorage| 507 ",
        "Storage is full: give it room, or keep images shorter",
    ),
    (
        "AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken| 40[13] ",
        "Storage denies access: check the S3 keys, and that they may read and write the bucket",
    ),
    (
        "certificate verify failed|invalid peer certificate|CertificateError|UnknownIssuer",
        "Storage's certificate is not trusted: name its authority in WASTESTREAM_S3_CA_FILE",
    ),
    (
        r"kind: (Connect|Timeout)|error sending request|Could not connect|timed out",
        "Storage does not answer: check that it runs and its address",
    ),
    ("", "Storage fails: its own log says why; a full disk does this"),
)
"""Causes of failed calls: a pattern of the client's error text, and the sentence for the operator."""

_NOT_FOUND: Final = "Storage has no such bucket: check WASTESTREAM_S3_ENDPOINT and WASTESTREAM_S3_BUCKET"


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        text = str(error)
        if isinstance(error, NotFoundError | FileNotFoundError) and _CAUSES[0][0] not in text:
            raise ObjectNotFoundError(f"Storage has no object {key}.") from error
        STORAGE_ERRORS.add()
        # Access denied, timed out, answered 5xx, no bucket: not this image's fault, so never final.
        raise StorageUnavailableError(f"{cause(text)} ({_summary(text)}).") from error


class ObjectStore:
    """Puts and gets images in the bucket. Safe to share between threads, not across a fork.

    Keys are those of `core.shards`; images in a shared object are taken out here.
    Every method raises `StorageUnavailableError` while the S3 server is down or denies access.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = make_store(settings, REQUEST_TIMEOUT, _RETRY_TIMEOUT)
        self._probe_store = make_store(settings, _PROBE_TIMEOUT, _PROBE_RETRY_TIMEOUT)
        self._rejected_bytes = 0  # of the largest object that storage did not take, until it takes a probe
        self._probed = -math.inf  # when storage last took one, on the monotonic clock
        self._kept: StoredObject | None = None
        self._has_ranges = True  # until the server answers one with the whole object

    @cached_property
    def _slow_store(self) -> S3Store:
        return make_store(self._settings, _SLOW_TIMEOUT, _RETRY_TIMEOUT)

    def put_many(self, objects: Sequence[tuple[str, Content]]) -> None:
        """Store objects, given as key and bytes; when this returns, the server has them.

        Raises:
            StorageUnavailableError: some of them may be stored.
        """
        if len(objects) > 1:
            asyncio.run(self._put_all(objects))
        else:
            for key, data in objects:
                self.put(key, data)

    def get(self, key: str) -> bytes:
        """Return the image's bytes.

        Raises:
            ObjectNotFoundError: there is no such image.
        """
        return bytes(self.get_object(key).image(key))

    def get_object(self, key: str) -> StoredObject:
        """Return the object that holds the image with this key.

        Raises:
            ObjectNotFoundError: there is no such object.
        """
        name = object_key(key)
        with _translated(name), Timer(STORAGE_SECONDS, "get"):
            result = obstore.get(self._store, name)
            _check_size(name, result.range[1])
            return StoredObject(name, memoryview(result.bytes()))

    def get_beginning(self, key: str, length: int) -> tuple[bytes, int]:
        """Return the first bytes of an object, and its size; nothing of one that is too large for an image.

        Args:
            key: of an object that holds one image.
            length: bytes wanted. A server without ranges gives all; a small object has fewer.

        Raises:
            ObjectNotFoundError: there is no such object.
        """
        with _translated(key):
            result = self._get_range(key, length) or obstore.get(self._store, key)
            size = result.meta["size"]
            return (bytes(result.bytes()) if size <= MAX_BYTES else b""), size

    def _get_range(self, key: str, length: int) -> GetResult | None:
        """Return the response with the beginning of an object; None if the server gives no range of it."""
        if not self._has_ranges:
            return None
        try:
            return obstore.get(self._store, key, options={"range": (0, length)})
        except GenericError as error:
            without_ranges = _NO_RANGES in str(error)
            self._has_ranges = not without_ranges
            if without_ranges or _EMPTY in str(error):
                return None
            raise

    async def get_many(self, keys: Sequence[str]) -> list[memoryview | WastestreamError]:
        """Return each image's bytes, or the error that `get` would raise for it.

        The last shared object is kept in memory (8 MiB at most), for those of its images that another batch
        asks for. So call this from one thread only.
        """
        names = list(dict.fromkeys(map(object_key, keys)))
        objects = dict(zip(names, await asyncio.gather(*map(self._get_one, names)), strict=True))
        shared = [stored for stored in objects.values() if isinstance(stored, StoredObject) and stored.shared]
        self._kept = shared[-1] if shared else self._kept
        return [_image(objects[object_key(key)], key) for key in keys]

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove the objects that hold the images with these keys, whole; missing ones are no error."""
        keys = list(dict.fromkeys(map(object_key, keys)))
        for at in range(0, len(keys), _MAX_DELETED):
            with _translated(keys[at]):
                obstore.delete(self._store, keys[at : at + _MAX_DELETED])

    def folders(self, prefix: str) -> list[str]:
        """Return the folders right below a folder, such as `images/belt/2026` below `images/belt`."""
        with _translated(prefix):
            return sorted(obstore.list_with_delimiter(self._store, prefix)["common_prefixes"])

    def pages(self, folder: str) -> Iterator[list[str]]:
        """Yield the keys of a folder's objects, in the order of their names, up to 1,000 at a time."""
        for page in self.sizes(folder):
            yield [key for key, _ in page]

    def sizes(self, folder: str) -> Iterator[list[tuple[str, int]]]:
        """Yield key and bytes of a folder's objects, as `pages`."""
        listing = iter(obstore.list(self._store, folder, chunk_size=1000))
        while True:
            with _translated(folder):
                page = next(listing, None)
            if page is None:
                return
            yield [(item["path"], item["size"]) for item in page]

    def check(self) -> None:
        """Check that the server can store and read objects of the size of uploads."""
        if self._rejected_bytes or time.monotonic() - self._probed >= _PROBE_PUT_INTERVAL:
            self._put_probe()
        self.ping()

    def ping(self) -> None:
        """Check that the server can read from the bucket; a listing alone does not prove it."""
        try:
            self._get_probe()
        except ObjectNotFoundError:
            self._put_probe()
            self._get_probe()

    def _get_probe(self) -> None:
        with _translated(_PROBE):
            obstore.get(self._probe_store, _PROBE).bytes()

    def _put_probe(self) -> None:
        """Put a tiny object, unless an upload has failed since the last probe.

        A disk can be full for images and still have room for a byte.
        """
        rejected = min(self._rejected_bytes, _PROBE_BYTES)
        for size in [rejected, 1] if rejected else [1]:  # The last one stays, and room is for images.
            data = bytes(size)
            with self._putting(_PROBE, data):
                obstore.put(self._probe_store, _PROBE, data, use_multipart=False)
        self._rejected_bytes = 0
        self._probed = time.monotonic()

    def put(self, name: str, data: Content) -> None:
        """Store one object as it is, given in one piece or several."""
        with self._putting(name, data), Timer(STORAGE_SECONDS, "put"):
            obstore.put(self._store, name, data, attributes=_attributes(name), use_multipart=False)

    def put_file(self, name: str, file: IO[bytes]) -> None:
        """Store a file as one object, a large one in parts, so that memory stays bounded."""
        file.seek(0)
        with self._putting(name, b""):
            obstore.put(
                self._store, name, file, attributes=_attributes(name), chunk_size=_PART, max_concurrency=2
            )

    def size(self, name: str) -> int | None:
        """Return the bytes of an object; None if there is none."""
        with suppress(ObjectNotFoundError), _translated(name):
            return int(obstore.head(self._store, name)["size"])
        return None

    def pieces(self, name: str, length: int) -> Iterator[bytes]:
        """Yield an object in pieces of at least `length` bytes; the reader may take its time.

        It is one request, because rclone answers those of ranges wrongly.
        """
        with _translated(name):
            pieces = iter(obstore.get(self._slow_store, name).stream(min_chunk_size=length))
        while True:
            with _translated(name):
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    @contextmanager
    def _putting(self, name: str, data: Content) -> Iterator[None]:
        """Translate errors of a put, and remember how much storage did not take."""
        try:
            with _translated(name):
                yield
        except (ObjectNotFoundError, StorageUnavailableError) as error:
            size = sum(map(len, data)) if isinstance(data, list) else len(data)
            self._rejected_bytes = max(self._rejected_bytes, size)
            if isinstance(error, ObjectNotFoundError):  # The bucket is missing.
                raise StorageUnavailableError(f"{_NOT_FOUND} ({_summary(str(error.__cause__))}).") from error
            raise

    async def _put_all(self, objects: Sequence[tuple[str, Content]]) -> None:
        places = asyncio.Semaphore(_MAX_PUTS)

        async def put(name: str, data: Content) -> None:
            async with places:  # The client copies what it puts: there are not two copies of everything.
                with self._putting(name, data), Timer(STORAGE_SECONDS, "put"):
                    await obstore.put_async(
                        self._store, name, data, attributes=_attributes(name), use_multipart=False
                    )

        puts = (put(name, data) for name, data in objects)
        # All are awaited: one that still ran would store what the caller removes after a failure.
        results = await asyncio.gather(*puts, return_exceptions=True)
        failures = [error for error in results if error is not None]
        if failures:
            raise failures[0]

    async def _get_one(self, name: str) -> StoredObject | WastestreamError:
        if self._kept is not None and self._kept.key == name:
            return self._kept
        try:
            with _translated(name), Timer(STORAGE_SECONDS, "get"):
                result = await obstore.get_async(self._store, name)
                _check_size(name, result.range[1])  # `meta` takes three times as long.
                return StoredObject(name, memoryview(await result.bytes_async()))
        except WastestreamError as error:
            return error


def _check_size(name: str, size: int) -> None:
    """Raise `ObjectNotFoundError` for an object that is larger than an accepted image.

    It was put with the presigned URL of a direct upload, into a server that does not check sizes.
    """
    if size > MAX_BYTES:
        raise ObjectNotFoundError(f"Storage has another object {name} than was accepted: {size:,} bytes.")


def _image(stored: StoredObject | WastestreamError, key: str) -> memoryview | WastestreamError:
    if isinstance(stored, WastestreamError):
        return stored
    try:
        return stored.image(key)
    except ObjectNotFoundError as error:
        return error


def _attributes(key: str) -> dict[str, str]:
    return {"Content-Type": _TYPES.get(key.rpartition(".")[2], "application/octet-stream")}


def cause(text: str) -> str:
    """Return the cause in a client's error text, a sentence for the operator."""
    return next(sentence for pattern, sentence in _CAUSES if re.search(pattern, text))


def _summary(text: str) -> str:
    """Return obstore's message with the server's words, without the dump of its objects."""
    return " ".join(text.partition("\n\nDebug source")[0].split())[:400]

"""Shards: up to 16 jobs whose images are one stored object, at half the cost of 16.

The object of one image is the image: `images/{camera}/{yyyy}/{mm}/{dd}/{job}.{format}`, the day in UTC.
That of several is an uncompressed tar archive, so that any tool reads it:
`images/_shared/{yyyy}/{mm}/{dd}/{shard}-{number of jobs}.tar`, and in it `{camera}/{job}.{format}`.
That of an image which its client puts into storage is `images/_direct/{yyyy}/{mm}/{dd}/{job}.{format}`:
clients make no folders.

An image's key is its object's key or, in an archive, that and the name in it. No other module takes keys
apart.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from core.cost import MAX_TOGETHER_MS
from core.errors import ObjectNotFoundError
from core.formats.layout import ImageBytes
from core.ids import ID_PATTERN, TIME_DIGITS, accepted_ms, derived_ids, new_job_id

IMAGES: Final = "images"
"""Folder of the bucket that holds the images."""

ARCHIVE: Final = ".tar"
"""Suffix of the keys of objects with several images."""

MAX_IMAGES: Final = 16
"""Images in one object, and so jobs in one message (0.3 ms to send and 0.7 to consume)."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of images in one object, which is always read whole; a larger image has one to itself."""

_SHARED: Final = f"{IMAGES}/_shared"  # No camera's id begins with `_`.
_DIRECT: Final = f"{IMAGES}/_direct"
_OBJECT_PARTS: Final = 6  # of an object's key: images, camera, year, month, day, name
_OWN_NAME: Final = re.compile(rf"({ID_PATTERN.pattern})\.(?!tar$)[a-z]+")
_SHARED_NAME: Final = re.compile(rf"({ID_PATTERN.pattern})-([2-9]|[1-9][0-9])\.tar")

_NAME_OF_SHARD: Final = re.compile(rf"({ID_PATTERN.pattern})(?:-([2-9]|[1-9][0-9]))?")

_BLOCK: Final = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Shard:
    """Jobs whose images are one stored object.

    `key`: of the object. `id`: of its only job, or else a ULID from which its jobs' ids derive: so the name
    of an object tells all its jobs, and no job's id tells another's. Clients never learn it.
    """

    key: str
    id: str
    count: int

    @classmethod
    def new(cls, images: Sequence[tuple[str, str]]) -> Shard:
        """Return a shard for new jobs, given the camera and the format of each one's image."""
        shard_id, count = new_job_id(), len(images)
        if count == 1:
            ((camera, image_format),) = images
            return cls(image_key(shard_id, camera, image_format), shard_id, 1)
        return cls(_shared_key(f"{shard_id}-{count}"), shard_id, count)

    @classmethod
    def direct(cls, image_format: str) -> Shard:
        """Return a shard for one new job, whose image its client puts into storage."""
        shard_id = new_job_id()
        return cls(_direct_key(shard_id, image_format), shard_id, 1)

    @classmethod
    def at(cls, key: str) -> Shard | None:
        """Return the shard whose object has this key; None if it is not one of ours."""
        name = key.rsplit("/", 1)[-1]
        if own := _OWN_NAME.fullmatch(name):
            return cls(key, own[1], 1)
        shared = _SHARED_NAME.fullmatch(name)
        return cls(key, shared[1], int(shared[2])) if shared else None

    @classmethod
    def named(cls, name: str) -> Shard | None:
        """Return the shard of this name, without its key; None if it is no name of a shard.

        Of several jobs' it is that of the object, `{shard}-{number of jobs}`; of a single job's its id.
        """
        match = _NAME_OF_SHARD.fullmatch(name)
        return cls("", match[1], int(match[2] or 1)) if match else None

    @property
    def name(self) -> str:
        """Its name, which tells its jobs: see `named`."""
        return f"{self.id}-{self.count}" if self.count > 1 else self.id

    @property
    def suffix(self) -> str:
        """Its name without the time, with which its jobs' ids begin: the part that their records keep.

        Empty where the key tells the camera, as that of a single image which the API stored.
        """
        if self.count > 1:
            return self.name[TIME_DIGITS:]
        return self.id[TIME_DIGITS:] if self.key.startswith(f"{_DIRECT}/") else ""

    @property
    def job_ids(self) -> list[str]:
        """Ids of its jobs, in the order of their images."""
        return [self.id] if self.count == 1 else derived_ids(self.id, self.count)

    @property
    def accepted_ms(self) -> int:
        """Time at which its jobs were made, milliseconds since 1970."""
        return accepted_ms(self.id)

    def image_key(self, job_id: str, camera: str, image_format: str) -> str:
        """Return the key of the image of one of its jobs."""
        return self.key if self.count == 1 else f"{self.key}/{camera}/{job_id}.{image_format}"

    def pack(self, images: Sequence[tuple[str, ImageBytes]]) -> ImageBytes | list[ImageBytes]:
        """Return the object's bytes, perhaps in pieces, given the key and the bytes of each image."""
        if self.count == 1:
            return images[0][1]
        return pack((key[len(self.key) + 1 :], data) for key, data in images)


class StoredObject:
    """An object as read from storage, and the images in it."""

    def __init__(self, key: str, data: memoryview) -> None:
        self.key = key
        self.shared = key.endswith(ARCHIVE)
        self._data = data
        self._places = contents(data) if self.shared else {}

    def names(self) -> list[str]:
        """Return the names of the images in a shared object: `{camera}/{job}.{format}`."""
        return list(self._places)

    def image(self, key: str) -> memoryview:
        """Return the bytes of the image with this key; in a shared object it may lack the format.

        Raises:
            ObjectNotFoundError: the object does not hold it.
        """
        if not self.shared:
            return self._data
        name = key.removeprefix(f"{self.key}/")
        if name.endswith("."):  # The format is not known.
            name = next((there for there in self._places if there.startswith(name)), name)
        place = self._places.get(name)
        if place is None:
            raise ObjectNotFoundError(f"Storage has the object {self.key}, but not its image {key}.")
        return self._data[place]


def image_key(job_id: str, camera: str, image_format: str, suffix: str = "") -> str:
    """Return the key of a job's image, given the suffix of its shard."""
    name = f"{job_id}.{image_format}"
    if not suffix:
        return f"{IMAGES}/{camera}/{_day(job_id)}/{name}"
    if suffix == job_id[TIME_DIGITS:]:
        return _direct_key(job_id, image_format)
    return f"{_shared_key(job_id[:TIME_DIGITS] + suffix)}/{camera}/{name}"


def object_key(key: str) -> str:
    """Return the key of the object that holds the image with this key; an object's own key as it is."""
    return "/".join(key.split("/", _OBJECT_PARTS)[:_OBJECT_PARTS])


def job_id_of(key: str) -> str:
    """Return the id of the job whose image has this key."""
    return key.rsplit("/", 1)[-1].partition(".")[0]


def day_folder(milliseconds: int) -> str:
    """Return the end of the folders of a day's objects, `yyyy/mm/dd`, given a time in ms since 1970."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y/%m/%d}"


def fitting(images: Iterable[tuple[int, int]]) -> int:
    """Return the number of the first images that fit into one shard, at least one.

    Args:
        images: bytes of each image, and its cost of decoding (`core.cost`).
    """
    count = total = cost = 0
    for size, cost_ms in images:
        total += size
        cost += cost_ms
        if count and (count == MAX_IMAGES or total > MAX_BYTES or cost > MAX_TOGETHER_MS):
            break
        count += 1
    return count


def split(images: Sequence[tuple[int, int]]) -> list[range]:
    """Return the ranges of the images' numbers that make a shard each, in order; images as `fitting`."""
    ranges: list[range] = []
    begin = 0
    while begin < len(images):
        end = begin + fitting(images[begin : begin + MAX_IMAGES])
        ranges.append(range(begin, end))
        begin = end
    return ranges


def pack(images: Iterable[tuple[str, ImageBytes]]) -> list[ImageBytes]:
    """Return an archive of the images, given as name and bytes, in pieces."""
    pieces: list[ImageBytes] = []
    for name, data in images:
        pieces += (_header(name, len(data)), data, bytes(-len(data) % _BLOCK))
    pieces.append(bytes(2 * _BLOCK))  # how an archive ends
    return pieces


def contents(archive: ImageBytes) -> dict[str, slice]:
    """Return the place of each image in an archive, by name; if it is damaged, those before the damage."""
    places: dict[str, slice] = {}
    at = 0
    while (header := _read_header(bytes(archive[at : at + _BLOCK]))) is not None:
        name, size = header
        begin = at + _BLOCK
        if begin + size > len(archive):
            break
        places[name] = slice(begin, begin + size)
        at = begin + size + -size % _BLOCK
    return places


def _shared_key(name: str) -> str:
    return f"{_SHARED}/{_day(name)}/{name}{ARCHIVE}"


def _direct_key(job_id: str, image_format: str) -> str:
    return f"{_DIRECT}/{_day(job_id)}/{job_id}.{image_format}"


def _day(job_id: str) -> str:
    return day_folder(accepted_ms(job_id))


def _header(name: str, size: int) -> bytes:
    """Return an image's header in the archive; `tarfile` would take 16 µs to make it, and 17 to read it."""
    title, digits = name.encode(), b"%011o" % size
    if len(title) > _NAME.stop:
        raise ValueError(f"{name} is too long a name for an archive.")
    block = bytearray(_EMPTY)
    block[: len(title)] = title
    block[_SIZE] = digits
    block[_SUM] = b"%06o" % _checksum(block)
    return bytes(block)


def _read_header(block: bytes) -> tuple[str, int] | None:
    """Return name and size of an image, None if this is no header or a damaged one."""
    if len(block) < _BLOCK or not (block[_SIZE].isdigit() and block[_SUM].isdigit()):
        return None
    try:
        if int(block[_SUM], 8) != _checksum(block):
            return None
        return block[_NAME].rstrip(b"\0").decode(), int(block[_SIZE], 8)
    except ValueError:  # digits that are not octal, a name that is not UTF-8
        return None


def _checksum(block: bytes | bytearray) -> int:
    """Return the sum of a header's bytes, with its own field of eight taken as blanks."""
    return sum(block) - sum(block[_SUM.start : _SUM.start + 8]) + 8 * ord(" ")


# Fields of a header (POSIX.1-1988, "ustar"), without the NUL or blank behind their digits.
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 135)
_SUM: Final = slice(148, 154)

_EMPTY: Final = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
"""The header of an empty file without a name."""

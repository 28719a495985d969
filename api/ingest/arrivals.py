"""Check of announced images in storage, by their first bytes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.ingest.announcement import Announcement
from core.cost import decode_ms
from core.errors import ImageError, ObjectNotFoundError
from core.image_header import ImageHeader, read_beginning, read_header
from core.storage import ObjectStore

_BEGINNING: Final = 65_536
"""Bytes of an object to fetch first. They hold the header of a usual frame, with its EXIF data."""

_FETCHES: Final = 16
"""Objects that one process fetches at a time. One that must be fetched whole takes up to 10 MiB of memory."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An announced image whose object is good; `cost_ms`: cost of decoding it (`core.cost`)."""

    announcement: Announcement
    cost_ms: int


class Arrivals:
    """Checks objects, several at a time. Safe to share between threads, not across a fork."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._fetches = ThreadPoolExecutor(_FETCHES, "arrivals")

    def check(self, announcements: Sequence[Announcement]) -> list[Arrival | RequestError | ImageError]:
        """Return the arrival of each image, or its error.

        Raises:
            StorageUnavailableError: storage is down.
        """
        checks = [self._fetches.submit(self._check_one, announcement) for announcement in announcements]
        try:
            return [check.result() for check in checks]
        finally:
            for check in checks:  # If storage is down, do not wait for a time-out of each.
                check.cancel()

    def _check_one(self, announcement: Announcement) -> Arrival | RequestError | ImageError:
        key = announcement.object_key
        try:
            data, size = self._objects.get_beginning(key, _BEGINNING)
            if size != announcement.size:
                return RequestError(
                    ProblemType.SIZE_MISMATCH,
                    f"{announcement.size:,} bytes were announced, but the image in storage has {size:,}; "
                    "announce it again with its size.",
                )
            header = read_beginning(data) if len(data) < size else None
            if header is None:
                header = read_header(data if len(data) == size else self._objects.get(key))
        except ObjectNotFoundError:
            return RequestError(
                ProblemType.UPLOAD_MISSING,
                "The image is not in storage; put it with the upload's URL, then complete the upload again.",
            )
        except ImageError as error:
            return error
        return _of_type(announcement, header)


def _of_type(announcement: Announcement, header: ImageHeader) -> Arrival | RequestError:
    if header.format != announcement.format:
        return RequestError(
            ProblemType.MEDIA_TYPE_MISMATCH,
            f"{announcement.media_type} was announced, but the bytes are {header.media_type}; announce the "
            "type that is sent.",
        )
    return Arrival(announcement, decode_ms(header, announcement.size))

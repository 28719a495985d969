"""Folders of the days in storage: so a bucket is listed day by day, never as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from core.shards import IMAGES, day_folder
from core.storage import ObjectStore


def image_days(objects: ObjectStore, before_ms: int) -> Iterator[str]:
    """Yield the folders of days that begin before a time, ms since 1970; see `core.shards`."""
    last = day_folder(before_ms).split("/")
    for camera in objects.folders(IMAGES):
        folders = [camera]
        for depth in range(1, len(last) + 1):
            deeper = (sub for folder in folders for sub in objects.folders(folder))
            folders = [sub for sub in deeper if sub.split("/")[-depth:] <= last[:depth]]
        yield from folders

"""Decoding costs of images in storage, for the messages of their jobs."""

from __future__ import annotations

from collections.abc import Iterable

from core.cost import decode_ms
from core.errors import ImageError, ObjectNotFoundError
from core.formats.layout import ImageBytes
from core.image_header import read_header
from core.shards import StoredObject


def image_cost(data: ImageBytes) -> int | None:
    """Return the cost of decoding an image, ms; None for one that cannot be decoded."""
    try:
        return decode_ms(read_header(data), len(data))
    except ImageError:
        return None


def image_costs(key: str, data: bytes, jobs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return the costs of images in one object, by job.

    Args:
        key: of the object.
        data: the object.
        jobs: id and image key of each job.
    """
    stored = StoredObject(key, memoryview(data))
    costs: dict[str, int] = {}
    for job_id, image in jobs:
        try:
            costs[job_id] = image_cost(stored.image(image)) or 0  # A bad one fails at once.
        except ObjectNotFoundError:
            continue  # Its job settles `failed`, as it would have in the installation that was copied.
    return costs

"""Workload: clients that upload images and check that every image is classified."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from typing import Any, Final

from infra.lab.bench.errors import BrokenPipelineError
from infra.lab.bench.http import Address, Connection, bulk_upload, ids_in, upload

BULK_FILES: Final = 32
"""Files in one bulk upload."""

CAMERAS: Final = 8
"""Cameras named by the frames."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prebuilt upload and its number of images."""

    data: bytes
    images: int


class Workload(ABC):
    """Clients that upload until they are stopped, and receive the result of every image.

    Args:
        address: of the API.
        requests: uploads, sent in turn.
    """

    def __init__(self, address: Address, requests: Sequence[Request]) -> None:
        self.address = address
        self.accepted = 0
        self.retried = 0  # uploads answered 429 or 503 and sent again
        self.settled: list[float] = []  # Unix time, seconds, of each settled image
        self.requests = cycle(requests)
        self.stopping = False

    def stop(self) -> None:
        """Upload no more; `run` returns when every accepted image has its result."""
        self.stopping = True

    def begin(self) -> None:  # noqa: B027 - only workloads that time their calls need it
        """End the warm-up: measurements count from here."""

    @abstractmethod
    async def run(self) -> None:
        """Upload images and receive their results.

        Raises:
            BrokenPipelineError: an image was rejected, not answered or not classified.
        """

    @property
    def warm(self) -> bool:
        """Whether the number of images in flight has reached its steady state."""
        return True

    async def submit(self, connection: Connection, request: Request) -> list[str]:
        """Upload and return the jobs' ids."""
        return self.job_ids(await self.post(connection, request), request)

    async def post(self, connection: Connection, request: Request) -> bytes:
        """Upload and return the response body."""
        body, retries = await connection.upload(request.data)
        self.retried += retries
        return body

    def job_ids(self, body: bytes, request: Request) -> list[str]:
        """Return the ids in an upload's response and count them as accepted."""
        ids = ids_in(body)
        if len(ids) != request.images:
            raise BrokenPipelineError(
                f"Only {len(ids)} of {request.images} images were accepted: {body[:300]!r}."
            )
        self.accepted += len(ids)
        return ids

    def settle(self, job: dict[str, Any]) -> None:
        """Count a settled job."""
        if job["state"] != "classified":
            raise BrokenPipelineError(
                f"Job {job['id']} ended as {job['state']} instead of classified: {job['error']}."
            )
        self.settled.append(datetime.fromisoformat(job["settled_at"]).timestamp())


def singles(frames: Sequence[bytes], *, wait: bool = False) -> list[Request]:
    """Return requests that upload one frame each; with `wait` the response holds the result."""
    return [Request(upload(frame, _camera(number), wait=wait), 1) for number, frame in enumerate(frames)]


def bulks(frames: Sequence[bytes]) -> list[Request]:
    """Return requests that upload `BULK_FILES` frames each."""
    source = cycle(frames)
    count = max(1, len(frames) // BULK_FILES)
    return [
        Request(bulk_upload(list(islice(source, BULK_FILES)), _camera(number)), BULK_FILES)
        for number in range(count)
    ]


def _camera(number: int) -> str:
    return f"bench-{number % CAMERAS}"

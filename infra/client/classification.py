"""Many images through the API: uploads a few groups at a time, and asks for what has settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

from core.image_header import MAX_BYTES
from infra.client.client import Client
from infra.client.collect import Source, groups
from infra.client.errors import GaveUpError, RefusedError
from infra.client.results import QUEUED, Result, failed, settled, unfinished
from infra.client.retry import SECONDS_WITH_WORKERS

CALLS: Final = 3
"""Uploads under way at a time. With the bytes of one group each, they bound the memory used."""

MAX_PENDING: Final = 1000
"""Accepted images not yet settled; beyond it uploads wait. As many as one query may ask for."""

_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_QUERY_SHARE: Final = 10
# Seconds between queries. A pause is 10 times what the last query took, so that asking takes no more
# than a tenth of the server's time from the work itself; but a query that outlived an outage took long.

_LOST = "The server no longer knows this image's job; send the image again."


class Classification:
    """The images of one command, from files to results."""

    def __init__(self, client: Client, sources: Sequence[Source]) -> None:
        self._client = client
        self._sources = sources
        self._groups = groups(sources)
        self._uploads: set[asyncio.Task[list[Result]]] = set()
        self._pending: dict[str, Source] = {}
        self._reported: set[int] = set()
        self._pause = _SHORTEST_PAUSE
        self._next_query = 0.0

    async def results(self) -> AsyncIterator[Result]:
        """Yield each image's result as soon as it is known, in the order in which they settle.

        Raises:
            GaveUpError: the server was away, or settled nothing, for too long.
            NotWastestreamError: another server answers at the address.
        """
        found = self._one() if len(self._sources) == 1 else self._many()
        async for result in found:
            self._reported.add(result.position)
            yield result

    def unfinished(self, error: str) -> Iterator[Result]:
        """Yield a result for each image that has none yet."""
        jobs = {source.position: job for job, source in self._pending.items()}
        for source in self._sources:
            if source.position not in self._reported:
                yield unfinished(source, jobs.get(source.position), error)

    @property
    def waiting(self) -> int:
        """Images that the server has accepted and not settled."""
        return len(self._pending)

    async def _one(self) -> AsyncIterator[Result]:
        """Wait on the job itself, which answers the moment it settles."""
        (source,) = self._sources
        data = await asyncio.to_thread(_read, source)
        if isinstance(data, Result):
            yield data
            return
        try:
            job = await self._client.upload(data)
            self._accepted(source, job)
            while job["state"] == QUEUED:
                asked = time.monotonic()
                job = await self._client.wait(job["id"])
                await self._check_stall()
                if job["state"] == QUEUED and time.monotonic() - asked < _LONGEST_PAUSE:
                    await asyncio.sleep(_LONGEST_PAUSE)  # All places for waiting are taken there.
        except RefusedError as error:
            yield failed(source, str(error), next(iter(self._pending), None))
        else:
            del self._pending[job["id"]]
            yield settled(source, job)

    async def _many(self) -> AsyncIterator[Result]:
        try:
            while self._start_uploads() or self._pending:
                for task in await self._ended_uploads():
                    for result in task.result():
                        yield result
                if self._pending and time.monotonic() >= self._next_query:
                    for result in await self._query():
                        yield result
        finally:
            for task in self._uploads:
                task.cancel()
            await asyncio.gather(*self._uploads, return_exceptions=True)

    def _start_uploads(self) -> bool:
        """Fill the upload places; return whether any upload is under way."""
        while len(self._uploads) < CALLS and len(self._pending) < MAX_PENDING:
            group = next(self._groups, None)
            if group is None:
                break
            self._uploads.add(asyncio.create_task(self._upload(group)))
        return bool(self._uploads)

    async def _ended_uploads(self) -> set[asyncio.Task[list[Result]]]:
        """Wait for an upload to end, but not past the next query."""
        left = max(0.0, self._next_query - time.monotonic()) if self._pending else None
        if not self._uploads:
            await asyncio.sleep(left or 0.0)
            return set()
        ended, self._uploads = await asyncio.wait(
            self._uploads, timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        return ended

    async def _upload(self, group: list[Source]) -> list[Result]:
        """Send a group; return the results of those that did not become jobs."""
        contents = await asyncio.to_thread(lambda: [_read(source) for source in group])
        unread = [data for data in contents if isinstance(data, Result)]
        readable = [
            (source, data)
            for source, data in zip(group, contents, strict=True)
            if not isinstance(data, Result)
        ]
        if not readable:
            return unread
        try:
            items = await self._client.upload_bulk([data for _, data in readable])
        except RefusedError as error:
            return unread + [failed(source, str(error)) for source, _ in readable]
        refused = []
        for (source, _), item in zip(readable, items, strict=True):
            if "job" in item:
                self._accepted(source, item["job"])
            else:
                refused.append(failed(source, item["error"]["detail"]))
        return unread + refused

    def _accepted(self, source: Source, job: dict[str, Any]) -> None:
        self._client.retry.progress()
        self._pending[job["id"]] = source

    async def _query(self) -> list[Result]:
        asked = time.monotonic()
        jobs, unknown = await self._client.query(list(self._pending)[:MAX_PENDING])
        took = time.monotonic() - asked
        results = [settled(self._pending.pop(job["id"]), job) for job in jobs if job["state"] != QUEUED]
        results += [failed(self._pending.pop(job), _LOST, job) for job in unknown]
        if results:
            self._client.retry.progress()
            self._pause = _SHORTEST_PAUSE
        else:
            self._pause = min(_LONGEST_PAUSE, self._pause * 2)
            await self._check_stall()
        self._next_query = time.monotonic() + max(self._pause, min(_LONGEST_PAUSE, took * _QUERY_SHARE))
        return results

    async def _check_stall(self) -> None:
        """Give up when nothing settles though the server answers.

        Raises:
            GaveUpError: for too long.
        """
        retry = self._client.retry
        if retry.waited < retry.seconds:
            return
        workers = await self._client.workers()
        if workers and retry.waited < max(retry.seconds, SECONDS_WITH_WORKERS):
            return
        reason = f"though {workers} workers run" if workers else "and no worker is running"
        raise GaveUpError(f"Nothing was settled for {retry.waited:.0f} s, {reason}; given up.")


def _read(source: Source) -> bytes | Result:
    """Return the image's bytes, or the result that it cannot be sent."""
    try:
        data = source.read() if source.size <= MAX_BYTES else b""
    except OSError as error:
        return failed(source, f"The file cannot be read: {error.strerror or error}.")
    size = max(source.size, len(data))
    if size > MAX_BYTES:  # not worth its way to a server that must refuse it
        return failed(source, f"The image has {size:,} bytes; send at most {MAX_BYTES:,} (10 MiB).")
    return data

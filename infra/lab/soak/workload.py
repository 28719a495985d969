"""Workload of a soak: single and bulk uploads at a steady pace, some truncated, some cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Final

from infra.lab.soak.checker import Checker
from infra.lab.soak.images import make_images, truncate
from wastestream import ApiError, AsyncClient, GaveUpError, Retry

BURST: Final = 6
BURST_SECONDS: Final = 0.6
"""Concurrent single uploads of a sender, which the API commits together, and the pause after them."""

SENDERS: Final = 2
"""Senders of single uploads, and senders of bulk uploads."""

BULK: Final = 64
BULK_SECONDS: Final = 0.7
"""Images in a bulk upload, and the pause after it: enough for jobs to gather in workers."""

MAX_OUTSTANDING: Final = 300
"""Outstanding jobs at which senders pause: a soak measures recovery, not the machine's speed."""

TRUNCATED_SHARE: Final = 0.02
CANCELLED_SHARE: Final = 0.01

_QUERY_SECONDS: Final = 0.5
_RETRY: Final = Retry(600.0)  # longer than any fault: the fate of an abandoned upload would be unknown


class MixedWorkload:
    """Sends until stopped and queries the results until every job has settled.

    Args:
        url: the server's address.
        key: an API key with the scopes ingest and read.
        checker: records every job.
        seed: of the choice of images.
    """

    def __init__(self, url: str, key: str, checker: Checker, seed: int) -> None:
        self._url = url
        self._key = key
        self._checker = checker
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self._images = make_images(seed)
        self._stop = asyncio.Event()
        self._senders: list[asyncio.Task[None]] = []
        self._reader: asyncio.Task[None] | None = None
        self.unbounded = False
        """Whether to send as fast as the API accepts, with any number of outstanding jobs."""
        self._longest = 0.0
        self._sending: set[float] = set()  # start of each single upload in flight, monotonic seconds

    def start(self) -> None:
        """Start the senders and the reader."""
        singles = [self._send_singles(number) for number in range(SENDERS)]
        bulks = [self._send_bulks(number) for number in range(SENDERS)]
        self._senders = [asyncio.create_task(sender) for sender in (*singles, *bulks)]
        self._reader = asyncio.create_task(self._read())

    async def finish(self, seconds: float) -> None:
        """Stop sending; return when every job has settled, or after `seconds`."""
        self._stop.set()
        await asyncio.gather(*self._senders)
        deadline = asyncio.get_running_loop().time() + seconds
        while self._checker.outstanding and asyncio.get_running_loop().time() < deadline:
            self.check()
            await asyncio.sleep(_QUERY_SECONDS)
        if self._reader:
            self._reader.cancel()
        await self._read_again()

    def longest_upload(self) -> float:
        """Return the seconds of the slowest single upload since the last call.

        An upload in flight counts with its time so far.
        """
        longest = max([self._longest, *(time.monotonic() - began for began in self._sending)])
        self._longest = 0.0
        return longest

    def check(self) -> None:
        """Raise the error of a failed task: none may end by itself."""
        for task in (*self._senders, self._reader):
            if task is not None and task.done() and not task.cancelled() and task.exception():
                task.result()

    async def _send_singles(self, number: int) -> None:
        async with self._client(f"soak-{number}") as client, self._client(retry=Retry(0, 0)) as canceller:
            while not self._stop.is_set():
                await self._pause(BURST_SECONDS)
                await asyncio.gather(*(self._send_single(client, canceller) for _ in range(BURST)))

    async def _send_single(self, client: AsyncClient, canceller: AsyncClient) -> None:
        data, intact = self._image()
        began = time.monotonic()
        self._sending.add(began)
        try:
            job = await client.upload(data)
        except ApiError:
            self._checker.rejected += 1
            return
        finally:
            self._sending.discard(began)
            self._longest = max(self._longest, time.monotonic() - began)
        self._checker.accept(job.id, intact=intact)
        if self._rng.random() < CANCELLED_SHARE:
            await _cancel(canceller, job.id)

    async def _send_bulks(self, number: int) -> None:
        async with self._client(f"soak-bulk-{number}") as client:
            while not self._stop.is_set():
                await self._pause(BULK_SECONDS)
                images = [self._image() for _ in range(BULK)]
                async for outcome in client.upload_many([data for data, _ in images]):
                    if outcome.job is not None:
                        self._checker.accept(outcome.job.id, intact=images[outcome.index][1])
                    else:
                        self._checker.rejected += 1

    async def _read(self) -> None:
        async with self._client() as client:
            while True:
                await asyncio.sleep(_QUERY_SECONDS)
                await self._query(client, sorted(self._checker.outstanding))

    async def _read_again(self) -> None:
        """Query every job once more: a terminal state never changes, and no record disappears."""
        async with self._client() as client:
            await self._query(client, sorted(self._checker.accepted))

    async def _query(self, client: AsyncClient, ids: list[str]) -> None:
        self._checker.see(*await client.query(ids))

    def _client(self, camera: str | None = None, retry: Retry = _RETRY) -> AsyncClient:
        return AsyncClient(self._url, camera=camera, key=self._key, retry=retry)

    def _image(self) -> tuple[bytes, bool]:
        """Return an image, and whether it is intact."""
        data = self._rng.choice(self._images)
        return (truncate(data), False) if self._rng.random() < TRUNCATED_SHARE else (data, True)

    async def _pause(self, seconds: float) -> None:
        """Return after about `seconds` and below `MAX_OUTSTANDING`, or when the workload stops."""
        while not self._stop.is_set():
            try:
                pause = 0.0 if self.unbounded else seconds * self._rng.uniform(0.5, 1.5)
                await asyncio.wait_for(self._stop.wait(), pause)
            except TimeoutError:
                if self.unbounded or len(self._checker.outstanding) < MAX_OUTSTANDING:
                    return


async def _cancel(client: AsyncClient, job_id: str) -> None:
    """Request cancellation once. Whether or not it arrives, the job ends in exactly one terminal state."""
    with contextlib.suppress(ApiError, GaveUpError):
        await client.cancel(job_id)

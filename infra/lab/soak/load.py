"""The load: single and bulk uploads at a steady pace, some broken, some cancelled; and asking for results."""

from __future__ import annotations

import asyncio
import random
import time
from http import HTTPStatus
from typing import Final

import httpx

from infra.client.client import Client
from infra.client.errors import RefusedError
from infra.client.retry import Retry
from infra.lab.soak.checker import Checker
from infra.lab.soak.pictures import broken, make_pictures

VOLLEY: Final = 6
VOLLEY_SECONDS: Final = 0.6
"""Single uploads that a sender makes at the same time, so that they are committed together, and its pause."""

SENDERS: Final = 2
"""Senders of each kind."""

BULK: Final = 64
BULK_SECONDS: Final = 0.7
"""Images in a bulk upload, and the pause between two of one sender: enough for jobs to gather in workers."""

MAX_OUTSTANDING: Final = 300
"""Jobs not answered beyond which nobody sends: recovery is to be measured, not how fast this machine is."""

BROKEN_SHARE: Final = 0.02
CANCELLED_SHARE: Final = 0.01

_QUERY_SECONDS: Final = 0.5
_MAX_QUERY: Final = 1_000  # as the API takes
_TIMEOUT: Final = 600.0  # longer than any disturbance: an upload that is given up could not be accounted for


class Load:
    """Sends until told to stop, and asks for results until all are known.

    Args:
        url: the server.
        key: an API key that may send and read.
        checker: where everything is written down.
        seed: which pictures, and which of them are broken.
    """

    def __init__(self, url: str, key: str, checker: Checker, seed: int) -> None:
        self._url = url
        self._key = key
        self._checker = checker
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self._pictures = make_pictures(seed)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: asyncio.Task[None] | None = None
        self.pressing = False
        """Whether to send as fast as the API takes it, whatever is outstanding."""
        self._longest = 0.0
        self._sending: set[float] = set()  # when each single upload under way began, monotonic seconds

    def start(self) -> None:
        """Begin to send and to ask."""
        senders = [self._send_singles(number) for number in range(SENDERS)]
        bulk_senders = [self._send_bulks(number) for number in range(SENDERS)]
        self._tasks = [asyncio.create_task(sender) for sender in (*senders, *bulk_senders)]
        self._asking = asyncio.create_task(self._ask())

    async def finish(self, seconds: float) -> None:
        """Send no more; return when all is answered, or after `seconds`."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        deadline = asyncio.get_running_loop().time() + seconds
        while self._checker.outstanding and asyncio.get_running_loop().time() < deadline:
            self.check()
            await asyncio.sleep(_QUERY_SECONDS)
        if self._asking:
            self._asking.cancel()
        await self._ask_again()

    def longest_upload(self) -> float:
        """Return the most seconds that a single upload took until it was answered, since the last call.

        Those under way count with the time they have taken so far.
        """
        longest = max([self._longest, *(time.monotonic() - began for began in self._sending)])
        self._longest = 0.0
        return longest

    def check(self) -> None:
        """Raise what a part of the load has raised: it must not end by itself."""
        for task in (*self._tasks, self._asking):
            if task is not None and task.done() and not task.cancelled() and task.exception():
                task.result()

    async def _send_singles(self, number: int) -> None:
        async with (
            self._client(f"soak-{number}") as client,
            httpx.AsyncClient(
                base_url=self._url, headers={"Authorization": f"Bearer {self._key}"}, trust_env=False
            ) as http,
        ):
            while not self._stop.is_set():
                await self._pause(VOLLEY_SECONDS)
                await asyncio.gather(*(self._send_single(client, http) for _ in range(VOLLEY)))

    async def _send_single(self, client: Client, http: httpx.AsyncClient) -> None:
        data, intact = self._picture()
        began = time.monotonic()
        self._sending.add(began)
        try:
            job = await client.upload(data)
        except RefusedError:
            self._checker.refused += 1
            return
        finally:
            self._sending.discard(began)
            self._longest = max(self._longest, time.monotonic() - began)
        self._checker.accept(job["id"], intact=intact)
        if self._rng.random() < CANCELLED_SHARE:
            await _cancel(http, job["id"])

    async def _send_bulks(self, number: int) -> None:
        async with self._client(f"soak-bulk-{number}") as client:
            while not self._stop.is_set():
                await self._pause(BULK_SECONDS)
                pictures = [self._picture() for _ in range(BULK)]
                items = await client.upload_bulk([data for data, _ in pictures])
                for item, (_, intact) in zip(items, pictures, strict=True):
                    if item["status"] == HTTPStatus.ACCEPTED:
                        self._checker.accept(item["job"]["id"], intact=intact)
                    else:
                        self._checker.refused += 1

    async def _ask(self) -> None:
        async with self._client(None) as client:
            while True:
                await asyncio.sleep(_QUERY_SECONDS)
                await self._look(client, sorted(self._checker.outstanding))

    async def _ask_again(self) -> None:
        """Ask once more for every job: a terminal state never changes, and no record is gone."""
        async with self._client(None) as client:
            await self._look(client, sorted(self._checker.accepted))

    async def _look(self, client: Client, ids: list[str]) -> None:
        for start in range(0, len(ids), _MAX_QUERY):
            self._checker.see(*await client.query(ids[start : start + _MAX_QUERY]))

    def _client(self, camera: str | None) -> Client:
        return Client(self._url, camera=camera, key=self._key, retry=Retry(_TIMEOUT))

    def _picture(self) -> tuple[bytes, bool]:
        """Return a picture, and whether it is intact."""
        data = self._rng.choice(self._pictures)
        return (broken(data), False) if self._rng.random() < BROKEN_SHARE else (data, True)

    async def _pause(self, seconds: float) -> None:
        """Return after about this long, when there is room, or when it is time to stop."""
        while not self._stop.is_set():
            try:
                pause = 0.0 if self.pressing else seconds * self._rng.uniform(0.5, 1.5)
                await asyncio.wait_for(self._stop.wait(), pause)
            except TimeoutError:
                if self.pressing or len(self._checker.outstanding) < MAX_OUTSTANDING:
                    return


async def _cancel(http: httpx.AsyncClient, job_id: str) -> None:
    """Ask once to cancel. Whether or not it arrives, the job ends in exactly one terminal state."""
    try:
        await http.delete(f"/v1/jobs/{job_id}")
    except httpx.TransportError:
        return

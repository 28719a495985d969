"""Closed-loop workloads: a fixed number of clients, each of which sends when its last call is answered."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from infra.lab.bench.errors import BrokenPipelineError
from infra.lab.bench.http import TIMEOUT, WAIT_SECONDS, Address, Connection, parsed, query, wait_for
from infra.lab.bench.workload import Request, Workload

SINGLE_CLIENTS: Final = 8
BULK_CLIENTS: Final = 2
"""Connections that upload while another one fetches the results."""

WAITING_CLIENTS: Final = 24
"""Connections that upload and wait for the result in one call; fewer than `WASTESTREAM_API_WAITING`."""

_MAX_IDS: Final = 1000  # in one query; the API's limit
_OK: Final = 200
_BUSY_SECONDS: Final = 1.0  # pause after an answer that came early because all waiting places are taken


class Clients(Workload):
    """A number of clients, each of which repeats one call on its own connection.

    Args:
        address: of the API.
        requests: uploads, sent in turn.
        clients: number of connections.
    """

    def __init__(self, address: Address, requests: Sequence[Request], clients: int) -> None:
        super().__init__(address, requests)
        self._clients = clients

    async def run(self) -> None:
        """See `Workload.run`."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._run_client())

    async def _run_client(self) -> None:
        async with self.address.connect() as connection:
            while not self.stopping:
                await self.call(connection)

    @abstractmethod
    async def call(self, connection: Connection) -> None:
        """Upload once."""


class UploadOnly(Clients):
    """Clients that never fetch a result, for a stack without workers: accepted images count as settled."""

    async def call(self, connection: Connection) -> None:
        """See `Clients.call`."""
        ids = await self.submit(connection, next(self.requests))
        self.settled += [time.time()] * len(ids)


class UploadBacklog(UploadOnly):
    """Clients that upload at least `images` images, and end."""

    def __init__(self, address: Address, requests: Sequence[Request], clients: int, images: int) -> None:
        super().__init__(address, requests, clients)
        self._images = images

    async def call(self, connection: Connection) -> None:
        """See `Clients.call`."""
        await super().call(connection)
        if self.accepted >= self._images:
            self.stop()


class UploadAndWait(Clients):
    """Clients that upload one image and wait for its result in the same call.

    `requests` come from `singles` with `wait`.
    """

    async def call(self, connection: Connection) -> None:
        """See `Clients.call`."""
        request = next(self.requests)
        since = asked = time.monotonic()
        body = await self.post(connection, request)
        (job_id,) = self.job_ids(body, request)
        while (job := parsed(body))["state"] == "queued":
            if time.monotonic() - since > TIMEOUT:
                raise BrokenPipelineError(f"Job {job_id} was not settled in {TIMEOUT:.0f} s.")
            if time.monotonic() - asked < WAIT_SECONDS:
                await asyncio.sleep(_BUSY_SECONDS)
            asked = time.monotonic()
            body = await connection.call(wait_for(job_id), _OK)
        self.settle(job)


class Sequential(UploadAndWait):
    """One client with a pause between its timed calls: an idle system. Makes at least `min_samples` calls."""

    def __init__(self, address: Address, requests: Sequence[Request], min_samples: int) -> None:
        super().__init__(address, requests, clients=1)
        self.latencies: list[float] = []  # seconds
        self._min_samples = min_samples

    def begin(self) -> None:
        """See `Workload.begin`."""
        self.latencies.clear()

    async def run(self) -> None:
        """See `Workload.run`."""
        async with self.address.connect() as connection:
            while not self.stopping or len(self.latencies) < self._min_samples:
                since = time.monotonic()
                await self.call(connection)
                self.latencies.append(time.monotonic() - since)
                await asyncio.sleep(0.005)


class UploadAndQuery(Workload):
    """Clients that upload while one client queries many jobs at a time, as `classify` does.

    At most `window` images are in flight, so that uploads do not outrun the workers.
    """

    def __init__(self, address: Address, requests: Sequence[Request], clients: int, window: int) -> None:
        super().__init__(address, requests)
        self._clients = clients
        self._window = max(window, *(request.images for request in requests))
        self._in_flight = 0
        self._queued: dict[str, None] = {}  # ids in order of acceptance
        self._freed = asyncio.Event()

    @property
    def warm(self) -> bool:
        """See `Workload.warm`."""
        return len(self.settled) >= self._window

    def stop(self) -> None:
        """See `Workload.stop`."""
        super().stop()
        self._freed.set()

    async def run(self) -> None:
        """See `Workload.run`."""
        async with asyncio.TaskGroup() as tasks:
            uploading = [tasks.create_task(self._upload()) for _ in range(self._clients)]
            tasks.create_task(self._collect(uploading))

    async def _upload(self) -> None:
        async with self.address.connect() as connection:
            while not self.stopping:
                request = next(self.requests)
                while self._in_flight + request.images > self._window and not self.stopping:
                    self._freed.clear()
                    await self._freed.wait()
                self._in_flight += request.images
                ids = await self.submit(connection, request)
                self._queued.update(dict.fromkeys(ids))

    async def _collect(self, uploading: Sequence[asyncio.Task[None]]) -> None:
        since = time.monotonic()
        async with self.address.connect() as connection:
            while self._queued or not all(task.done() for task in uploading):
                if not self._queued:
                    await asyncio.sleep(0.005)
                    continue
                # Wait for the youngest of the older half: when it has settled, so have most of that half.
                ids = list(islice(self._queued, min(_MAX_IDS, len(self._queued) // 2 + 1)))
                await connection.call(wait_for(ids[-1]), _OK)
                if self._settle_all(parsed(await connection.call(query(ids), _OK))):
                    since = time.monotonic()
                elif time.monotonic() - since > TIMEOUT:
                    raise BrokenPipelineError(
                        f"{len(self._queued)} images were not settled in {TIMEOUT:.0f} s."
                    )

    def _settle_all(self, response: dict[str, Any]) -> int:
        if response["unknown"]:
            raise BrokenPipelineError(f"Accepted jobs are unknown: {', '.join(response['unknown'][:3])}.")
        settled = [job for job in response["jobs"] if job["state"] != "queued"]
        for job in settled:
            self.settle(job)
            del self._queued[job["id"]]
        self._in_flight -= len(settled)
        self._freed.set()
        return len(settled)

"""Kinds of load, and what the pipeline does under them."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from typing import Any, Final

from infra.lab.bench.errors import BrokenPipelineError
from infra.lab.bench.http import (
    PATIENCE,
    WAIT_SECONDS,
    Connection,
    bulk_upload,
    ids_in,
    parsed,
    query,
    upload,
    wait_for,
)
from infra.lab.bench.usage import Snapshot

BULK_FILES: Final = 32
"""Files in one bulk upload."""

CAMERAS: Final = 8
"""Cameras that the frames say they come from."""

SINGLE_CLIENTS: Final = 8
BULK_CLIENTS: Final = 2
"""Connections that upload while others fetch the results."""

WAITING_CLIENTS: Final = 24
"""Connections that each upload and then wait for the answer; the API lets 32 wait at a time."""

_TICK: Final = 0.05  # seconds between looks at a load that is slow
_MAX_IDS: Final = 1000  # in one query, as the API has it
_OK: Final = 200
_NO_PLACE: Final = 1.0  # seconds until a request that the API had no place for asks again, as it says


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API listens."""

    host: str
    port: int

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Hold a connection."""
        connection = await Connection.open(self.host, self.port)
        try:
            yield connection
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Request:
    """An upload, ready to be sent, and the number of its images."""

    data: bytes
    images: int


@dataclass(frozen=True, slots=True)
class Window:
    """`images` settled between the snapshots `begin` and `end`, when the load was steady.

    CPU time is that of the whole load, from the first upload to the last answer, as are the images
    `accepted` and the uploads `refused`.
    """

    images: int
    begin: Snapshot
    end: Snapshot
    accepted: int
    refused: int
    cpu: dict[str, float]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end.at - self.begin.at

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


class Load(ABC):
    """Clients that upload until told to stop, and see every image answered."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.accepted = 0
        self.refused = 0  # uploads that were to come back later
        self.settled: list[float] = []  # Unix time, seconds, of each image that was answered
        self._stopping = False

    def stop(self) -> None:
        """Upload no more; `run` returns when what was uploaded is answered."""
        self._stopping = True

    def begin(self) -> None:  # noqa: B027 - only loads that keep time care
        """What follows is measured; what came before was to warm up."""

    @abstractmethod
    async def run(self) -> None:
        """Upload and collect.

        Raises:
            BrokenPipelineError: an image was refused, not answered or not classified.
        """

    @property
    def warm(self) -> bool:
        """Whether as much has been answered as is under way when the load is steady."""
        return True

    async def _send(self, connection: Connection, request: Request) -> list[str]:
        """Upload and return the jobs' ids."""
        return self._ids(await self._post(connection, request), request)

    async def _post(self, connection: Connection, request: Request) -> bytes:
        """Upload and return the answer's body."""
        body, refused = await connection.upload(request.data)
        self.refused += refused
        return body

    def _ids(self, body: bytes, request: Request) -> list[str]:
        ids = ids_in(body)
        if len(ids) != request.images:
            raise BrokenPipelineError(f"Of {request.images} images {len(ids)} were accepted: {body[:300]!r}.")
        self.accepted += len(ids)
        return ids

    def _settle(self, job: dict[str, Any]) -> None:
        if job["state"] != "classified":
            raise BrokenPipelineError(
                f"Job {job['id']} ended as {job['state']} instead of classified: {job['error']}."
            )
        self.settled.append(datetime.fromisoformat(job["settled_at"]).timestamp())


class Collected(Load):
    """A few clients upload; one asks for the results of many images at a time, as `classify` does.

    At most `window` images are under way, so that uploads and workers keep pace with each other.
    """

    def __init__(self, address: Address, requests: Sequence[Request], clients: int, window: int) -> None:
        super().__init__(address)
        self._requests = cycle(requests)
        self._clients = clients
        self._window = max(window, *(request.images for request in requests))
        self._under_way = 0
        self._open: dict[str, None] = {}  # ids in order of acceptance
        self._freed = asyncio.Event()

    @property
    def warm(self) -> bool:
        """See `Load.warm`."""
        return len(self.settled) >= self._window

    def stop(self) -> None:
        """See `Load.stop`."""
        super().stop()
        self._freed.set()

    async def run(self) -> None:
        """See `Load.run`."""
        async with asyncio.TaskGroup() as tasks:
            uploading = [tasks.create_task(self._upload()) for _ in range(self._clients)]
            tasks.create_task(self._collect(uploading))

    async def _upload(self) -> None:
        async with self.address.connect() as connection:
            while not self._stopping:
                request = next(self._requests)
                while self._under_way + request.images > self._window and not self._stopping:
                    self._freed.clear()
                    await self._freed.wait()
                self._under_way += request.images
                ids = await self._send(connection, request)
                self._open.update(dict.fromkeys(ids))

    async def _collect(self, uploading: Sequence[asyncio.Task[None]]) -> None:
        since = time.monotonic()
        async with self.address.connect() as connection:
            while self._open or not all(task.done() for task in uploading):
                if not self._open:
                    await asyncio.sleep(0.005)
                    continue
                # Wait for the youngest of the older half: when it has settled, so have most of that half.
                ids = list(islice(self._open, min(_MAX_IDS, len(self._open) // 2 + 1)))
                await connection.call(wait_for(ids[-1]), _OK)
                if self._take(parsed(await connection.call(query(ids), _OK))):
                    since = time.monotonic()
                elif time.monotonic() - since > PATIENCE:
                    raise BrokenPipelineError(
                        f"{len(self._open)} images were not answered in {PATIENCE:.0f} s."
                    )

    def _take(self, answer: dict[str, Any]) -> int:
        if answer["unknown"]:
            raise BrokenPipelineError(f"Accepted jobs are unknown: {', '.join(answer['unknown'][:3])}.")
        done = [job for job in answer["jobs"] if job["state"] != "queued"]
        for job in done:
            self._settle(job)
            del self._open[job["id"]]
        self._under_way -= len(done)
        self._freed.set()
        return len(done)


class Uploaded(Load):
    """Clients that upload and never ask again, for a stack without workers: accepted images are counted."""

    def __init__(self, address: Address, requests: Sequence[Request], clients: int) -> None:
        super().__init__(address)
        self._requests = cycle(requests)
        self._clients = clients

    async def run(self) -> None:
        """See `Load.run`."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._upload())

    async def _upload(self) -> None:
        async with self.address.connect() as connection:
            while not self._stopping:
                ids = await self._send(connection, next(self._requests))
                self.settled += [time.time()] * len(ids)


class Awaited(Load):
    """Clients that each upload one image and wait for its answer, in one call.

    Args:
        address: of the API.
        requests: from `singles`, with `wait`.
        clients: how many.
    """

    def __init__(self, address: Address, requests: Sequence[Request], clients: int) -> None:
        super().__init__(address)
        self._requests = cycle(requests)
        self._clients = clients

    async def run(self) -> None:
        """See `Load.run`."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._go_on())

    async def _go_on(self) -> None:
        async with self.address.connect() as connection:
            while not self._stopping:
                await self.one(connection)

    async def one(self, connection: Connection) -> None:
        """Upload one image and wait for its answer."""
        request = next(self._requests)
        since = asked = time.monotonic()
        body = await self._post(connection, request)
        (job_id,) = self._ids(body, request)
        while (job := parsed(body))["state"] == "queued":
            if time.monotonic() - since > PATIENCE:
                raise BrokenPipelineError(f"Job {job_id} was not answered in {PATIENCE:.0f} s.")
            if time.monotonic() - asked < WAIT_SECONDS:
                await asyncio.sleep(_NO_PLACE)
            asked = time.monotonic()
            body = await connection.call(wait_for(job_id), _OK)
        self._settle(job)


class Paced(Awaited):
    """Images that come at random times at a mean rate, however long the answers take.

    Independent cameras together are a Poisson process. A latency begins when the image was due, not when
    the client got round to it (no coordinated omission).
    """

    def __init__(self, address: Address, requests: Sequence[Request], rate: float, seed: int) -> None:
        super().__init__(address, requests, clients=0)
        self.latencies: list[float] = []  # seconds
        self.delays: list[float] = []  # seconds that this client itself was late
        self._begun = math.inf
        self._gaps = _gaps(rate, seed)
        self._idle: list[Connection] = []

    def begin(self) -> None:
        """See `Load.begin`."""
        self._begun = time.monotonic()

    async def run(self) -> None:
        """See `Load.run`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                due = time.monotonic()
                while not self._stopping:
                    due += next(self._gaps)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    tasks.create_task(self._one(due))
        finally:
            for connection in self._idle:
                connection.close()

    async def _one(self, due: float) -> None:
        delay = time.monotonic() - due
        connection = (
            self._idle.pop() if self._idle else await Connection.open(self.address.host, self.address.port)
        )
        await self.one(connection)
        self._idle.append(connection)
        if due >= self._begun:
            self.delays.append(delay)
            self.latencies.append(time.monotonic() - due)


class Sequential(Awaited):
    """One image after the other, each timed, with a pause between them: an idle system."""

    def __init__(self, address: Address, requests: Sequence[Request], least: int) -> None:
        super().__init__(address, requests, clients=1)
        self.latencies: list[float] = []  # seconds
        self._least = least

    def begin(self) -> None:
        """See `Load.begin`."""
        self.latencies.clear()

    async def run(self) -> None:
        """See `Load.run`."""
        async with self.address.connect() as connection:
            while not self._stopping or len(self.latencies) < self._least:
                since = time.monotonic()
                await self.one(connection)
                self.latencies.append(time.monotonic() - since)
                await asyncio.sleep(0.005)


def singles(frames: Sequence[bytes], *, wait: bool = False) -> list[Request]:
    """Return the requests that upload the frames one by one; `wait`: and are answered with the results."""
    return [Request(upload(frame, _camera(number), wait=wait), 1) for number, frame in enumerate(frames)]


def bulks(frames: Sequence[bytes]) -> list[Request]:
    """Return requests that upload `BULK_FILES` frames each."""
    some = cycle(frames)
    count = max(1, len(frames) // BULK_FILES)
    return [
        Request(bulk_upload(list(islice(some, BULK_FILES)), _camera(number)), BULK_FILES)
        for number in range(count)
    ]


def measure(load: Load, look: Callable[[], Snapshot], warm_up: float, seconds: float) -> Window:
    """Run a load and return what happened in `seconds` after `warm_up`; all images are answered by then."""
    return asyncio.run(_measure(load, look, warm_up, seconds))


async def _measure(load: Load, look: Callable[[], Snapshot], warm_up: float, seconds: float) -> Window:
    before = look()
    broken: BaseExceptionGroup[Any] | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(load.run())
            await asyncio.sleep(warm_up)
            while not load.warm:  # noqa: ASYNC110 - a slow machine takes its time
                await asyncio.sleep(_TICK)
            begin = look()
            load.begin()
            await asyncio.sleep(seconds)
            while not load.settled or load.settled[-1] < begin.at:  # noqa: ASYNC110 - the same
                await asyncio.sleep(_TICK)
            end = look()
            load.stop()
            await running
    except* BrokenPipelineError as errors:
        broken = errors
    if broken is not None:  # Raised up there, the first Pythons 3.11 put it into a group again.
        raise _first(broken)
    after = look()
    images = sum(begin.at <= at < end.at for at in load.settled)
    cpu = {role: after.cpu[role] - before.cpu[role] for role in after.cpu}
    return Window(images, begin, end, load.accepted, load.refused, cpu)


def _first(error: BaseExceptionGroup[Any] | BrokenPipelineError) -> BrokenPipelineError:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _camera(number: int) -> str:
    return f"bench-{number % CAMERAS}"


def _gaps(rate: float, seed: int) -> Iterator[float]:
    chance = random.Random(seed)  # noqa: S311 - arrival times, no secret
    while True:
        yield chance.expovariate(rate)

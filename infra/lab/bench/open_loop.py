"""Open-loop workload: images arrive at their own rate, however long the results take."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator, Sequence

from infra.lab.bench.closed_loop import UploadAndWait
from infra.lab.bench.http import Address, Connection
from infra.lab.bench.workload import Request


class PoissonArrivals(UploadAndWait):
    """Images that arrive at random times at a mean rate, as those of many independent cameras do.

    A latency counts from the image's arrival time, even if the client sent it later (no coordinated
    omission).

    Args:
        address: of the API.
        requests: from `singles` with `wait`.
        rate: images/s.
        seed: of the arrival times.
    """

    def __init__(self, address: Address, requests: Sequence[Request], rate: float, seed: int) -> None:
        super().__init__(address, requests, clients=0)
        self.latencies: list[float] = []  # seconds
        self.delays: list[float] = []  # seconds between arrival and send
        self._began = math.inf
        self._gaps = _gaps(rate, seed)
        self._idle: list[Connection] = []

    def begin(self) -> None:
        """See `Workload.begin`."""
        self._began = time.monotonic()

    async def run(self) -> None:
        """See `Workload.run`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                arrival = time.monotonic()
                while not self.stopping:
                    arrival += next(self._gaps)
                    await asyncio.sleep(max(0.0, arrival - time.monotonic()))
                    tasks.create_task(self._send(arrival))
        finally:
            for connection in self._idle:
                connection.close()

    async def _send(self, arrival: float) -> None:
        delay = time.monotonic() - arrival
        connection = (
            self._idle.pop() if self._idle else await Connection.open(self.address.host, self.address.port)
        )
        await self.call(connection)
        self._idle.append(connection)
        if arrival >= self._began:
            self.delays.append(delay)
            self.latencies.append(time.monotonic() - arrival)


def _gaps(rate: float, seed: int) -> Iterator[float]:
    """Yield the seconds between two arrivals of a Poisson process."""
    rng = random.Random(seed)  # noqa: S311 - arrival times, no secret
    while True:
        yield rng.expovariate(rate)

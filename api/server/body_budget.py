"""Memory budget of request bodies, in all and for each client."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final, NamedTuple

from api.server.limits import WAIT_TIMEOUT


class Reservation:
    """Memory reserved for one body, `size` bytes. Only the event loop may call `release`."""

    def __init__(self, budget: BodyBudget, client: str, size: int) -> None:
        self._budget = budget
        self._client = client
        self.size = size

    def release(self) -> None:
        """Return the memory to the budget; further calls do nothing."""
        size, self.size = self.size, 0
        if size:
            self._budget.release(self._client, size)


class _QueuedRequest(NamedTuple):
    client: str
    size: int
    future: asyncio.Future[Reservation]


class BodyBudget:
    """A limit on bytes in memory, in all and for one client: an API key, or an address.

    Reservations have the declared length of a body, so a body that has begun can always end. A new request
    gets no memory that an earlier one waits for: otherwise a large body might never find enough.

    Args:
        total: bytes.
        share: bytes that one client may reserve.
    """

    def __init__(self, total: int, share: int) -> None:
        self.share: Final = share
        self._free = total
        self._reserved: Counter[str] = Counter()
        self._queue: deque[_QueuedRequest] = deque()

    def try_reserve(self, client: str, size: int) -> Reservation | None:
        """Return a reservation; None if there is not enough memory, or an earlier request waits for it."""
        if not self._fits(client, size) or any(
            request.client == client or self._is_within_share(request.client, request.size)
            for request in self._queue
        ):
            return None
        return self._reserve(client, size)

    async def reserve(self, client: str, size: int) -> Reservation | None:
        """Return a reservation as soon as there is enough memory; None after `WAIT_TIMEOUT`."""
        request = _QueuedRequest(client, size, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        try:
            async with asyncio.timeout(WAIT_TIMEOUT):
                return await request.future
        except (TimeoutError, asyncio.CancelledError) as error:
            if request.future.done() and not request.future.cancelled():  # It was granted at the last moment.
                request.future.result().release()
            else:
                self._queue.remove(request)
                self._grant()
            if isinstance(error, TimeoutError):
                return None
            raise

    def release(self, client: str, size: int) -> None:
        """Take `size` bytes back, and grant them to waiting requests."""
        self._free += size
        self._reserved[client] -= size
        if not self._reserved[client]:
            del self._reserved[client]
        self._grant()

    def _grant(self) -> None:
        """Serve waiting requests in order. A client that waits for its own share delays only itself."""
        full: set[str] = set()
        for request in list(self._queue):
            client, size, future = request
            if client in full or future.done():
                continue
            if not self._is_within_share(client, size):
                full.add(client)
            elif size > self._free:
                return
            else:
                self._queue.remove(request)
                future.set_result(self._reserve(client, size))

    def _reserve(self, client: str, size: int) -> Reservation:
        self._free -= size
        self._reserved[client] += size
        return Reservation(self, client, size)

    def _fits(self, client: str, size: int) -> bool:
        return size <= self._free and self._is_within_share(client, size)

    def _is_within_share(self, client: str, size: int) -> bool:
        return self._reserved[client] + size <= self.share

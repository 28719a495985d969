"""Memory for bodies: how much may be gathered at a time, and how much of it for one client."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final

from api.http.limits import WAIT_SECONDS


class Place:
    """Memory that one body may fill. `leave` gives it back; the event loop must call it."""

    def __init__(self, places: Places, client: str, size: int) -> None:
        self._places = places
        self._client = client
        self._size = size

    def leave(self) -> None:
        """Let others have it; to be called as often as one likes."""
        size, self._size = self._size, 0
        if size:
            self._places.free(self._client, size)


class Places:
    """A bound on bytes, and on those of one client: an API key, or an address.

    What a body declares is counted, not what has come of it, so that bodies once begun can always end.
    """

    def __init__(self, total: int, share: int) -> None:
        self.share: Final = share
        self._left = total
        self._held: Counter[str] = Counter()
        self._waiting: deque[tuple[str, int, asyncio.Future[None]]] = deque()

    def take(self, client: str, size: int) -> Place | None:
        """Return a place if there is one now."""
        if not self._fits(client, size):
            return None
        self._left -= size
        self._held[client] += size
        return Place(self, client, size)

    async def wait(self, client: str, size: int) -> Place | None:
        """Return a place as soon as there is one; None after `WAIT_SECONDS`."""
        turn = asyncio.get_running_loop().create_future()
        waits = (client, size, turn)
        self._waiting.append(waits)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except TimeoutError:
            return None
        finally:
            if waits in self._waiting:
                self._waiting.remove(waits)
        return Place(self, client, size)

    def free(self, client: str, size: int) -> None:
        """Take `size` bytes back, and hand them on."""
        self._left += size
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]
        for waits in list(self._waiting):
            client, size, turn = waits
            if not turn.done() and self._fits(client, size):
                self._left -= size
                self._held[client] += size
                self._waiting.remove(waits)
                turn.set_result(None)

    def _fits(self, client: str, size: int) -> bool:
        return size <= self._left and self._held[client] + size <= self.share

"""Memory for bodies: how much may be gathered at a time, and how much of it for one client."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final

from api.http.limits import WAIT_SECONDS


class Place:
    """Memory that one body may fill, `size` bytes. `leave` gives it back; the event loop must call it."""

    def __init__(self, places: Places, client: str, size: int) -> None:
        self._places = places
        self._client = client
        self.size = size

    def leave(self) -> None:
        """Let others have it; to be called as often as one likes."""
        size, self.size = self.size, 0
        if size:
            self._places.free(self._client, size)


class Places:
    """A bound on bytes, and on those of one client: an API key, or an address.

    What a body declares is counted, not what has come of it, so that bodies once begun can always end. Who
    comes later gets nothing of what somebody waits for: else a large body might never find enough.
    """

    def __init__(self, total: int, share: int) -> None:
        self.share: Final = share
        self._left = total
        self._held: Counter[str] = Counter()
        self._waiting: deque[tuple[str, int, asyncio.Future[Place]]] = deque()

    def take(self, client: str, size: int) -> Place | None:
        """Return a place if there is one now, and nobody waits who comes first."""
        if not self._fits(client, size) or any(
            one == client or self._is_within_share(one, wanted) for one, wanted, _ in self._waiting
        ):
            return None
        return self._hold(client, size)

    async def wait(self, client: str, size: int) -> Place | None:
        """Return a place as soon as there is one; None after `WAIT_SECONDS`."""
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        waits = (client, size, turn)
        self._waiting.append(waits)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():  # It was handed over in this very moment.
                turn.result().leave()
            else:
                self._waiting.remove(waits)
                self._hand_on()
            if isinstance(error, TimeoutError):
                return None
            raise

    def free(self, client: str, size: int) -> None:
        """Take `size` bytes back, and hand them on."""
        self._left += size
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]
        self._hand_on()

    def _hand_on(self) -> None:
        """Give places to those who wait, in order. Who waits for its own share holds up only itself."""
        full: set[str] = set()
        for waits in list(self._waiting):
            client, size, turn = waits
            if client in full or turn.done():
                continue
            if not self._is_within_share(client, size):
                full.add(client)
            elif size > self._left:
                return
            else:
                self._waiting.remove(waits)
                turn.set_result(self._hold(client, size))

    def _hold(self, client: str, size: int) -> Place:
        self._left -= size
        self._held[client] += size
        return Place(self, client, size)

    def _fits(self, client: str, size: int) -> bool:
        return size <= self._left and self._is_within_share(client, size)

    def _is_within_share(self, client: str, size: int) -> bool:
        return self._held[client] + size <= self.share

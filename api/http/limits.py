"""Bounds on what a client may send, hold and delay. Times in seconds, sizes in bytes."""

from __future__ import annotations

import time
from typing import Final

MAX_HEAD: Final = 32 * 1024
"""Request line and header fields."""

HEAD_SECONDS: Final = 10.0
"""From a request's first byte to the end of its header."""

IDLE_SECONDS: Final = 75.0
"""Between two requests of a connection. Cameras send at intervals and should keep their connections."""

GRACE_SECONDS: Final = 20.0
"""Without a byte of a body sent or an answer read; and before the least rate counts."""

LEAST_RATE: Final = 32 * 1024
"""Bytes a second of a body sent or an answer read, on the whole: 250 kbit/s."""

TRANSFER_SECONDS: Final = 600.0
"""For one body or one answer, whatever its rate."""

DISCARD_SECONDS: Final = 20.0
"""For the body of a request that is refused; then the client is answered while it still sends."""

LINGER_SECONDS: Final = 3.0
"""For a client to read the last answer and close; what it still sends is dropped."""

WAIT_SECONDS: Final = 10.0
"""For a place in memory, or for a thread."""

MAX_CONNECTIONS: Final = 2048
"""Connections to one process."""

MAX_PER_ADDRESS: Final = 1536
"""Connections to one process from one address, which may be a proxy's."""

MAX_UNREAD: Final = 256 * 1024 * 1024
"""Answers of one process that wait for clients to read them."""


class Pace:
    """Tells a transfer that moves from one that only pretends to."""

    def __init__(self, now: float) -> None:
        self.began = now
        self._count = 0
        self._moved = now

    @classmethod
    def start(cls) -> Pace:
        """Begin now."""
        return cls(time.monotonic())

    def is_too_slow(self, now: float, count: int) -> bool:
        """Return whether the transfer, which has moved `count` bytes so far, should be given up."""
        if count != self._count:
            self._count, self._moved = count, now
        took = now - self.began
        if took > TRANSFER_SECONDS or now - self._moved > GRACE_SECONDS:
            return True
        return count < LEAST_RATE * (took - GRACE_SECONDS)

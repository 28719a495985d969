"""Limits of a client's requests, memory and delays. Times in seconds, sizes in bytes."""

from __future__ import annotations

import time
from typing import Final

MAX_HEAD_BYTES: Final = 32 * 1024
"""Request line and header fields."""

HEAD_TIMEOUT: Final = 10.0
"""From a request's first byte to the end of its header."""

KEEP_ALIVE_TIMEOUT: Final = 75.0
"""Between two requests of a connection. Cameras send at intervals and should keep their connections."""

STALL_TIMEOUT: Final = 20.0
"""Without a byte received or sent. Also the time after which `MIN_RATE` applies."""

MIN_RATE: Final = 32 * 1024
"""Average bytes a second of a request body or a response: 250 kbit/s."""

TRANSFER_TIMEOUT: Final = 600.0
"""For one request body or one response, at any rate."""

DISCARD_TIMEOUT: Final = 20.0
"""For the body of a rejected request; then the client gets its response while it still sends."""

LINGER_TIMEOUT: Final = 3.0
"""For a client to read the last response and close; bytes that it still sends are discarded."""

WAIT_TIMEOUT: Final = 10.0
"""For memory for a body, and for a thread."""

MAX_CONNECTIONS: Final = 2048
"""Connections to one process."""

MAX_CONNECTIONS_PER_ADDRESS: Final = 1536
"""Connections to one process from one address, which may be a proxy's."""

MAX_UNREAD_BYTES: Final = 256 * 1024 * 1024
"""Responses of one process that wait for clients to read them."""


class TransferMonitor:
    """Detects a transfer that stalls or is slower than `MIN_RATE`.

    Args:
        now: the start of the transfer, seconds of the monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self.began = now
        self._count = 0
        self._moved = now

    @classmethod
    def start(cls) -> TransferMonitor:
        """Return the monitor of a transfer that starts now."""
        return cls(time.monotonic())

    def is_too_slow(self, now: float, count: int) -> bool:
        """Return whether to abort the transfer, which has moved `count` bytes so far."""
        if count != self._count:
            self._count, self._moved = count, now
        took = now - self.began
        if took > TRANSFER_TIMEOUT or now - self._moved > STALL_TIMEOUT:
            return True
        return count < MIN_RATE * (took - STALL_TIMEOUT)

"""A client's connection, with fewer calls of the system.

Each of them lets go of the interpreter's lock. While several uploads are under way another thread takes it
then, and the first one has to wait for it: two changes of thread for nothing.
"""

from __future__ import annotations

import socket
from typing import Any


class ClientSocket(socket.socket):
    """A socket that sends an answer's header and the beginning of its body in one piece.

    Nor does it set a time-out that is set already, as gunicorn does three times a request.
    """

    def __init__(self, accepted: socket.socket) -> None:
        """Take over a connection; `accepted` is closed to its owner, as after `detach`."""
        blocking = accepted.gettimeout()
        super().__init__(fileno=accepted.detach())
        super().settimeout(blocking)
        self._holds = False
        self._held = b""

    def settimeout(self, value: float | None, /) -> None:
        """See `socket.socket.settimeout`."""
        if value != self.gettimeout():
            super().settimeout(value)

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - as in the class above
        """See `socket.socket.setblocking`."""
        self.settimeout(None if flag else 0.0)

    def hold(self) -> None:
        """Keep what is sent next, an answer's header, until more is sent or `flush` is called."""
        self._holds = True

    def flush(self) -> None:
        """Send what is kept; from now on nothing is."""
        held = self.drop()
        if held:
            super().sendall(held)

    def drop(self) -> bytes:
        """Forget what is kept, and return it; from now on nothing is."""
        held, self._held, self._holds = self._held, b"", False
        return held

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """See `socket.socket.sendall`."""
        if self._holds and not self._held:
            self._held = bytes(data)
        else:
            super().sendall(self.drop() + data if self._held else data, flags)

    def sendfile(self, *args: Any, **options: Any) -> int:
        """See `socket.socket.sendfile`."""
        self.flush()
        return super().sendfile(*args, **options)

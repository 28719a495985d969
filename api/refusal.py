"""Lets clients read why they are refused while they are still sending."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Final

from gunicorn.http.errors import ParseException

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of a refused request's body that are read and dropped; a connection with more of it is closed."""

STRANGERS_BYTES: Final = 1024 * 1024
"""The same where the request does not even name a key: enough for a frame, so that its sender reads why."""

_PIECE: Final = 64 * 1024  # bytes read at once

SECONDS: Final = 2.0
"""How long that may take, so that refused clients hold no thread for long."""


def drop_body(environ: dict[str, Any], most: int) -> None:
    """Read a request's body and drop it, up to `most` bytes. Raises nothing, whatever the body is.

    gunicorn drops 64 KiB by itself and then closes the connection; clients with more to send would see it
    break off, and not the answer.
    """
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None:
        return
    before, deadline, dropped = connection.gettimeout(), time.monotonic() + SECONDS, 0
    try:
        # Cut off, too slow, or chunks that are none; the answer may still get there.
        with contextlib.suppress(OSError, ParseException):
            while dropped < most and (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                data = environ["wsgi.input"].read(_PIECE)
                if not data:
                    break
                dropped += len(data)
    finally:
        connection.settimeout(before)

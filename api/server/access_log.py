"""Access log: a line for each request, on standard output, as JSON where that is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Final

from api.http.request_id import HEADER
from api.server.request import Request
from api.server.response import Response
from core.logs import is_read_by_people, json_line

_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), 34, 92, *range(127, 160))}
"""Escapes of control characters, quotes and backslashes."""


class AccessLog:
    """Writes the lines. They have no header of the client, and so no key."""

    def write(self, address: str, request: Request | None, response: Response, seconds: float) -> None:
        """Log one response, `seconds` after its request was received."""
        key, line = "-", "-"
        if request is not None:
            environ = request.environ
            key = environ.get("wastestream.key", "-")
            query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
            line = f"{request.method} {request.path}{query} {environ['SERVER_PROTOCOL']}".translate(_CONTROL)
        request_id = next((value for name, value in response.fields if name == HEADER), "-")
        size, ms = len(response.body), round(1000 * seconds)
        if is_read_by_people(sys.stdout):
            at = time.strftime("[%d/%b/%Y:%H:%M:%S %z]")
            text = (
                f'{at} {address} key={key} "{line}" {response.status} bytes={size} ms={ms} '
                f"request={request_id}"
            )
        else:
            text = json_line(
                "INFO",
                "api.access",
                line,
                "api",
                request_id=request_id,
                address=address,
                key=key,
                status=response.status,
                bytes=size,
                ms=ms,
            )
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

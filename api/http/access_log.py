"""A line for each request, on the standard output."""

from __future__ import annotations

import sys
import time
from typing import Final

from api.http.answer import Answer
from api.http.request import Request
from api.http.request_id import HEADER

_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), 34, 92, *range(127, 160))}
"""Characters that could spoil a line, or end its quotes."""


class AccessLog:
    """Writes lines; no header that the client sent is in them, so no key."""

    def write(self, address: str, request: Request | None, answer: Answer, seconds: float) -> None:
        """Log one answer, `seconds` after its request had come."""
        key, line = "-", "-"
        if request is not None:
            environ = request.environ
            key = environ.get("wastestream.key", "-")
            query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
            line = f"{request.method} {request.path}{query} {environ['SERVER_PROTOCOL']}".translate(_CONTROL)
        request_id = next((value for name, value in answer.fields if name == HEADER), "-")
        at = time.strftime("[%d/%b/%Y:%H:%M:%S %z]")
        sys.stdout.write(
            f'{at} {address} key={key} "{line}" {answer.status} bytes={len(answer.body)} '
            f"ms={1000 * seconds:.0f} request={request_id}\n"
        )
        sys.stdout.flush()

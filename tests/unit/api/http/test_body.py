"""api.http.body: bodies that were not kept."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.wsgi import LimitedStream

from api.http.body import DiscardedBody
from core.errors import BusyError


def test_reading_a_discarded_body_is_no_fault_of_the_server() -> None:
    """By any way that a library takes: the client is told to send it again."""
    source: Any = DiscardedBody()
    for read in (source.read, LimitedStream(source, 2).read):
        with pytest.raises(BusyError, match="send it again"):
            read()

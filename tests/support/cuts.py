"""Connections to Redis that break before the response arrives, when Redis has done the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from redis.connection import Connection


@contextmanager
def lose_answer(is_it: Callable[[Any], bool]) -> Iterator[list[Any]]:
    """Lose the first response for which `is_it` is true; give the list that receives it."""
    read = Connection.read_response
    lost: list[Any] = []

    def read_response(self: Connection, *arguments: Any, **options: Any) -> Any:
        answer = read(self, *arguments, **options)
        if not lost and is_it(answer):
            lost.append(answer)
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError("cut off")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "read_response", read_response)
        yield lost

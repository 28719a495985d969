"""Leader election: one process at a time has a role, such as looking for lost messages."""

from __future__ import annotations

import redis

from core.redis import keys
from core.redis.client import translated


class Leader:
    """One process' claim to a role, a lock in Redis that ends by itself.

    Every method raises `RedisUnavailableError` while Redis is down.

    Args:
        client: Redis.
        role: name of the role.
        name: name of this process; no other one has it.
        seconds: after which the role is free again, unless it was renewed.
    """

    def __init__(self, client: redis.Redis, role: str, name: str, *, seconds: int) -> None:
        self._client = client
        self._key = keys.leader(role)
        self._name = name
        self._seconds = seconds

    def acquire(self) -> bool:
        """Return whether this process has just got the role, which nobody had."""
        with translated():
            return bool(self._client.set(self._key, self._name, nx=True, ex=self._seconds))

    def lead(self) -> bool:
        """Return whether this process has the role: got it now, or had it and has renewed it."""
        if self.acquire():
            return True
        with translated():
            if self._client.get(self._key) != self._name:
                return False
            self._client.expire(self._key, self._seconds)
        return True

    def resign(self) -> None:
        """Give the role up, if this process has it, so that another need not wait for its end."""
        with translated():
            if self._client.get(self._key) == self._name:
                self._client.delete(self._key)

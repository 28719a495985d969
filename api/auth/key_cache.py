"""One API process' copy of the API keys, so that checking a key asks Redis nothing."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from core.errors import RedisUnavailableError
from core.redis.api_keys import Key, KeyStore, Scope, id_in
from core.settings import Settings

FRESH: Final = 2.0
"""Seconds after which the copy is compared with Redis: how long a revoked key may go on working."""

MISS: Final = 0.25
"""The same when a key is not in the copy: how long a new one may not work yet.

However many unknown keys are tried, a process asks Redis no more often than this.
"""

STALE: Final = 10.0
"""Seconds after which an old copy is not used even while another thread waits for Redis to answer."""

_PAUSE: Final = 0.5  # seconds between attempts while Redis is down


@dataclass(frozen=True, slots=True)
class _Copy:
    version: str | None = None
    keys: dict[str, Key] = field(default_factory=dict)
    read_at: float = -STALE  # on the monotonic clock

    @property
    def age(self) -> float:
        return time.monotonic() - self.read_at


def settings_key(settings: Settings) -> Key | None:
    """Return the key whose hash is in the settings."""
    digest = settings.admin_key_sha256.lower()
    return Key("settings", "settings", frozenset({Scope.ADMIN}), digest, created_ms=0) if digest else None


class KeyCache:
    """The keys, at most `FRESH` seconds old. Safe to share between threads.

    Args:
        store: where they are kept.
        extra: a key that is not kept there, from the settings.
    """

    def __init__(self, store: KeyStore, extra: Key | None = None) -> None:
        self._store = store
        self._extra = extra
        self._copy = _Copy()
        self._lock = threading.Lock()  # held by the one thread that asks Redis
        self._retry_at = 0.0
        self._seen = extra is not None  # whether there was a key, ever since this process began

    def find(self, token: str) -> Key | None:
        """Return the valid key that `token` is, or None.

        Raises:
            RedisUnavailableError: Redis is down, and what is known does not decide.
        """
        if self._extra is not None and self._extra.opens_with(token):
            return self._extra
        copy = self._read(FRESH)
        key = copy.keys.get(id_in(token))
        if key is None and copy.age > MISS:
            key = self._read(MISS, wait=True).keys.get(id_in(token))
        return key if key is not None and key.opens_with(token) else None

    def known(self, token: str) -> Key | None:
        """Return the valid key that `token` is as far as this process knows, without asking Redis."""
        if self._extra is not None and self._extra.opens_with(token):
            return self._extra
        copy = self._copy
        key = copy.keys.get(id_in(token)) if copy.age < STALE else None
        return key if key is not None and key.opens_with(token) else None

    @property
    def has_any(self) -> bool:
        """Whether any key was ever made, as far as this process knows."""
        return self._seen

    @property
    def is_stale(self) -> bool:
        """Whether Redis must be asked before anything can be said of who needs which key."""
        return self._copy.age >= STALE

    def any(self) -> bool:
        """Return whether any key was ever made.

        Revoking or expiring the last one does not undo it, nor does a Redis that loses its data.

        Raises:
            RedisUnavailableError: Redis is down.
        """
        if not self._seen:
            self._read(FRESH)
        return self._seen

    def _read(self, age: float, *, wait: bool = False) -> _Copy:
        """Return a copy of at most that age; an older one while another thread is reading, unless `wait`."""
        copy = self._copy
        if copy.age <= age:
            return copy
        if not self._lock.acquire(blocking=wait or copy.age > STALE):
            return copy
        try:
            if self._copy.age > age:  # else another thread has just read it
                self._copy = self._compare(self._copy)
            return self._copy
        finally:
            self._lock.release()

    def _compare(self, copy: _Copy) -> _Copy:
        now = time.monotonic()
        if now < self._retry_at:
            raise RedisUnavailableError("Redis has just not answered when it was asked for the API keys.")
        try:
            # The version first: a change between the two questions is then seen next time.
            version = self._store.version()
            keys = copy.keys if version == copy.version else {key.id: key for key in self._store.all()}
        except RedisUnavailableError:
            self._retry_at = time.monotonic() + _PAUSE
            raise
        self._seen = self._seen or bool(keys)
        return _Copy(version, keys, now)

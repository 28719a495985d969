"""Cache of the API keys in one API process, so that checking a key needs no call to Redis."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from core.errors import RedisUnavailableError
from core.redis.api_keys import Key, KeyStore, Scope, id_in
from core.settings import Settings

REFRESH_SECONDS: Final = 2.0
"""Age after which the cache is compared with Redis. A revoked key may work for so long."""

MISS_REFRESH_SECONDS: Final = 0.25
"""Age for a key that is not in the cache. A new key may be unknown for so long.

It also limits how often a process asks Redis when clients try many unknown keys.
"""

STALE_SECONDS: Final = 10.0
"""Age after which the cache is not used, not even while another thread refreshes it."""

_RETRY_SECONDS: Final = 0.5  # between attempts while Redis is down


@dataclass(frozen=True, slots=True)
class _Snapshot:
    version: str | None = None
    keys: dict[str, Key] = field(default_factory=dict)
    read_at: float = -STALE_SECONDS  # on the monotonic clock

    @property
    def age(self) -> float:
        return time.monotonic() - self.read_at


def settings_key(settings: Settings) -> Key | None:
    """Return the admin key whose hash is in the settings; None without one."""
    digest = settings.admin_key_sha256.lower()
    return Key("settings", "settings", frozenset({Scope.ADMIN}), digest, created_ms=0) if digest else None


class KeyCache:
    """The keys, at most `REFRESH_SECONDS` old. Thread-safe.

    Args:
        store: the keys in Redis.
        extra: a key from the settings, not in Redis.
    """

    def __init__(self, store: KeyStore, extra: Key | None = None) -> None:
        self._store = store
        self._extra = extra
        self._snapshot = _Snapshot()
        self._lock = threading.Lock()  # held by the one thread that asks Redis
        self._retry_at = 0.0
        self._has_seen_keys = extra is not None

    def find(self, token: str) -> Key | None:
        """Return the valid key of `token`, or None.

        Raises:
            RedisUnavailableError: Redis is down, and the cache cannot tell.
        """
        if self._extra is not None and self._extra.opens_with(token):
            return self._extra
        snapshot = self._read(REFRESH_SECONDS)
        key = snapshot.keys.get(id_in(token))
        if key is None and snapshot.age > MISS_REFRESH_SECONDS:
            key = self._read(MISS_REFRESH_SECONDS, wait=True).keys.get(id_in(token))
        return key if key is not None and key.opens_with(token) else None

    def find_cached(self, token: str) -> Key | None:
        """Return the valid key of `token` from the cache, without asking Redis; None if it is not there."""
        if self._extra is not None and self._extra.opens_with(token):
            return self._extra
        snapshot = self._snapshot
        key = snapshot.keys.get(id_in(token)) if snapshot.age < STALE_SECONDS else None
        return key if key is not None and key.opens_with(token) else None

    @property
    def has_seen_keys(self) -> bool:
        """Whether this process has ever seen a key."""
        return self._has_seen_keys

    @property
    def is_stale(self) -> bool:
        """Whether the cache is too old to tell whether callers need a key."""
        return self._snapshot.age >= STALE_SECONDS

    def has_keys(self) -> bool:
        """Return whether a key was ever made.

        That remains true when the last key is revoked or expires, and when Redis loses its data.

        Raises:
            RedisUnavailableError: Redis is down.
        """
        if not self._has_seen_keys:
            self._read(REFRESH_SECONDS)
        return self._has_seen_keys

    def _read(self, age: float, *, wait: bool = False) -> _Snapshot:
        """Return a snapshot of at most that age; an older one while another thread reads, unless `wait`."""
        snapshot = self._snapshot
        if snapshot.age <= age:
            return snapshot
        if not self._lock.acquire(blocking=wait or snapshot.age > STALE_SECONDS):
            return snapshot
        try:
            if self._snapshot.age > age:  # otherwise another thread has just read it
                self._snapshot = self._refresh(self._snapshot)
            return self._snapshot
        finally:
            self._lock.release()

    def _refresh(self, snapshot: _Snapshot) -> _Snapshot:
        now = time.monotonic()
        if now < self._retry_at:
            raise RedisUnavailableError("Redis did not answer when it was last asked for the API keys.")
        try:
            # The version first: a change between the two calls is then seen next time.
            version = self._store.version()
            keys = (
                snapshot.keys if version == snapshot.version else {key.id: key for key in self._store.all()}
            )
        except RedisUnavailableError:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            raise
        self._has_seen_keys = self._has_seen_keys or bool(keys)
        return _Snapshot(version, keys, now)

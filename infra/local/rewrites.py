"""Redis' rewrites of its append-only file, allowed only while the disk has room for the new file.

A rewrite that fills the disk for a moment would end Redis: with `appendfsync always` it does not outlive a
write that fails. So `redis.conf` begins without rewrites, and the supervisor allows them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from core.disk import free_bytes
from core.redis.client import connect
from infra.local.folder import DataFolder

SETTING: Final = "auto-aof-rewrite-percentage"

_GROWTH: Final = 100
"""Percent by which the file has grown when it is rewritten: Redis' own default."""


class Rewrites:
    """Allows and forbids them."""

    def __init__(self, url: str, folder: DataFolder) -> None:
        self._redis = connect(url, timeout=0.5)
        self._folder = folder
        self._allowed = False

    def begin(self) -> None:
        """Take note that Redis starts, and remove what a rewrite that was killed has left."""
        self._allowed = False
        for path in self._folder.redis.glob("temp-*.aof"):
            path.unlink(missing_ok=True)

    def look(self) -> None:
        """Look at the disk, and tell Redis what has changed."""
        # A new file is not larger than those that it replaces.
        try:
            files = sum(path.stat().st_size for path in self._folder.redis.glob("appendonlydir/*"))
            allowed = free_bytes(self._folder.path) > files
        except OSError:  # A rewrite has just ended and removed a file: the next look will do.
            return
        if allowed != self._allowed:
            with suppress(RedisError):  # It is down, and will be told when it is back.
                self._redis.config_set(SETTING, _GROWTH if allowed else 0)
                self._allowed = allowed

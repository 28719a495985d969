"""Rewrites of Redis' append-only file, allowed only while the disk has space for the new file.

A rewrite that fills the disk would end Redis: with `appendfsync always` it does not survive a failed write.
So `redis.conf` forbids rewrites, and the supervisor allows them.
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
"""Growth of the file, percent, that triggers a rewrite: Redis' own default."""


class Rewrites:
    """Switches rewrites on and off."""

    def __init__(self, url: str, folder: DataFolder) -> None:
        self._redis = connect(url, timeout=0.5)
        self._folder = folder
        self._allowed = False

    def begin(self) -> None:
        """Reset at a start of Redis, and remove the files of a killed rewrite."""
        self._allowed = False
        for path in self._folder.redis.glob("temp-*.aof"):
            path.unlink(missing_ok=True)

    def look(self) -> None:
        """Check the disk, and change Redis' setting if necessary."""
        # A new file is not larger than the replaced ones.
        try:
            files = sum(path.stat().st_size for path in self._folder.redis.glob("appendonlydir/*"))
            allowed = free_bytes(self._folder.path) > files
        except OSError:  # A rewrite has just ended and removed a file: the next check suffices.
            return
        if allowed != self._allowed:
            with suppress(RedisError):  # It is down; the next check tries again.
                self._redis.config_set(SETTING, _GROWTH if allowed else 0)
                self._allowed = allowed

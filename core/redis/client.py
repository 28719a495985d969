"""Connections to Redis, and its errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import OutOfMemoryError, RedisError
from redis.retry import Retry

from core.errors import RedisFullError, RedisUnavailableError

_CONNECT_TIMEOUT: Final = 2.0  # seconds, unless calls have less
_OUT_OF_MEMORY: Final = "-OOM "  # Redis 6's words for it inside a script


def connect(
    url: str, *, timeout: float = 5.0, kind: type[redis.Redis] = redis.Redis, lossless: bool = False
) -> redis.Redis:
    """Return a client that connects at its first call.

    Args:
        url: see `core.redis_url`.
        timeout: seconds after which a call gives up, about.
        kind: class of the client, such as `core.redis.oom.OomTolerantRedis`.
        lossless: whether bytes that are no UTF-8 become surrogates, and those bytes again.
    """
    return kind.from_url(
        url,
        decode_responses=True,
        encoding_errors="surrogateescape" if lossless else "strict",
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, _CONNECT_TIMEOUT),
        socket_keepalive=True,
        # A broken connection is tried again at once (all our calls may be repeated: scripts check what they
        # find); a Redis that hangs is not, since every attempt would take as long as the first.
        retry=Retry(
            ExponentialBackoff(cap=0.2, base=0.02), retries=3, supported_errors=(redis.ConnectionError,)
        ),
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise every error of Redis in the block as `RedisFullError` or `RedisUnavailableError`."""
    try:
        yield
    except RedisError as error:
        if isinstance(error, OutOfMemoryError) or _OUT_OF_MEMORY in str(error):
            raise RedisFullError("Redis has no memory left: `maxmemory` is reached.") from error
        # Down, loading its file, cut off: the caller can do the same about each.
        raise RedisUnavailableError(f"Redis does not answer or cannot write ({error}).") from error

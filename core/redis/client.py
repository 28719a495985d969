"""Connections to Redis, of every kind and for every program, and its errors as ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.commands.core import Script
from redis.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from core.errors import RedisFullError, RedisRejectedError, RedisUnavailableError
from core.metrics import REDIS_ERRORS
from core.redis_url import RedisAddress

_CONNECT_TIMEOUT: Final = 2.0  # seconds, unless calls have less
_SENTINEL_TIMEOUT: Final = 0.5  # seconds for one Sentinel; then the next one is asked
_OUT_OF_MEMORY: Final = "-OOM "  # Redis 6's words for it inside a script

_DEMOTED: Final = re.compile(r"READONLY|UNBLOCKED|MASTERDOWN")
"""Errors of a server that has become a replica; Redis 6 has the first one inside a script's error."""

_URL: Final = "WASTESTREAM_REDIS_URL"
_SENTINELS: Final = "WASTESTREAM_REDIS_SENTINELS"

_SETTINGS: Final = (
    (
        "certificate verify failed: (Hostname mismatch|IP address mismatch)|certificate is not valid for",
        f"Redis' certificate is for another host: write the host that it names into {_URL}",
    ),
    (
        "certificate verify failed",
        f"Redis' certificate is not trusted: name its authority in {_URL}, as ?ssl_ca_certs=FILE",
    ),
    (
        "certificate required|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA",
        f"Redis wants a certificate of the client: name it in {_URL}, as ?ssl_certfile=FILE&ssl_keyfile=FILE",
    ),
    (
        "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNEXPECTED_MESSAGE|PACKET_LENGTH_TOO_LONG",
        f"Redis speaks no TLS at this port: name its TLS port in {_URL}, or write redis:// for none",
    ),
    (
        "Error 2 connecting to|Error 13 connecting to",
        f"Redis' socket file is missing or closed to this user: check its path in {_URL}, and its rights",
    ),
)
"""Settings that connections fail for: a pattern of redis-py's error, and the sentence for the operator."""

_HINTS: Final = {
    "Timeout connecting to server": f"if {_URL} begins with rediss://, check that this port speaks TLS",
    "EOF occurred in violation of protocol": (
        f"it may want a certificate of the client: name it in {_URL}, as ?ssl_certfile=FILE&ssl_keyfile=FILE"
    ),
}
"""Errors that a wrong setting may cause, or an outage, and what to check."""

Wrapper = Callable[[type[AbstractConnection]], type[AbstractConnection]]
"""Returns a class to connect with instead of another one."""


class RepeatedScript(Script):
    """A Lua script that is loaded again into a server that does not know it.

    redis-py does so once. A fail-over takes twice: the old master gets the script, and turns out to be a
    replica; the call is repeated on the new one, which does not know it either.
    """

    def __call__(self, keys: Any = None, args: Any = None, client: Any = None) -> Any:
        """Run the script."""
        with suppress(NoScriptError):
            return super().__call__(keys, args, client)
        return super().__call__(keys, args, client)


class Client(redis.Redis):
    """redis-py's client, with scripts that survive a fail-over."""

    def register_script(self, script: Any) -> Script:
        """Return a script that is loaded as often as it must be."""
        return RepeatedScript(self, script)


def connect(
    address: RedisAddress | str,
    *,
    timeout: float = 5.0,
    kind: type[Client] = Client,
    lossless: bool = False,
) -> redis.Redis:
    """Return a client that connects at its first call.

    Args:
        address: of the settings, or the URL of one server.
        timeout: seconds after which a call gives up, about.
        kind: class of the client, such as `core.redis.oom.OomTolerantRedis`.
        lossless: whether bytes that are no UTF-8 become surrogates, and those bytes again.
    """
    pool = connection_pool(
        RedisAddress(address) if isinstance(address, str) else address,
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
    return kind.from_pool(pool)


def connection_pool(
    address: RedisAddress, *, wrap: Wrapper | None = None, **options: Any
) -> redis.ConnectionPool:
    """Return a pool of connections to the server, or to the server that the Sentinels call master.

    Args:
        address: checked by the settings.
        wrap: replaces the class of the connections.
        options: of redis-py's connections.
    """
    # redis-py has no types for what it reads; a host of its own choice would hide that of a master's name.
    parsed: dict[str, Any] = parse_url(address.url)  # type: ignore[no-untyped-call]
    kind: type[AbstractConnection] = parsed.pop("connection_class", Connection)
    if issubclass(kind, UnixDomainSocketConnection):
        options.pop("socket_keepalive", None)
        options.pop("socket_keepalive_options", None)
    if address.sentinels:
        kind = SentinelManagedSSLConnection if issubclass(kind, SSLConnection) else SentinelManagedConnection
    kind = _following(kind)
    parsed |= {**options, "connection_class": wrap(kind) if wrap else kind}
    if address.sentinels:
        master = parsed.pop("host")
        return SentinelConnectionPool(master, _sentinels(address, parsed), **parsed)  # type: ignore[no-untyped-call]
    return redis.ConnectionPool(**parsed)


class _RejectedBySentinelError(MasterNotFoundError):
    """Raised when a Sentinel rejects the password, and no other one knows the master."""


class _Sentinels(Sentinel):
    """redis-py's Sentinels, with errors for an operator: redis-py's show every option of the connections."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the master, of the first Sentinel that knows a living one."""
        silent: list[str] = []
        rejected = False
        for sentinel in self.sentinels:
            try:
                state = cast(dict[str, Any], sentinel.sentinel_masters()).get(service_name)
            except (redis.ConnectionError, redis.TimeoutError, ResponseError) as error:
                rejected |= _is_rejection(error)
                silent.append(str(error))
                continue
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                # It is asked first from now on. A new list: other threads may be asking.
                self.sentinels = [sentinel, *(other for other in self.sentinels if other is not sentinel)]
                return str(state["ip"]), int(state["port"])
        if rejected:
            raise _RejectedBySentinelError(
                f"A Sentinel rejects WASTESTREAM_REDIS_SENTINEL_PASSWORD ({'; '.join(silent)})"
            )
        if len(silent) == len(self.sentinels):
            raise MasterNotFoundError(f"no Sentinel in {_SENTINELS} answers ({'; '.join(silent)})")
        raise MasterNotFoundError(
            f"no Sentinel in {_SENTINELS} knows a living master {service_name!r}, the host in {_URL}"
        )


def _sentinels(address: RedisAddress, parsed: dict[str, Any]) -> Sentinel:
    """Return the Sentinels; they speak TLS, with the same certificates, where the master does."""
    tls = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
    options = {
        **tls,
        "ssl": issubclass(parsed["connection_class"], SSLConnection),
        "password": address.sentinel_password or None,
        "decode_responses": True,
        "socket_timeout": _SENTINEL_TIMEOUT,
        "socket_connect_timeout": _SENTINEL_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),  # The next Sentinel is the better attempt.
    }
    return _Sentinels(list(address.sentinels), sentinel_kwargs=options)  # type: ignore[no-untyped-call]


def _following(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a class whose connections break when their server becomes a replica.

    Its callers connect anew, as after any broken connection, and find the new master: by Sentinel, or by the
    name that a managed service moves. Else they would stay with a server that only reads.
    """

    class Following(kind):  # type: ignore[misc, valid-type]
        def read_response(self, *arguments: Any, **options: Any) -> Any:
            # As of redis-py's other connections: those of Sentinel stay open after a time-out, with a master
            # that hangs, and with an answer to come that the next call would take for its own.
            options.setdefault("disconnect_on_error", True)
            try:
                return super().read_response(*arguments, **options)
            except ResponseError as error:
                if not _DEMOTED.search(str(error)) and not isinstance(error, redis.ReadOnlyError):
                    raise
                self.disconnect()
                raise redis.ConnectionError(f"this Redis has become a replica ({error})") from error

    Following.__name__ = Following.__qualname__ = kind.__name__
    return Following


@contextmanager
def translated() -> Iterator[None]:
    """Raise every error of Redis in the block as `RedisUnavailableError` or one of its kinds."""
    try:
        yield
    except RedisError as error:
        REDIS_ERRORS.add()
        raise as_ours(error) from error


def as_ours(error: RedisError) -> RedisUnavailableError:
    """Return redis-py's error as ours; its sentence names the setting that may be wrong."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or _OUT_OF_MEMORY in text:
        return RedisFullError("Redis has no memory left: `maxmemory` is reached.")
    if isinstance(error, _RejectedBySentinelError):
        return RedisRejectedError(f"{text}.")
    if isinstance(error, MasterNotFoundError):  # which may be one that is just being replaced
        return RedisUnavailableError(f"Redis does not answer: {text}.")
    if _is_rejection(error):
        return RedisRejectedError(f"Redis rejects the user or the password in {_URL} ({text.rstrip('.')}).")
    for pattern, sentence in _SETTINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return RedisRejectedError(f"{sentence} ({text.rstrip('.')}).")
    hint = next((f"; {words}" for pattern, words in _HINTS.items() if pattern in text), "")
    # Down, loading its file, cut off: the caller can do the same about each.
    return RedisUnavailableError(f"Redis does not answer or cannot write ({text.rstrip('.')}{hint}).")


def _is_rejection(error: Exception) -> bool:
    return isinstance(error, AuthenticationError) or "NOAUTH" in str(error)

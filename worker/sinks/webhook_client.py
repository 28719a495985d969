"""HTTP client of webhooks: allowed addresses only, a time limit, no redirects."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import httpcore

from core.errors import TargetError
from core.webhook_target import Network, Target, allowed_addresses
from worker.sinks.runner import DeliveryError

CONNECT_SECONDS: Final = 10.0
"""Seconds to connect, all addresses of the host together."""

TOTAL_SECONDS: Final = 15.0
"""Seconds from looking up the host to the header of the response."""

_MAX_DISCARDED: Final = 64 * 1024  # bytes of a response's body, which nobody reads
_PIECE: Final = 16 * 1024  # bytes written or read at a time
_IDLE_SECONDS: Final = 30.0  # that a connection without deliveries is kept


class GoneError(DeliveryError):
    """Raised when a receiver answers 410: it wants no more results."""


class WebhookClient:
    """Posts to one target. Not safe to share between threads.

    Args:
        target: see `core.webhook_target`.
        networks: as of `core.webhook_target.allowed_addresses`.
    """

    def __init__(self, target: Target, networks: Sequence[Network]) -> None:
        self._target = target
        self._url = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        self._deadline = _Deadline()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context() if target.scheme == "https" else None,
            max_connections=1,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=_CheckedBackend(networks, self._deadline),
        )

    def post(self, headers: Mapping[str, str], body: bytes) -> None:
        """Post a body; return when the target has accepted it.

        Raises:
            GoneError: it wants no more.
            DeliveryError: it has not accepted it, in a sentence.
        """
        host = self._target.host
        self._deadline.set(TOTAL_SECONDS)
        try:
            status = self._status({"Host": self._target.authority, **headers}, body)
        except TargetError as error:
            raise DeliveryError(f"The URL {error}.") from error
        except httpcore.ConnectTimeout as error:
            raise DeliveryError(f"{host} took too long to accept a connection.") from error
        except httpcore.TimeoutException as error:
            raise DeliveryError(f"{host} did not answer within {TOTAL_SECONDS:.0f} seconds.") from error
        except httpcore.NetworkError as error:
            raise DeliveryError(f"{host} cannot be reached, or closed the connection ({error}).") from error
        except httpcore.ProtocolError as error:
            raise DeliveryError(f"{host} did not answer as an HTTP server ({error}).") from error
        _check(status, host)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._pool.close()

    def _status(self, headers: Mapping[str, str], body: bytes) -> int:
        """Post; return the status of the response. Its body is discarded."""
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        with self._pool.stream("POST", self._url, headers=encoded, content=body) as response:
            size = 0
            # The status alone counts: the receiver has decided. An endless body only costs it the connection.
            with suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
                for piece in response.iter_stream():
                    size += len(piece)
                    if size > _MAX_DISCARDED:
                        break
            return response.status


def _check(status: int, host: str) -> None:
    if status == HTTPStatus.GONE:
        raise GoneError(f"{host} answered 410: it wants no more results.")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise DeliveryError(
            f"{host} answered {status}, a redirect, which webhooks do not follow; make one for the final URL."
        )
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise DeliveryError(f"{host} answered {status}; a receiver answers 2xx when it has the results.")


@cache
def _ssl_context() -> ssl.SSLContext:
    """Return the context that all targets share: it takes long to make, and much memory."""
    return ssl.create_default_context()


class _Deadline:
    """The time until which a delivery must be done."""

    def __init__(self) -> None:
        self._until = 0.0  # on the monotonic clock

    def set(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def left(self, error: type[httpcore.TimeoutException]) -> float:
        """Return the seconds left; raise `error` if there are none."""
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise error
        return seconds


class _CheckedBackend(httpcore.NetworkBackend):
    """Looks a host up, and connects to the addresses that it has checked."""

    def __init__(self, networks: Sequence[Network], deadline: _Deadline) -> None:
        self._networks = networks
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = allowed_addresses(host, port, self._networks)
        until = time.monotonic() + min(CONNECT_SECONDS, self._deadline.left(httpcore.ConnectTimeout))
        error: Exception = httpcore.ConnectTimeout()
        for number, address in enumerate(addresses):
            share = (until - time.monotonic()) / (len(addresses) - number)
            try:
                stream = self._backend.connect_tcp(
                    address, port, max(0.001, share), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
            else:
                return _BoundedStream(stream, self._deadline)
        raise error


class _BoundedStream(httpcore.NetworkStream):
    """A connection whose every step ends by the deadline, however slowly bytes come or go."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(min(max_bytes, _PIECE), self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        for at in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[at : at + _PIECE], self._deadline.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(
            ssl_context, server_hostname, self._deadline.left(httpcore.ConnectTimeout)
        )
        return _BoundedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

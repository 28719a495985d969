"""Ports and addresses of the stack."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Iterator
from typing import Final

from infra.local.errors import PortInUseError, StackError

MAX_PORT: Final = 65_535 - 2  # Redis and the S3 server take the two after the API's.

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

LOOPBACK_HOST: Final = "127.0.0.1"

_FREE: Final = range(10_000, 32_000)  # below the ports of outgoing connections, which could take one

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only compared with


def check_free(host: str, port: int, who: str) -> None:
    """Return if `who` can listen on `host`:`port`.

    Raises:
        PortInUseError: another program listens there.
        StackError: this machine does not have the address.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As the servers do: connections of a stopped server do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as error:
        raise StackError(f"{host} is not an address of this machine ({error.strerror}).") from error
    except PermissionError as error:
        raise StackError(
            f"This user may not listen on port {port}; choose a port above 1023 with --port."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"Port {port} is in use, and {who} needs it. Stop the program there, or choose another port "
                "with --port N: the API takes N, Redis N+1, the S3 server N+2."
            ) from error
        raise StackError(f"{who} cannot listen on {host}, port {port} ({error.strerror}).") from error


def dial(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    return _EVERYWHERE.get(host, host)


def dial_from_elsewhere(host: str) -> str:
    """Return the address at which other machines reach a server that listens on `host`."""
    if host not in _EVERYWHERE:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # Sends nothing; the kernel chooses a source address.
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def in_url(host: str) -> str:
    """Return `host` in URL syntax."""
    return f"[{host}]" if ":" in host else host


def free_ports(count: int) -> int:
    """Return the first of `count` free ports in a row.

    Raises:
        StackError: there are none.
    """
    for first in _random_ports(count):
        try:
            for port in range(first, first + count):
                socket.create_server((LOOPBACK_HOST, port)).close()
        except OSError:
            continue
        return first
    raise StackError(f"No {count} ports in a row are free between {_FREE.start} and {_FREE.stop}.")


def _random_ports(count: int) -> Iterator[int]:
    """Yield candidates at random: other processes look for ports at the same time and use them later."""
    for _ in range(1000):
        yield _FREE[secrets.randbelow(len(_FREE) - count)]

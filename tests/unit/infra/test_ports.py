"""Ports and addresses."""

from __future__ import annotations

import socket

import pytest

from infra.local.errors import PortInUseError, StackError
from infra.local.ports import check_free, dial, dial_from_elsewhere, in_url


def test_a_port_in_use_is_named_with_who_needs_it() -> None:
    """The sentence names port, service and remedy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"Port {port} is in use, and Redis needs it.*--port N"):
            check_free("127.0.0.1", port, "Redis")
    check_free("127.0.0.1", port, "Redis")


@pytest.mark.parametrize("host", ["192.0.2.7", "no host"])
def test_an_address_of_another_machine_is_rejected(host: str) -> None:
    """Listening needs an address of this machine."""
    with pytest.raises(StackError, match=host):
        check_free(host, 40_000, "the API")


def test_servers_that_listen_everywhere_are_reached_somewhere() -> None:
    """From this machine at loopback, from others at an address of this one."""
    assert dial("0.0.0.0") == "127.0.0.1"  # noqa: S104
    assert dial("127.0.0.1") == "127.0.0.1"
    assert dial_from_elsewhere("10.1.2.3") == "10.1.2.3"
    assert dial_from_elsewhere("0.0.0.0") not in {"0.0.0.0", ""}  # noqa: S104
    assert in_url("::1") == "[::1]"

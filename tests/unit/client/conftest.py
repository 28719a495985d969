"""Fixtures of the client's tests, which run on Python 3.10 too, with nothing but httpx and pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from tests.support.both_clients import Awaited, Connect
from tests.support.small_server import Server
from wastestream import Client


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free port."""
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the person who runs the tests must not reach them."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=[Client, Awaited], ids=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """A function that makes either client, with the methods of `Client`."""
    made = []

    def make(*arguments: Any, **options: Any) -> Client:
        client: Client = request.param(*arguments, **options)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()

"""api.server.dispatch: the thread pool of a request, and the memory for its body."""

from __future__ import annotations

import asyncio

import pytest

from api.app import create_app
from api.http.body import MAX_JSON_BYTES
from api.routes.long_poll import MAY_WAIT
from api.server.dispatch import Dispatch, Dispatcher
from api.server.request import parse_head
from core.image_header import MAX_BYTES
from core.settings import Settings

POOLS = ("default", "bulk", "untrusted", "long-poll", "liveness")
"""In the order of `Dispatcher.pools`."""


def dispatch(line: str, *fields: str) -> tuple[Dispatch, str, bool]:
    """Return the decision on a request that needs no key, the name of its pool, and whether it may wait."""

    async def ask() -> tuple[Dispatch, str, bool]:
        app = create_app(Settings(auth="off"))
        dispatcher = Dispatcher(app, asyncio.get_running_loop())
        head = "\r\n".join([f"{line} HTTP/1.1", "Host: x", *fields, "", ""]).encode()
        request = parse_head(head, {"REMOTE_ADDR": "192.0.2.1"})
        decision = dispatcher.dispatch_now(request)
        dispatcher.close()
        assert decision is not None
        return decision, POOLS[dispatcher.pools.index(decision.pool)], request.environ[MAY_WAIT]

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("line", "pool", "may_wait"),
    [
        ("GET /v1/jobs/x", "default", False),
        ("GET /v1/jobs/x?wait=3", "long-poll", True),
        ("GET /v1/jobs/x?a=b&%77ait=3", "long-poll", True),
        ("GET /v1/jobs/x?nowait=3", "default", False),
        ("POST /v1/images?wait=3", "long-poll", True),
        ("POST /v1/images/bulk", "bulk", False),
        ("POST /v1/images/bulk?wait=3", "bulk", False),
        ("GET /livez?wait=3", "liveness", False),
        ("GET /readyz", "untrusted", False),
        ("GET /readyz/?wait=3", "untrusted", False),
    ],
)
def test_each_kind_of_request_has_its_threads(line: str, pool: str, *, may_wait: bool) -> None:
    """Also with an escaped query; a request may wait only in the pool for long polling."""
    assert dispatch(line)[1:] == (pool, may_wait)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (["Content-Length: 5"], 5),
        (["Content-Length: 5", "Content-Encoding: Identity"], 5),
        (["Content-Length: 5", "Content-Encoding: GZIP"], MAX_BYTES),
        (["Transfer-Encoding: chunked"], MAX_BYTES),
    ],
)
def test_memory_is_reserved_for_the_largest_possible_body(fields: list[str], size: int) -> None:
    """Five bytes, or those of the largest image if the length is unknown."""
    memory = dispatch("POST /v1/images", *fields)[0].memory
    assert memory is not None
    assert memory.size == size


def test_a_key_to_sign_in_takes_little_memory() -> None:
    """Anyone may send one, and two of 1 MiB would use up the share of an address."""
    memory = dispatch("POST /session", "Transfer-Encoding: chunked")[0].memory
    assert memory is not None
    assert memory.size == 4096


def test_a_body_for_a_path_with_an_argument_is_read() -> None:
    """As long as its route allows; the body of a path that takes none is discarded."""
    decision = dispatch("POST /v1/webhooks/5f2b8c0d9e7a4136/replay", "Content-Length: 2")[0]
    assert decision.max_body == MAX_JSON_BYTES
    assert dispatch("PUT /v1/cameras/belt-1", "Content-Length: 2")[0].max_body == MAX_JSON_BYTES
    assert dispatch("POST /v1/webhooks/a/b/replay", "Content-Length: 2")[0].max_body == 0


def test_each_client_behind_a_proxy_has_a_share_of_its_own() -> None:
    """A client that uses up its share takes nothing from the others."""

    async def ask() -> None:
        dispatcher = Dispatcher(create_app(Settings(auth="off")), asyncio.get_running_loop())

        def decide(address: str) -> Dispatch | None:
            fields = f"Host: x\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: {address}"
            head = f"POST /v1/jobs/query HTTP/1.1\r\n{fields}\r\n\r\n".encode()
            return dispatcher.dispatch_now(parse_head(head, {"REMOTE_ADDR": "127.0.0.1"}, proxies=1))

        assert [decide("203.0.113.1") is None for _ in range(9)] == [*8 * [False], True]
        assert decide("203.0.113.2") is not None
        dispatcher.close()

    asyncio.run(ask())

"""api.http.admission: which threads serve a request, and how much memory its body may hold."""

from __future__ import annotations

import asyncio

import pytest

from api.app import create_app
from api.http.admission import Admission, Terms
from api.http.long_poll import MAY_WAIT
from api.http.request import parse_head
from core.image_header import MAX_BYTES
from core.settings import Settings

LANES = ("ordinary", "bulk", "strangers", "waiting", "liveness")
"""As `Admission.lanes` has them."""


def admit(line: str, *fields: str) -> tuple[Terms, str, bool]:
    """Return the terms of a request where no key is needed, the name of its lane, and whether it may wait."""

    async def ask() -> tuple[Terms, str, bool]:
        app = create_app(Settings(auth="off"))
        admission = Admission(app, asyncio.get_running_loop())
        head = "\r\n".join([f"{line} HTTP/1.1", "Host: x", *fields, "", ""]).encode()
        request = parse_head(head, {"REMOTE_ADDR": "192.0.2.1"})
        terms = admission.at_once(request)
        admission.close()
        assert terms is not None
        return terms, LANES[admission.lanes.index(terms.lane)], request.environ[MAY_WAIT]

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("line", "lane", "may_wait"),
    [
        ("GET /v1/jobs/x", "ordinary", False),
        ("GET /v1/jobs/x?wait=3", "waiting", True),
        ("GET /v1/jobs/x?a=b&%77ait=3", "waiting", True),
        ("GET /v1/jobs/x?nowait=3", "ordinary", False),
        ("POST /v1/images?wait=3", "waiting", True),
        ("POST /v1/images/bulk", "bulk", False),
        ("POST /v1/images/bulk?wait=3", "bulk", False),
        ("GET /livez?wait=3", "liveness", False),
        ("GET /readyz", "strangers", False),
        ("GET /readyz/?wait=3", "strangers", False),
    ],
)
def test_each_kind_of_request_has_its_threads(line: str, lane: str, *, may_wait: bool) -> None:
    """However the query is written; only on threads for it may a request wait."""
    assert admit(line)[1:] == (lane, may_wait)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (["Content-Length: 5"], 5),
        (["Content-Length: 5", "Content-Encoding: Identity"], 5),
        (["Content-Length: 5", "Content-Encoding: GZIP"], MAX_BYTES),
        (["Transfer-Encoding: chunked"], MAX_BYTES),
    ],
)
def test_a_body_has_a_place_for_all_that_it_may_become(fields: list[str], size: int) -> None:
    """Five bytes, or as many as any image if nobody knows."""
    place = admit("POST /v1/images", *fields)[0].place
    assert place is not None
    assert place.size == size


def test_a_key_to_sign_in_takes_little_memory() -> None:
    """Anyone may send one, and two of 1 MiB would be all that an address has."""
    place = admit("POST /session", "Transfer-Encoding: chunked")[0].place
    assert place is not None
    assert place.size == 4096


def test_each_client_behind_a_proxy_has_a_share_of_its_own() -> None:
    """One that fills its own leaves the others theirs."""

    async def ask() -> None:
        admission = Admission(create_app(Settings(auth="off")), asyncio.get_running_loop())

        def terms(address: str) -> Terms | None:
            fields = f"Host: x\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: {address}"
            head = f"POST /v1/jobs/query HTTP/1.1\r\n{fields}\r\n\r\n".encode()
            return admission.at_once(parse_head(head, {"REMOTE_ADDR": "127.0.0.1"}, proxies=1))

        assert [terms("203.0.113.1") is None for _ in range(9)] == [*8 * [False], True]
        assert terms("203.0.113.2") is not None
        admission.close()

    asyncio.run(ask())

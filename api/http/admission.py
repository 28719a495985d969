"""What becomes of a request before its body is read: whose it is, where the body goes, who serves it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from flask import Flask

from api.auth.policy import MAX_KEY_LENGTH, needs_key, scope_of, token_in
from api.http.answer import Answer, refusal
from api.http.body import JSON, BodyRule
from api.http.encodings import PLAIN
from api.http.lanes import Lane
from api.http.limits import WAIT_SECONDS
from api.http.long_poll import MAY_WAIT
from api.http.places import Place, Places
from api.http.request import Request
from api.services import Services
from core.errors import RedisUnavailableError
from core.lanes import BULK, SINGLE

_MIB: Final = 1024 * 1024

_PUBLIC: Final = "public"  # of requests that need no key, which must not take the place of those with one

_MEMORY: Final = {
    SINGLE: (256 * _MIB, 64 * _MIB),
    BULK: (512 * _MIB, 128 * _MIB),
    JSON: (32 * _MIB, 8 * _MIB),
    _PUBLIC: (8 * _MIB, 2 * _MIB),
}
"""For bodies of each kind: bytes that they may hold at a time, and one client's. A share fits the largest."""

_BULK_THREADS: Final = 4  # each has up to four shards of 8 MiB on their way to storage
_SHARE: Final = 4  # one thread in so many, besides, for bulk uploads, and for requests without a valid key

_LIVENESS: Final = "/livez"  # Who gets no answer there ends the process.
_READINESS: Final = "/readyz"  # Anyone may ask, and each waits for all whom it asks.

_BUSY: Final = {
    BULK: "All places for bulk uploads are taken; send fewer at a time. Single uploads go on.",
    SINGLE: "All places for uploads are taken, or all of yours; send fewer at a time.",
    **dict.fromkeys((JSON, _PUBLIC), "Too many requests are on their way; send fewer at a time."),
}


class Client(NamedTuple):
    """Who shares a bound: an API key's id, or an address. `trusted`: it has the key that it needs, if any."""

    id: str
    trusted: bool


class Terms(NamedTuple):
    """What was decided on a request.

    Attributes:
        lane: threads that serve it.
        most: bytes of its body that are kept; 0 to drop it.
        place: memory for them.
        answer: what it is answered instead of being served.
    """

    lane: Lane
    most: int = 0
    place: Place | None = None
    answer: Answer | None = None


class Admission:
    """Decides for one process. All methods are for the event loop.

    Args:
        app: the application, whose routes say which bodies they take.
        loop: the event loop.
    """

    def __init__(self, app: Flask, loop: asyncio.AbstractEventLoop) -> None:
        services: Services = app.extensions["wastestream"]
        self._settings = services.settings
        self._keyring = services.key_cache
        self._loop = loop
        self._rules = _rules(app)
        self._places = {kind: Places(total, share) for kind, (total, share) in _MEMORY.items()}
        threads = services.settings.api_threads
        share = max(1, threads // _SHARE)
        self._ordinary = Lane("request", threads, loop)
        self._bulk = Lane("bulk", min(_BULK_THREADS, share), loop)
        self._strangers = Lane("stranger", share, loop)
        self._waiting = Lane("waiting", services.settings.api_waiting, loop)
        self._liveness = Lane("liveness", 1, loop)  # Other threads may all wait for Redis.
        self._lookups = ThreadPoolExecutor(2, thread_name_prefix="lookup")

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """All threads there are."""
        return (self._ordinary, self._bulk, self._strangers, self._waiting, self._liveness)

    def at_once(self, request: Request) -> Terms | None:
        """Return the terms of a request; None if Redis must be asked for them, or a place waited for."""
        client = self._known(request)
        return None if client is None else self._terms(request, client)

    async def in_time(self, request: Request) -> Terms:
        """Return the terms when it is known who the client is, and a place has become free."""
        client = self._known(request) or await self._look_up(request)
        terms = self._terms(request, client)
        if terms is not None:
            return terms
        rule, size = self._rules[_route(request)], self._size(request)
        place = await self._places[rule.kind].wait(client.id, size)
        if place is None:
            return Terms(self._ordinary, answer=refusal(HTTPStatus.SERVICE_UNAVAILABLE, _BUSY[rule.kind]))
        return Terms(self._lane(request, client), rule.most, place)

    def busy(self, terms: Terms) -> Answer:
        """Return the answer to a request for which no thread became free."""
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, _BUSY[BULK if terms.lane is self._bulk else JSON])

    def close(self) -> None:
        """Begin nothing more."""
        for lane in self.lanes:
            lane.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _known(self, request: Request) -> Client | None:
        """Return who sends a request, if this process knows."""
        if self._settings.auth == "off":
            return Client(request.address, trusted=True)
        token = token_in(request.environ)
        if token:
            key = self._keyring.known(token)
            return None if key is None else Client(key.id, trusted=True)
        if not self._keyring.is_stale:
            return Client(request.address, trusted=not needs_key(self._settings, self._keyring, ask=False))
        return None if self._rule(request) else Client(request.address, trusted=False)

    async def _look_up(self, request: Request) -> Client:
        """Have a thread ask Redis who sends a request."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._loop.run_in_executor(self._lookups, self._ask, request)
        except (TimeoutError, RedisUnavailableError):
            return Client(request.address, trusted=False)  # The application says what is wrong.

    def _ask(self, request: Request) -> Client:
        token = token_in(request.environ)
        if not needs_key(self._settings, self._keyring):
            return Client(request.address, trusted=True)
        key = self._keyring.find(token) if 0 < len(token) <= MAX_KEY_LENGTH else None
        return Client(request.address, trusted=False) if key is None else Client(key.id, trusted=True)

    def _terms(self, request: Request, client: Client) -> Terms | None:
        """Return the terms of a client's request; None if there is no place for its body now."""
        lane, rule = self._lane(request, client), self._rule(request)
        if rule is None or not (client.trusted or rule.public):
            return Terms(lane)
        place = self._places[rule.kind].take(client.id, self._size(request))
        return None if place is None else Terms(lane, rule.most, place)

    def _rule(self, request: Request) -> _Rule | None:
        """Return the rule for a request's body; None if the body is not to be kept, or there is none."""
        rule = self._rules.get(_route(request)) if request.method == "POST" and request.has_body else None
        return rule if rule is not None and request.length <= rule.most else None

    def _size(self, request: Request) -> int:
        """Return the bytes that a request's body may have, decompressed if it says that it is compressed."""
        coding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        known = request.length if coding in PLAIN else 0
        return known or self._rules[_route(request)].most

    def _lane(self, request: Request, client: Client) -> Lane:
        """Return who serves a request; only those of one lane may wait for a job."""
        request.environ[MAY_WAIT] = False
        route = _route(request)
        if route == _LIVENESS:
            return self._liveness
        if route == _READINESS or not client.trusted:
            return self._strangers
        rule = self._rules.get(route)
        if rule is not None and rule.kind == BULK:
            return self._bulk
        if "wait" in parse_qs(request.environ["QUERY_STRING"]) and self._waiting.has_room:
            request.environ[MAY_WAIT] = True
            return self._waiting
        return self._ordinary


class _Rule(NamedTuple):
    most: int
    kind: str
    public: bool


def _route(request: Request) -> str:
    """Return a request's path as routes have it: a slash at the end makes no difference."""
    return request.path.rstrip("/")


def _rules(app: Flask) -> dict[str, _Rule]:
    """Return what routes take bodies, by path."""
    found = {}
    for route in app.url_map.iter_rules():
        rule: BodyRule | None = getattr(app.view_functions[route.endpoint], "takes", None)
        if rule is not None:
            public = scope_of(app, route.endpoint) is None
            found[route.rule] = _Rule(rule.most, _PUBLIC if public else rule.kind, public)
    return found

"""Dispatch of a request before its body is read: its client, the memory for its body, its thread pool."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from flask import Flask

from api.auth.policy import needs_key, scope_of, token_of
from api.http.body import JSON, BodyRule
from api.http.encodings import PLAIN
from api.http.problem_types import ProblemType
from api.routes.long_poll import MAY_WAIT
from api.server.body_budget import BodyBudget, Reservation
from api.server.limits import WAIT_TIMEOUT
from api.server.request import Request
from api.server.response import Response, error_response
from api.server.thread_pool import ThreadPool
from api.services import Services
from core.errors import RedisUnavailableError
from core.lanes import BULK, SINGLE
from core.redis.api_keys import MAX_KEY_LENGTH

_MIB: Final = 1024 * 1024

_PUBLIC: Final = "public"  # kind of bodies without a key, which must not take the memory of those with one

_MEMORY: Final = {
    SINGLE: (256 * _MIB, 64 * _MIB),
    BULK: (512 * _MIB, 128 * _MIB),
    JSON: (32 * _MIB, 8 * _MIB),
    _PUBLIC: (8 * _MIB, 2 * _MIB),
}
"""Budget of each kind of body: bytes in all, and of one client. A client's share fits the largest body."""

_BULK_THREADS: Final = 4  # each uploads up to four shards of 8 MiB to storage at a time
_SHARE: Final = 4  # Bulk uploads, and requests without a valid key, have a quarter as many threads each.

_ARGUMENT: Final = re.compile(r"<[^>]+>")

_LIVENESS: Final = "/livez"  # An orchestrator ends a process that does not respond here.
_READINESS: Final = "/readyz"  # Anyone may call it, and each call waits for Redis and storage.

_BUSY: Final = {
    BULK: "Too many bulk uploads are in progress; send fewer at a time. Single uploads go on.",
    SINGLE: "Too many uploads are in progress, of all clients or of yours; send fewer at a time.",
    **dict.fromkeys((JSON, _PUBLIC), "Too many requests are in progress; send fewer at a time."),
}


class Client(NamedTuple):
    """The holder of a share: an API key's id, or an address. `trusted`: it has the key that it needs."""

    id: str
    trusted: bool


class Dispatch(NamedTuple):
    """The decision on a request.

    Attributes:
        pool: threads that serve it.
        max_body: bytes of its body to keep; 0 to discard the body.
        memory: reserved for the body.
        response: the server's own response, instead of the application's.
    """

    pool: ThreadPool
    max_body: int = 0
    memory: Reservation | None = None
    response: Response | None = None


class Dispatcher:
    """Dispatches the requests of one process. All methods are for the event loop.

    Args:
        app: the application, whose routes declare the bodies that they accept.
        loop: the event loop.
    """

    def __init__(self, app: Flask, loop: asyncio.AbstractEventLoop) -> None:
        services: Services = app.extensions["wastestream"]
        self._settings = services.settings
        self._key_cache = services.key_cache
        self._loop = loop
        self._rules = _Rules(app)
        self._budgets = {kind: BodyBudget(total, share) for kind, (total, share) in _MEMORY.items()}
        threads = services.settings.api_threads
        share = max(1, threads // _SHARE)
        self._default = ThreadPool("request", threads)
        self._bulk = ThreadPool("bulk", min(_BULK_THREADS, share))
        self._untrusted = ThreadPool("untrusted", share)
        self._long_poll = ThreadPool("long-poll", services.settings.api_waiting)
        self._liveness = ThreadPool("liveness", 1)  # Other threads may all wait for Redis.
        self._lookups = ThreadPoolExecutor(2, thread_name_prefix="lookup")

    @property
    def pools(self) -> tuple[ThreadPool, ...]:
        """All thread pools."""
        return (self._default, self._bulk, self._untrusted, self._long_poll, self._liveness)

    def dispatch_now(self, request: Request) -> Dispatch | None:
        """Return the decision on a request; None if it needs a call to Redis, or must wait for memory."""
        client = self._cached_client(request)
        return None if client is None else self._dispatch(request, client)

    async def dispatch(self, request: Request) -> Dispatch:
        """Return the decision on a request once its client is known and there is memory for its body."""
        client = self._cached_client(request) or await self._look_up(request)
        decision = self._dispatch(request, client)
        if decision is not None:
            return decision
        rule = self._rule(request)
        assert rule is not None  # noqa: S101 - others are decided on at once
        memory = await self._budgets[rule.kind].reserve(client.id, _size(request, rule))
        if memory is None:
            response = error_response(ProblemType.SERVER_BUSY, _BUSY[rule.kind])
            return Dispatch(self._default, response=response)
        return Dispatch(self._pool(request, client), rule.max_bytes, memory)

    def busy_response(self, dispatch: Dispatch) -> Response:
        """Return the response to a request for which no thread became free."""
        kind = BULK if dispatch.pool is self._bulk else JSON
        return error_response(ProblemType.SERVER_BUSY, _BUSY[kind])

    def close(self) -> None:
        """Start no more work."""
        for pool in self.pools:
            pool.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _cached_client(self, request: Request) -> Client | None:
        """Return the client of a request; None if only Redis knows it."""
        if self._settings.auth == "off":
            return Client(request.address, trusted=True)
        token = token_of(request.environ)
        if token:
            key = self._key_cache.find_cached(token)
            return None if key is None else Client(key.id, trusted=True)
        if not self._key_cache.is_stale:
            return Client(request.address, trusted=not needs_key(self._settings, self._key_cache, ask=False))
        return None if self._rule(request) else Client(request.address, trusted=False)

    async def _look_up(self, request: Request) -> Client:
        """Return the client of a request; a thread asks Redis."""
        try:
            async with asyncio.timeout(WAIT_TIMEOUT):
                return await self._loop.run_in_executor(self._lookups, self._client, request)
        except (TimeoutError, RedisUnavailableError):
            return Client(request.address, trusted=False)  # The application's response gives the reason.

    def _client(self, request: Request) -> Client:
        token = token_of(request.environ)
        if not needs_key(self._settings, self._key_cache):
            return Client(request.address, trusted=True)
        key = self._key_cache.find(token) if 0 < len(token) <= MAX_KEY_LENGTH else None
        return Client(request.address, trusted=False) if key is None else Client(key.id, trusted=True)

    def _dispatch(self, request: Request, client: Client) -> Dispatch | None:
        """Return the decision on a client's request; None if there is no memory for its body now."""
        pool, rule = self._pool(request, client), self._rule(request)
        if rule is None or not (client.trusted or rule.public):
            return Dispatch(pool)
        memory = self._budgets[rule.kind].try_reserve(client.id, _size(request, rule))
        return None if memory is None else Dispatch(pool, rule.max_bytes, memory)

    def _rule(self, request: Request) -> _Rule | None:
        """Return the rule for a request's body; None if the body is to be discarded, or there is none."""
        rule = self._rules.of(request) if request.method in _WITH_BODY and request.has_body else None
        return rule if rule is not None and request.length <= rule.max_bytes else None

    def _pool(self, request: Request, client: Client) -> ThreadPool:
        """Return the thread pool for a request. Requests of one pool may wait for a job."""
        request.environ[MAY_WAIT] = False
        route = _route(request)
        if route == _LIVENESS:
            return self._liveness
        if route == _READINESS or not client.trusted:
            return self._untrusted
        rule = self._rules.of(request)
        if rule is not None and rule.kind == BULK:
            return self._bulk
        if "wait" in parse_qs(request.environ["QUERY_STRING"]) and self._long_poll.has_free_thread:
            request.environ[MAY_WAIT] = True
            return self._long_poll
        return self._default


_WITH_BODY: Final = frozenset({"POST", "PUT"})


class _Rule(NamedTuple):
    max_bytes: int
    kind: str
    public: bool


def _size(request: Request, rule: _Rule) -> int:
    """Return the maximum bytes of a request's body, decompressed if its header declares compression."""
    coding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    known = request.length if coding in PLAIN else 0
    return known or rule.max_bytes


def _route(request: Request) -> str:
    """Return a request's path as routes have it: a trailing slash makes no difference."""
    return request.path.rstrip("/")


class _Rules:
    """Rules of the routes that accept bodies."""

    def __init__(self, app: Flask) -> None:
        self._by_path: dict[str, _Rule] = {}
        self._by_pattern: list[tuple[re.Pattern[str], _Rule]] = []  # of paths with arguments
        for route in app.url_map.iter_rules():
            declared: BodyRule | None = getattr(app.view_functions[route.endpoint], "body_rule", None)
            if declared is None:
                continue
            public = scope_of(app, route.endpoint) is None
            rule = _Rule(declared.max_bytes, _PUBLIC if public else declared.kind, public)
            if route.arguments:
                self._by_pattern.append((re.compile(_ARGUMENT.sub("[^/]+", route.rule)), rule))
            else:
                self._by_path[route.rule] = rule

    def of(self, request: Request) -> _Rule | None:
        """Return the rule of a request's route; None if it accepts no body."""
        path = _route(request)
        rule = self._by_path.get(path)
        if rule is not None:
            return rule
        return next((rule for pattern, rule in self._by_pattern if pattern.fullmatch(path)), None)

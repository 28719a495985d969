"""`/v1/events`: the feed of settled jobs as server-sent events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, request

from api.auth.policy import by_camera, caller, requires, token_of
from api.http.event_stream import MEDIA_TYPE, events, opening
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.validation import read_query
from api.openapi.operation import Answer, operation
from api.routes.results import filter_of, page_after, start_of
from api.schemas.results import EventsHeaders, FeedQuery
from api.services import services
from core.redis.api_keys import Key, Scope
from core.redis.feed import Cursor
from core.redis.results import ResultFilter

STREAM: Final = "wastestream.stream"
"""Variable of the environment: the `StreamRequest` of a response that the server goes on with."""

MAX_EVENTS: Final = 500
"""Maximum events that are sent at a time: some 200 kB."""

_EXAMPLE: Final = (
    "retry: 2000\nid: 1769843700000-0-1\n\n"
    "id: 1769843700412-0-1\nevent: result\n"
    'data: {"id":"01K9Z3NDEKTSV4RRFFQ69G5FAV","state":"classified","camera":"belt-1",...}\n\n'
    ": heartbeat\nid: 1769843700412-0-1\n\n"
)

blueprint = Blueprint("events", __name__, url_prefix="/v1/events")


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """An accepted stream.

    Attributes:
        cursor: after the events in the response's body.
        wanted: results to send.
        token: of the caller, empty without one.
        key: of the token; None where no key is needed.
        address: of the client.
    """

    cursor: Cursor
    wanted: ResultFilter
    token: str
    key: Key | None
    address: str

    @property
    def owner(self) -> str:
        """Whom the stream counts for: its key, or without one its client's address."""
        return self.address if self.key is None else self.key.id


@blueprint.get("")
@requires(Scope.READ)
@by_camera
@operation(
    "streamEvents",
    {
        200: Answer(
            "Events, until the connection ends.",
            media_types=[MEDIA_TYPE],
            headers=["X-Accel-Buffering"],
            example=_EXAMPLE,
        )
    },
    problems=[
        ProblemType.INVALID_PARAMETER,
        ProblemType.INVALID_HEADER,
        ProblemType.CAMERA_FORBIDDEN,
        ProblemType.CURSOR_EXPIRED,
    ],
    query=FeedQuery,
    headers=EventsHeaders,
)
def stream() -> Response:
    """Follow the feed of results.

    Server-sent events, as a browser's `EventSource` reads them: each settled job once, in the order of
    settling, as soon as it settles. An event `result` has the job's JSON document as `data` and the cursor
    after it as `id`. A client that connects again with `Last-Event-ID` = the last `id`, as browsers do by
    themselves, misses nothing. Without a cursor or time the stream begins now. A comment comes every 15
    seconds without events. The server ends a stream when its key is revoked or expires, when the client reads
    too slowly, and when it stops. A key that is bound to cameras gets their results only.
    """
    query = read_query(FeedQuery)
    wanted = filter_of(query)
    page = page_after(_resumed() or start_of(query) or _end(), wanted, MAX_EVENTS)
    sender = caller()
    token = token_of(request.environ) if sender.key else ""
    request.environ[STREAM] = StreamRequest(page.cursor, wanted, token, sender.key, request.remote_addr or "")
    headers = {"X-Accel-Buffering": "no"}
    return Response(events(page.results) + opening(page.cursor), headers=headers, content_type=MEDIA_TYPE)


def _end() -> Cursor:
    """Return a cursor after everything that is in the feed; that of the last result may have expired."""
    feed = services().feed
    return max(feed.end(), feed.window().restart)


def _resumed() -> Cursor | None:
    text = request.headers.get("Last-Event-ID", "")
    cursor = Cursor.parse(text)
    if text and cursor is None:
        detail = f"Last-Event-ID={text[:80]!r} is not a cursor; send the `id` of an event, or leave it out."
        raise RequestError(ProblemType.INVALID_HEADER, detail)
    if cursor is not None:
        services().feed.window().check(cursor)
    return cursor

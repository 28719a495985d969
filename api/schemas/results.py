"""A page of the feed as the API shows it, and its query."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.schemas.base import CameraId, Input, Moment, Output
from api.schemas.jobs import Job
from api.schemas.states import TerminalStateFilter
from api.schemas.wait import Wait
from core.redis.feed import CURSOR_PATTERN, Cursor

MAX_RESULTS: Final = 1000
"""Maximum results in one response."""

_EXAMPLE: Final = "1769843700412-0-1"


def _cursor(text: object) -> Cursor:
    cursor = Cursor.parse(text) if isinstance(text, str) else None
    if cursor is None:
        raise ValueError("is not a cursor; send `next` of an earlier response, or from=TIME")
    return cursor


FeedCursor = Annotated[
    Cursor, BeforeValidator(_cursor), WithJsonSchema({"type": "string", "pattern": CURSOR_PATTERN})
]


class FeedQuery(Input):
    """Part of the feed to read."""

    after: Annotated[
        FeedCursor | None,
        Field(
            description="Cursor after which to read: `next` of an earlier response, or the `id` of an event.",
            examples=[_EXAMPLE],
        ),
    ] = None
    first: Annotated[
        Moment | None,
        Field(
            alias="from",
            description="Instead of `after`: time of settling from which to read, a date (midnight UTC) "
            "or an RFC 3339 time with zone.",
            examples=["2026-01-31T07:00:00Z"],
        ),
    ] = None
    camera: Annotated[
        tuple[CameraId, ...],
        Field(description="Only results of this camera; repeat it for several.", examples=[["belt-1"]]),
    ] = ()
    state: Annotated[
        TerminalStateFilter,
        Field(
            description="Only results with these states; repeated, or separated by commas.",
            examples=[["classified", "failed"]],
        ),
    ] = None


class ResultsQuery(FeedQuery):
    """Page of the feed to read."""

    wait: Annotated[
        Wait,
        Field(
            description="Seconds to wait for a result. The response comes as soon as there is one, or after "
            "this time without results. With `Retry-After` it came early, because too many requests wait.",
            examples=[10],
        ),
    ] = 0.0
    limit: Annotated[int, Field(description="Maximum results in the response.", ge=1, le=MAX_RESULTS)] = 100


class EventsHeaders(Input):
    """Cursor at which a stream of events continues."""

    last_event_id: Annotated[
        FeedCursor | None,
        Field(
            alias="Last-Event-ID",
            description="`id` of the last event that was received, instead of `after`.",
            examples=[_EXAMPLE],
        ),
    ] = None


class Results(Output):
    """A page of the feed."""

    results: Annotated[
        list[Job], Field(description="Settled jobs in the order of settling; each is in the feed once.")
    ]
    next: Annotated[
        str,
        Field(
            description="Cursor after these results: the next call's `after`. A page can be short or "
            "empty although more follow: `end` says whether they do.",
            pattern=CURSOR_PATTERN,
            examples=[_EXAMPLE],
        ),
    ]
    end: Annotated[
        bool, Field(description="Whether this was the end of the feed when it was read.", examples=[True])
    ]

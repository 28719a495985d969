"""A page of the feed as the API shows it, and its query."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.schemas.base import CameraId, Moment, Output
from api.schemas.jobs import Job
from api.schemas.states import TerminalStateFilter
from api.schemas.wait import WaitQuery
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


class ResultsQuery(WaitQuery):
    """Part of the feed to read."""

    after: Annotated[
        FeedCursor | None,
        Field(
            description="Cursor after which to read: `next` of an earlier response. Default: before the "
            "oldest "
            "results that are kept.",
            examples=[_EXAMPLE],
        ),
    ] = None
    first: Annotated[
        Moment | None,
        Field(
            alias="from",
            description="Instead of `after`: time of settling from which to read, a date (midnight UTC) "
            "or an RFC "
            "3339 time with zone.",
            examples=["2026-01-31T07:00:00Z"],
        ),
    ] = None
    camera: Annotated[
        CameraId | None, Field(description="Only results of this camera.", examples=["belt-1"])
    ] = None
    state: Annotated[
        TerminalStateFilter,
        Field(
            description="Only results with these states; repeated, or separated by commas.",
            examples=[["classified", "failed"]],
        ),
    ] = None
    limit: Annotated[int, Field(description="Maximum results in the response.", ge=1, le=MAX_RESULTS)] = 100


class Results(Output):
    """A page of the feed."""

    results: Annotated[
        list[Job], Field(description="Settled jobs in the order of settling; each is in the feed once.")
    ]
    next: Annotated[
        str,
        Field(
            description="Cursor after these results: the next call's `after`. A page can be short or "
            "empty although "
            "more follow: compare `end`.",
            pattern=CURSOR_PATTERN,
            examples=[_EXAMPLE],
        ),
    ]
    end: Annotated[
        bool, Field(description="Whether this was the end of the feed when it was read.", examples=[True])
    ]

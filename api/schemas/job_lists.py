"""Lists of jobs: filter and page."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.schemas.base import Output
from api.schemas.jobs import Job
from api.schemas.period import AcceptancePeriod
from api.schemas.states import StateFilter
from core.jobs import JobState
from core.redis.job_index import Cursor, JobFilter

MAX_JOBS: Final = 1000
"""Maximum jobs in one page."""

_EXAMPLE_CURSOR: Final = "1769843700412-0-0-1769847300000"
_DAY_MS: Final = 24 * 3_600_000
_WHOLE: Final = re.compile(r"\d{1,9}", re.ASCII)


def _limit(text: str) -> int:
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= MAX_JOBS:
        raise ValueError(f"is not a number from 1 to {MAX_JOBS:,}; send the maximum of jobs in the page")
    return int(text)


def _cursor(text: object) -> Cursor:
    try:
        return Cursor.parse(str(text))
    except ValueError as error:
        raise ValueError("is not a cursor; send `next` of the page before, as it is") from error


NextCursor = Annotated[
    str | None,
    Field(
        description="Where to go on: send it as `after`, with the same filter. Null at the end.",
        examples=[_EXAMPLE_CURSOR],
    ),
]


class JobSelection(AcceptancePeriod):
    """Filter of jobs, besides their states."""

    after: Annotated[
        Annotated[
            Cursor,
            BeforeValidator(_cursor),
            WithJsonSchema(
                {"type": "string", "pattern": r"^[0-9]{1,15}-[0-9]{1,10}-[0-9]{1,3}-[0-9]{1,15}$"}
            ),
        ]
        | None,
        Field(description="`next` of the response before, to go on there.", examples=[_EXAMPLE_CURSOR]),
    ] = None

    def filter(self, states: Iterable[JobState], owner: str = "") -> JobFilter:
        """Return the filter for the index.

        Args:
            states: none for all.
            owner: id of the API key that sent the jobs; empty for any.

        Raises:
            ValueError: `from` is not before `to`.
        """
        self.check()
        to_ms = None if self.last is None else round(self.last.timestamp() * 1000)
        if self.first is None:
            from_ms = (time.time_ns() // 1_000_000 if to_ms is None else to_ms) - _DAY_MS
        else:
            from_ms = round(self.first.timestamp() * 1000)
        return JobFilter(from_ms, to_ms, frozenset(states), self.camera or "", owner)


class JobListQuery(JobSelection):
    """Jobs to list."""

    states: Annotated[
        StateFilter,
        Field(
            alias="state",
            description="Only jobs in one of these states; repeated, or separated by commas.",
            examples=[["failed", "expired"]],
        ),
    ] = None
    limit: Annotated[
        int,
        BeforeValidator(_limit),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_JOBS, "default": 100}),
        Field(description="Maximum jobs in the page.", examples=[100]),
    ] = 100


class JobPage(Output):
    """A page of a list of jobs."""

    jobs: Annotated[list[Job], Field(description="Jobs in the order of acceptance, the oldest first.")]
    next: NextCursor

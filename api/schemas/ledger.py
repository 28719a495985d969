"""The ledger as the API shows it, and its query."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.http.timestamps import parse_rfc3339
from api.schemas.base import Input, Output, Timestamp
from core.cameras import camera_id
from core.errors import CameraIdError
from core.redis.ledger import COUNTERS, TOTALS, Balance, Counts, LedgerRow, total
from core.times import hour_timestamp, written

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000  # leaves room to add hours: years end with 9999


def _moment(text: str) -> datetime:
    """Parse a date (midnight UTC) or a time with its zone."""
    moment = _parsed(text)
    if moment is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(
            "is not a date, or a time with a zone; send 2026-01-31 (midnight UTC) or 2026-01-31T08:00:00Z"
        )
    return moment


def _parsed(text: str) -> datetime | None:
    try:
        if "T" not in text.upper():
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        # An unescaped plus sign in a URL is decoded as a space.
        moment = parse_rfc3339(text.replace(" ", "+"))
        return moment and moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _camera(text: str) -> str:
    try:
        return camera_id(text)
    except CameraIdError as error:
        raise ValueError(str(error)) from error


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
    ),
]

CameraId = Annotated[
    str,
    BeforeValidator(_camera),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64}),
]


class LedgerQuery(Input):
    """Rows of the ledger to return."""

    camera: Annotated[
        CameraId | None, Field(description="Only rows of this camera.", examples=["belt-1"])
    ] = None
    first: Annotated[
        Moment | None,
        Field(
            alias="from",
            description="The first hour: a date (midnight UTC), or an RFC 3339 time with zone. "
            "Default: 24 hours before `to`.",
            examples=["2026-01-31T07:00:00Z"],
        ),
    ] = None
    last: Annotated[
        Moment | None,
        Field(
            alias="to",
            description="End of the last hour, written like `from`. Default: now.",
            examples=["2026-01-31T08:00:00Z"],
        ),
    ] = None
    format: Annotated[
        Literal["json", "csv"] | None,
        Field(description="`csv` for spreadsheets. Default: as `Accept` says, otherwise `json`."),
    ] = None


class Sums(Output):
    """Sums of counters of images."""

    received: Annotated[int, Field(description="Images accepted.")]
    classified: int
    failed: int
    expired: int
    cancelled: int
    pending: Annotated[int, Field(description="Jobs that have not settled.")]
    duplicates: Annotated[int, Field(description="Images sent again under a known idempotency key.")]

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """Return the counters of a sum of rows."""
        return cls(**{counter: counts[counter] for counter in COUNTERS})

    @classmethod
    def of_system(cls, balance: Balance) -> Self:
        """Return the counters of all cameras and hours. `pending` is the length of the lists of jobs."""
        return cls(**{counter: balance.counts[counter] for counter in TOTALS}, pending=balance.waiting)


class Row(Output):
    """Counters of one camera and hour."""

    camera: str
    hour: Annotated[Timestamp, Field(description="Begin of the hour of acceptance.")]
    received: int
    classified: int
    failed: int
    expired: int
    cancelled: int
    pending: int
    duplicates: int
    balanced: Annotated[
        bool, Field(description="Whether received = classified + failed + expired + cancelled + pending.")
    ]

    @classmethod
    def of(cls, row: LedgerRow) -> Self:
        """Return a row."""
        counts = {counter: row.counts[counter] for counter in COUNTERS}
        return cls(camera=row.camera, hour=hour_timestamp(row.hour), **counts, balanced=row.counts.balanced)


class LedgerPage(Output):
    """Rows of the ledger, their sum, and whether all balance."""

    camera: Annotated[str | None, Field(description="As in the query.")]
    first: Annotated[Timestamp, Field(serialization_alias="from")]
    last: Annotated[Timestamp, Field(serialization_alias="to")]
    rows: Annotated[list[Row], Field(description="By hour, then camera.")]
    sum: Annotated[Sums, Field(description="Sum of the rows.")]
    system: Annotated[
        Sums,
        Field(description="Sum of all cameras and hours ever; `pending` is the length of the lists of jobs."),
    ]
    balanced: Annotated[bool, Field(description="Whether every row and `system` are balanced.")]

    @classmethod
    def of(
        cls,
        rows: Sequence[LedgerRow],
        balance: Balance,
        *,
        camera: str | None,
        first: datetime,
        last: datetime,
    ) -> Self:
        """Return the rows of a camera, None for all, from one time up to another."""
        return cls(
            camera=camera,
            first=written(first),
            last=written(last),
            rows=[Row.of(row) for row in rows],
            sum=Sums.of(total(row.counts for row in rows)),
            system=Sums.of_system(balance),
            balanced=balance.balanced and all(row.counts.balanced for row in rows),
        )

"""The ledger as the API shows it, and its query."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from api.schemas.base import Output, Timestamp
from api.schemas.period import AcceptancePeriod
from core.redis.ledger import COUNTERS, TOTALS, Balance, Counts, LedgerRow, total
from core.times import hour_timestamp, written


class LedgerQuery(AcceptancePeriod):
    """Rows of the ledger to return."""

    format: Annotated[
        Literal["json", "csv"] | None,
        Field(
            description="`csv` for spreadsheets. Default: as `Accept` says, otherwise `json`.",
            examples=["json"],
        ),
    ] = None


Received = Annotated[int, Field(description="Images accepted.", ge=0, examples=[3600])]
Classified = Annotated[int, Field(description="Jobs classified.", ge=0, examples=[3590])]
Failed = Annotated[int, Field(description="Jobs failed.", ge=0, examples=[2])]
Expired = Annotated[int, Field(description="Jobs expired.", ge=0, examples=[0])]
Cancelled = Annotated[int, Field(description="Jobs cancelled.", ge=0, examples=[1])]
Pending = Annotated[int, Field(description="Jobs that have not settled.", examples=[7])]
Duplicates = Annotated[
    int, Field(description="Images sent again under a known idempotency key.", ge=0, examples=[4])
]
Recovered = Annotated[
    int,
    Field(
        description="Images received whose jobs Redis had lost: `wastestream recover` found them in storage.",
        ge=0,
        examples=[0],
    ),
]


class Sums(Output):
    """Sums of counters of images."""

    received: Received
    classified: Classified
    failed: Failed
    expired: Expired
    cancelled: Cancelled
    pending: Pending
    duplicates: Duplicates
    recovered: Recovered

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

    camera: Annotated[str, Field(description="Camera.", examples=["belt-1"])]
    hour: Annotated[
        Timestamp,
        Field(description="Begin of the hour of acceptance.", examples=["2026-01-31T07:00:00.000Z"]),
    ]
    received: Received
    classified: Classified
    failed: Failed
    expired: Expired
    cancelled: Cancelled
    pending: Pending
    duplicates: Duplicates
    recovered: Recovered
    balanced: Annotated[
        bool,
        Field(
            description="Whether received = classified + failed + expired + cancelled + pending.",
            examples=[True],
        ),
    ]

    @classmethod
    def of(cls, row: LedgerRow) -> Self:
        """Return a row."""
        counts = {counter: row.counts[counter] for counter in COUNTERS}
        return cls(camera=row.camera, hour=hour_timestamp(row.hour), **counts, balanced=row.counts.balanced)


class LedgerPage(Output):
    """Rows of the ledger, their sum, and whether all balance."""

    camera: Annotated[str | None, Field(description="As in the query.", examples=[None])]
    first: Annotated[
        Timestamp,
        Field(
            serialization_alias="from",
            description="Begin of the first hour.",
            examples=["2026-01-31T07:00:00.000Z"],
        ),
    ]
    last: Annotated[
        Timestamp,
        Field(
            serialization_alias="to",
            description="End of the last hour.",
            examples=["2026-01-31T08:00:00.000Z"],
        ),
    ]
    rows: Annotated[list[Row], Field(description="By hour, then camera.")]
    sum: Annotated[Sums, Field(description="Sum of the rows.")]
    system: Annotated[
        Sums | None,
        Field(
            description="Sum of all cameras and hours ever; `pending` is the length of the lists of jobs. "
            "Null for a key that is bound to cameras."
        ),
    ]
    balanced: Annotated[
        bool, Field(description="Whether every row and `system` are balanced.", examples=[True])
    ]

    @classmethod
    def of(
        cls,
        rows: Sequence[LedgerRow],
        balance: Balance | None,
        *,
        camera: str | None,
        first: datetime,
        last: datetime,
    ) -> Self:
        """Return the rows of a camera, None for all, from one time up to another.

        Without `balance` there are no sums of the whole system.
        """
        return cls(
            camera=camera,
            first=written(first),
            last=written(last),
            rows=[Row.of(row) for row in rows],
            sum=Sums.of(total(row.counts for row in rows)),
            system=None if balance is None else Sums.of_system(balance),
            balanced=(balance is None or balance.balanced) and all(row.counts.balanced for row in rows),
        )

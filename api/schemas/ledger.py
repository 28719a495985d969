"""The ledger as the API shows it, and its query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from api.schemas.base import Output, Timestamp
from api.schemas.period import AcceptancePeriod
from core.redis.camera_reports import add_up
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


class GatewayCounts(Output):
    """Counts of gateways: sampled = accepted + spooled + skipped + dropped + refused."""

    sampled: Annotated[int, Field(description="Frames sampled.", ge=0, examples=[3602])]
    accepted: Annotated[int, Field(description="Of those, accepted by this server.", ge=0, examples=[3600])]
    spooled: Annotated[int, Field(description="Of those, waiting on a gateway's disk.", ge=0, examples=[0])]
    skipped: Annotated[int, Field(description="Of those, nearly equal to the last.", ge=0, examples=[2])]
    dropped: Annotated[int, Field(description="Of those, given up: no room, or too old.", ge=0, examples=[0])]
    refused: Annotated[int, Field(description="Of those, rejected by this server.", ge=0, examples=[0])]


Gateway = Annotated[
    GatewayCounts | None,
    Field(
        description="Counts of the gateways that read the camera, by the hour of **capture**: frames of a "
        "backlog are received in a later hour. Null if none reported."
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
    def of_system(cls, balance: Balance) -> Self:
        """Return the counters of all cameras and hours. `pending` is the length of the lists of jobs."""
        return cls(**{counter: balance.counts[counter] for counter in TOTALS}, pending=balance.waiting)


class SumsOfRows(Sums):
    """Sums of the counters of rows."""

    gateway: Gateway

    @classmethod
    def of(cls, counts: Counts, sampled: Mapping[str, Mapping[str, int]]) -> Self:
        """Return the counters of a sum of rows, with those of gateways by row."""
        gateway = GatewayCounts(**add_up(sampled.values())) if sampled else None
        return cls(**{counter: counts[counter] for counter in COUNTERS}, gateway=gateway)


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
    gateway: Gateway

    @classmethod
    def of(cls, row: LedgerRow, sampled: Mapping[str, int] | None) -> Self:
        """Return a row, with the counters of gateways."""
        return cls(
            camera=row.camera,
            hour=hour_timestamp(row.hour),
            **{counter: row.counts[counter] for counter in COUNTERS},
            balanced=row.counts.balanced,
            gateway=None if sampled is None else GatewayCounts(**sampled),
        )


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
    sum: Annotated[SumsOfRows, Field(description="Sum of the rows.")]
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
        sampled: Mapping[str, Mapping[str, int]],
        *,
        camera: str | None,
        first: datetime,
        last: datetime,
    ) -> Self:
        """Return the rows of a camera, None for all, from one time up to another.

        Without `balance` there are no sums of the whole system. `sampled` has counters of gateways by row.
        """
        return cls(
            camera=camera,
            first=written(first),
            last=written(last),
            rows=[Row.of(row, sampled.get(row.name)) for row in rows],
            sum=SumsOfRows.of(total(row.counts for row in rows), sampled),
            system=None if balance is None else Sums.of_system(balance),
            balanced=(balance is None or balance.balanced) and all(row.counts.balanced for row in rows),
        )

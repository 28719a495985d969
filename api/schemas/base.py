"""Base classes of the models of requests and answers, and the types that several of them share."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_ID: Final = "01K9Z3NDEKTSV4RRFFQ69G5FAV"
"""A job's id in examples."""

JobId = Annotated[
    str,
    Field(
        description="Id of a job: a ULID, made when the image was accepted.",
        pattern="^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
        examples=[EXAMPLE_ID],
    ),
]

Timestamp = Annotated[
    str,
    Field(
        description="Time, RFC 3339 in UTC, to the millisecond.",
        json_schema_extra={"format": "date-time"},
        examples=["2026-01-31T07:15:00.412Z"],
    ),
]


class Input(BaseModel):
    """Base of what clients send. Unknown members are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Output(BaseModel):
    """Base of what the API responds with. Later versions may add members."""

    model_config = ConfigDict(frozen=True, use_enum_values=True)

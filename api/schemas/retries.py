"""Retries of jobs: filter and outcomes."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import WHOLE, Output
from api.schemas.job_lists import JobSelection, NextCursor
from api.schemas.jobs import QueuedJob
from api.schemas.problems import Problem

MAX_RETRIES: Final = 100
"""Maximum jobs that one call retries."""

OldId = Annotated[str, Field(description="Id of the old job.", examples=["01K9Z1V9WS0M4E6Q1B3ZC6XJ7D"])]


class RetrySelection(JobSelection):
    """Jobs to retry."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "states": ["failed", "expired"],
                    "camera": "belt-1",
                    "from": "2026-01-31T07:00:00Z",
                    "to": "2026-01-31T08:00:00Z",
                }
            ]
        }
    )

    states: Annotated[
        list[Literal["failed", "expired"]],
        Field(description="States of the jobs.", min_length=1, examples=[["failed", "expired"]]),
    ]
    limit: Annotated[
        int,
        Field(strict=True, description="Maximum jobs of this call.", ge=1, le=MAX_RETRIES, examples=[100]),
        WHOLE,
    ] = MAX_RETRIES


class RetriedJob(Output):
    """Outcome of a job that was retried, now or before."""

    job_id: OldId
    status: Literal[202]
    job: Annotated[QueuedJob, Field(description="The new job.")]


class FailedRetry(Output):
    """Outcome of a job that could not be retried."""

    job_id: OldId
    status: Annotated[
        int, Field(description="Status that its retry alone would have had.", ge=400, le=499, examples=[410])
    ]
    error: Problem


class RetryOutcome(Output):
    """Outcome of each retry."""

    items: Annotated[
        list[RetriedJob | FailedRetry], Field(description="Outcomes, in the order of acceptance.")
    ]
    next: NextCursor

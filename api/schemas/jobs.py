"""A job as the API shows it."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field

import core.redis.eta
from api.schemas.base import EXAMPLE_ID, Input, JobId, Output, Timestamp
from core import jobs
from core.job_document import job_document
from core.jobs import JobState

MAX_IDS: Final = 1000
"""Maximum ids in one query."""


class Prediction(Output):
    """Result of the classification."""

    label: Annotated[
        str,
        Field(description="Class.", json_schema_extra={"enum": ["biodegradable", "non_biodegradable"]}),
    ]
    probability: Annotated[
        float, Field(description="Calibrated probability of the label.", ge=0, le=1, examples=[0.991737])
    ]
    review: Annotated[
        bool, Field(description="Too close to call: a person should check it.", examples=[False])
    ]
    model: Annotated[
        str | None,
        Field(description="Version and SHA-256 of the weights.", examples=["2026.11.27-1434+6fa13b7026b1"]),
    ]


class Place(Output):
    """Place of a job in the queue."""

    ahead: Annotated[
        int, Field(description="Jobs of its lane (single or bulk) before it.", ge=0, examples=[12])
    ]
    eta_seconds: Annotated[
        float | None,
        Field(
            description="Estimated seconds until it settles; null while the service rate is unknown.",
            examples=[0.08],
        ),
    ]


class Job(Output):
    """Classification of one image."""

    id: JobId
    state: Annotated[
        JobState,
        Field(
            description="`queued`, or a terminal state, which never changes: `classified` (see "
            "`prediction`), `failed` (see `error`), `expired` (exceeded its `X-Max-Age`) or `cancelled`.",
            examples=["classified"],
        ),
    ]
    camera: Annotated[str, Field(description="Camera that took the image.", examples=["belt-1"])]
    captured_at: Annotated[Timestamp | None, Field(description="When the image was taken, as it was sent.")]
    accepted_at: Annotated[Timestamp, Field(description="When the image was accepted.")]
    expires_at: Annotated[
        Timestamp | None, Field(description="When an unclassified job settles `expired`.", examples=[None])
    ]
    settled_at: Annotated[Timestamp | None, Field(description="When the job settled.")]
    prediction: Annotated[
        Prediction | None, Field(description="Set if `classified` and the key has the scope `read`.")
    ]
    error: Annotated[str | None, Field(description="Reason, if `failed`.", examples=[None])]
    retry_of: Annotated[
        JobId | None, Field(description="Id of the job that this one repeats; its record may have expired.")
    ]

    @classmethod
    def of(cls, job: jobs.Job) -> Self:
        """Return a job without its place in the queue."""
        return cls(**job_document(job))


class QueuedJob(Job):
    """Classification of one image, with its place in the queue."""

    queue: Annotated[
        Place | None, Field(description="Place in the queue; null once the job has settled.", examples=[None])
    ]

    @classmethod
    def at(cls, job: jobs.Job, place: core.redis.eta.Place | None, *, with_prediction: bool = True) -> Self:
        """Return a job with its place, None if it has settled; without its prediction on request."""
        queue = None if place is None else Place(ahead=place.ahead, eta_seconds=place.eta_seconds)
        members = job_document(job)
        return cls(**(members if with_prediction else {**members, "prediction": None}), queue=queue)


class JobsQuery(Input):
    """Ids of the jobs to read."""

    ids: Annotated[
        list[str],
        Field(
            description="Ids of jobs, in any order.",
            json_schema_extra={"maxItems": MAX_IDS},  # The route names the number sent.
            examples=[[EXAMPLE_ID]],
        ),
    ]


class FoundJobs(Output):
    """Jobs of a query."""

    jobs: Annotated[list[Job], Field(description="Known jobs, in the order of the request.")]
    unknown: Annotated[list[str], Field(description="Ids without a job.", examples=[[]])]

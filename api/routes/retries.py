"""`/v1/jobs/{id}/retry` and `/v1/jobs/retry`: new jobs for the kept images of jobs that failed or expired."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, request

from api.auth.policy import by_camera, caller, requires
from api.http.body import JSON, MAX_JSON_BYTES, accepts_body
from api.http.problem_types import ProblemType
from api.http.problems import RequestError, problem_of
from api.http.validation import read_document
from api.ingest.retries import Failed, Retried
from api.openapi.operation import Answer, Body, operation, respond_with
from api.routes.jobs import blueprint as jobs
from api.routes.jobs import known_job
from api.schemas import retries as schemas
from api.schemas.jobs import QueuedJob
from api.schemas.problems import Problem
from api.services import services
from core.jobs import Job, JobState
from core.redis.api_keys import Scope
from core.redis.eta import Place

_OF_A_JOB: Final = (
    ProblemType.IMAGE_GONE,
    ProblemType.DAMAGED_IMAGE,
    ProblemType.TOO_MANY_CAMERAS,
    ProblemType.IDEMPOTENCY_CONFLICT,
)
_OVERLOAD: Final = (
    ProblemType.QUEUE_FULL,
    ProblemType.RATE_LIMIT_EXCEEDED,
    ProblemType.DISK_FULL,
)

blueprint = Blueprint("retries", __name__, url_prefix="/v1/jobs")


@blueprint.post("/<job:job_id>/retry")
@requires(Scope.INGEST)
@by_camera
@operation(
    "retryJob",
    {202: Answer("The new job, made now or before.", QueuedJob, headers=["Location"])},
    problems=[
        ProblemType.JOB_NOT_FOUND,
        ProblemType.JOB_NOT_RETRYABLE,
        *_OF_A_JOB,
        *_OVERLOAD,
    ],
)
def retry(job_id: str) -> tuple[Response, int, dict[str, str]]:
    """Retry a job.

    The kept image of a `failed` or `expired` job becomes a new job with the same camera and time of capture,
    without a maximum age; `retry_of` names the old one. The same call again responds with the same new job.
    Only the API key that sent the old job, or one with the scope `admin`, can retry it.
    """
    new = services().retries.retry(known_job(job_id, _owner()), caller().limit)
    document = _document(new.job, new.place)
    headers = {"Location": f"{request.root_path}{jobs.url_prefix}/{document.id}"}
    return respond_with(document), HTTPStatus.ACCEPTED, headers


@blueprint.post("/retry")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "retryJobs",
    {202: Answer("Outcome of each job.", schemas.RetryOutcome)},
    problems=[ProblemType.CAMERA_FORBIDDEN, *_OVERLOAD],
    item_problems=_OF_A_JOB,
    body=Body(schemas.RetrySelection),
)
def retry_all() -> tuple[Response, int]:
    """Retry many jobs.

    Retries the `failed` and `expired` jobs that match, at most 100 a call; without the scope `admin`, those
    of the same API key. A call looks at a bounded number of jobs and works for about 10 seconds, so `items`
    may be short or empty although `next` is set: go on with `after` until it is null. Jobs that are accepted
    meanwhile are not retried.
    """
    selection = read_document(schemas.RetrySelection)
    if selection.camera is not None:
        caller().check_camera(selection.camera)
    try:
        wanted = selection.filter(map(JobState, selection.states), _owner())
    except ValueError as error:
        raise RequestError(ProblemType.INVALID_BODY, str(error)) from error
    outcomes, following = services().retries.retry_all(
        wanted, selection.after, selection.limit, caller().limit
    )
    items = [_item(outcome) for outcome in outcomes]
    outcome = schemas.RetryOutcome(items=items, next=None if following is None else str(following))
    return respond_with(outcome), HTTPStatus.ACCEPTED


def _owner() -> str:
    """Return the id of the API key whose jobs alone the caller may retry; empty for any."""
    return "" if caller().may(Scope.ADMIN) else caller().id


def _item(outcome: Retried | Failed) -> schemas.RetriedJob | schemas.FailedRetry:
    if isinstance(outcome, Retried):
        document = _document(outcome.job, outcome.place)
        return schemas.RetriedJob(job_id=outcome.old_id, status=202, job=document)
    problem = Problem(**problem_of(outcome.error))
    return schemas.FailedRetry(job_id=outcome.old_id, status=problem.status, error=problem)


def _document(job: Job, place: Place | None) -> QueuedJob:
    """Return a new job, without its prediction if the caller's key lacks the scope `read`."""
    return QueuedJob.at(job, place, with_prediction=caller().may(Scope.READ))

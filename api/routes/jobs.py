"""`/v1/jobs`: results, images, cancellation."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request

from api.auth.policy import caller, requires
from api.http.body import JSON, MAX_JSON_BYTES, read_json, takes
from api.http.long_poll import wait_seconds, when_settled
from api.http.problems import RequestError
from api.schemas.jobs import job_document, queued_document
from api.services import services
from core.errors import JobNotFoundError, ObjectNotFoundError
from core.ids import is_job_id
from core.image_header import MEDIA_TYPES
from core.jobs import Job, JobState
from core.redis.api_keys import Scope

MAX_IDS: Final = 1000
"""Ids in one query."""

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")


@blueprint.get("/<job_id>")
@requires(Scope.READ)
def show(job_id: str) -> tuple[Response, dict[str, str]]:
    """Answer with the job; with `?wait=SECONDS`, the moment it settles."""
    _check_id(job_id)
    settled, headers = when_settled(job_id, wait_seconds())
    job = _known(job_id, settled)
    place = None if job.state.terminal else services().jobs.places([job_id])[0]
    return jsonify(queued_document(job, place)), headers


@blueprint.delete("/<job_id>")
@requires(Scope.INGEST)
def cancel(job_id: str) -> Response:
    """Settle the job `cancelled` unless it has settled otherwise, which is a conflict.

    With a key that does everything any job; with another one those that it sent, and it learns of no others.
    """
    _check_id(job_id)
    deps = services()
    state = deps.jobs.cancel(job_id, "" if caller().may(Scope.ADMIN) else caller().id)
    job = _known(job_id, None if state is None else deps.jobs.read(job_id))
    if state is not JobState.CANCELLED:
        raise RequestError(
            HTTPStatus.CONFLICT, f"Job {job_id} is {job.state} already; only a queued job can be cancelled."
        )
    return jsonify(queued_document(job, None))


@blueprint.post("/query")
@requires(Scope.READ)
@takes(MAX_JSON_BYTES, JSON)
def query() -> Response:
    """Answer with up to 1,000 jobs, in the order asked for, and the ids that are unknown."""
    ids = _ids(read_json())
    wanted = [job_id for job_id in ids if is_job_id(job_id)]
    records = dict(zip(wanted, services().jobs.read_many(wanted), strict=True))
    jobs = [job_document(job) for job_id in ids if (job := records.get(job_id)) is not None]
    return jsonify({"jobs": jobs, "unknown": [job_id for job_id in ids if records.get(job_id) is None]})


@blueprint.get("/<job_id>/image")
@requires(Scope.READ)
def image(job_id: str) -> Response:
    """Answer with the bytes as they were uploaded; 304 to a client that has them and may still see them."""
    _check_id(job_id)
    deps = services()
    job = _known(job_id, deps.jobs.read(job_id))
    try:
        data = deps.objects.get(job.image_key)
    except ObjectNotFoundError as error:
        hours = deps.settings.image_retention_hours
        raise RequestError(
            HTTPStatus.GONE,
            f"The image of job {job_id} is no longer stored; images are kept for {hours:g} hours.",
        ) from error
    # Browsers may keep it but ask each time: after signing out, or once it is gone, they must not show it.
    headers = {"Cache-Control": "private, no-cache"}
    response = Response(data, content_type=MEDIA_TYPES[job.format], headers=headers)
    response.set_etag(job_id)  # an image never changes
    response.make_conditional(request)
    return response


def _check_id(job_id: str) -> None:
    if not is_job_id(job_id):
        raise JobNotFoundError(
            f"{job_id[:80]!r} is not a job's id; use the id that the upload answered with."
        )


def _known(job_id: str, job: Job | None) -> Job:
    if job is None:
        raise JobNotFoundError(
            f"There is no job {job_id}: it was never accepted here, or its record has expired."
        )
    return job


def _ids(body: Any) -> list[str]:
    ids = body.get("ids") if isinstance(body, dict) else None
    if not isinstance(ids, list) or not all(isinstance(job_id, str) for job_id in ids):
        raise RequestError(HTTPStatus.BAD_REQUEST, 'Send JSON such as {"ids": ["01J...", "01J..."]}.')
    if len(ids) > MAX_IDS:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f"{len(ids)} ids are too many; ask for at most {MAX_IDS:,} at a time."
        )
    return ids

"""`/v1/jobs`: state, result and image of jobs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request

from api.auth.policy import by_camera, caller, requires
from api.http.body import JSON, MAX_JSON_BYTES, accepts_body, read_json
from api.http.problems import RequestError
from api.routes.long_poll import read_visible, wait_seconds, wait_settled
from api.schemas.jobs import job_document, queued_document
from api.services import services
from core.errors import JobNotFoundError, ObjectNotFoundError
from core.ids import is_job_id
from core.image_header import MEDIA_TYPES
from core.jobs import Job, JobState
from core.redis.api_keys import Scope

MAX_IDS: Final = 1000
"""Maximum ids in one query."""

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")


@blueprint.get("/<job_id>")
@requires(Scope.READ)
@by_camera
def show(job_id: str) -> tuple[Response, dict[str, str]]:
    """Respond with the job; with `?wait=SECONDS`, as soon as it settles."""
    _check_id(job_id)
    settled, headers = wait_settled(job_id, wait_seconds())
    job = _known(job_id, settled)
    place = None if job.state.terminal else services().jobs.places([job_id])[0]
    return jsonify(queued_document(job, place)), headers


@blueprint.delete("/<job_id>")
@requires(Scope.INGEST)
@by_camera
def cancel(job_id: str) -> Response:
    """Settle the job `cancelled`; 409 if it has settled otherwise.

    A key with the scope `admin` can cancel any job. To other keys only their own jobs exist.
    """
    _check_id(job_id)
    state = services().jobs.cancel(job_id, "" if caller().may(Scope.ADMIN) else caller().id)
    job = _known(job_id, None if state is None else read_visible(job_id))
    if state is not JobState.CANCELLED:
        raise RequestError(
            HTTPStatus.CONFLICT, f"Job {job_id} is {job.state} already; only a queued job can be cancelled."
        )
    return jsonify(queued_document(job, None))


@blueprint.post("/query")
@requires(Scope.READ)
@by_camera
@accepts_body(MAX_JSON_BYTES, JSON)
def query() -> Response:
    """Respond with up to 1,000 jobs, in the order of the request, and the unknown ids."""
    ids = _ids(read_json())
    valid_ids = [job_id for job_id in ids if is_job_id(job_id)]
    found = map(caller().visible, services().jobs.read_many(valid_ids))
    known = dict(zip(valid_ids, found, strict=True))
    jobs = [job_document(job) for job_id in ids if (job := known.get(job_id)) is not None]
    return jsonify({"jobs": jobs, "unknown": [job_id for job_id in ids if known.get(job_id) is None]})


@blueprint.get("/<job_id>/image")
@requires(Scope.READ)
@by_camera
def image(job_id: str) -> Response:
    """Respond with the image as uploaded; 304 if the browser has it."""
    _check_id(job_id)
    deps = services()
    job = _known(job_id, read_visible(job_id))
    try:
        data = deps.objects.get(job.image_key)
    except ObjectNotFoundError as error:
        hours = deps.settings.image_retention_hours
        raise RequestError(
            HTTPStatus.GONE,
            f"The image of job {job_id} is no longer stored; images are kept for {hours:g} hours.",
        ) from error
    # A browser may keep the image but must revalidate it: after sign-out or deletion it must not show it.
    headers = {"Cache-Control": "private, no-cache"}
    response = Response(data, content_type=MEDIA_TYPES[job.format], headers=headers)
    response.set_etag(job_id)  # an image never changes
    response.make_conditional(request)
    return response


def _check_id(job_id: str) -> None:
    if not is_job_id(job_id):
        raise JobNotFoundError(
            f"{job_id[:80]!r} is not a job id; use the id from the response to the upload."
        )


def _known(job_id: str, job: Job | None) -> Job:
    if job is None:
        raise JobNotFoundError(
            f"There is no job {job_id}: it was never accepted, or its record has expired. Check the id."
        )
    return job


def _ids(body: Any) -> list[str]:
    ids = body.get("ids") if isinstance(body, dict) else None
    if not isinstance(ids, list) or not all(isinstance(job_id, str) for job_id in ids):
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            'The body has no list of ids; send JSON such as {"ids": ["01J...", "01J..."]}.',
        )
    if len(ids) > MAX_IDS:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f"{len(ids)} ids are too many; ask for at most {MAX_IDS:,} at a time."
        )
    return ids

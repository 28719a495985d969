"""`/v1/jobs`: state, result and image of jobs."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api.auth.policy import by_camera, caller, requires
from api.http.body import JSON, MAX_JSON_BYTES, accepts_body
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.validation import read_document, read_query
from api.openapi.operation import Answer, Body, operation, respond_with
from api.routes.long_poll import read_visible, wait_settled
from api.schemas import jobs as schemas
from api.schemas.images import Conditional
from api.schemas.job_lists import JobListQuery, JobPage
from api.schemas.wait import WaitQuery
from api.services import services
from core.errors import JobNotFoundError, ObjectNotFoundError
from core.ids import is_job_id
from core.image_header import MEDIA_TYPES, media_type
from core.jobs import Job, JobState
from core.redis.api_keys import Scope

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")


@blueprint.get("")
@requires(Scope.READ)
@by_camera
@operation(
    "listJobs",
    {200: Answer("A page of jobs.", JobPage)},
    problems=[ProblemType.INVALID_PARAMETER, ProblemType.CAMERA_FORBIDDEN],
    query=JobListQuery,
)
def list_jobs() -> Response:
    """List jobs.

    In the order of acceptance, the oldest first, while they have records. A call looks at a bounded number of
    jobs, so a page may be short or empty although `next` is set: go on with `after` until it is null. Jobs
    that are accepted meanwhile do not belong to the list. Keys that are bound to cameras get only their jobs.
    """
    query = read_query(JobListQuery)
    if query.camera is not None:
        caller().check_camera(query.camera)
    try:
        wanted = query.filter(query.states or ())
    except ValueError as error:
        raise RequestError(ProblemType.INVALID_PARAMETER, str(error)) from error
    deps = services()
    page = deps.index.page(wanted, query.after, query.limit)
    visible = map(caller().visible, deps.jobs.read_many(page.ids))
    jobs = [schemas.Job.of(job) for job in visible if job is not None]
    deps.integrity.check(max_age=0)  # A Redis that was just emptied has no list.
    return respond_with(JobPage(jobs=jobs, next=None if page.next is None else str(page.next)))


@blueprint.get("/<job:job_id>")
@requires(Scope.READ)
@by_camera
@operation(
    "getJob",
    {200: Answer("The job.", schemas.QueuedJob, headers=["Retry-After"])},
    problems=[ProblemType.JOB_NOT_FOUND, ProblemType.INVALID_PARAMETER],
    query=WaitQuery,
)
def show(job_id: str) -> tuple[Response, dict[str, str]]:
    """Read a job.

    With `wait`, the response comes as soon as the job has settled. A job's record is kept for
    `WASTESTREAM_RETENTION_HOURS` after it settled.
    """
    _check_id(job_id)
    settled, headers = wait_settled(job_id, read_query(WaitQuery).wait)
    job = _known(job_id, settled)
    place = None if job.state.terminal else services().jobs.places([job_id])[0]
    return respond_with(schemas.QueuedJob.at(job, place)), headers


@blueprint.delete("/<job:job_id>")
@requires(Scope.INGEST)
@by_camera
@operation(
    "cancelJob",
    {200: Answer("The job, cancelled now or before.", schemas.QueuedJob)},
    problems=[ProblemType.JOB_NOT_FOUND, ProblemType.JOB_SETTLED],
)
def cancel(job_id: str) -> Response:
    """Cancel a job.

    A job belongs to the API key that sent it: to other keys without the scope `admin` it does not exist. A
    job that a worker is classifying is cancelled as well: the worker's result is discarded. The image is
    kept.
    """
    _check_id(job_id)
    state = services().jobs.cancel(job_id, "" if caller().may(Scope.ADMIN) else caller().id)
    job = _known(job_id, None if state is None else read_visible(job_id))
    if state is not JobState.CANCELLED:
        raise RequestError(
            ProblemType.JOB_SETTLED,
            f"Job {job_id} is {job.state} already; only a queued job can be cancelled.",
        )
    return respond_with(schemas.QueuedJob.at(job, None))


@blueprint.post("/query")
@requires(Scope.READ)
@by_camera
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "queryJobs",
    {200: Answer("The known jobs and the unknown ids.", schemas.FoundJobs)},
    problems=[ProblemType.TOO_MANY_ITEMS],
    body=Body(schemas.JobsQuery),
)
def query() -> Response:
    """Read many jobs.

    Up to 1,000 at a time, which is cheaper than a call for each.
    """
    ids = _ids(read_document(schemas.JobsQuery))
    valid_ids = [job_id for job_id in ids if is_job_id(job_id)]
    jobs = map(caller().visible, services().jobs.read_many(valid_ids))
    known = dict(zip(valid_ids, jobs, strict=True))
    listed = [schemas.Job.of(job) for job_id in ids if (job := known.get(job_id)) is not None]
    unknown = [job_id for job_id in ids if known.get(job_id) is None]
    return respond_with(schemas.FoundJobs(jobs=listed, unknown=unknown))


@blueprint.get("/<job_id>/image")
@requires(Scope.READ)
@by_camera
@operation(
    "getJobImage",
    {
        200: Answer("The image.", media_types=sorted(MEDIA_TYPES.values()), headers=["ETag"]),
        304: Answer("The client has the image: `If-None-Match` has its `ETag`.", headers=["ETag"]),
    },
    problems=[ProblemType.JOB_NOT_FOUND, ProblemType.IMAGE_GONE],
    headers=Conditional,
)
def image(job_id: str) -> Response:
    """Fetch a job's image.

    The bytes as uploaded, kept for `WASTESTREAM_IMAGE_RETENTION_HOURS` after the image was accepted.
    """
    deps, job = services(), known_job(job_id)
    try:
        data = deps.objects.get(job.image_key)
    except ObjectNotFoundError as error:
        hours = deps.settings.image_retention_hours
        raise RequestError(
            ProblemType.IMAGE_GONE,
            f"The image of job {job_id} is no longer stored; images are kept for {hours:g} hours.",
        ) from error
    # A browser may keep the image but must revalidate it: after sign-out or deletion it must not show it.
    headers = {"Cache-Control": "private, no-cache"}
    response = Response(data, content_type=media_type(data, job.format), headers=headers)
    response.set_etag(job_id)  # an image never changes
    response.make_conditional(request)
    return response


def known_job(job_id: str, owner: str = "") -> Job:
    """Return the job.

    Args:
        job_id: its id.
        owner: id of the API key that must have sent it, else it is unknown; empty for any.

    Raises:
        JobNotFoundError: it is unknown.
    """
    _check_id(job_id)
    job = read_visible(job_id)
    return _known(job_id, job if job is not None and owner in {"", job.owner} else None)


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


def _ids(query: schemas.JobsQuery) -> list[str]:
    if len(query.ids) > schemas.MAX_IDS:
        raise RequestError(
            ProblemType.TOO_MANY_ITEMS,
            f"{len(query.ids)} ids are too many; ask for at most {schemas.MAX_IDS:,} at a time.",
        )
    return query.ids

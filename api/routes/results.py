"""`/v1/results`: the feed of settled jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from flask import Blueprint, Response, request

from api.auth.policy import by_camera, caller, requires
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.validation import read_query
from api.openapi.operation import Answer, operation, respond_with
from api.routes.long_poll import MAY_WAIT
from api.schemas.jobs import Job
from api.schemas.results import Results, ResultsQuery
from api.services import services
from core import jobs
from core.redis.api_keys import Scope
from core.redis.feed import Cursor, Window

_PIECE: Final = 1000  # jobs read in one pipeline

MAX_SCANNED: Final = 10_000
"""Maximum jobs that one call examines, before its filter."""

blueprint = Blueprint("results", __name__, url_prefix="/v1/results")


@blueprint.get("")
@requires(Scope.READ)
@by_camera
@operation(
    {200: Answer("Results after the cursor.", Results)},
    problems=[ProblemType.INVALID_PARAMETER, ProblemType.CAMERA_FORBIDDEN, ProblemType.CURSOR_EXPIRED],
    query=ResultsQuery,
)
def show() -> Response:
    """Read the feed of results.

    Every settled job, once, in the order of settling, for as long as results are kept
    (`WASTESTREAM_RETENTION_HOURS`). Read on with `after` = `next`. With `wait`, the response comes as soon as
    there is a result after the cursor. A cursor older than what is kept is 410; `oldest` says where to go on.
    A key that is bound to cameras gets their results only.
    """
    query = read_query(ResultsQuery)
    if query.camera is not None:
        caller().check_camera(query.camera)
    window = services().feed.window()
    page = _Page(query, _start(query, window))
    window.check(page.cursor)
    seconds = query.wait if request.environ.get(MAY_WAIT, True) else 0.0
    services().job_events.wait_any(page.read, seconds)
    cursor = max(page.cursor, window.middle) if page.at_end else page.cursor
    return respond_with(Results(results=page.results, next=str(cursor), end=page.at_end))


def _start(query: ResultsQuery, window: Window) -> Cursor:
    if query.after is not None and query.first is not None:
        raise RequestError(ProblemType.INVALID_PARAMETER, "Send after or from, not both.")
    if query.first is not None:
        return max(window.oldest, Cursor(round(query.first.timestamp() * 1000)))
    return query.after or window.oldest


@dataclass(slots=True)
class _Page:
    """Results of a query so far, and the cursor behind the examined jobs."""

    query: ResultsQuery
    cursor: Cursor
    results: list[Job] = field(default_factory=list)
    at_end: bool = False

    def read(self) -> bool:
        """Read on; return whether to respond now."""
        scanned, self.at_end = 0, False
        while len(self.results) < self.query.limit and scanned < MAX_SCANNED and not self.at_end:
            scanned += self._read_piece()
        return bool(self.results) or not self.at_end

    def _read_piece(self) -> int:
        # Without a filter, no more than are wanted.
        wanted = self.query.limit - len(self.results)
        filtered = self.query.camera is not None or self.query.state is not None or caller().is_bound
        piece = services().feed.read(self.cursor, _PIECE if filtered else min(wanted, _PIECE))
        self.at_end = not piece
        for settled, job in zip(
            piece, services().jobs.read_many([settled.job_id for settled in piece]), strict=True
        ):
            if len(self.results) == self.query.limit:
                break
            self.cursor = settled.cursor
            if job is not None and caller().sees(job.camera) and self._matches(job):
                self.results.append(Job.of(job))
        return len(piece)

    def _matches(self, job: jobs.Job) -> bool:
        query = self.query
        return (query.camera is None or job.camera == query.camera) and (
            query.state is None or job.state in query.state
        )

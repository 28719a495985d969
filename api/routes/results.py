"""`/v1/results`: the feed of settled jobs."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api.auth.policy import by_camera, caller, requires
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.validation import read_query
from api.openapi.operation import JSON, Answer, operation
from api.routes.long_poll import wait_ready
from api.schemas.results import FeedQuery, Results, ResultsQuery
from api.services import services
from core.redis.api_keys import Scope
from core.redis.feed import Cursor
from core.redis.results import Page, ResultFilter, read_page

MAX_SCANNED: Final = 10_000
"""Maximum jobs that one call examines, before its filter."""

blueprint = Blueprint("results", __name__, url_prefix="/v1/results")


@blueprint.get("")
@requires(Scope.READ)
@by_camera
@operation(
    "listResults",
    {200: Answer("Results after the cursor.", Results, headers=["Retry-After"])},
    problems=[ProblemType.INVALID_PARAMETER, ProblemType.CAMERA_FORBIDDEN, ProblemType.CURSOR_EXPIRED],
    query=ResultsQuery,
)
def show() -> Response:
    """Read the feed of results.

    Every settled job, once, in the order of settling, for as long as results are kept
    (`WASTESTREAM_RETENTION_HOURS`). Read on with `after` = `next`; without a cursor or time, reading begins
    with the oldest result that is kept. With `wait`, the response comes as soon as there is a result after
    the cursor. A cursor older than what is kept is 410; `oldest` says where to go on.
    A key that is bound to cameras gets their results only.
    """
    query = read_query(ResultsQuery)
    begin = start_of(query) or services().feed.window().restart
    page, wanted = Page([], begin, at_end=False), filter_of(query)

    def read() -> bool:
        nonlocal page
        page = page_after(page.cursor, wanted, query.limit)
        return bool(page.results) or not page.at_end

    headers = wait_ready(read, query.wait)
    return Response(_document(page), headers=headers, content_type=JSON)


def start_of(query: FeedQuery) -> Cursor | None:
    """Return the cursor from which a query reads; None if it names none.

    Raises:
        RequestError: 400, it names two.
        CursorExpiredError: results after it may not be kept any more.
    """
    window = services().feed.window()
    if query.after is not None and query.first is not None:
        raise RequestError(ProblemType.INVALID_PARAMETER, "Send after or from, not both.")
    if query.first is not None:
        return max(window.restart, Cursor(round(query.first.timestamp() * 1000)))
    if query.after is not None:
        window.check(query.after)
    return query.after


def filter_of(query: FeedQuery) -> ResultFilter:
    """Return the filter of a query, for cameras that the caller may see.

    Raises:
        RequestError: 403, it names another camera.
    """
    for camera in query.camera:
        caller().check_camera(camera)
    key = caller().key
    return ResultFilter(frozenset(query.camera), query.state, None if key is None else key.cameras)


def page_after(cursor: Cursor, wanted: ResultFilter, limit: int) -> Page:
    """Return the next page. At the feed's end its cursor is moved on, so that it does not become too old.

    Raises:
        CursorExpiredError: results after the cursor may not be kept any more.
    """
    recent = services().recent
    page = read_page(recent.read, cursor, wanted, limit, MAX_SCANNED)
    if page.at_end:
        window = recent.last_window or services().feed.window()
        page = page._replace(cursor=max(page.cursor, window.middle))
    return page


def _document(page: Page) -> str:
    """Return the JSON of `api.schemas.results.Results`; checked models of a thousand jobs take 20 ms."""
    results, end = ",".join([result.json for result in page.results]), "true" if page.at_end else "false"
    return f'{{"results":[{results}],"next":"{page.cursor}","end":{end}}}'

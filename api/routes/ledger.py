"""`/v1/ledger`: the counted proof that nothing is lost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from flask import Blueprint, Response, request

from api.auth.policy import by_camera, caller, requires
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.validation import read_query
from api.openapi.operation import Answer, operation, respond_with
from api.schemas.ledger import LedgerPage, LedgerQuery, Row
from api.services import services
from core.hours import hour_of
from core.redis.api_keys import Scope
from core.redis.camera_reports import SAMPLED
from core.redis.ledger import COUNTERS, LedgerRow

MAX_ROWS: Final = 100_000
"""Maximum rows in one response: a month of 130 cameras."""

_DEFAULT_SPAN: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)

blueprint = Blueprint("ledger", __name__, url_prefix="/v1/ledger")


@dataclass(frozen=True, slots=True)
class Span:
    """Whole hours, UTC: from `first` up to, not including, `last`."""

    first: datetime
    last: datetime


@blueprint.get("")
@requires(Scope.READ)
@by_camera
@operation(
    "getLedger",
    {200: Answer("Rows of the ledger.", LedgerPage, ["text/csv"], ["Content-Disposition"])},
    problems=[ProblemType.INVALID_PARAMETER, ProblemType.CAMERA_FORBIDDEN],
    query=LedgerQuery,
)
def show() -> Response:
    """Read the ledger.

    Every image received, by outcome, for each camera and hour of acceptance. Each counter changes in the same
    atomic step as the job's state. Rows are of whole hours: those that the period touches. Beside them are
    the counts of gateways, by hour of capture. At most 100,000 rows. A key that is bound to cameras gets
    their rows only.
    """
    query = read_query(LedgerQuery)
    cameras, span = _cameras(query.camera), _span(query)
    names = _names(span, cameras)
    if len(names) > MAX_ROWS:
        raise _bad(f"The result has more than {MAX_ROWS:,} rows; ask for one camera, or a shorter time.")
    rows = list(services().ledger.rows(names))
    sampled = services().camera_reports.counts(names)
    response = _as_csv(rows, sampled) if _wants_csv(query) else _as_json(rows, sampled, span, query.camera)
    services().integrity.check(max_age=0)  # A Redis that was just emptied proves nothing.
    return response


def _names(span: Span, cameras: Sequence[str] | None) -> list[str]:
    """Return the names of rows, those too that only a gateway has counted."""
    first, last = hour_of(span.first), hour_of(span.last - _HOUR)
    counted = services().ledger.names(first, last, cameras, max_rows=MAX_ROWS + 1)
    sampled = services().camera_reports.rows(first, last, max_rows=MAX_ROWS + 1)
    if cameras is not None:
        wanted = set(cameras)
        sampled = [name for name in sampled if name.partition(":")[2] in wanted]
    return sorted({*counted, *sampled})


def _as_json(
    rows: Sequence[LedgerRow], sampled: Mapping[str, Mapping[str, int]], span: Span, camera: str | None
) -> Response:
    balance = None if caller().is_bound else services().ledger.balance()
    return respond_with(
        LedgerPage.of(rows, balance, sampled, camera=camera, first=span.first, last=span.last)
    )


def _as_csv(rows: Sequence[LedgerRow], sampled: Mapping[str, Mapping[str, int]]) -> Response:
    stream = io.StringIO(newline="")
    gateway = [f"gateway_{name}" for name in SAMPLED]
    writer = csv.DictWriter(stream, ["camera", "hour", *COUNTERS, "balanced", *gateway])
    writer.writeheader()
    for row in rows:
        document = Row.of(row, None).model_dump(exclude={"gateway"})
        counts = {f"gateway_{name}": number for name, number in sampled.get(row.name, {}).items()}
        writer.writerow({**document, "balanced": str(row.counts.balanced).lower(), **counts})
    headers = {"Content-Disposition": "attachment; filename=ledger.csv"}
    return Response(stream.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _cameras(camera: str | None) -> list[str] | None:
    """Return the cameras whose rows to read; None for all."""
    if camera is not None:
        caller().check_camera(camera)
        return [camera]
    if not caller().is_bound:
        return None
    known = {*services().ledger.camera_names(), *services().camera_reports.cameras()}
    return [*filter(caller().sees, sorted(known))]


def _wants_csv(query: LedgerQuery) -> bool:
    if query.format is None:
        return request.accept_mimetypes.best_match(["application/json", "text/csv"]) == "text/csv"
    return query.format == "csv"


def _span(query: LedgerQuery) -> Span:
    """Return the hours that `from` and `to` touch; by default the last 24, with the current one."""
    try:
        query.check()
    except ValueError as error:
        raise _bad(str(error)) from error
    first, last = query.first, query.last
    if last is None:
        now = datetime.now(UTC)
        last = now if first is None else max(now, first + _HOUR)
    if first is None:
        first = last - _DEFAULT_SPAN
    begin = first.replace(minute=0, second=0, microsecond=0)
    end = last.replace(minute=0, second=0, microsecond=0)
    return Span(begin, end if end == last else end + _HOUR)


def _bad(detail: str) -> RequestError:
    return RequestError(ProblemType.INVALID_PARAMETER, detail)

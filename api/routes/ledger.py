"""`/v1/ledger`: the counted proof that nothing is lost."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, jsonify, request

from api.auth.policy import by_camera, caller, requires
from api.http.problems import RequestError
from api.http.timestamps import parse_rfc3339
from api.schemas.ledger import ledger_document, row_document
from api.schemas.times import written
from api.services import services
from core.cameras import camera_id
from core.hours import hour_of
from core.redis.api_keys import Scope
from core.redis.ledger import COUNTERS, LedgerRow

MAX_ROWS: Final = 100_000
"""Maximum rows in one response: a month of 130 cameras."""

_DEFAULT_SPAN: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000  # leaves room to add hours: years end with 9999
_PARAMETERS: Final = ("camera", "from", "to", "format")

blueprint = Blueprint("ledger", __name__, url_prefix="/v1/ledger")


@dataclass(frozen=True, slots=True)
class Span:
    """Whole hours, UTC: from `first` up to, not including, `last`."""

    first: datetime
    last: datetime


@blueprint.get("")
@requires(Scope.READ)
@by_camera
def show() -> Response:
    """Respond with a row for each camera and hour, their sum, and whether all rows balance.

    A key that is bound to cameras gets their rows, and nothing of the whole system.
    """
    unknown = sorted(set(request.args) - set(_PARAMETERS))
    if unknown:
        raise _bad(f"{unknown[0][:40]!r} is not a parameter of the ledger; use {', '.join(_PARAMETERS)}.")
    camera, span, as_csv = _camera(), _span(), _wants_csv()
    ledger = services().ledger
    names = ledger.names(hour_of(span.first), hour_of(span.last - _HOUR), _cameras(camera), most=MAX_ROWS + 1)
    if len(names) > MAX_ROWS:
        raise _bad(f"The result has more than {MAX_ROWS:,} rows; ask for one camera, or a shorter time.")
    rows = list(ledger.rows(names))
    response = _as_csv(rows) if as_csv else _as_json(rows, span, camera)
    services().integrity.check(max_age=0)  # A Redis that was just emptied proves nothing.
    return response


def _as_json(rows: Sequence[LedgerRow], span: Span, camera: str | None) -> Response:
    document = ledger_document(rows, None if caller().is_bound else services().ledger.balance())
    return jsonify({"camera": camera, "from": written(span.first), "to": written(span.last), **document})


def _as_csv(rows: Sequence[LedgerRow]) -> Response:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["camera", "hour", *COUNTERS, "balanced"])
    writer.writeheader()
    writer.writerows({**row_document(row), "balanced": str(row.counts.balanced).lower()} for row in rows)
    headers = {"Content-Disposition": "attachment; filename=ledger.csv"}
    return Response(stream.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _camera() -> str | None:
    text = request.args.get("camera")
    if text is None:
        return None
    camera = camera_id(text)
    caller().check_camera(camera)
    return camera


def _cameras(camera: str | None) -> list[str] | None:
    """Return the cameras whose rows to read; None for all."""
    if camera is not None:
        return [camera]
    return [*filter(caller().sees, services().ledger.camera_names())] if caller().is_bound else None


def _wants_csv() -> bool:
    wanted = request.args.get("format")
    if wanted is None:
        best = request.accept_mimetypes.best_match(["application/json", "text/csv"])
        return best == "text/csv"
    if wanted not in {"json", "csv"}:
        raise _bad(f"format={wanted[:40]!r} is unknown; use json or csv.")
    return wanted == "csv"


def _span() -> Span:
    """Return the hours that `from` and `to` touch; by default the last 24, with the current one."""
    first, last = _moment("from"), _moment("to")
    if last is None:
        now = datetime.now(UTC)
        last = now if first is None else max(now, first + _HOUR)
    if first is None:
        first = last - _DEFAULT_SPAN
    if first >= last:
        raise _bad(f"from={written(first)} is not before to={written(last)}; send an earlier from.")
    begin = first.replace(minute=0, second=0, microsecond=0)
    end = last.replace(minute=0, second=0, microsecond=0)
    return Span(begin, end if end == last else end + _HOUR)


def _moment(name: str) -> datetime | None:
    text = request.args.get(name)
    if text is None:
        return None
    moment = _parsed(text)
    if moment is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise _bad(
            f"{name}={text[:80]!r} is not a date, or a time with a zone; "
            "send 2026-01-31 (midnight UTC) or 2026-01-31T08:00:00Z."
        )
    return moment


def _parsed(text: str) -> datetime | None:
    with suppress(ValueError, OverflowError):
        if "T" not in text.upper():
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        # An unescaped plus sign in a URL is decoded as a space.
        moment = parse_rfc3339(text.replace(" ", "+"))
        return moment and moment.astimezone(UTC)
    return None


def _bad(detail: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, detail)

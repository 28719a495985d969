"""Real input for schemathesis where a schema cannot say it: images, ids of jobs, the order of times."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from itertools import count, cycle
from typing import Any, Final

import schemathesis
from hypothesis import strategies
from schemathesis.generation import GenerationMode

from tests.support.contract import Seen, contract
from tests.support.images import encoded, pattern

_IMAGES: Final = {
    f"image/{name}": [encoded(pattern(seed=seed), name) for seed in range(3)]
    for name in ("jpeg", "png", "webp")
}

_jobs = cycle(os.environ["JOB_IDS"].split())
_keys = (f"key-{number}" for number in count())  # Other bytes under the same key are a conflict.

for media_type, images in _IMAGES.items():
    schemathesis.openapi.media_type(media_type, strategies.sampled_from(images))
schemathesis.openapi.media_type("application/octet-stream", strategies.sampled_from(_IMAGES["image/jpeg"]))
schemathesis.openapi.format("date", strategies.dates(date(2000, 1, 1), date(2026, 1, 1)).map(date.isoformat))
schemathesis.openapi.format(
    "date-time",
    strategies.datetimes(datetime(2000, 1, 1), datetime(2026, 1, 1), timezones=strategies.just(UTC)).map(  # noqa: DTZ001 - hypothesis adds the zone
        datetime.isoformat
    ),
)


@schemathesis.hook
def before_load_schema(_context: Any, document: dict[str, Any]) -> None:
    """Leave out what no schema can say: metadata come first in a form, with as many entries as files.

    And a stream of events, which does not end.
    """
    del document["paths"]["/v1/events"]
    form = document["paths"]["/v1/images/bulk"]["post"]["requestBody"]["content"]["multipart/form-data"]
    del form["schema"]["properties"]["metadata"]


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Make input that fits the schema fit what is there, so that it must be accepted."""
    if case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if "job_id" in case.path_parameters:
        case.path_parameters["job_id"] = next(_jobs)
    _order(case.query)
    if "wait" in case.query:
        case.query["wait"] = 0.1
    if isinstance(case.body, dict):
        _order(case.body)
        _fit(case.body)
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = next(_keys)
    for header in ("Content-Transfer-Encoding", "Content-Encoding"):
        case.headers.pop(header, None)  # The body has no encoding.


def _order(times: dict[str, Any]) -> None:
    """Let a span end after it begins, and begin at a time or a cursor, not both."""
    if times.get("from") is not None:
        times.pop("after", None)
    if "to" in times:
        times["to"] = "2026-06-30"  # after all that `date-time` and the examples give


def _fit(body: dict[str, Any]) -> None:
    """Put in values that mean something here."""
    if "key" in body:
        body["key"] = os.environ["API_KEY"]
    if "url" in body:
        body["url"] = "http://127.0.0.1:9/"  # Others have no address, or are not allowed.


@schemathesis.check
def documented(_context: Any, response: Any, case: Any) -> None:
    """Nothing is in a response, its header fields included, that the document does not say."""
    fields = [(name, ", ".join(values)) for name, values in response.headers.items()]
    seen = Seen.of(
        response.request.method, case.formatted_path, response.status_code, fields, response.content
    )
    violations = contract().violations(seen)
    if violations:
        raise AssertionError("\n".join(violations))

"""`/metrics`: ledger, queue and workers for Prometheus (text exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from flask import Blueprint, Response

from api.auth.policy import requires
from api.openapi.operation import Answer, operation
from api.services import Services, services
from core.hours import hour_of
from core.ids import accepted_ms, is_job_id
from core.lanes import LANES
from core.redis.api_keys import Scope
from core.redis.job_store import JobStore
from core.redis.ledger import TERMINAL
from core.redis.pending import PendingJobs
from core.redis.workers import running_models

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

blueprint = Blueprint("metrics", __name__)


class Sample(NamedTuple):
    """A value with its labels. Camera ids, lanes and states have no characters that need escaping."""

    value: float
    labels: dict[str, str]


@blueprint.get("/metrics")
@requires(Scope.READ)
@operation("getMetrics", {200: Answer("Metrics of the whole system.", media_types=[CONTENT_TYPE])})
def show() -> Response:
    """Read the metrics.

    Prometheus' text format. They describe the whole system, not one process: scrape one API process only.
    """
    return Response("\n".join([*_lines(), ""]), content_type=CONTENT_TYPE)


def _lines() -> Iterator[str]:
    deps = services()
    images = [*_images(deps)]
    deps.integrity.check(max_age=0)  # as in api.routes.ledger
    yield from images
    yield from _queue(deps)
    yield from _workers(deps)
    yield from _metric(
        "wastestream_event_streams", "gauge", "Event streams open.", [Sample(deps.streams.total(), {})]
    )
    yield from _sinks(deps)


def _images(deps: Services) -> Iterator[str]:
    totals, balance = deps.ledger.totals(), deps.ledger.balance()
    pending = deps.ledger.pending(_first_hour(deps.jobs))
    yield from _metric(
        "wastestream_images_received_total",
        "counter",
        "Images accepted.",
        (Sample(counts["received"], {"camera": camera}) for camera, counts in totals.items()),
    )
    yield from _metric(
        "wastestream_images_settled_total",
        "counter",
        "Jobs settled, by terminal state.",
        (
            Sample(counts[state], {"camera": camera, "state": state})
            for camera, counts in totals.items()
            for state in TERMINAL
        ),
    )
    yield from _metric(
        "wastestream_images_duplicate_total",
        "counter",
        "Images uploaded again under a known idempotency key; not counted as received.",
        (Sample(counts["duplicates"], {"camera": camera}) for camera, counts in totals.items()),
    )
    yield from _metric(
        "wastestream_images_pending",
        "gauge",
        "Images accepted and not settled, from a counter of its own; equals received minus settled.",
        (Sample(pending.get(camera, 0), {"camera": camera}) for camera in totals),
    )
    yield from _metric(
        "wastestream_ledger_balanced",
        "gauge",
        "1 if received = classified + failed + expired + cancelled + pending, and the pending jobs exist.",
        [Sample(int(balance.balanced), {})],
    )


def _queue(deps: Services) -> Iterator[str]:
    queue = deps.jobs.queue()
    yield from _metric(
        "wastestream_queue_depth",
        "gauge",
        "Jobs not settled, by lane.",
        (Sample(depth, {"lane": lane}) for lane, depth in queue.pending.items()),
    )
    yield from _metric(
        "wastestream_lane_paused",
        "gauge",
        "1 if workers take no jobs of the lane until it is resumed.",
        (Sample(int(lane in queue.paused), {"lane": lane}) for lane in queue.pending),
    )
    yield from _metric(
        "wastestream_queue_limit",
        "gauge",
        "Maximum of jobs not settled.",
        [Sample(deps.settings.max_queued, {})],
    )
    yield from _metric(
        "wastestream_service_rate",
        "gauge",
        "Jobs settled per second while jobs wait; absent while unknown.",
        [] if queue.rate is None else [Sample(queue.rate, {})],
    )


def _workers(deps: Services) -> Iterator[str]:
    reports = deps.workers.reports()
    yield from _metric("wastestream_workers", "gauge", "Workers alive.", [Sample(len(reports), {})])
    yield from _metric(
        "wastestream_workers_running",
        "gauge",
        "Workers alive, by engine (float, int8 or tensorflow) and model id.",
        (Sample(count, model._asdict()) for model, count in sorted(running_models(reports).items())),
    )


def _sinks(deps: Services) -> Iterator[str]:
    states = deps.sinks.states()
    yield from _metric(
        "wastestream_sink_behind_seconds",
        "gauge",
        "Seconds since the oldest undelivered result of a sink was due; 0 without one.",
        (Sample(state.behind, {"sink": state.name}) for state in states),
    )
    yield from _metric(
        "wastestream_sink_failing",
        "gauge",
        "1 if the last attempt of a sink failed.",
        (Sample(int(state.error != ""), {"sink": state.name}) for state in states),
    )
    yield from _metric(
        "wastestream_sink_gaps_total",
        "counter",
        "Times that results expired before a sink read them.",
        (Sample(state.gaps, {"sink": state.name}) for state in states),
    )


def _first_hour(jobs: JobStore) -> str:
    """Return the first hour whose rows are summed for the pending images: the hour of the oldest job.

    At least a day back, so that a row that counts missing jobs shows for a while. One hour earlier, because
    the queue is ordered by Redis' clock and the rows are counted by the API's.
    """
    now = jobs.now_ms()
    pending = PendingJobs(jobs.client)
    oldest = [id_ for lane in LANES for id_ in pending.accepted_before(lane, now, 1) if is_job_id(id_)]
    return hour_of(min([now - _DAY_MS, *(accepted_ms(job_id) - _HOUR_MS for job_id in oldest)]))


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for value, labels in samples:
        pairs = ",".join(f'{label}="{content}"' for label, content in labels.items())
        yield f"{name}{f'{{{pairs}}}' if pairs else ''} {value!r}"

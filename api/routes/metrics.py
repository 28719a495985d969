"""`/metrics`: ledger, queue, workers and all that processes count, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, starmap
from typing import Final

from flask import Blueprint, Response

from api.auth.policy import requires
from api.http.exposition import CONTENT_TYPE, Sample, counted, family, labels
from api.openapi.operation import Answer, operation
from api.services import Services, services
from core.errors import RedisUnavailableError
from core.ids import accepted_ms, is_job_id
from core.lanes import LANES
from core.redis.api_keys import Scope
from core.redis.ledger import Totals
from core.redis.workers import running_models

_SETTLED: Final = "wastestream_images_settled_total"

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@requires(Scope.READ)
@operation("getMetrics", {200: Answer("Metrics of the whole system.", media_types=[CONTENT_TYPE])})
def show() -> Response:
    """Read the metrics.

    Prometheus' text format. They describe the whole system, not one process: scrape one API process only.
    """
    return Response("\n".join([*chain.from_iterable(_families()), ""]), content_type=CONTENT_TYPE)


def _families() -> Iterator[list[str]]:
    deps = services()
    images = [*_images(deps)]
    deps.integrity.check(max_age=0)  # as in api.routes.ledger
    yield from images
    yield from _cameras(deps)
    yield from _queue(deps)
    yield from _workers(deps)
    yield from _waiting(deps)
    yield from _sinks(deps)
    yield from _redis(deps)
    yield from _counted(deps)


def _gauge(name: str, text: str, samples: Iterable[Sample] | float) -> list[str]:
    return family(name, "gauge", text, [("", samples)] if isinstance(samples, int | float) else samples)


def _camera(camera: str) -> str:
    """Return the label of a camera, whose id has nothing to escape."""
    return f'{{camera="{camera}"}}'


def _settled(camera: str, totals: Totals) -> str:
    """Return the lines of a camera's settled images, made at once: they are half of all lines."""
    series = f'{_SETTLED}{{camera="{camera}",state='
    return (
        f'{series}"classified"}} {totals.classified}\n{series}"failed"}} {totals.failed}\n'
        f'{series}"expired"}} {totals.expired}\n{series}"cancelled"}} {totals.cancelled}'
    )


def _images(deps: Services) -> Iterator[list[str]]:
    totals, balance = deps.ledger.snapshot()
    now, oldest = deps.pending.oldest()
    # By the ids, which name the rows: a job's time in the queue never falls, though clocks do.
    accepted = (accepted_ms(job_id) for job_id, _ in oldest.values() if is_job_id(job_id))
    pending = deps.row_pending.by_camera(now, min(accepted, default=now))
    cameras = [_camera(camera) for camera in totals]
    yield family(
        "wastestream_images_received_total",
        "counter",
        "Images accepted.",
        zip(cameras, [each.received for each in totals.values()], strict=True),
    )
    yield [
        *family(_SETTLED, "counter", "Jobs settled, by terminal state.", []),
        *starmap(_settled, totals.items()),
    ]
    yield family(
        "wastestream_images_duplicate_total",
        "counter",
        "Images uploaded again under a known idempotency key; not counted as received.",
        zip(cameras, [each.duplicates for each in totals.values()], strict=True),
    )
    yield _gauge(
        "wastestream_images_pending",
        "Images accepted and not settled, from a counter of its own; equals received minus settled.",
        zip(cameras, [pending[camera] for camera in totals], strict=True),
    )
    yield _gauge(
        "wastestream_ledger_balanced",
        "1 if received = classified + failed + expired + cancelled + pending, and the pending jobs exist.",
        int(balance.balanced),
    )
    yield _gauge(
        "wastestream_queue_oldest_seconds",
        "Seconds since the oldest job not settled was accepted; 0 without one.",
        (
            (labels(lane=lane), max(0, now - oldest[lane][1]) / 1000 if lane in oldest else 0.0)
            for lane in LANES
        ),
    )


def _cameras(deps: Services) -> Iterator[list[str]]:
    now = time.time()
    reported = {
        _camera(camera): (status.state(now), status.report.spooled)
        for camera, status in deps.camera_reports.cameras().items()
        if status.report is not None
    }
    yield _gauge(
        "wastestream_camera_silent",
        "1 if a camera that a gateway reads should send and does not, or its gateway is away.",
        ((labelled, int(state == "silent")) for labelled, (state, _) in reported.items()),
    )
    yield _gauge(
        "wastestream_camera_backlog_frames",
        "Frames of a camera that wait on its gateway's disk, by its latest report.",
        ((labelled, spooled) for labelled, (_, spooled) in reported.items()),
    )


def _queue(deps: Services) -> Iterator[list[str]]:
    queue = deps.jobs.queue()
    yield _gauge(
        "wastestream_queue_depth",
        "Jobs not settled, by lane.",
        ((labels(lane=lane), depth) for lane, depth in queue.pending.items()),
    )
    yield _gauge(
        "wastestream_lane_paused",
        "1 if workers take no jobs of the lane until it is resumed.",
        ((labels(lane=lane), int(lane in queue.paused)) for lane in queue.pending),
    )
    yield _gauge("wastestream_queue_limit", "Maximum of jobs not settled.", deps.settings.max_queued)
    yield _gauge(
        "wastestream_service_rate",
        "Jobs settled per second while jobs wait; absent while unknown.",
        [] if queue.rate is None else queue.rate,
    )


def _workers(deps: Services) -> Iterator[list[str]]:
    reports = deps.workers.reports()
    yield _gauge("wastestream_workers", "Workers alive.", len(reports))
    yield _gauge(
        "wastestream_workers_running",
        "Workers alive, by engine (float, int8 or tensorflow) and model id.",
        ((labels(**model._asdict()), count) for model, count in sorted(running_models(reports).items())),
    )


def _waiting(deps: Services) -> Iterator[list[str]]:
    yield _gauge("wastestream_event_streams", "Event streams open.", deps.streams.total())
    yield _gauge("wastestream_waiting_requests", "Requests that wait for jobs.", deps.waiting.total())


def _sinks(deps: Services) -> Iterator[list[str]]:
    states = deps.sinks.states()
    yield _gauge(
        "wastestream_sink_behind_seconds",
        "Seconds since the oldest undelivered result of a sink was due; 0 without one.",
        ((labels(sink=state.name), state.behind) for state in states),
    )
    yield _gauge(
        "wastestream_sink_failing",
        "1 if the last attempt of a sink failed.",
        ((labels(sink=state.name), int(state.error != "")) for state in states),
    )
    yield family(
        "wastestream_sink_gaps_total",
        "counter",
        "Times that results expired before a sink read them.",
        ((labels(sink=state.name), state.gaps) for state in states),
    )


def _redis(deps: Services) -> Iterator[list[str]]:
    used, limit = deps.metrics.memory()
    yield _gauge("wastestream_redis_memory_bytes", "Memory that Redis uses.", used)
    yield _gauge("wastestream_redis_memory_limit_bytes", "Redis' maxmemory; 0 without a limit.", limit)


def _counted(deps: Services) -> Iterator[list[str]]:
    with suppress(RedisUnavailableError):  # This process' own counts, for which the next report would do.
        deps.reporter.report()
    sums, swept_ms = deps.metrics.read()
    yield _gauge(
        "wastestream_retention_swept_timestamp_seconds",
        "When the last retention sweep ended, seconds since 1970; absent before the first.",
        [] if swept_ms is None else swept_ms / 1000,
    )
    yield [*counted(sums)]

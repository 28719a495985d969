"""`/metrics`: the ledger and the queue as Prometheus reads them (text exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from flask import Blueprint, Response

from api.auth.policy import requires
from api.services import services
from core.hours import hour_of
from core.ids import accepted_ms, is_job_id
from core.lanes import LANES
from core.redis.api_keys import Scope
from core.redis.job_store import JobStore
from core.redis.ledger import TERMINAL
from core.redis.workers import running_models

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

blueprint = Blueprint("metrics", __name__)


class Sample(NamedTuple):
    """A value with its labels, whose values need no escaping: camera ids, lanes and states are plain."""

    value: float
    labels: dict[str, str]


@blueprint.get("/metrics")
@requires(Scope.READ)
def show() -> Response:
    """Answer with every metric, as of now: each API process says the same."""
    return Response("\n".join([*_lines(), ""]), content_type=CONTENT_TYPE)


def _lines() -> Iterator[str]:
    deps = services()
    totals, balance = deps.ledger.totals(), deps.ledger.balance()
    deps.integrity.check(fresh=0)  # as in api.routes.ledger
    pending, queue = deps.ledger.pending(_first_hour(deps.jobs)), deps.jobs.queue()
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
        "Images sent again under an idempotency key, not received again.",
        (Sample(counts["duplicates"], {"camera": camera}) for camera, counts in totals.items()),
    )
    yield from _metric(
        "wastestream_images_pending",
        "gauge",
        "Images accepted and not settled, counted apart; received less settled while balanced.",
        (Sample(pending.get(camera, 0), {"camera": camera}) for camera in totals),
    )
    yield from _metric(
        "wastestream_queue_depth",
        "gauge",
        "Jobs not settled, by lane.",
        (Sample(depth, {"lane": lane}) for lane, depth in queue.pending.items()),
    )
    yield from _metric(
        "wastestream_queue_limit",
        "gauge",
        "Jobs that may wait at a time.",
        [Sample(deps.settings.max_queued, {})],
    )
    yield from _metric(
        "wastestream_drain_rate",
        "gauge",
        "Jobs settled a second while there is work; absent while unknown.",
        [] if queue.rate is None else [Sample(queue.rate, {})],
    )
    reports = deps.workers.reports()
    yield from _metric("wastestream_workers", "gauge", "Workers alive.", [Sample(len(reports), {})])
    yield from _metric(
        "wastestream_workers_running",
        "gauge",
        "Workers alive, by the weights that they run: float, int8 or tensorflow, and the model's id.",
        (Sample(count, model._asdict()) for model, count in sorted(running_models(reports).items())),
    )
    yield from _metric(
        "wastestream_ledger_balanced",
        "gauge",
        "1 while received = classified + failed + expired + cancelled + pending, and pending jobs are there.",
        [Sample(int(balance.balanced), {})],
    )


def _first_hour(jobs: JobStore) -> str:
    """Return the hour from which on rows are asked for what is pending in them: that of the oldest job.

    At least a day back, so that a row which counts jobs that are gone shows for a while; and an hour earlier,
    since jobs are lined up by Redis' clock, and counted by that of the API's machine.
    """
    now = jobs.now_ms()
    oldest = [job_id for lane in LANES for job_id in jobs.pending_before(lane, now, 1) if is_job_id(job_id)]
    return hour_of(min([now - _DAY_MS, *(accepted_ms(job_id) - _HOUR_MS for job_id in oldest)]))


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for value, labels in samples:
        pairs = ",".join(f'{label}="{content}"' for label, content in labels.items())
        yield f"{name}{f'{{{pairs}}}' if pairs else ''} {value!r}"

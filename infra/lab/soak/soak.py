"""One soak: a workload, one injected fault after the other, and the checker's verdict at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from core.redis.api_keys import Scope
from core.redis.feed import Cursor, Feed
from core.redis.job_store import JobStore
from infra.lab.soak.archived import archived_ids, end_hour
from infra.lab.soak.broker import Broker
from infra.lab.soak.checker import Checker, FeedEntry, judge
from infra.lab.soak.deliveries import Deliveries
from infra.lab.soak.faults import Fault
from infra.lab.soak.receiver import receiving
from infra.lab.soak.result import FaultResult, SoakResult
from infra.lab.soak.workload import MixedWorkload
from infra.lab.stack import Stack, wait_for
from wastestream import AsyncClient

TAIL: Final = 1.0
"""Seconds after a fault in which an accepted image still counts as affected."""

MAX_RECOVERY: Final = 120.0
"""Seconds after which a fault counts as not recovered."""

MAX_DRAIN: Final = 900.0
"""The same after an overload, whose backlog depends on the machine's speed."""

_PIECE: Final = 1000  # results of the feed read at a time
_TICK: Final = 0.25
_FINISH: Final = 120.0  # seconds for the last results
_CALM: Final = (1.0, 4.0)  # seconds between a recovery and the next fault


async def soak(
    stack: Stack,
    broker: Broker | None,
    *,
    seconds: float,
    seed: int,
    faults: Sequence[Fault],
    say: Callable[[str], None],
) -> SoakResult:
    """Inject faults into a running stack, one at a time; return the result.

    Args:
        stack: a stack that has just started, and may send webhooks to `infra.lab.soak.receiver.NETWORK`.
        broker: that it publishes to, as `infra.lab.soak.broker.SITE`; None for none.
        seconds: duration of the fault injection; the last recovery and the last results come on top.
        seed: of the order and times of the faults and of the choice of images.
        faults: the faults to choose from.
        say: called with a line of progress.
    """
    key = stack.make_key("workload", Scope.INGEST, Scope.READ)
    rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
    checker = Checker()
    workload = MixedWorkload(stack.url, key, checker, seed)
    since, began = datetime.now(UTC), time.monotonic()
    results: list[FaultResult] = []
    with ExitStack() as receivers:
        subscriber = receivers.enter_context(broker.subscribing()) if broker else None
        sinks = {"webhook": receivers.enter_context(receiving(stack))}
        sinks |= {"mqtt": subscriber.deliveries} if subscriber else {}
        workload.start()
        for fault in _shuffled(faults, rng):
            await asyncio.sleep(rng.uniform(*_CALM))
            workload.check()
            if time.monotonic() - began >= seconds:
                break
            result = await _inject(stack, fault, workload, checker, sinks, rng=rng)
            results.append(result)
            say(_line(result, checker))
        loaded = time.monotonic() - began
        await workload.finish(_FINISH)
        await _delivered(set(checker.settled), sinks, _FINISH)
        received = {sink: list(deliveries.received) for sink, deliveries in sinks.items()}
        retained = dict(subscriber.states) if subscriber else None
    feed = await asyncio.to_thread(_read, JobStore(stack.redis()))
    archived = await asyncio.to_thread(end_hour, stack, feed[-1].job_id) if feed else None
    received["archive"] = await asyncio.to_thread(archived_ids, stack)
    async with AsyncClient(stack.url, key=key) as client:
        verdict = judge(checker, await client.ledger(since=since), feed, received, retained)
    return SoakResult(loaded, seed, verdict, checker.rejected, results, archived)


def _read(jobs: JobStore) -> list[FeedEntry]:
    """Return the whole feed."""
    feed, cursor, entries = Feed(jobs.client), Cursor(0), list[FeedEntry]()
    while piece := feed.read(cursor, _PIECE):
        ids = [settled.job_id for settled in piece]
        entries += [
            FeedEntry(job_id, job.state.value if job else "", job.camera if job else "")
            for job_id, job in zip(ids, jobs.read_many(ids), strict=True)
        ]
        cursor = piece[-1].cursor
    return entries


def _shuffled(faults: Sequence[Fault], rng: random.Random) -> Iterator[Fault]:
    """Yield every fault once in random order, then again, for ever: chance alone could omit one."""
    while True:
        yield from rng.sample(faults, len(faults))


async def _inject(
    stack: Stack,
    fault: Fault,
    workload: MixedWorkload,
    checker: Checker,
    sinks: Mapping[str, Deliveries],
    *,
    rng: random.Random,
) -> FaultResult:
    affected = set(checker.outstanding)
    since = time.time()
    workload.unbounded = fault.overload
    workload.longest_upload()
    await fault.inject(stack, rng)
    answer = workload.longest_upload()
    workload.unbounded = False
    if fault.outage:
        since = time.time()
    memory = {process.name: process.memory for process in stack.processes() if process.lives}
    await asyncio.sleep(TAIL)
    affected |= checker.outstanding
    recovered = await _settled(affected, checker, MAX_DRAIN if fault.overload else MAX_RECOVERY)
    delivered = await _delivered(affected & checker.settled.keys(), sinks, MAX_RECOVERY)
    await asyncio.to_thread(stack.wait_ready, MAX_RECOVERY)  # The next fault hits a complete stack.
    last = checker.last_settled(affected & checker.settled.keys())
    return FaultResult(
        fault=fault.name,
        affected=len(affected),
        recovery=max(0.0, (last or since) - since) if recovered else None,
        memory=memory,
        max_recovery=fault.max_recovery,
        answer=answer,
        max_answer=fault.max_answer,
        delivery=None if delivered is None else max(0.0, delivered - since),
    )


async def _delivered(ids: set[str], sinks: Mapping[str, Deliveries], seconds: float) -> float | None:
    """Return when the last sink had delivered all of these results; None if one has not after `seconds`."""

    def times() -> list[float | None]:
        return [deliveries.last_received(ids) for deliveries in sinks.values()]

    await asyncio.to_thread(wait_for, lambda: None not in times(), seconds, _TICK)
    known = [moment for moment in times() if moment is not None]
    return max(known) if len(known) == len(sinks) else None


async def _settled(affected: set[str], checker: Checker, seconds: float) -> bool:
    """Return whether all of these jobs settle within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not affected & checker.outstanding:
            return True
        await asyncio.sleep(_TICK)
    return False


def _line(result: FaultResult, checker: Checker) -> str:
    recovery = "NOT RECOVERED" if result.recovery is None else f"recovered in {result.recovery:.1f} s"
    delivery = "NOT DELIVERED" if result.delivery is None else f"delivered in {result.delivery:.1f} s"
    return (
        f"{result.fault}: {result.affected} jobs affected, {recovery}, {delivery}; "
        f"{len(checker.accepted):,} accepted, {len(checker.settled):,} settled"
    )

"""Fault injection: the faults of a soak.

A fault's `inject` returns when the fault is over. Recovery counts from its start, or from its end for an
outage, which nothing can recover from earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final

from redis.exceptions import RedisError

from core.redis.api_keys import Scope
from infra.lab.soak.broker import Broker
from infra.lab.soak.slow_clients import body, header, page, slow_clients
from infra.lab.stack import SUPERVISOR, Stack, send_signal

OUTAGE: Final = 5.0
"""Seconds of a short outage."""

LONG_OUTAGE: Final = 30.0
"""Seconds of the long outage of Redis."""

OVERLOAD: Final = 120.0
"""Seconds in which more images arrive than the workers can classify."""

MAX_RECOVERY: Final = 15.0
"""Promise: seconds from any single kill until the last affected job has settled."""

SLOW: Final = 30.0
"""Seconds for which slow clients occupy connections and upload places."""

MAX_ANSWER: Final = 2.0
"""Promise: seconds from a single upload's start to its response, in spite of slow clients."""

_CUTS: Final = 20  # times that every connection is cut, one after the other
_CUT_SECONDS: Final = 0.5  # between them

_FROZEN_WORKER: Final = 14.0  # seconds: longer than the visibility timeout, so that its jobs are redelivered


@dataclass(frozen=True)
class Fault:
    """A fault. `outage`: recovery counts from its end. `overload`: the workload is unbounded meanwhile.

    `max_recovery`, `max_answer`: promised seconds of recovery and of a single upload's response; None where
    nothing is promised.
    """

    name: str
    inject: Callable[[Stack, random.Random], Awaitable[None]]
    outage: bool = False
    overload: bool = False
    max_recovery: float | None = None
    max_answer: float | None = None


async def _kill_worker(stack: Stack, rng: random.Random) -> None:
    stack.signal(rng.choice(stack.workers), SIGKILL)


async def _kill_worker_child(stack: Stack, rng: random.Random) -> None:
    for child in stack.children(rng.choice(stack.workers)):
        send_signal(child.pid, SIGKILL)


async def _kill_api(stack: Stack, _: random.Random) -> None:
    stack.signal("api", SIGKILL)


async def _kill_api_child(stack: Stack, rng: random.Random) -> None:
    children = stack.children("api")
    if children:
        send_signal(rng.choice(children).pid, SIGKILL)


async def _kill_sinks(stack: Stack, _: random.Random) -> None:
    stack.signal("sinks", SIGKILL)


async def _kill_redis(stack: Stack, _: random.Random) -> None:
    stack.signal("redis", SIGKILL)


async def _kill_s3(stack: Stack, _: random.Random) -> None:
    stack.signal("s3", SIGKILL)


async def _restart_api(stack: Stack, _: random.Random) -> None:
    stack.signal("api", SIGTERM)


async def _roll_workers(stack: Stack, _: random.Random) -> None:
    """Stop one worker after the other, each when the previous one has been replaced."""
    for name in stack.workers:
        before = stack.signal(name, SIGTERM)
        await asyncio.to_thread(stack.wait_replaced, name, before)


async def _drop_connections(stack: Stack, _: random.Random) -> None:
    with contextlib.suppress(RedisError):  # Redis may just be coming back; then it has no connections.
        stack.redis().client_kill_filter(_type="normal", skipme=True)


async def _drop_connections_repeatedly(stack: Stack, rng: random.Random) -> None:
    for _ in range(_CUTS):
        await _drop_connections(stack, rng)
        await asyncio.sleep(_CUT_SECONDS)


async def _attack_slowly(stack: Stack, _: random.Random) -> None:
    """Run clients that never read and clients with endless headers and bodies, with a key and without."""
    form, image = 'multipart/form-data; boundary="b"', "image/jpeg"
    key = await asyncio.to_thread(stack.make_key, f"slow-{time.time_ns()}", Scope.INGEST)
    behaviours = [
        page(340),
        header(330),
        body(64, "/v1/images", image, 1_000_000, key),
        body(4, "/v1/images/bulk", form, 100_000_000, key),
        body(100, "/v1/images", image, 1_000_000),
    ]
    with slow_clients(stack.port, behaviours):
        await asyncio.sleep(SLOW)


async def _pause_redis(stack: Stack, _: random.Random) -> None:
    with contextlib.suppress(RedisError):
        stack.redis().client_pause(int(OUTAGE * 1000))
    await asyncio.sleep(OUTAGE)


async def _freeze_redis(stack: Stack, _: random.Random) -> None:
    await _freeze(stack, "redis", OUTAGE)


async def _freeze_s3(stack: Stack, _: random.Random) -> None:
    await _freeze(stack, "s3", OUTAGE)


async def _freeze_worker(stack: Stack, rng: random.Random) -> None:
    await _freeze(stack, rng.choice(stack.workers), _FROZEN_WORKER)


async def _stop_redis(stack: Stack, _: random.Random) -> None:
    """Kill Redis while its supervisor is frozen, which cannot restart it."""
    supervisor = stack.signal(SUPERVISOR, SIGSTOP)
    try:
        stack.signal("redis", SIGKILL)
        await asyncio.sleep(LONG_OUTAGE)
    finally:
        if supervisor:
            send_signal(supervisor, SIGCONT)


async def _overload(_: Stack, __: random.Random) -> None:
    await asyncio.sleep(OVERLOAD)


async def _freeze(stack: Stack, name: str, seconds: float) -> None:
    pid = stack.signal(name, SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        if pid:
            send_signal(pid, SIGCONT)


FAULTS: Final = (
    Fault("SIGKILL of a worker", _kill_worker, max_recovery=MAX_RECOVERY),
    Fault("SIGKILL of a worker's child", _kill_worker_child, max_recovery=MAX_RECOVERY),
    Fault("SIGKILL of the API", _kill_api, max_recovery=MAX_RECOVERY),
    Fault("SIGKILL of an API child", _kill_api_child, max_recovery=MAX_RECOVERY),
    Fault("SIGKILL of the sinks", _kill_sinks, max_recovery=MAX_RECOVERY),
    Fault("SIGKILL of Redis", _kill_redis, max_recovery=MAX_RECOVERY),
    Fault("SIGKILL of the S3 server", _kill_s3, max_recovery=MAX_RECOVERY),
    Fault("SIGTERM of the API", _restart_api),
    Fault("rolling restart of the workers", _roll_workers),
    Fault("CLIENT KILL of every connection", _drop_connections),
    Fault(f"CLIENT KILL of every connection, {_CUTS} times", _drop_connections_repeatedly, outage=True),
    Fault(f"838 slow clients for {SLOW:.0f} s", _attack_slowly, outage=True, max_answer=MAX_ANSWER),
    Fault(f"CLIENT PAUSE for {OUTAGE:.0f} s", _pause_redis, outage=True),
    Fault(f"Redis frozen for {OUTAGE:.0f} s", _freeze_redis, outage=True),
    Fault(f"the S3 server frozen for {OUTAGE:.0f} s", _freeze_s3, outage=True),
    Fault(f"a worker frozen for {_FROZEN_WORKER:.0f} s", _freeze_worker),
    Fault(f"Redis down for {LONG_OUTAGE:.0f} s", _stop_redis, outage=True),
    Fault(f"uploads without a pause for {OVERLOAD:.0f} s", _overload, outage=True, overload=True),
)


def broker_faults(broker: Broker) -> tuple[Fault, ...]:
    """Return the faults of an MQTT broker."""

    async def kill(*_: object) -> None:
        broker.stop()
        await asyncio.to_thread(broker.start)

    async def stop(*_: object) -> None:
        broker.stop()
        await asyncio.sleep(LONG_OUTAGE)
        await asyncio.to_thread(broker.start)

    return (
        Fault("SIGKILL of the MQTT broker", kill, max_recovery=MAX_RECOVERY),
        Fault(f"the MQTT broker down for {LONG_OUTAGE:.0f} s", stop, outage=True, max_recovery=MAX_RECOVERY),
    )


KILLS: Final = tuple(fault for fault in FAULTS if fault.max_recovery)
"""The faults that take no time themselves, for a soak of seconds."""

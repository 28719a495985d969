"""Everything that is done to the stack under test.

Each function disturbs once and returns when it is over. Recovery is measured from its beginning, or from its
end where it is an outage that nothing can recover from before it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from infra.lab.soak.slow_clients import body, header, page, slow_clients
from infra.lab.soak.target import Target

OUTAGE: Final = 5.0
"""Seconds that a short outage lasts."""

LONG_OUTAGE: Final = 30.0
"""Seconds that Redis is away in the long one."""

OVERLOAD: Final = 120.0
"""Seconds in which more comes than the workers can do."""

PROMISED: Final = 15.0
"""Seconds from any single kill to the last affected job settled, at most."""

SLOW: Final = 30.0
"""Seconds for which slow clients hold what they get."""

PROMISED_ANSWER: Final = 2.0
"""Seconds from a single upload's start to its answer, at most, whatever slow clients do."""

_CUTS: Final = 20  # cuts of every connection, one after the other
_CUT_SECONDS: Final = 0.5  # between them

_FROZEN_WORKER: Final = 14.0  # longer than the visibility timeout, so that its jobs are delivered elsewhere


@dataclass(frozen=True)
class Kind:
    """One way to disturb.

    `outage`: recovery counts from its end; `pressing`: the load has no bound; `promised`: longest recovery,
    seconds, None where nothing is promised; `promised_answer`: the same of a single upload meanwhile.
    """

    name: str
    run: Callable[[Target, random.Random], Awaitable[None]]
    outage: bool = False
    pressing: bool = False
    promised: float | None = None
    promised_answer: float | None = None


async def _kill_worker(target: Target, rng: random.Random) -> None:
    _send(target.pid(rng.choice(target.workers())), signal.SIGKILL)


async def _kill_worker_child(target: Target, rng: random.Random) -> None:
    for pid in target.children(rng.choice(target.workers())):
        _send(pid, signal.SIGKILL)


async def _kill_api(target: Target, _: random.Random) -> None:
    _send(target.pid("api"), signal.SIGKILL)


async def _kill_api_child(target: Target, rng: random.Random) -> None:
    children = target.children("api")
    if children:
        _send(rng.choice(children), signal.SIGKILL)


async def _kill_redis(target: Target, _: random.Random) -> None:
    _send(target.pid("redis"), signal.SIGKILL)


async def _kill_s3(target: Target, _: random.Random) -> None:
    _send(target.pid("s3"), signal.SIGKILL)


async def _restart_api(target: Target, _: random.Random) -> None:
    _send(target.pid("api"), signal.SIGTERM)


async def _roll_workers(target: Target, _: random.Random) -> None:
    """Stop one worker after the other; each is started again before the next is stopped."""
    for name in target.workers():
        before = target.pid(name)
        _send(before, signal.SIGTERM)
        await asyncio.to_thread(target.wait_replaced, name, before)


async def _drop_connections(target: Target, _: random.Random) -> None:
    with contextlib.suppress(RedisError):  # Redis may just be coming back; then there are none to drop.
        target.redis.client_kill_filter(_type="normal", skipme=True)


async def _drop_connections_repeatedly(target: Target, rng: random.Random) -> None:
    for _ in range(_CUTS):
        await _drop_connections(target, rng)
        await asyncio.sleep(_CUT_SECONDS)


async def _be_slow(target: Target, _: random.Random) -> None:
    """Have clients that never read, and headers and bodies that do not end, with a key and without."""
    form, image = 'multipart/form-data; boundary="b"', "image/jpeg"
    kinds = [
        page(340),
        header(330),
        body(64, "/v1/images", image, 1_000_000, target.other_key),
        body(4, "/v1/images/bulk", form, 100_000_000, target.other_key),
        body(100, "/v1/images", image, 1_000_000),
    ]
    with slow_clients(target.port, kinds):
        await asyncio.sleep(SLOW)


async def _pause_redis(target: Target, _: random.Random) -> None:
    with contextlib.suppress(RedisError):
        target.redis.client_pause(int(OUTAGE * 1000))
    await asyncio.sleep(OUTAGE)


async def _freeze_redis(target: Target, _: random.Random) -> None:
    await _freeze(target.pid("redis"), OUTAGE)


async def _freeze_s3(target: Target, _: random.Random) -> None:
    await _freeze(target.pid("s3"), OUTAGE)


async def _freeze_worker(target: Target, rng: random.Random) -> None:
    await _freeze(target.pid(rng.choice(target.workers())), _FROZEN_WORKER)


async def _stop_redis(target: Target, _: random.Random) -> None:
    """Redis is down for half a minute: its supervisor sleeps meanwhile, so nobody starts it again."""
    _send(target.supervisor, signal.SIGSTOP)
    try:
        _send(target.pid("redis"), signal.SIGKILL)
        await asyncio.sleep(LONG_OUTAGE)
    finally:
        _send(target.supervisor, signal.SIGCONT)


async def _overload(_: Target, __: random.Random) -> None:
    await asyncio.sleep(OVERLOAD)


async def _freeze(pid: int | None, seconds: float) -> None:
    _send(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        _send(pid, signal.SIGCONT)


def _send(pid: int | None, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
            os.kill(pid, number)


KINDS: Final = (
    Kind("SIGKILL of a worker", _kill_worker, promised=PROMISED),
    Kind("SIGKILL of a worker's child", _kill_worker_child, promised=PROMISED),
    Kind("SIGKILL of the API", _kill_api, promised=PROMISED),
    Kind("SIGKILL of an API child", _kill_api_child, promised=PROMISED),
    Kind("SIGKILL of Redis", _kill_redis, promised=PROMISED),
    Kind("SIGKILL of the S3 server", _kill_s3, promised=PROMISED),
    Kind("SIGTERM of the API", _restart_api),
    Kind("rolling restart of the workers", _roll_workers),
    Kind("CLIENT KILL of every connection", _drop_connections),
    Kind(f"CLIENT KILL of every connection, {_CUTS} times", _drop_connections_repeatedly, outage=True),
    Kind(f"838 slow clients for {SLOW:.0f} s", _be_slow, outage=True, promised_answer=PROMISED_ANSWER),
    Kind(f"CLIENT PAUSE for {OUTAGE:.0f} s", _pause_redis, outage=True),
    Kind(f"Redis frozen for {OUTAGE:.0f} s", _freeze_redis, outage=True),
    Kind(f"the S3 server frozen for {OUTAGE:.0f} s", _freeze_s3, outage=True),
    Kind(f"a worker frozen for {_FROZEN_WORKER:.0f} s", _freeze_worker),
    Kind(f"Redis down for {LONG_OUTAGE:.0f} s", _stop_redis, outage=True),
    Kind(f"uploads without a pause for {OVERLOAD:.0f} s", _overload, outage=True, pressing=True),
)

QUICK: Final = tuple(kind for kind in KINDS if kind.promised)
"""For a run of seconds: those that take none themselves."""

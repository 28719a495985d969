"""One soak: load, disturbance after disturbance, and the comparison of the checker at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from infra.lab.soak.checker import Checker, judge
from infra.lab.soak.disturbances import Kind
from infra.lab.soak.load import Load
from infra.lab.soak.report import Disturbance, Report
from infra.lab.soak.target import Target

TAIL: Final = 1.0
"""Seconds after a disturbance within which an accepted image still counts as affected by it."""

MAX_RECOVERY: Final = 120.0
"""Seconds after which a disturbance counts as one that was not recovered from."""

MAX_DRAIN: Final = 900.0
"""The same after an overload, which leaves a queue as long as the machine is slow."""

_LOOK: Final = 0.25
_DRAIN: Final = 120.0  # seconds for the last answers
_CALM: Final = (1.0, 4.0)  # seconds between a recovery and the next disturbance


async def soak(
    target: Target, *, seconds: float, seed: int, kinds: Sequence[Kind], say: Callable[[str], None]
) -> Report:
    """Disturb a running stack for this long, one disturbance at a time; return what came of it.

    Args:
        target: a stack that has just been started.
        seconds: how long to go on disturbing; the last recovery and the last answers come on top.
        seed: which disturbances, and when; which images are broken.
        kinds: what to choose from.
        say: prints a line.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
    checker = Checker()
    load = Load(target.url, target.key, checker, seed)
    began = time.monotonic()
    load.start()
    disturbances: list[Disturbance] = []
    for kind in _deck(kinds, rng):
        await asyncio.sleep(rng.uniform(*_CALM))
        load.check()
        if time.monotonic() - began >= seconds:
            break
        done = await _disturb(target, kind, load, checker, rng)
        disturbances.append(done)
        say(_line(done, checker))
    loaded = time.monotonic() - began
    await load.finish(_DRAIN)
    verdict = await asyncio.to_thread(lambda: judge(checker, target.ledger()))
    return Report(
        seconds=loaded,
        seed=seed,
        verdict=verdict,
        refused=checker.refused,
        disturbances=disturbances,
    )


def _deck(kinds: Sequence[Kind], rng: random.Random) -> Iterator[Kind]:
    """Yield every kind once in random order, and again, for ever: chance alone could leave one out."""
    while True:
        yield from rng.sample(kinds, len(kinds))


async def _disturb(
    target: Target, kind: Kind, load: Load, checker: Checker, rng: random.Random
) -> Disturbance:
    affected = set(checker.outstanding)
    since = time.time()
    load.pressing = kind.pressing
    load.longest_upload()
    await kind.run(target, rng)
    answer = load.longest_upload()
    load.pressing = False
    if kind.outage:
        since = time.time()
    memory = await asyncio.to_thread(target.memory)
    await asyncio.sleep(TAIL)
    affected |= checker.outstanding
    recovered = await _settled(affected, checker, MAX_DRAIN if kind.pressing else MAX_RECOVERY)
    await asyncio.to_thread(target.wait_ready, MAX_RECOVERY)  # So that the next one hits a whole stack.
    last = checker.last_settled(affected & checker.settled.keys())
    return Disturbance(
        kind=kind.name,
        affected=len(affected),
        recovery=max(0.0, (last or since) - since) if recovered else None,
        memory=memory,
        promised=kind.promised,
        answer=answer,
        promised_answer=kind.promised_answer,
    )


async def _settled(affected: set[str], checker: Checker, seconds: float) -> bool:
    """Return whether all of these jobs settle within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not affected & checker.outstanding:
            return True
        await asyncio.sleep(_LOOK)
    return False


def _line(done: Disturbance, checker: Checker) -> str:
    recovery = "NOT RECOVERED" if done.recovery is None else f"recovered in {done.recovery:.1f} s"
    return (
        f"{done.kind}: {done.affected} jobs affected, {recovery}; "
        f"{len(checker.accepted):,} accepted, {len(checker.settled):,} answered"
    )

"""One soak: load, disturbance after disturbance, and the comparison of the books at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from infra.soak.books import Books, judge
from infra.soak.disturbances import Kind
from infra.soak.load import Load
from infra.soak.report import Disturbance, Report
from infra.soak.target import Target

TAIL: Final = 1.0
"""Seconds after a disturbance within which an accepted image still counts as affected by it."""

RECOVERY_MOST: Final = 120.0
"""Seconds after which a disturbance counts as one that was not recovered from."""

DRAIN_MOST: Final = 900.0
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
    books = Books()
    load = Load(target.url, target.key, books, seed)
    began = time.monotonic()
    load.start()
    disturbances: list[Disturbance] = []
    for kind in _deck(kinds, rng):
        await asyncio.sleep(rng.uniform(*_CALM))
        load.check()
        if time.monotonic() - began >= seconds:
            break
        done = await _disturb(target, kind, load, books, rng)
        disturbances.append(done)
        say(_line(done, books))
    loaded = time.monotonic() - began
    await load.finish(_DRAIN)
    verdict = await asyncio.to_thread(lambda: judge(books, target.accounts()))
    return Report(
        seconds=loaded,
        seed=seed,
        verdict=verdict,
        refused=books.refused,
        disturbances=disturbances,
    )


def _deck(kinds: Sequence[Kind], rng: random.Random) -> Iterator[Kind]:
    """Yield every kind once in random order, and again, for ever: chance alone could leave one out."""
    while True:
        yield from rng.sample(kinds, len(kinds))


async def _disturb(target: Target, kind: Kind, load: Load, books: Books, rng: random.Random) -> Disturbance:
    affected = set(books.outstanding)
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
    affected |= books.outstanding
    recovered = await _settled(affected, books, DRAIN_MOST if kind.pressing else RECOVERY_MOST)
    await asyncio.to_thread(target.wait_ready, RECOVERY_MOST)  # So that the next one hits a whole stack.
    last = books.last_settled(affected & books.settled.keys())
    return Disturbance(
        kind=kind.name,
        affected=len(affected),
        recovery=max(0.0, (last or since) - since) if recovered else None,
        memory=memory,
        promised=kind.promised,
        answer=answer,
        promised_answer=kind.promised_answer,
    )


async def _settled(affected: set[str], books: Books, seconds: float) -> bool:
    """Return whether all of these jobs settle within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not affected & books.outstanding:
            return True
        await asyncio.sleep(_LOOK)
    return False


def _line(done: Disturbance, books: Books) -> str:
    recovery = "NOT RECOVERED" if done.recovery is None else f"recovered in {done.recovery:.1f} s"
    return (
        f"{done.kind}: {done.affected} jobs affected, {recovery}; "
        f"{len(books.accepted):,} accepted, {len(books.settled):,} answered"
    )

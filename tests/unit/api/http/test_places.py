"""api.http.places: memory for bodies is bounded, shared, and always comes back."""

from __future__ import annotations

import asyncio
import time

import pytest

from api.http import places as module
from api.http.places import Places


def test_nobody_has_more_than_a_share_nor_all_more_than_there_is() -> None:
    """What is given back can be taken again; giving it back twice is giving it back once."""
    places = Places(total=10, share=6)
    first = places.take("a", 6)
    assert first is not None
    assert places.take("a", 1) is None
    assert places.take("b", 5) is None
    assert places.take("b", 4) is not None
    first.leave()
    first.leave()
    assert places.take("c", 7) is None
    assert places.take("c", 6) is not None
    assert places.take("a", 1) is None


def test_places_go_to_those_who_wait_in_order() -> None:
    """Also before those who do not wait yet; but who waits for more than its share holds up nobody else."""

    async def wait() -> list[str]:
        places = Places(total=10, share=8)
        small, large = places.take("a", 2), places.take("b", 6)
        assert small is not None
        assert large is not None
        served: list[str] = []

        async def take(client: str, size: int) -> None:
            if await places.wait(client, size) is not None:
                served.append(f"{client}{size}")

        tasks = [asyncio.create_task(take("b", 3))]
        await asyncio.sleep(0)
        assert places.take("b", 1) is None  # Its own 3 come first.
        assert places.take("c", 1) is not None
        tasks += [asyncio.create_task(take(*waits)) for waits in [("d", 5), ("e", 1), ("b", 1)]]
        await asyncio.sleep(0)
        assert places.take("f", 1) is None
        small.leave()
        await asyncio.sleep(0)
        assert served == []
        large.leave()
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        return served

    assert asyncio.run(wait()) == ["b3", "d5", "e1"]


def test_who_gives_up_lets_the_next_have_what_it_waited_for() -> None:
    """The next may have waited only because it came later."""

    async def wait() -> None:
        places = Places(total=10, share=10)
        assert places.take("a", 5) is not None
        first = asyncio.create_task(places.wait("b", 6))
        await asyncio.sleep(0)
        second = asyncio.create_task(places.wait("c", 5))
        await asyncio.sleep(0)
        first.cancel()
        assert await second is not None

    asyncio.run(wait())


def test_a_place_handed_over_to_one_who_goes_comes_back() -> None:
    """In the same moment, before its task has run again."""

    async def wait() -> None:
        places = Places(total=1, share=1)
        held = places.take("a", 1)
        assert held is not None
        waiting = asyncio.create_task(places.wait("b", 1))
        await asyncio.sleep(0)
        held.leave()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert places.take("c", 1) is not None

    asyncio.run(wait())


def test_a_place_handed_over_as_the_time_ends_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the waiter's, or free again."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)

    async def wait() -> None:
        places = Places(total=1, share=1)
        held = places.take("a", 1)
        assert held is not None
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(places.wait("b", 1))
        await asyncio.sleep(0)
        loop.call_later(0, time.sleep, 0.05)  # Both are due after it, in one turn of the loop.
        loop.call_at(loop.time() + 0.005, held.leave)
        assert await waiting is None
        assert places.take("c", 1) is not None

    asyncio.run(wait())


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place; and one that waits no longer takes none."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)

    async def wait() -> None:
        places = Places(total=1, share=1)
        held = places.take("a", 1)
        assert held is not None
        assert await places.wait("b", 1) is None
        held.leave()
        assert places.take("c", 1) is not None

    asyncio.run(wait())

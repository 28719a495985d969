"""api.http.places: memory for bodies is bounded, shared, and always comes back."""

from __future__ import annotations

import asyncio

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


def test_a_place_goes_to_the_first_whom_it_fits() -> None:
    """Who waits for more than there is, or more than its share, holds up nobody else."""

    async def wait() -> list[str]:
        places = Places(total=10, share=10)
        small, large = places.take("a", 4), places.take("b", 6)
        assert small is not None
        assert large is not None
        served: list[str] = []

        async def take(client: str, size: int) -> None:
            if await places.wait(client, size) is not None:
                served.append(client)

        tasks = [asyncio.create_task(take(*waits)) for waits in [("c", 9), ("b", 5), ("d", 3)]]
        await asyncio.sleep(0)
        small.leave()
        await asyncio.sleep(0.01)
        assert served == ["d"]
        large.leave()
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        return served

    assert asyncio.run(wait()) == ["d", "b"]


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

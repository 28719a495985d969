"""api.server.body_budget: memory for bodies is bounded, shared, and always returned."""

from __future__ import annotations

import asyncio
import time

import pytest

from api.server import body_budget as module
from api.server.body_budget import BodyBudget


def test_no_client_exceeds_its_share_nor_all_the_total() -> None:
    """Released memory can be reserved again; a second release of it does nothing."""
    budget = BodyBudget(total=10, share=6)
    first = budget.try_reserve("a", 6)
    assert first is not None
    assert budget.try_reserve("a", 1) is None
    assert budget.try_reserve("b", 5) is None
    assert budget.try_reserve("b", 4) is not None
    first.release()
    first.release()
    assert budget.try_reserve("c", 7) is None
    assert budget.try_reserve("c", 6) is not None
    assert budget.try_reserve("a", 1) is None


def test_waiting_requests_are_served_in_order() -> None:
    """A later request does not overtake; a client that waits for its own share delays nobody else."""

    async def wait() -> list[str]:
        budget = BodyBudget(total=10, share=8)
        small, large = budget.try_reserve("a", 2), budget.try_reserve("b", 6)
        assert small is not None
        assert large is not None
        served: list[str] = []

        async def reserve(client: str, size: int) -> None:
            if await budget.reserve(client, size) is not None:
                served.append(f"{client}{size}")

        tasks = [asyncio.create_task(reserve("b", 3))]
        await asyncio.sleep(0)
        assert budget.try_reserve("b", 1) is None  # Its own request for 3 comes first.
        assert budget.try_reserve("c", 1) is not None
        tasks += [asyncio.create_task(reserve(*waits)) for waits in [("d", 5), ("e", 1), ("b", 1)]]
        await asyncio.sleep(0)
        assert budget.try_reserve("f", 1) is None
        small.release()
        await asyncio.sleep(0)
        assert served == []
        large.release()
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        return served

    assert asyncio.run(wait()) == ["b3", "d5", "e1"]


def test_a_cancelled_wait_lets_the_next_request_have_the_memory() -> None:
    """The next request may have waited only because it came later."""

    async def wait() -> None:
        budget = BodyBudget(total=10, share=10)
        assert budget.try_reserve("a", 5) is not None
        first = asyncio.create_task(budget.reserve("b", 6))
        await asyncio.sleep(0)
        second = asyncio.create_task(budget.reserve("c", 5))
        await asyncio.sleep(0)
        first.cancel()
        assert await second is not None

    asyncio.run(wait())


def test_memory_granted_to_a_cancelled_wait_is_released() -> None:
    """Also when both happen before its task runs again."""

    async def wait() -> None:
        budget = BodyBudget(total=1, share=1)
        held = budget.try_reserve("a", 1)
        assert held is not None
        waiting = asyncio.create_task(budget.reserve("b", 1))
        await asyncio.sleep(0)
        held.release()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert budget.try_reserve("c", 1) is not None

    asyncio.run(wait())


def test_memory_granted_as_the_time_ends_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waiting request gets it, or it is free again."""
    monkeypatch.setattr(module, "WAIT_TIMEOUT", 0.01)

    async def wait() -> None:
        budget = BodyBudget(total=1, share=1)
        held = budget.try_reserve("a", 1)
        assert held is not None
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(budget.reserve("b", 1))
        await asyncio.sleep(0)
        loop.call_later(0, time.sleep, 0.05)  # Both are due after it, in one turn of the loop.
        loop.call_at(loop.time() + 0.005, held.release)
        assert await waiting is None
        assert budget.try_reserve("c", 1) is not None

    asyncio.run(wait())


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait times out without a reservation, and then takes no memory."""
    monkeypatch.setattr(module, "WAIT_TIMEOUT", 0.01)

    async def wait() -> None:
        budget = BodyBudget(total=1, share=1)
        held = budget.try_reserve("a", 1)
        assert held is not None
        assert await budget.reserve("b", 1) is None
        held.release()
        assert budget.try_reserve("c", 1) is not None

    asyncio.run(wait())

"""Both clients by the same methods, so that each test runs with either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, closing
from itertools import islice
from typing import Any, Final

from wastestream import AsyncClient, Client

Connect = Callable[..., Client]
"""Makes a `Client`, or an `Awaited`, which looks like one."""


class Awaited:
    """An `AsyncClient` with the methods of a `Client`: each runs to its end in an event loop of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self._options = (url, options)
        AsyncClient(url, **options)  # for the errors of wrong arguments

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            outcome = asyncio.run(self._call(name, arguments, options))
            return _again(*outcome) if isinstance(outcome, tuple) and outcome[:1] == (_LIST,) else outcome

        return call

    def take(self, count: int, name: str, **options: Any) -> list[Any]:
        """Return the first items of an iterator that may never end."""
        return asyncio.run(self._take(count, name, options))

    async def _take(self, count: int, name: str, options: dict[str, Any]) -> list[Any]:
        url, how = self._options
        async with AsyncClient(url, **how) as client, aclosing(getattr(client, name)(**options)) as items:
            taken: list[Any] = []
            async for item in items:
                taken.append(item)
                if len(taken) == count:
                    break
            return taken

    async def _call(self, name: str, arguments: Iterable[Any], options: dict[str, Any]) -> Any:
        url, how = self._options
        async with AsyncClient(url, **how) as client:
            answer: Awaitable[Any] | AsyncIterator[Any] = getattr(client, name)(*arguments, **options)
            if not isinstance(answer, AsyncIterator):
                return await answer
            items: list[Any] = []
            try:
                async for item in answer:
                    items.append(item)  # noqa: PERF401 - what came before an error counts
            except Exception as error:  # noqa: BLE001 - raised behind the items
                return _LIST, items, error
            return _LIST, items, None


def take(client: Any, count: int, name: str, **options: Any) -> list[Any]:
    """Return the first items of an iterator of either client; it may never end."""
    if isinstance(client, Awaited):
        return client.take(count, name, **options)
    with closing(getattr(client, name)(**options)) as items:
        return list(islice(items, count))


_LIST: Final = object()


def _again(_: object, items: list[Any], error: Exception | None) -> Iterator[Any]:
    yield from items
    if error is not None:
        raise error

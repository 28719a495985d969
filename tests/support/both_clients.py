"""Both clients by the same methods, so that each test runs with either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
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


_LIST: Final = object()


def _again(_: object, items: list[Any], error: Exception | None) -> Iterator[Any]:
    yield from items
    if error is not None:
        raise error

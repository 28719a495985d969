"""Calls in threads, for objects that are copied: so a call waits for storage while others do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

THREADS: Final = 8
_PIECE: Final = 500  # items taken at a time: memory does not grow with their number

_T = TypeVar("_T")
_R = TypeVar("_R")


def in_threads(function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """Yield the results of calls, in order."""
    with ThreadPoolExecutor(THREADS) as pool:
        for piece in pieces(items):
            yield from pool.map(function, piece)


def pieces(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield items, some at a time."""
    rest = iter(items)
    while piece := list(islice(rest, _PIECE)):
        yield piece

"""Group commit: what several threads want done at the same time is done for all of them at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, Generic, TypeVar

PATIENCE: Final = 0.02
"""Seconds that an item waits for those before it; then it goes alongside them.

So slow storage, in another building say, is asked for several groups at the same time.
"""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class _Role(Enum):
    WAITS = auto()
    LEADS = auto()
    FOLLOWS = auto()


class _Member(Generic[Item, Outcome]):
    """An item, the thread that brought it, and what became of it. The lock of `Together` guards `role`."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.role = _Role.WAITS
        self.outcome: Outcome | BaseException | None = None
        self.called = threading.Lock()  # held until the thread is to go on; waking by it is the cheapest
        self.called.acquire()

    def result(self) -> Outcome:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None  # noqa: S101 - set before the thread is called
        return self.outcome


class Together(Generic[Item, Outcome]):
    """Does items one group after the other; those that come while a group is under way make the next.

    Nobody waits for company: an item that comes while nothing is under way goes at once, alone. The thread of
    one item, the leader, does the work of its group while the others sleep. So the busier a process, the
    larger its groups, and the less an item costs.
    """

    def __init__(
        self, work: Callable[[list[Item]], Sequence[Outcome | Exception]], fit: Callable[[list[Item]], int]
    ) -> None:
        """Store how groups are made.

        Args:
            work: does a group; returns the outcome of each item in order, or the error that its thread is
                to raise. What it raises, all raise.
            fit: how many of these items, the first ones, make one group; at least one.
        """
        self._work = work
        self._fit = fit
        self._lock = threading.Lock()
        self._waiting: deque[_Member[Item, Outcome]] = deque()
        self._leaders = 0

    def do(self, item: Item) -> Outcome:
        """Have the item done, alone or with others, and return its outcome or raise its error."""
        mine: _Member[Item, Outcome] = _Member(item)
        with self._lock:
            self._waiting.append(mine)
            if not self._leaders:
                self._let_lead(mine)
        if mine.role is not _Role.LEADS and not mine.called.acquire(timeout=PATIENCE):
            self._lead_or_wait(mine)
        if mine.role is _Role.LEADS:
            self._lead(mine)
        return mine.result()

    def _let_lead(self, member: _Member[Item, Outcome]) -> None:
        self._waiting.remove(member)
        member.role = _Role.LEADS
        self._leaders += 1

    def _lead_or_wait(self, mine: _Member[Item, Outcome]) -> None:
        """Lead, although others do, unless one of them has taken this item in the meantime."""
        with self._lock:
            if mine.role is _Role.WAITS:
                self._let_lead(mine)
        if mine.role is _Role.FOLLOWS:
            mine.called.acquire()

    def _lead(self, mine: _Member[Item, Outcome]) -> None:
        with self._lock:
            candidates = [mine, *self._waiting]
            group = candidates[: self._fit([member.item for member in candidates])]
            for member in group[1:]:
                self._waiting.popleft()
                member.role = _Role.FOLLOWS
        try:
            outcomes = self._work([member.item for member in group])
            for member, outcome in zip(group, outcomes, strict=True):
                member.outcome = outcome
        except BaseException as error:
            for member in group:
                member.outcome = error
            raise
        finally:
            self._hand_over()
            for member in group[1:]:
                member.called.release()

    def _hand_over(self) -> None:
        """Call the next leader if this was the only one; of several the others go on."""
        with self._lock:
            self._leaders -= 1
            if self._leaders or not self._waiting:
                return
            following = self._waiting[0]
            self._let_lead(following)
        following.called.release()

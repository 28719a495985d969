"""Group commit: the concurrent work of several threads is done in one step."""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, Generic, TypeVar

MAX_WAIT: Final = 0.02
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
    """An item, its thread, and its outcome. `role` leaves `WAITS` once."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.role = _Role.WAITS
        self.outcome: Outcome | BaseException | None = None
        self.called = threading.Lock()  # held until the thread is to go on; waking by it is the cheapest
        self.called.acquire()

    def take_outcome(self) -> Outcome:
        """Return the outcome, or raise it if it is an error."""
        outcome, self.outcome = self.outcome, None
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            assert outcome is not None  # noqa: S101 - set before the thread is called
            return outcome
        finally:
            # An error holds the frames that it went through, and so the item; they must not hold the error.
            del outcome


class GroupCommit(Generic[Item, Outcome]):
    """Processes items in groups; items that come during a group make the next.

    Nobody waits for company: an item that comes while nothing is under way goes at once, alone. The thread of
    one item, the leader, does the work of its group while the others sleep. So the busier a process, the
    larger its groups, and the less an item costs. A group that takes longer than `MAX_WAIT` holds up nobody.
    """

    def __init__(
        self, work: Callable[[list[Item]], Sequence[Outcome | Exception]], fit: Callable[[list[Item]], int]
    ) -> None:
        """Store how groups are made.

        Args:
            work: does a group; returns the outcome of each item in order, or the error that its thread is
                to raise. An error that it raises itself is raised in all threads.
            fit: how many of these items, the first ones, make one group; at least one.
        """
        self._work = work
        self._fit = fit
        self._lock = threading.Lock()
        self._waiting: deque[_Member[Item, Outcome]] = deque()
        self._leaders = 0
        self._began = 0.0  # when the latest leader began, monotonic seconds

    def do(self, item: Item) -> Outcome:
        """Process the item, alone or in a group; return its outcome or raise its error."""
        mine: _Member[Item, Outcome] = _Member(item)
        with self._lock:
            self._waiting.append(mine)
            if self._may_begin():
                self._let_lead(mine)
        if mine.role is not _Role.LEADS and not mine.called.acquire(timeout=MAX_WAIT):
            self._lead_or_wait(mine)
        if mine.role is _Role.LEADS:
            return self._lead(mine)
        return mine.take_outcome()

    def _may_begin(self) -> bool:
        """Return whether the next group may begin now. The lock must be held."""
        return not self._leaders or time.monotonic() - self._began > MAX_WAIT

    def _let_lead(self, member: _Member[Item, Outcome]) -> None:
        self._waiting.remove(member)
        member.role = _Role.LEADS
        self._leaders += 1
        self._began = time.monotonic()

    def _lead_or_wait(self, mine: _Member[Item, Outcome]) -> None:
        """Lead, although others do, unless one of them has taken this item in the meantime."""
        with self._lock:
            if mine.role is _Role.WAITS:
                self._let_lead(mine)
        if mine.role is _Role.FOLLOWS:
            mine.called.acquire()

    def _lead(self, mine: _Member[Item, Outcome]) -> Outcome:
        others: list[_Member[Item, Outcome]] = []
        try:
            others = self._gather(mine)
            outcomes = self._work([mine.item, *(member.item for member in others)])
            for member, outcome in zip([mine, *others], outcomes, strict=True):
                member.outcome = outcome
            del outcome, outcomes  # see `take_outcome`
        except BaseException as error:
            for member in others:
                member.outcome = _twin(error)
            raise
        finally:
            self._hand_over()
            for member in others:
                member.called.release()
        return mine.take_outcome()

    def _gather(self, mine: _Member[Item, Outcome]) -> list[_Member[Item, Outcome]]:
        """Take waiting items into the group, as many as fit, in the order in which they came."""
        with self._lock:
            waiting = list(self._waiting)
            count = self._fit([mine.item, *(member.item for member in waiting)])
            others = waiting[: count - 1]
            for member in others:
                self._waiting.popleft()
                member.role = _Role.FOLLOWS
            return others

    def _hand_over(self) -> None:
        """Call the next leader, unless another has just begun."""
        with self._lock:
            self._leaders -= 1
            if not self._waiting or not self._may_begin():
                return
            following = self._waiting[0]
            self._let_lead(following)
        following.called.release()


def _twin(error: BaseException) -> BaseException:
    """Return a copy of an error for another thread: raised in two, one would gather both tracebacks."""
    try:
        return copy.copy(error).with_traceback(None)
    except Exception:  # noqa: BLE001 - classes that take other arguments than they keep raise what they like
        return RuntimeError(f"{type(error).__name__}: {error}")

"""What the load knows of its images: which were accepted, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from core.redis.ledger import TERMINAL, Ledger

_MAX_ROWS: Final = 100_000  # of cameras and hours: more than any soak makes


@dataclass
class Checker:
    """Kept by the client alone, from the API's answers, to be compared with the ledger at the end."""

    accepted: set[str] = field(default_factory=set)
    settled: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Job id to its terminal state and when it settled, Unix time by the server's clock."""
    changed: set[str] = field(default_factory=set)
    """Ids whose terminal state was another one when asked again."""
    broken: set[str] = field(default_factory=set)
    """Ids of images that were sent damaged, the only ones that may end `failed`."""
    unknown: set[str] = field(default_factory=set)
    """Accepted ids that the server says it does not know."""
    refused: int = 0
    """Images that the server refused, which must not happen here."""

    outstanding: set[str] = field(default_factory=set)
    """Ids accepted and not known to have settled."""

    def accept(self, job_id: str, *, intact: bool = True) -> None:
        """The server has answered 202 with this job."""
        if job_id not in self.accepted:
            self.accepted.add(job_id)
            self.outstanding.add(job_id)
        if not intact:
            self.broken.add(job_id)

    def see(self, jobs: Iterable[dict[str, Any]], unknown: Iterable[str]) -> None:
        """Take in what the server says of jobs, as `POST /v1/jobs/query` answers."""
        for job in jobs:
            state = job["state"]
            if state not in TERMINAL:
                continue
            known = self.settled.setdefault(
                job["id"], (state, datetime.fromisoformat(job["settled_at"]).timestamp())
            )
            self.outstanding.discard(job["id"])
            if known[0] != state:
                self.changed.add(job["id"])
        self.unknown.update(unknown)

    def last_settled(self, ids: Iterable[str]) -> float | None:
        """Return when the last of these jobs settled, Unix time; None if there are none."""
        return max((self.settled[job_id][1] for job_id in ids), default=None)

    def failed(self) -> set[str]:
        """Return the ids of intact images that the server could not classify: it has lost them."""
        failed = {job_id for job_id, (state, _) in self.settled.items() if state == "failed"}
        return failed - self.broken

    def states(self) -> Counter[str]:
        """Return how many jobs ended in each state."""
        return Counter(state for state, _ in self.settled.values())


@dataclass(frozen=True)
class Verdict:
    """The checker compared with the ledger."""

    accepted: int
    answered: int
    states: dict[str, int]
    lost: int
    """Accepted, and not settled or not known at the end, or intact and yet `failed`."""
    doubled: int
    """Counted more often than there were images, or settled more than once."""
    duplicates: int
    """Uploads repeated with their key and recognised."""
    balanced: bool
    """received = classified + failed + expired + cancelled + pending, in every row and in all."""

    @property
    def good(self) -> bool:
        """Whether the promise was kept."""
        return self.balanced and not self.lost and not self.doubled


def judge(checker: Checker, ledger: Ledger) -> Verdict:
    """Compare what the client knows with what the server counted."""
    balance = ledger.balance()
    rows = ledger.rows(ledger.names("-inf", "+inf", most=_MAX_ROWS))
    every_row = all(row.counts.balanced for row in rows)
    counted = balance.counts
    states = checker.states()
    doubled = len(checker.changed) + max(0, counted["received"] - len(checker.accepted))
    doubled += sum(max(0, counted[state] - states[state]) for state in TERMINAL)
    lost = checker.outstanding | checker.unknown | checker.failed()
    return Verdict(
        accepted=len(checker.accepted),
        answered=len(checker.settled),
        states=dict(states.most_common()),
        lost=len(lost) + max(0, len(checker.accepted) - counted["received"]),
        doubled=doubled,
        duplicates=counted["duplicates"],
        balanced=balance.balanced and every_row,
    )

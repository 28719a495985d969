"""Checker: the sender's own record of its images, compared with the ledger at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from core.redis.ledger import TERMINAL
from wastestream import Job, Ledger


@dataclass
class Checker:
    """Record of every job, from the API's responses alone."""

    accepted: set[str] = field(default_factory=set)
    settled: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Terminal state and settling time (Unix time of the server's clock) by job id."""
    changed: set[str] = field(default_factory=set)
    """Ids of jobs whose terminal state changed between two queries."""
    truncated: set[str] = field(default_factory=set)
    """Ids of truncated images, the only ones that may end `failed`."""
    unknown: set[str] = field(default_factory=set)
    """Ids of accepted jobs that the server reports as unknown."""
    rejected: int = 0
    """Rejected images, which must not happen here."""

    outstanding: set[str] = field(default_factory=set)
    """Ids of accepted jobs without a known terminal state."""

    def accept(self, job_id: str, *, intact: bool = True) -> None:
        """Record a job that the server answered with 202."""
        if job_id not in self.accepted:
            self.accepted.add(job_id)
            self.outstanding.add(job_id)
        if not intact:
            self.truncated.add(job_id)

    def see(self, jobs: Iterable[Job], unknown: Iterable[str]) -> None:
        """Record a response of `POST /v1/jobs/query`."""
        for job in jobs:
            if job.settled_at is None:
                continue
            state, _ = self.settled.setdefault(job.id, (job.state, job.settled_at.timestamp()))
            self.outstanding.discard(job.id)
            if state != job.state:
                self.changed.add(job.id)
        self.unknown.update(unknown)

    def last_settled(self, ids: Iterable[str]) -> float | None:
        """Return the time at which the last of these jobs settled, Unix time; None without jobs."""
        return max((self.settled[job_id][1] for job_id in ids), default=None)

    def failed(self) -> set[str]:
        """Return the ids of intact images that ended `failed`: the server has lost them."""
        failed = {job_id for job_id, (state, _) in self.settled.items() if state == "failed"}
        return failed - self.truncated

    def states(self) -> Counter[str]:
        """Return the number of jobs by terminal state."""
        return Counter(state for state, _ in self.settled.values())


@dataclass(frozen=True)
class Verdict:
    """Outcome of the comparison of the checker with the ledger."""

    accepted: int
    settled: int
    states: dict[str, int]
    lost: int
    """Accepted images that did not settle, are unknown at the end, or ended `failed` although intact."""
    doubled: int
    """Images counted more than once or settled more than once."""
    duplicates: int
    """Repeated uploads that the server recognised by their idempotency key."""
    unfed: int
    """Settled jobs that the feed lacks."""
    refed: int
    """Entries of the feed beyond one for each settled job."""
    misfed: int
    """Sum over the states of the difference between the ledger's count and the feed's."""
    undelivered: int
    """Settled jobs that a webhook has not received."""
    disordered: int
    """Results that it received after one that is later in the feed."""
    balanced: bool
    """received = classified + failed + expired + cancelled + pending, in every row and in total."""

    @property
    def good(self) -> bool:
        """Whether nothing was lost or doubled, by jobs, feed and webhook, and the ledger balances."""
        fed = not (self.unfed or self.refed or self.misfed or self.undelivered or self.disordered)
        return self.balanced and fed and not (self.lost or self.doubled)


def judge(
    checker: Checker, ledger: Ledger, feed: Sequence[tuple[str, str]], received: Sequence[str]
) -> Verdict:
    """Compare the sender's record with the server's counts, its feed, and what a webhook received.

    Args:
        checker: the record.
        ledger: one that covers the whole soak.
        feed: id and state of each job in the whole feed.
        received: ids that the webhook received, in the order in which each first came.
    """
    counted = ledger.system
    if counted is None:
        raise ValueError("The ledger was asked with a key that is bound to cameras.")
    states = checker.states()
    doubled = len(checker.changed) + max(0, counted.received - len(checker.accepted))
    doubled += sum(max(0, getattr(counted, state) - states[state]) for state in TERMINAL)
    fed = Counter(job_id for job_id, _ in feed)
    fed_states = Counter(state for _, state in feed)
    settled = sum(getattr(counted, state) for state in TERMINAL)
    lost = checker.outstanding | checker.unknown | checker.failed()
    return Verdict(
        accepted=len(checker.accepted),
        settled=len(checker.settled),
        states=dict(states.most_common()),
        lost=len(lost) + max(0, len(checker.accepted) - counted.received),
        doubled=doubled,
        duplicates=counted.duplicates,
        unfed=max(len(checker.settled.keys() - fed.keys()), settled - len(fed)),
        refed=fed.total() - len(fed) + max(0, len(fed) - settled),
        misfed=sum(abs(getattr(counted, state) - fed_states[state]) for state in TERMINAL),
        undelivered=len(checker.settled.keys() - set(received)),
        disordered=_disordered(list(fed), received),
        balanced=ledger.balanced,
    )


def _disordered(feed: Sequence[str], received: Sequence[str]) -> int:
    places = {job_id: place for place, job_id in enumerate(feed)}
    found = [places[job_id] for job_id in received if job_id in places]
    latest = accumulate(found, max)
    return sum(place < last for place, last in zip(found, latest, strict=True))

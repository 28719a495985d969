"""Checker: the sender's own record of its images, compared with the ledger at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

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
    undelivered: dict[str, int]
    """By sink: settled jobs that it has not delivered."""
    disordered: dict[str, int]
    """By sink: results first delivered after one that is later in the feed."""
    stale: int
    """Cameras whose retained MQTT message is not that of their last result."""
    balanced: bool
    """received = classified + failed + expired + cancelled + pending, in every row and in total."""

    @property
    def good(self) -> bool:
        """Whether nothing was lost or doubled, by jobs, feed and sinks, and the ledger balances."""
        fed = not (self.unfed or self.refed or self.misfed)
        delivered = not any((*self.undelivered.values(), *self.disordered.values(), self.stale))
        return self.balanced and fed and delivered and not (self.lost or self.doubled)


class FeedEntry(NamedTuple):
    """A job in the feed; state and camera of its record, empty without one."""

    job_id: str
    state: str
    camera: str


def judge(
    checker: Checker,
    ledger: Ledger,
    feed: Sequence[FeedEntry],
    received: Mapping[str, Sequence[str]],
    retained: Mapping[str, str] | None = None,
) -> Verdict:
    """Compare the sender's record with the server's counts, its feed, and what sinks delivered.

    Args:
        checker: the record.
        ledger: one that covers the whole soak.
        feed: the whole feed.
        received: by sink, ids in the order in which each first came.
        retained: by camera, the id in its retained MQTT message; None without a broker.
    """
    counted = ledger.system
    if counted is None:
        raise ValueError("The ledger was asked with a key that is bound to cameras.")
    states = checker.states()
    doubled = len(checker.changed) + max(0, counted.received - len(checker.accepted))
    doubled += sum(max(0, getattr(counted, state) - states[state]) for state in TERMINAL)
    fed = Counter(entry.job_id for entry in feed)
    fed_states = Counter(entry.state for entry in feed)
    last = {entry.camera: entry.job_id for entry in feed}
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
        undelivered={sink: len(checker.settled.keys() - set(ids)) for sink, ids in received.items()},
        disordered={sink: _disordered(list(fed), ids) for sink, ids in received.items()},
        stale=0 if retained is None else sum(retained.get(camera) != last[camera] for camera in last),
        balanced=ledger.balanced,
    )


def _disordered(feed: Sequence[str], received: Sequence[str]) -> int:
    places = {job_id: place for place, job_id in enumerate(feed)}
    found = [places[job_id] for job_id in received if job_id in places]
    latest = accumulate(found, max)
    return sum(place < last for place, last in zip(found, latest, strict=True))

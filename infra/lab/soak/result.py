"""Result of a soak, as JSON and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.lab.soak.checker import Verdict


@dataclass(frozen=True)
class FaultResult:
    """One injected fault. Times in seconds; a promise of None promises nothing.

    Attributes:
        fault: its name.
        affected: number of jobs that it can have affected.
        recovery: until the last affected job settled; None if it did not.
        memory: resident bytes of each service after the fault.
        max_recovery: promised, of `recovery` and `delivery`.
        answer: of the slowest single upload meanwhile.
        max_answer: promised.
        delivery: until every sink had delivered the results of these jobs; None if one did not deliver all.
    """

    fault: str
    affected: int
    recovery: float | None
    memory: dict[str, int] = field(default_factory=dict)
    max_recovery: float | None = None
    answer: float = 0.0
    max_answer: float | None = None
    delivery: float | None = 0.0

    @property
    def late(self) -> bool:
        """Whether the stack recovered, but recovery, delivery or an upload took longer than promised."""
        if self.recovery is None or self.delivery is None:
            return False
        slowest = max(self.recovery, self.delivery)
        return _exceeds(slowest, self.max_recovery) or _exceeds(self.answer, self.max_answer)


@dataclass(frozen=True)
class SoakResult:
    """One soak.

    Attributes:
        seconds: duration of the workload.
        seed: of the soak.
        verdict: of the checker.
        rejected: images that the API rejected.
        faults: one after the other.
        archived: seconds from an hour's end until the archive had it; None if it did not get it.
    """

    seconds: float
    seed: int
    verdict: Verdict
    rejected: int
    faults: list[FaultResult]
    archived: float | None

    @property
    def good(self) -> bool:
        """Whether no image was lost, doubled or rejected, and the stack recovered from every fault."""
        recovered = all(None not in {fault.recovery, fault.delivery} for fault in self.faults)
        return self.verdict.good and not self.rejected and recovered and self.archived is not None

    @property
    def late(self) -> int:
        """Number of faults with a recovery, a delivery or an upload later than promised."""
        return sum(fault.late for fault in self.faults)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON's types."""
        return {
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            **asdict(self.verdict),
            "rejected": self.rejected,
            "archived": self.archived,
            "good": self.good,
            "late": self.late,
            "max_memory": self.max_memory(),
            "by_fault": [
                {
                    "fault": fault,
                    "count": count,
                    "median_recovery": median,
                    "longest_recovery": longest,
                    "longest_answer": answer,
                    "longest_delivery": delivery,
                }
                for fault, count, median, longest, answer, delivery in self.by_fault()
            ],
            "faults": [asdict(fault) for fault in self.faults],
        }

    def by_fault(self) -> Iterator[tuple[str, int, float | None, float | None, float, float | None]]:
        """Yield fault, count, median and longest recovery, longest answer and delivery; seconds.

        None: one is missing.
        """
        for name in sorted({fault.fault for fault in self.faults}):
            same = [fault for fault in self.faults if fault.fault == name]
            recoveries = [fault.recovery for fault in same if fault.recovery is not None]
            complete = len(recoveries) == len(same)
            yield (
                name,
                len(same),
                round(statistics.median(recoveries), 1) if complete else None,
                round(max(recoveries), 1) if complete else None,
                round(max(fault.answer for fault in same), 1),
                _longest([fault.delivery for fault in same]),
            )

    def max_memory(self) -> dict[str, int]:
        """Return the maximum resident bytes of each service by its name."""
        names = sorted({name for fault in self.faults for name in fault.memory})
        return {name: max(fault.memory.get(name, 0) for fault in self.faults) for name in names}

    def to_markdown(self) -> str:
        """Return the figures as two tables."""
        verdict = self.verdict
        rows = [
            ("minutes of workload", f"{self.seconds / 60:.1f}"),
            ("images accepted", f"{verdict.accepted:,}"),
            ("images settled", f"{verdict.settled:,}"),
            *((f"settled as {state}", f"{count:,}") for state, count in verdict.states.items()),
            ("repeated uploads recognised", f"{verdict.duplicates:,}"),
            ("faults injected", f"{len(self.faults):,}"),
            ("images lost", f"{verdict.lost:,}"),
            ("images doubled", f"{verdict.doubled:,}"),
            ("settled jobs missing in the feed", f"{verdict.unfed:,}"),
            ("entries too many in the feed", f"{verdict.refed:,}"),
            ("entries of the feed with another state than in the ledger", f"{verdict.misfed:,}"),
            *((f"{sink}: settled jobs missing", f"{count:,}") for sink, count in verdict.undelivered.items()),
            *((f"{sink}: results out of order", f"{count:,}") for sink, count in verdict.disordered.items()),
            ("cameras whose retained MQTT message is not their last", f"{verdict.stale:,}"),
            ("archive: seconds from the hour's end to its object", _seconds(self.archived)),
            ("images rejected", f"{self.rejected:,}"),
            ("faults with a late recovery, delivery or upload", f"{self.late:,}"),
            ("ledger balanced", "yes" if verdict.balanced else "NO"),
            *(
                (f"{name}: maximum memory, MB", f"{most / 1e6:.0f}")
                for name, most in self.max_memory().items()
            ),
        ]
        faults = [(fault, str(count), *map(_seconds, figures)) for fault, count, *figures in self.by_fault()]
        return "\n".join(
            [
                "| | |",
                "|---|---|",
                *(f"| {name} | {value} |" for name, value in rows),
                "",
                "| fault | times | recovery, median s | longest s | longest upload s | longest delivery s |",
                "|---|---|---|---|---|---|",
                *(f"| {' | '.join(row)} |" for row in faults),
                "",
            ]
        )


def _longest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(max(known), 1) if len(known) == len(values) else None


def _exceeds(seconds: float, limit: float | None) -> bool:
    return limit is not None and seconds > limit


def _seconds(value: float | None) -> str:
    return "not recovered" if value is None else f"{value:.1f}"

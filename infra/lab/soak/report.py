"""What came of a soak, as JSON, as Markdown and as a sentence."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.lab.soak.checker import Verdict


@dataclass(frozen=True)
class Disturbance:
    """One disturbance. `recovery`: seconds until the last affected job settled, None if it did not.

    `memory`: resident bytes of each service when it was over. `answer`: the most seconds that a single upload
    took meanwhile until it was answered. `promised`, `promised_answer`: the most seconds of recovery and
    answer, None where nothing is promised.
    """

    kind: str
    affected: int
    recovery: float | None
    memory: dict[str, int] = field(default_factory=dict)
    promised: float | None = None
    answer: float = 0.0
    promised_answer: float | None = None

    @property
    def late(self) -> bool:
        """Whether it was recovered from, but it or the uploads meanwhile took longer than promised."""
        if self.recovery is None:
            return False
        return _exceeds(self.recovery, self.promised) or _exceeds(self.answer, self.promised_answer)


@dataclass(frozen=True)
class Report:
    """One soak. `seconds`: how long there was load; `refused`: images that the API refused."""

    seconds: float
    seed: int
    verdict: Verdict
    refused: int
    disturbances: list[Disturbance]

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or refused, and every disturbance was recovered from."""
        return (
            self.verdict.good
            and not self.refused
            and all(one.recovery is not None for one in self.disturbances)
        )

    @property
    def late(self) -> int:
        """How many disturbances were recovered from, or uploads answered meanwhile, later than promised."""
        return sum(one.late for one in self.disturbances)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            **asdict(self.verdict),
            "refused": self.refused,
            "good": self.good,
            "late": self.late,
            "most_memory": self.most_memory(),
            "kinds": [
                {
                    "kind": kind,
                    "count": count,
                    "recovery_median": median,
                    "recovery_longest": longest,
                    "answer_longest": answer,
                }
                for kind, count, median, longest, answer in self.by_kind()
            ],
            "disturbances": [asdict(one) for one in self.disturbances],
        }

    def by_kind(self) -> Iterator[tuple[str, int, float | None, float | None, float]]:
        """Yield kind, count, median and longest recovery (None: one is missing), longest answer; seconds."""
        for kind in sorted({one.kind for one in self.disturbances}):
            found = [one for one in self.disturbances if one.kind == kind]
            known = [one.recovery for one in found if one.recovery is not None]
            whole = len(known) == len(found)
            yield (
                kind,
                len(found),
                round(statistics.median(known), 1) if whole else None,
                round(max(known), 1) if whole else None,
                round(max(one.answer for one in found), 1),
            )

    def most_memory(self) -> dict[str, int]:
        """Return the most resident bytes that each service had, by its name."""
        names = sorted({name for one in self.disturbances for name in one.memory})
        return {name: max(one.memory.get(name, 0) for one in self.disturbances) for name in names}

    def to_markdown(self) -> str:
        """Return the figures as two tables."""
        verdict = self.verdict
        rows = [
            ("minutes under load", f"{self.seconds / 60:.1f}"),
            ("images accepted", f"{verdict.accepted:,}"),
            ("images answered", f"{verdict.answered:,}"),
            *((f"of these {state}", f"{count:,}") for state, count in verdict.states.items()),
            ("uploads repeated and recognised", f"{verdict.duplicates:,}"),
            ("disturbances", f"{len(self.disturbances):,}"),
            ("images lost", f"{verdict.lost:,}"),
            ("images doubled", f"{verdict.doubled:,}"),
            ("images refused", f"{self.refused:,}"),
            ("disturbances recovered from, or uploads answered, too late", f"{self.late:,}"),
            ("ledger balanced", "yes" if verdict.balanced else "NO"),
            *((f"{name}: most memory, MB", f"{most / 1e6:.0f}") for name, most in self.most_memory().items()),
        ]
        kinds = [
            (kind, str(count), _seconds(median), _seconds(longest), _seconds(answer))
            for kind, count, median, longest, answer in self.by_kind()
        ]
        return "\n".join(
            [
                "| | |",
                "|---|---|",
                *(f"| {name} | {value} |" for name, value in rows),
                "",
                "| disturbance | times | recovery, median s | longest s | longest upload s |",
                "|---|---|---|---|---|",
                *(f"| {' | '.join(row)} |" for row in kinds),
                "",
            ]
        )


def _exceeds(seconds: float, promised: float | None) -> bool:
    return promised is not None and seconds > promised


def _seconds(value: float | None) -> str:
    return "not recovered" if value is None else f"{value:.1f}"

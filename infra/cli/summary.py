"""Results for a person: a table and a summary line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from infra.cli.results import CLASSIFIED, Result

ENOUGH_FOR_A_RATE: Final = 16
"""Minimum number of images for a meaningful rate."""


def visible(text: str) -> str:
    """Return `text` with control and invisible characters written as Python escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def table(results: Sequence[Result]) -> Table:
    """Return the results as a table, in the order of the command line."""
    rows = Table(box=None, header_style="bold", pad_edge=False)
    rows.add_column("file", overflow="fold")
    rows.add_column("label")
    rows.add_column("probability", justify="right")
    rows.add_column("review")
    rows.add_column("ms, accepted to settled", justify="right")
    for result in sorted(results, key=lambda result: result.position):
        rows.add_row(*_cells(result))
    return rows


def _cells(result: Result) -> tuple[Text, ...]:
    milliseconds = "" if result.milliseconds is None else f"{result.milliseconds:,.0f}"
    if result.state != CLASSIFIED:
        reason = f"{result.state or 'not sent'}: {result.error or 'no reason given'}"
        return (
            Text(visible(result.file)),
            Text(visible(reason), style="red"),
            Text(),
            Text(),
            Text(milliseconds),
        )
    return (
        Text(visible(result.file)),
        Text(visible(result.label or ""), style="green" if result.label == "biodegradable" else "blue"),
        Text(f"{result.probability:.4f}"),
        Text("needs a look", style="yellow") if result.review else Text(),
        Text(milliseconds),
    )


class Summary:
    """Counts results as they arrive."""

    def __init__(self) -> None:
        self.states: Counter[str | None] = Counter()
        self.labels: Counter[str | None] = Counter()
        self.review = 0

    def add(self, result: Result) -> None:
        """Count one result."""
        self.states[result.state] += 1
        if result.state == CLASSIFIED:
            self.labels[result.label] += 1
            self.review += bool(result.review)

    @property
    def total(self) -> int:
        """Results counted."""
        return self.states.total()

    @property
    def complete(self) -> bool:
        """Whether every result is a classified image."""
        return self.states[CLASSIFIED] == self.total

    def line(self, seconds: float) -> str:
        """Return the counts and the rate in one line.

        Args:
            seconds: from the first upload to the last result.
        """
        classified = self.states[CLASSIFIED]
        text = f"{_images(self.total)}: {classified:,} classified"
        if classified:
            labels = ", ".join(
                f"{number:,} {label}" for label, number in sorted(self.labels.items(), key=str)
            )
            text += f" ({labels}; {self.review:,} to review)"
        for state, number in self.states.items():
            if state != CLASSIFIED:
                text += f", {number:,} {state or 'not sent'}"
        rate = f" ({self.total / seconds:,.0f} a second)" if self.total >= ENOUGH_FOR_A_RATE else ""
        return f"{text}, in {seconds:.1f} s{rate}."


def _images(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"

"""Summary that `classify` prints at the end."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from infra.cli.collect import Source
from infra.cli.results import Result, failed, settled, unfinished
from infra.cli.summary import Summary, table, visible
from wastestream import Job, Prediction

SOURCE = Source(0, "a.jpg", Path("a.jpg"), 0, 1)

_TIME = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)

JOB = Job(
    id="01JZ0000000000000000000000",
    state="classified",
    camera="default",
    captured_at=None,
    accepted_at=_TIME,
    expires_at=None,
    settled_at=_TIME + timedelta(milliseconds=42),
    prediction=Prediction("biodegradable", 0.9312, review=True, model="1.0+0123456789ab"),
    error=None,
)


def shown(*results: Result) -> str:
    """Return the table's text."""
    stream = io.StringIO()
    Console(file=stream, width=160).print(table(results))
    return stream.getvalue()


def test_a_row_shows_the_prediction_and_the_servers_time() -> None:
    """A classified image's row has its label, probability, review and the milliseconds to settle."""
    row = shown(settled(SOURCE, JOB)).splitlines()[1].split()
    assert row == ["a.jpg", "biodegradable", "0.9312", "needs", "a", "look", "42"]


def test_the_header_says_what_the_milliseconds_are() -> None:
    """Nobody has to guess which clock was read."""
    assert "ms, accepted to settled" in shown()


def test_a_failure_shows_its_sentence() -> None:
    """A failed image's row says why."""
    assert "failed: The image is damaged." in shown(failed(SOURCE, "The image is damaged."))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("B\u00e4nd 1/\u540d.jpg", "B\u00e4nd 1/\u540d.jpg"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\x07\x9b", r"a\nb\x07\x9b"),
        ("\u202egpj", r"\u202egpj"),
    ],
)
def test_a_terminal_obeys_no_text(text: str, shown: str) -> None:
    """Escapes, line ends and turns of direction are written out; letters of any script stay."""
    assert visible(text) == shown


def test_a_row_shows_names_and_sentences_as_text() -> None:
    """Neither a file's name nor a server's sentence can act on the terminal."""
    row = shown(failed(Source(0, "a\x1b[2J.jpg", Path("a"), 0, 1), "no\x1b[2J"))
    assert r"a\x1b[2J.jpg" in row
    assert r"no\x1b[2J" in row
    assert "\x1b" not in row


def test_rows_stand_in_the_order_of_the_command_line() -> None:
    """However they settled."""
    later = Source(1, "b.jpg", Path("b.jpg"), 0, 1)
    text = shown(settled(later, JOB), settled(SOURCE, JOB))
    assert text.index("a.jpg") < text.index("b.jpg")


def test_names_with_brackets_are_shown_as_they_are() -> None:
    """A file called [red] does not colour the table."""
    assert "[red].jpg" in shown(failed(Source(0, "[red].jpg", Path("x"), 0, 1), "No."))


def test_json_has_the_promised_fields() -> None:
    """One object with exactly these fields, null where there is nothing to say."""
    fields = ["file", "job", "state", "label", "probability", "review", "model", "error"]
    for result in (settled(SOURCE, JOB), failed(SOURCE, "No."), unfinished(SOURCE, None, "No.")):
        assert list(json.loads(json.dumps(result.to_json()))) == fields


def test_the_summary_counts() -> None:
    """Labels, reviews, failures and unsent images are each counted."""
    summary = Summary()
    for result in (settled(SOURCE, JOB), failed(SOURCE, "No."), unfinished(SOURCE, None, "Gone.")):
        summary.add(result)
    assert not summary.complete
    assert summary.line(2.0) == (
        "3 images: 1 classified (1 biodegradable; 1 to review), 1 failed, 1 not sent, in 2.0 s."
    )


def test_only_classified_is_complete() -> None:
    """Exit code 0 stands for this."""
    summary = Summary()
    summary.add(settled(SOURCE, JOB))
    assert summary.complete

"""Progress is shown to a person at a terminal and written to a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from trainer.progress import Reporter


def reporter(*, terminal: bool) -> tuple[Reporter, io.StringIO]:
    """A reporter and its output."""
    stream = io.StringIO()
    return Reporter(Console(file=stream, force_terminal=terminal, width=120)), stream


def test_a_terminal_shows_a_bar_with_the_time_left() -> None:
    """The bar has its title, its count, the time left and the note."""
    shown, stream = reporter(terminal=True)
    with shown.bar("decode", 4) as update:
        update(3, "soon")
    for part in ("decode", "3/4", "left:", "soon"):
        assert part in stream.getvalue()


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two minutes a line says how far it is and how long it still takes."""
    clock = iter([0.0, 60.0, 180.0, 190.0])
    monkeypatch.setattr("trainer.progress.time.monotonic", lambda: next(clock))
    shown, stream = reporter(terminal=False)
    with shown.bar("fine-tune", 12) as update:
        for _ in range(3):
            update(1, "epoch 1/5")
    assert stream.getvalue() == "fine-tune: 17%, 15 min left epoch 1/5\n"


def test_lines_are_printed_as_they_are() -> None:
    """A file name in brackets is no markup."""
    shown, stream = reporter(terminal=False)
    shown.line("TRAIN/O/[bold]x.jpg: cut off")
    assert stream.getvalue() == "TRAIN/O/[bold]x.jpg: cut off\n"

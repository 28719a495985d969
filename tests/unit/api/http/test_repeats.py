"""api.http.repeats: what clients can repeat is logged once a second, with a count."""

from __future__ import annotations

import logging

import pytest

from api.http.repeats import Repeats


def test_a_warning_is_logged_at_once_and_then_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when there are too many different ones to be told apart."""
    now = [100.0]
    monkeypatch.setattr("api.http.repeats.time.monotonic", lambda: now[0])
    repeats = Repeats(logging.getLogger("test"))
    for _ in range(3):
        repeats.warn("again", " and again")
    assert caplog.messages == ["again and again"]
    now[0] += 1
    repeats.flush()
    assert caplog.messages == ["again and again", "again (2 times more)"]
    caplog.clear()
    for number in range(1000):
        repeats.warn(f"number {number}")
    assert len(caplog.messages) < 110
    now[0] += 1
    repeats.flush()
    assert caplog.messages[-1] == "(others) (899 times more)"

"""`wastestream status` of a stack that asks for API keys."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from infra.local import status
from tests.support.servers import REPOSITORY, wait_until
from tests.support.stack import Stack


def _status(stack: Stack, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "status", "--data-dir", str(stack.folder)],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        timeout=60,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_figures_are_shown_to_a_key_that_may_read(locked_stack: Stack) -> None:
    """Without one, what is ready, and how to see the rest."""
    hint = "shown to an API key with the scope read"
    wait_until(lambda: hint in _status(locked_stack), "the stack's first key to be known", 10)
    without = _status(locked_stack)
    assert "storage: ok" in without
    assert "jobs in progress" not in without
    told = _status(locked_stack, WASTESTREAM_API_KEY=locked_stack.make_key("watcher", "read"))
    assert "workers that report: 1, jobs in progress: 0" in told
    assert re.search(r"model: \S+ \((float|int8)\), workers: 1", told)
    assert "ledger: balanced" in told


@pytest.mark.parametrize(
    ("health", "says"),
    [
        ({}, "0 processes ready · the API does not answer · "),
        ({"status": "ready"}, "0 processes ready · 0 MB"),
        ({"status": "ready", "pending": 1200}, "0 processes ready · 1,200 jobs in progress · "),
    ],
)
def test_the_live_line_tells_what_it_knows(
    monkeypatch: pytest.MonkeyPatch, health: dict[str, object], says: str
) -> None:
    """An API that keeps its figures to itself does answer."""
    monkeypatch.setattr(status, "read_health", lambda *_: (200, health))
    assert status.live_line("127.0.0.1", 1, []).startswith(says)

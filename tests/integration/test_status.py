"""`wastestream status` of a stack that asks for API keys."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from infra.lab.stack import Stack
from infra.local import status
from tests.support.servers import REPOSITORY, wait_until


def _status(stack: Stack, *options: str, ready: bool | None = True, **environment: str) -> str:
    done = subprocess.run(
        stack.command("status", *options),
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert ready is None or done.returncode == (0 if ready else 1), done.stdout + done.stderr
    return done.stdout


def test_figures_are_shown_to_a_key_that_may_read(locked_stack: Stack) -> None:
    """Without a key: readiness, and how to see the rest."""
    hint = "to a key with the scope read"
    wait_until(lambda: hint in _status(locked_stack), "the stack's first key to be known", 10)
    without = _status(locked_stack)
    assert "storage: ok" in without
    assert "jobs in progress" not in without
    told = _status(locked_stack, WASTESTREAM_API_KEY=locked_stack.make_key("watcher", "read"))
    assert "workers that report: 1, jobs in progress: 0" in told
    assert re.search(r"model: \S+ \((float|int8)\), workers: 1", told)
    assert "ledger: balanced" in told


def test_a_paused_lane_is_shown(locked_stack: Stack) -> None:
    """To everyone; with a key also since when, and how to go on."""
    key = locked_stack.make_key("dispatcher", "read")
    subprocess.run(locked_stack.command("pause", "bulk"), check=True, cwd=REPOSITORY, timeout=60)
    wait_until(lambda: "paused: bulk" in _status(locked_stack), "the pause to be shown")

    def told() -> str:
        return " ".join(_status(locked_stack, WASTESTREAM_API_KEY=key).split())

    # Each API process looks once a second.
    wait_until(lambda: "warning, paused: Workers take no bulk jobs: paused since 20" in told(), "the reason")
    subprocess.run(locked_stack.command("resume", "bulk"), check=True, cwd=REPOSITORY, timeout=60)
    wait_until(lambda: "paused" not in _status(locked_stack), "the lane to be resumed")


@pytest.mark.parametrize(
    ("health", "says"),
    [
        ({}, "0 processes ready · the API does not answer · "),
        ({"status": "ready"}, "0 processes ready · 0 MB"),
        (
            {"status": "not ready", "checks": {"installation": "Lost."}},
            "0 processes ready · CLOSED, data were",
        ),
        ({"status": "ready", "pending": 1200}, "0 processes ready · 1,200 jobs in progress · "),
        ({"status": "ready", "paused": []}, "0 processes ready · 0 MB"),
        ({"status": "ready", "paused": ["bulk"]}, "0 processes ready · bulk jobs PAUSED · "),
    ],
)
def test_the_live_line_tells_what_it_knows(
    monkeypatch: pytest.MonkeyPatch, health: dict[str, object], says: str
) -> None:
    """An API that keeps its figures to itself does answer."""
    monkeypatch.setattr(status, "read_health", lambda *_: (200, health))
    assert status.live_line("127.0.0.1", 1, []).startswith(says)


def test_a_storage_that_hangs_is_named(locked_stack: Stack) -> None:
    """`status` waits until the API has found out, and says why."""
    key = locked_stack.make_key("night", "read")
    locked_stack.signal("s3", signal.SIGSTOP)
    words = "storage: Storage does not answer"
    try:
        wait_until(lambda: words in _status(locked_stack, ready=None, WASTESTREAM_API_KEY=key), words)
        _status(locked_stack, ready=False)
    finally:
        locked_stack.signal("s3", signal.SIGCONT)
    wait_until(locked_stack.is_ready, "the stack to be ready")

"""worker.pulse: an event loop that stands still ends the worker."""

from __future__ import annotations

import threading

from worker.pulse import Pulse


def test_a_loop_that_stands_still_ends_the_worker() -> None:
    """Once nothing beats for as many seconds as it may."""
    ended = threading.Event()
    Pulse(ended.set, most=2).start()
    assert ended.wait(30)


def test_a_loop_that_turns_does_not() -> None:
    """Nor one that rests because the worker stops."""
    ended = threading.Event()
    watched = Pulse(ended.set, most=2)
    watched.start()
    for _ in range(40):
        watched.beat()
        assert not ended.wait(0.1)
    watched.stop()
    assert not ended.wait(3)

"""When the client gives up."""

from __future__ import annotations

from wastestream.retry import Attempt, Retry, StallClock


class Clock:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time, seconds."""
        return self.now


def test_pauses_grow_to_a_bound() -> None:
    """Each pause is about twice the one before, up to about 8 seconds."""
    attempt = Attempt(Retry(1000), clock=Clock())
    pauses = [attempt.pause() for _ in range(12)]
    assert pauses[0] is not None
    assert pauses[0] < 0.5
    assert all(pause is not None and 6 <= pause <= 10 for pause in pauses[6:])


def test_retries_end_without_progress() -> None:
    """After its seconds without progress an attempt is told to give up, and never sleeps past that."""
    clock = Clock()
    attempt = Attempt(Retry(120), clock=clock)
    clock.now = 119
    pause = attempt.pause()
    assert pause is not None
    assert pause <= 1
    clock.now = 120
    assert attempt.pause() is None


def test_progress_elsewhere_extends_the_retries() -> None:
    """While other images settle, a call that fails is tried on."""
    clock = Clock()
    stall = StallClock(clock)
    attempt = Attempt(Retry(120), stall, clock)
    clock.now = 119
    stall.restart()
    clock.now = 200
    assert attempt.pause() is not None


def test_a_late_call_has_its_own_time() -> None:
    """A call that begins after a long quiet time is not given up at its first failure."""
    clock = Clock()
    stall = StallClock(clock)
    clock.now = 500
    assert Attempt(Retry(120), stall, clock).pause() is not None


def test_the_servers_wish_counts() -> None:
    """A Retry-After that is longer than our pause is kept to, and not by all clients to the same moment."""
    pauses = [Attempt(Retry(120), clock=Clock()).pause(30) or 0 for _ in range(20)]
    assert min(pauses) >= 30
    assert len(set(pauses)) > 1


def test_the_servers_wish_is_never_cut_short() -> None:
    """Not even when retry ends before: the last try comes when the server said."""
    clock = Clock()
    attempt = Attempt(Retry(120), clock=clock)
    clock.now = 119
    assert (attempt.pause(30) or 0) >= 30


def test_a_busy_server_gets_more_time() -> None:
    """A full queue becomes shorter; a server that is down may never return."""
    clock = Clock()
    attempt = Attempt(Retry(120), clock=clock)
    clock.now = 500
    assert attempt.pause(5, busy=True) is not None
    assert attempt.pause(5) is None
    clock.now = 901
    assert attempt.pause(5, busy=True) is None


def test_a_wish_beyond_the_limit_ends_the_retries() -> None:
    """Nobody waits for an hour where two minutes were allowed."""
    attempt = Attempt(Retry(120), clock=Clock())
    assert attempt.pause(121) is None
    assert attempt.pause(121, busy=True) is not None

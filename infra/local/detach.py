"""Running in the background, once it is known that it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


def detach(log: Callable[[], Path]) -> Callable[[], None] | None:
    """Split this process in two.

    The one left in the background gets a function, to call when it is ready: from then on it prints to the
    file that `log()` names. The other passes on what is printed until then; it gets None if all is well, and
    ends with exit code 1 if the background process ends before it is ready. Told to stop while it waits
    (Ctrl-C reaches only this one), it tells the background process, and ends with exit code 130 when that
    has ended.
    """
    printed, printing = os.pipe()
    readiness, ready = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    background = os.fork()
    if background:
        os.close(printing)
        os.close(ready)
        told = _pass_signals_to(background)
        _pass_on(printed)
        is_ready = bool(os.read(readiness, 1))
        if told:
            os.waitpid(background, 0)
            sys.exit(INTERRUPTED)
        if not is_ready:
            sys.exit(1)
        return None
    os.setsid()
    os.close(printed)
    os.close(readiness)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(printing, 1)
    os.dup2(printing, 2)
    os.close(printing)

    def tell() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        file = os.open(log(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(ready, b"1")
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    return tell


def _pass_signals_to(pid: int) -> list[int]:
    """Pass requests to stop on to the process; return the list that they are noted in."""
    told: list[int] = []

    def stop(number: int, _frame: object) -> None:
        told.append(number)
        with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
            os.kill(pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return told


def _pass_on(descriptor: int) -> None:
    while data := os.read(descriptor, 4096):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    os.close(descriptor)

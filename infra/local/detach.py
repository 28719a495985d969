"""Detaching into the background when the start has succeeded."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

INTERRUPTED: Final = 130  # 128 + SIGINT, the shells' convention


def detach(log: Callable[[], Path]) -> Callable[[], None] | None:
    """Fork into a foreground and a background process.

    The background process gets a function to call when it is ready; from then on its output goes to the file
    `log()`. Until then the foreground process prints that output. It gets None when the background process
    is ready, and exits with code 1 if that ends earlier. Ctrl-C reaches only the foreground process: it stops
    the background process, waits for its end, and exits with code 130.
    """
    printed, printing = os.pipe()
    readiness, ready = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    background = os.fork()
    if background:
        os.close(printing)
        os.close(ready)
        stops = _pass_signals_to(background)
        _pass_on(printed)
        is_ready = bool(os.read(readiness, 1))
        if stops:
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

    def announce_ready() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        file = os.open(log(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(ready, b"1")
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    return announce_ready


def _pass_signals_to(pid: int) -> list[int]:
    """Forward stop signals to the process; return the list of received signals, which grows."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError):  # It has just ended.
            os.kill(pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return received


def _pass_on(descriptor: int) -> None:
    while data := os.read(descriptor, 4096):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    os.close(descriptor)

"""Records on their way to the gateway: those of a live stream do not wait for ever."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import replace
from typing import BinaryIO, Final

from wastestream.gateway.capture.records import Kind, Record, write

_MAX_FRAMES: Final = 16
"""Frames that wait; a live stream drops the oldest beyond, a file is read no further."""


class Outbox:
    """Writes records in a thread. When nobody reads any longer, it ends the process.

    Args:
        stream: where they go.
        drop: whether to drop frames rather than wait.
    """

    def __init__(self, stream: BinaryIO, *, drop: bool) -> None:
        self._stream = stream
        self._drop = drop
        self._records: deque[Record] = deque()
        self._frames = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Send a record."""
        with self._changed:
            if record.kind is Kind.FRAME:
                if self._frames >= _MAX_FRAMES and self._drop:
                    self._drop_oldest()
                while self._frames >= _MAX_FRAMES:
                    self._changed.wait()
                self._frames += 1
            self._records.append(record)
            self._changed.notify_all()

    def close(self) -> None:
        """Return when everything is sent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _drop_oldest(self) -> None:
        for place, record in enumerate(self._records):
            if record.kind is Kind.FRAME:
                self._records[place] = replace(record, kind=Kind.DROPPED, data=b"")
                self._frames -= 1
                return

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._records:
                    if self._closed:
                        return
                    self._changed.wait()
                record = self._records.popleft()
                if record.kind is Kind.FRAME:
                    self._frames -= 1
                self._changed.notify_all()
            try:
                write(self._stream, record)
            except OSError:  # The gateway has ended.
                os._exit(0)

"""Records from a capture process to the gateway: a line of JSON, then as many bytes as it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import IO, BinaryIO, Final

MAX_RECORD: Final = 256 * 1_048_576
"""Bytes of the largest record that is read; a larger one is garbage."""


class Kind(Enum):
    """Kind of a record.

    Attributes:
        OPENED: the stream is open, or has changed; `detail` says what it is.
        FRAME: a sampled frame, with its bytes.
        SKIPPED: a sampled frame that nearly equals the one before.
        DROPPED: a sampled frame that the gateway did not take in time.
        ALIVE: frames come, whether sampled or not.
        ENDED: the file is at its end.
        FAILED: the stream cannot be read; `detail` says why.
    """

    OPENED = "opened"
    FRAME = "frame"
    SKIPPED = "skipped"
    DROPPED = "dropped"
    ALIVE = "alive"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        kind: its kind.
        captured_at: of a frame, seconds since 1970.
        number: of a frame, its place in the stream.
        triggered: whether a trigger asked for the frame.
        detail: a sentence.
        data: the frame's bytes.
    """

    kind: Kind
    captured_at: float = 0.0
    number: int = 0
    triggered: bool = False
    detail: str = ""
    data: bytes = b""


def write(stream: BinaryIO, record: Record) -> None:
    """Write a record.

    Raises:
        OSError: nobody reads any longer.
    """
    header = [
        record.kind.value,
        record.captured_at,
        record.number,
        record.triggered,
        record.detail,
        len(record.data),
    ]
    stream.write(json.dumps(header).encode() + b"\n")
    stream.write(record.data)
    stream.flush()


def read(stream: IO[bytes]) -> Iterator[Record]:
    """Yield records until the stream ends, or breaks off within one."""
    while line := stream.readline():
        kind, captured_at, number, triggered, detail, size = json.loads(line)
        data = stream.read(size)
        if len(data) < size:
            return
        yield Record(Kind(kind), captured_at, number, triggered, detail, data)

"""A process that fills and empties a spool, and tells what was safe and what was settled; tests kill it."""

from __future__ import annotations

import sys
import uuid
from itertools import count
from pathlib import Path

from wastestream.gateway.clock import stamp
from wastestream.gateway.counts import Fate
from wastestream.gateway.frames import Frame
from wastestream.gateway.spool import Limits, Spool

SIZE = 3000


def main() -> None:
    """Write until killed: three frames, then settle one, and so on. Each line is written after the fact."""
    spool = Spool(Path(sys.argv[1]), Limits(10**9, 86_400))
    for number in count():
        frames = [Frame(uuid.uuid4().hex, f"belt-{number % 2}", stamp(), bytes(SIZE)) for _ in range(3)]
        spool.add(frames)
        if spool.trouble:
            return
        _tell("safe", frames)
        taken = spool.take_live(1, 10**6)
        spool.settle({frame.id: Fate.ACCEPTED for frame in taken}, taken)
        if spool.trouble:
            return
        _tell("accepted", taken)
        if number % 8 == 0:
            spool.tidy()


def _tell(word: str, frames: list[Frame]) -> None:
    sys.stdout.write("".join(f"{word} {frame.id}\n" for frame in frames))
    sys.stdout.flush()


if __name__ == "__main__":
    main()

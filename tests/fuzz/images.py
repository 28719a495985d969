"""Decode many hostile images: `python -m tests.fuzz.images --cases 200000`, in the test environment.

Each case must become an array or one of our errors, in bounded time and memory. The exit code is 1 if one
does not; its number makes it again: `tests.support.mutations.case(NUMBER, SEED)`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from core.errors import ImageError
from core.image_header import read_header
from core.images import SIDE, decode
from tests.support.mutations import case

SLOWEST: Final = 20.0
"""CPU seconds within which every case must be decoded; a batch has 60 of the clock's."""

_STRETCH: Final = 1_000  # cases that one process decodes; one that dies takes no others' figures with it


@dataclass
class Counts:
    """Outcomes of a stretch of cases. `outcomes`: "array", or an error's name."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_case: int = 0

    def add(self, other: Counts) -> None:
        """Take another stretch in."""
        self.outcomes += other.outcomes
        self.wrong += other.wrong
        if other.slowest > self.slowest:
            self.slowest, self.slowest_case = other.slowest, other.slowest_case


def decode_all(numbers: range, seed: int) -> Counts:
    """Decode the cases with these numbers."""
    warnings.simplefilter("ignore")  # Pillow's, about metadata that it skips.
    counts = Counts()
    for number in numbers:
        data = case(number, seed)
        began = time.process_time()
        try:
            outcome = outcome_of(data)
        except Exception as error:  # noqa: BLE001 - finding these is what this is for
            outcome = "wrong"
            counts.wrong.append(f"case {number}: {type(error).__name__}: {error}")
        seconds = time.process_time() - began
        if seconds > SLOWEST:
            counts.wrong.append(f"case {number}: took {seconds:.1f} s of CPU time")
        counts.outcomes[outcome] += 1
        if seconds > counts.slowest:
            counts.slowest, counts.slowest_case = seconds, number
    return counts


def outcome_of(data: bytes) -> str:
    """Return "array" or the name of our error; raise every other error."""
    try:
        pixels = decode(data)
    except ImageError as error:
        return type(error).__name__
    if pixels.shape != (SIDE, SIDE, 3) or pixels.dtype != np.uint8:
        raise AssertionError(f"an array of {pixels.dtype} {pixels.shape}")
    read_header(data)  # What the worker decodes, the API must have let in.
    return "array"


def _stretches(cases: int, seed: int, mebibytes: int) -> Iterator[tuple[range, Counts]]:
    """Decode each stretch in a process of its own, under the memory ceiling."""
    for start in range(0, cases, _STRETCH):
        numbers = range(start, min(start + _STRETCH, cases))
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_in_process, args=(numbers, seed, mebibytes, sender)
        )
        process.start()
        sender.close()
        try:
            counts = receiver.recv()
        except EOFError:
            counts = Counts(wrong=[f"cases {numbers.start} to {numbers.stop - 1}: the process died"])
        process.join()
        yield numbers, counts


def _in_process(numbers: range, seed: int, mebibytes: int, sender: object) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (mebibytes << 20, mebibytes << 20))
    sender.send(decode_all(numbers, seed))  # type: ignore[attr-defined]


def main() -> int:
    """Decode, print the figures, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=2048, help="ceiling, MiB")
    arguments = parser.parse_args()
    total = Counts()
    began = time.monotonic()
    for numbers, counts in _stretches(arguments.cases, arguments.seed, arguments.memory):
        total.add(counts)
        for line in counts.wrong:
            sys.stdout.write(f"{line}\n")
        if numbers.stop % (10 * _STRETCH) == 0:
            sys.stdout.write(f"{numbers.stop:,} cases, {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"{total.outcomes.total():,} cases, seed {arguments.seed}: {dict(total.outcomes.most_common())}; "
        f"{len(total.wrong)} wrong; slowest {total.slowest:.2f} CPU s (case {total.slowest_case}); "
        f"peak memory {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB; "
        f"{time.monotonic() - began:.0f} s.\n"
    )
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

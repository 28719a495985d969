"""Ids of jobs and shards: ULIDs, which begin with the time at which they were made."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Digits of Crockford's base 32, in which ULIDs are written."""

_TO_PYTHON: Final = str.maketrans(_ALPHABET[10:], "abcdefghijklmnopqrstuv")
"""Translation to the digits of `int` in base 32."""

_DIGITS: Final = bytes(ord(_ALPHABET[byte % 32]) for byte in range(256))
"""A digit for each byte. Of random bytes, which have 8 bits, it takes 5."""

_TIME_SHIFTS: Final = tuple(range(45, -1, -5))
"""By how many bits milliseconds are shifted for each digit of the time, the highest first."""

_FROM_HEX: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUV", _ALPHABET[10:])
"""Translation from the digits of `base64.b32hexencode`."""

PACKED_BYTES: Final = 16
"""Bytes of an id that is not written as text."""

_GROUPED_BYTES: Final = 20
_GROUPED_DIGITS: Final = 32
_ID_DIGITS: Final = 26

TIME_DIGITS: Final = 10
"""Digits of the time, at the beginning of an id."""

_RANDOM_DIGITS: Final = 16  # the rest of an id: 80 bits

ID_PATTERN: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
"""An id: 128 bits in 26 digits."""


def new_job_id() -> str:
    """Return a new id. Ids sort by the time they were made, to the millisecond."""
    # Not python-ulid's `ULID()`, which counts up within a millisecond: one id would tell the next.
    return _time_digits(time.time_ns() // 1_000_000) + os.urandom(_RANDOM_DIGITS).translate(_DIGITS).decode()


def is_job_id(text: str) -> bool:
    """Return whether `text` could be a job's id."""
    return ID_PATTERN.fullmatch(text) is not None


def accepted_ms(job_id: str) -> int:
    """Return when the job with this id was made, milliseconds since 1970."""
    # python-ulid takes 17 us for this, and every image needs it several times.
    return int(job_id[:TIME_DIGITS].translate(_TO_PYTHON), 32)


def derived_ids(seed: str, count: int) -> list[str]:
    """Return ids with the time of `seed`, also an id, and digits of a hash of it.

    None of them tells another.
    """
    # One hash as long as all ids together: sixteen take as long as one python-ulid.
    length = count * _RANDOM_DIGITS
    digits = hashlib.shake_128(seed.encode()).digest(length).translate(_DIGITS).decode()
    moment = seed[:TIME_DIGITS]
    return [moment + digits[at : at + _RANDOM_DIGITS] for at in range(0, length, _RANDOM_DIGITS)]


def _time_digits(milliseconds: int) -> str:
    return "".join([_ALPHABET[milliseconds >> shift & 31] for shift in _TIME_SHIFTS])


def packed_id(job_id: str) -> bytes:
    """Return an id as its 16 bytes."""
    return int(job_id.translate(_TO_PYTHON), 32).to_bytes(PACKED_BYTES)


def unpacked_ids(data: bytes) -> list[str]:
    """Return the ids in the joined bytes `data`.

    Raises:
        ValueError: it is not a whole number of ids.
    """
    if len(data) % PACKED_BYTES:
        raise ValueError(f"{len(data)} bytes are no whole number of ids")
    # Base 32 groups 5 bytes, so each id is padded to 20 bytes: its digits are the last 26 of 32.
    padding = bytes(_GROUPED_BYTES - PACKED_BYTES)
    padded = b"".join([padding + data[at : at + PACKED_BYTES] for at in range(0, len(data), PACKED_BYTES)])
    digits = base64.b32hexencode(padded).decode().translate(_FROM_HEX)
    return [digits[at - _ID_DIGITS : at] for at in range(_GROUPED_DIGITS, len(digits) + 1, _GROUPED_DIGITS)]

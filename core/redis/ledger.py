"""Reads of the ledger: rows by camera and hour, totals, and the proof that they balance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, cast

import redis

from core.hours import hours_between
from core.jobs import JobState
from core.redis import keys
from core.redis.client import translated
from core.redis.scripts import load_script

TERMINAL: Final = tuple(state.value for state in JobState if state.terminal)
TOTALS: Final = ("received", *TERMINAL, "duplicates", "recovered")
COUNTERS: Final = ("received", *TERMINAL, "pending", "duplicates", "recovered")
"""Counters of a camera over all hours, and of a camera in an hour: received = classified + failed + expired +
cancelled + pending. `duplicates` are images that were sent again under an idempotency key; they
were not received again. `recovered` are images received whose jobs Redis had lost (`wastestream recover`)."""

_BROUGHT: Final = (keys.CAMERA_KEYS, keys.KEY_CAMERAS)
_PIECE: Final = 1000  # rows asked for in one call, so that no other client of Redis waits long


@dataclass(frozen=True, slots=True)
class Counts:
    """`COUNTERS`, and a counter for each label and for `review`. A counter that was never moved is absent."""

    moved: dict[str, int]

    def __getitem__(self, counter: str) -> int:
        return self.moved.get(counter, 0)

    @property
    def owed(self) -> int:
        """Images received and not settled, by the other counters than `pending`."""
        return self["received"] - sum(self[state] for state in TERMINAL)

    @property
    def balanced(self) -> bool:
        """Whether every image received is in exactly one state. `pending` is counted, not derived."""
        return self.owed == self["pending"]


class Totals(NamedTuple):
    """A camera's counts over all hours; a tuple, since each scrape makes a thousand of them."""

    received: int
    classified: int
    failed: int
    expired: int
    cancelled: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Counts of one camera's jobs accepted in one hour (UTC, yyyymmddhh)."""

    hour: str
    camera: str
    counts: Counts

    @property
    def name(self) -> str:
        """Its name, `hour:camera`."""
        return f"{self.hour}:{self.camera}"


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that the ledger knows: its counts over all hours, the last hour (yyyymmddhh) in which it sent.

    `key`: id of the API key that brought it, empty if none did.
    """

    name: str
    counts: Counts
    last_hour: str
    key: str


@dataclass(frozen=True, slots=True)
class Balance:
    """Sum over cameras and hours, and `waiting`: the number of jobs in the lists of pending jobs."""

    counts: Counts
    waiting: int

    @property
    def balanced(self) -> bool:
        """Whether the images received are the settled images and the pending jobs."""
        return self.counts.owed == self.waiting


class Ledger:
    """Reads the ledger, and forgets old rows. Raises `RedisUnavailableError` while Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._balance = client.register_script(load_script("balance"))
        self._snapshot = client.register_script(load_script("snapshot"))
        self._forget = client.register_script(load_script("forget"))

    def names(
        self, first: str, last: str, cameras: Iterable[str] | None = None, *, max_rows: int
    ) -> list[str]:
        """Return the names of rows, `hour:camera`, by hour and camera.

        Args:
            first: the first hour wanted, yyyymmddhh.
            last: the last one.
            cameras: only theirs.
            max_rows: maximum rows returned.
        """
        if cameras is None:
            return self._names(first, last, max_rows)
        return sorted(islice(self._names_of(cameras, first, last), max_rows))

    def camera_names(self) -> list[str]:
        """Return every camera."""
        with translated():
            return cast(list[str], self._client.zrange(keys.CAMERAS, 0, -1))

    def rows(self, names: Sequence[str]) -> Iterator[LedgerRow]:
        """Yield the rows of these names; each one is of one moment."""
        for piece in (names[at : at + _PIECE] for at in range(0, len(names), _PIECE)):
            for name, counts in zip(piece, self._read(keys.LEDGER + name for name in piece), strict=True):
                hour, _, camera = name.partition(":")
                yield LedgerRow(hour, camera, counts)

    def snapshot(self) -> tuple[dict[str, Totals], Balance]:
        """Return each camera's counts over all hours, and their balance, of one moment."""
        with translated():
            waiting, *answers = self._snapshot([keys.CAMERAS, *keys.PENDING.values()], Totals._fields)
        step = 1 + len(Totals._fields)
        cameras = {
            answers[at]: Totals._make(answers[at + 1 : at + step]) for at in range(0, len(answers), step)
        }
        sums = map(sum, zip(*cameras.values(), strict=True))
        return cameras, Balance(Counts(dict(zip(Totals._fields, sums, strict=False))), waiting)

    def cameras(self) -> list[Camera]:
        """Return every camera, by the time of its latest image, the latest first."""
        with translated():
            cameras = cast(
                list[tuple[str, float]], self._client.zrange(keys.CAMERAS, 0, -1, desc=True, withscores=True)
            )
            brought = cast(dict[str, str], self._client.hgetall(keys.CAMERA_KEYS))
        counts = self._read(keys.TOTALS + name for name, _ in cameras)
        return [
            Camera(name, count, f"{hour:.0f}", brought.get(name, ""))
            for (name, hour), count in zip(cameras, counts, strict=True)
        ]

    def balance(self) -> Balance:
        """Return the sum of all, and the jobs that are pending, of one moment."""
        with translated():
            *sums, waiting = self._balance([keys.CAMERAS, *keys.PENDING.values()], TOTALS)
        return Balance(Counts(dict(zip(TOTALS, sums, strict=True))), waiting)

    def forget(self, hour: str) -> int:
        """Forget rows, and cameras, of hours before this one; return how many. Pending jobs keep theirs."""
        rows = self._forget_in([keys.LEDGERS], keys.LEDGER, hour)
        return rows + self._forget_in([keys.CAMERAS, *_BROUGHT], keys.TOTALS, hour)

    def _forget_in(self, listed: Sequence[str], prefix: str, hour: str) -> int:
        forgotten = kept = 0
        while True:
            with translated():
                seen, gone = self._forget(listed, [prefix, hour, kept, _PIECE])
            if not seen:
                return forgotten
            forgotten += gone
            kept += seen - gone

    def _names(self, first: str, last: str, max_rows: int, *, latest: bool = False) -> list[str]:
        """Return names of rows of these hours, at most `max_rows`; all if it is -1."""
        ends = (last, first) if latest else (first, last)
        with translated():
            return cast(
                list[str],
                self._client.zrange(keys.LEDGERS, *ends, desc=latest, byscore=True, offset=0, num=max_rows),
            )

    def _names_of(self, cameras: Iterable[str], first: str, last: str) -> Iterator[str]:
        """Yield rows of cameras without reading the rows of others: their possible hours are known."""
        hours = list(hours_between(*self._ends(first, last)))
        names = (f"{hour}:{camera}" for camera in cameras for hour in hours)
        while piece := list(islice(names, _PIECE)):
            with translated():
                scores = self._client.zmscore(keys.LEDGERS, piece)
            yield from (name for name, score in zip(piece, scores, strict=True) if score is not None)

    def _ends(self, first: str, last: str) -> list[str]:
        """Return the first and the last hour between these that have a row, none if there is no row."""
        ends = self._names(first, last, 1) + self._names(first, last, 1, latest=True)
        return [name.partition(":")[0] for name in ends]

    def _read(self, names: Iterable[str]) -> list[Counts]:
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(name)
            return [
                Counts({counter: int(value) for counter, value in record.items()})
                for record in pipe.execute()
            ]


def total(rows: Iterable[Counts]) -> Counts:
    """Return the sum of the counts."""
    sums: dict[str, int] = {}
    for counts in rows:
        for counter, value in counts.moved.items():
            sums[counter] = sums.get(counter, 0) + value
    return Counts(sums)

"""Cameras as gateways report them and operators describe them, with the counts of their frames.

A report replaces the one before and carries absolute counts: one that is sent twice changes nothing. Counts
are kept for each gateway: a new box does not take away what the one before has counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, starmap
from typing import Any, Final, NamedTuple, cast

import redis

from core.errors import TooManyCamerasError
from core.hours import hour_of
from core.redis import keys
from core.redis.client import translated

SAMPLED: Final = ("sampled", "accepted", "spooled", "skipped", "dropped", "refused")
"""Counters of a gateway: sampled = accepted + spooled + skipped + dropped + refused."""

REPORT_SECONDS: Final = 180.0
"""Seconds after which a gateway that has not reported is away."""

_LEAST_SILENCE: Final = 60.0  # seconds; gateways report every 10
_PIECE: Final = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a camera is expected to send.

    Attributes:
        days: days of the week, 0 for Monday.
        begin: minute of the day, UTC.
        end: minute of the day, UTC, itself not included; before `begin` it is on the next day.
    """

    days: tuple[int, ...]
    begin: int
    end: int

    def includes(self, moment: datetime) -> bool:
        """Return whether the camera is expected to send at a time."""
        minute = moment.hour * 60 + moment.minute
        if self.begin < self.end:
            return moment.weekday() in self.days and self.begin <= minute < self.end
        before = (moment - timedelta(days=1)).weekday()
        return (moment.weekday() in self.days and minute >= self.begin) or (
            before in self.days and minute < self.end
        )


@dataclass(frozen=True, slots=True)
class About:
    """What an operator says of a camera; empty and None for nothing."""

    name: str = ""
    site: str = ""
    expected_fps: float | None = None
    schedule: Schedule | None = None


_NOTHING: Final = About()


class Report(NamedTuple):
    """A gateway's latest report of a camera. Times are milliseconds since 1970.

    A tuple, and stored as one: each scrape reads those of all cameras.

    Attributes:
        gateway: its id.
        site: the place, as the gateway's configuration says.
        detail: what the stream is, or why there is none.
        silent_after: seconds without a frame after which the gateway calls the camera silent.
        last_frame_ms: capture of the last sampled frame; None if there was none.
        oldest_spooled_ms: capture of the oldest frame that it has not sent; None if there is none.
        spooled: number of those frames.
        reported_ms: when the report came.
        ended: whether it has read the whole file that stands for a camera.
    """

    gateway: str
    site: str
    detail: str
    silent_after: float
    last_frame_ms: int | None
    oldest_spooled_ms: int | None
    spooled: int
    reported_ms: int
    ended: bool = False


class CameraStatus(NamedTuple):
    """A camera as it is described and reported."""

    about: About
    report: Report | None

    def state(self, now: float) -> str | None:
        """Return `live`, `backfilling`, `silent`, `off` outside its schedule, `ended`; None without a report.

        Args:
            now: seconds since 1970.
        """
        if self.report is None:
            return None
        if self.report.ended and not self.report.spooled:
            return "ended"
        if self._is_silent(now):
            schedule = self.about.schedule
            return (
                "silent" if schedule is None or schedule.includes(datetime.fromtimestamp(now, UTC)) else "off"
            )
        oldest = self.report.oldest_spooled_ms
        return "backfilling" if oldest is not None and now - oldest / 1000 > _LEAST_SILENCE else "live"

    def _is_silent(self, now: float) -> bool:
        report, expected = self.report, self.about.expected_fps
        if report is None or now - report.reported_ms / 1000 > REPORT_SECONDS:
            return True
        if report.ended:  # What it has read is still to be sent.
            return False
        if report.last_frame_ms is None:
            return True
        allowed = max(_LEAST_SILENCE, report.silent_after if expected is None else 3 / expected)
        return now - report.last_frame_ms / 1000 > allowed


class CameraReports:
    """Keeps them. Every method raises `RedisUnavailableError` while Redis is down.

    Args:
        client: of Redis.
        max_cameras: bound of cameras that are reported.
        retention: seconds for which counts are kept.
    """

    def __init__(self, client: redis.Redis, *, max_cameras: int, retention: float) -> None:
        self._client = client
        self._max_cameras = max_cameras
        self._retention = round(retention)

    def add(self, camera: str, report: Report, hours: Mapping[str, Mapping[str, int]]) -> None:
        """Keep a report of a camera, and its counts by hour (yyyymmddhh).

        Raises:
            TooManyCamerasError: the camera is new, and as many are reported as may be.
        """
        with translated():
            known = self._client.hget(keys.CAMERA_REPORTS, camera)
            if not known and self._client.hlen(keys.CAMERA_REPORTS) >= self._max_cameras:
                raise TooManyCamerasError(self._max_cameras, "all")
        oldest = hour_of(report.reported_ms - self._retention * 1000)
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(keys.CAMERA_REPORTS, camera, json.dumps(report))
            for hour, counts in hours.items():
                row = f"{hour}:{camera}"
                pipe.hset(keys.sampled(row), report.gateway, json.dumps([counts[name] for name in SAMPLED]))
                pipe.expire(keys.sampled(row), self._retention)
                pipe.zadd(keys.SAMPLED_ROWS, {row: int(hour)})
            pipe.zremrangebyscore(keys.SAMPLED_ROWS, "-inf", f"({oldest}")
            pipe.execute()

    def describe(self, camera: str, about: About) -> None:
        """Keep what an operator says of a camera."""
        with translated():
            self._client.hset(keys.CAMERAS_ABOUT, camera, json.dumps(asdict(about)))

    def cameras(self) -> dict[str, CameraStatus]:
        """Return every camera that is described or reported."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.CAMERAS_ABOUT)
            pipe.hgetall(keys.CAMERA_REPORTS)
            about, reports = pipe.execute()
        described = {camera: _about(json.loads(record)) for camera, record in about.items()}
        # Parsed at once, which takes half of the time.
        reported = dict(
            zip(reports, starmap(Report, json.loads(f"[{','.join(reports.values())}]")), strict=True)
        )
        return {
            camera: CameraStatus(described.get(camera, _NOTHING), reported.get(camera))
            for camera in described.keys() | reported.keys()
        }

    def rows(self, first: str, last: str, *, max_rows: int) -> list[str]:
        """Return the names `hour:camera` of counts between two hours (yyyymmddhh)."""
        with translated():
            return cast(
                list[str],
                self._client.zrange(keys.SAMPLED_ROWS, first, last, byscore=True, offset=0, num=max_rows),
            )

    def counts(self, rows: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return the counters of those of these rows that have some."""
        counts: dict[str, dict[str, int]] = {}
        names = iter(rows)
        while piece := list(islice(names, _PIECE)):
            with translated(), self._client.pipeline(transaction=False) as pipe:
                for row in piece:
                    pipe.hvals(keys.sampled(row))
                for row, gateways in zip(piece, pipe.execute(), strict=True):
                    if gateways:
                        counts[row] = add_up(map(_counts, gateways))
        return counts


def add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of the counters."""
    sums = dict.fromkeys(SAMPLED, 0)
    for each in counts:
        for name in SAMPLED:
            sums[name] += each[name]
    return sums


def now_ms() -> int:
    """Return the time of this machine's clock, milliseconds since 1970."""
    return round(time.time() * 1000)


def _about(members: dict[str, Any]) -> About:
    schedule = members.pop("schedule")
    return About(
        **members,
        schedule=None
        if schedule is None
        else Schedule(tuple(schedule["days"]), schedule["begin"], schedule["end"]),
    )


def _counts(record: str) -> dict[str, int]:
    return dict(zip(SAMPLED, json.loads(record), strict=True))

"""Cameras as the API shows them, as operators describe them, and as gateways report them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field

from api.schemas.base import WHOLE, CameraId, Input, Moment, Output, Timestamp
from core.hours import hour_of
from core.redis.camera_reports import About, CameraStatus, Report, Schedule
from core.times import optional_timestamp, timestamp

MAX_HOURS: Final = 1000
"""Hours in one report."""

MAX_COUNT: Final = 10**12
"""Maximum of a counter: sums of these are exact in every language."""

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME: Final = r"^([01]\d|2[0-3]):[0-5]\d$"

_Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_Text = Annotated[str, Field(max_length=100)]
_Clock = Annotated[str, Field(pattern=_TIME)]


class Hours(Input):
    """Times of the week, in UTC."""

    days: Annotated[
        list[_Day], Field(description="Days of the week.", min_length=1, examples=[["mon", "tue"]])
    ]
    begin: Annotated[_Clock, Field(alias="from", description="Begin, UTC.", examples=["05:00"])]
    end: Annotated[
        _Clock,
        Field(alias="to", description="End, UTC; on the next day if not after `from`.", examples=["21:00"]),
    ]

    @property
    def schedule(self) -> Schedule:
        """The schedule."""
        return Schedule(
            tuple(sorted({_DAYS.index(day) for day in self.days})), _minute(self.begin), _minute(self.end)
        )

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """Return the times of a schedule."""
        days = [_DAYS[day] for day in schedule.days]
        return cls.model_validate({"days": days, "from": _clock(schedule.begin), "to": _clock(schedule.end)})


_Name = Annotated[_Text, Field(description="Name for people.", examples=["Belt 1, after the shredder"])]
_Site = Annotated[_Text, Field(description="Place.", examples=["plant-2"])]
_ExpectedFps = Annotated[
    float | None,
    Field(
        description="Frames a second that are expected; null: as the gateway samples.", gt=0, examples=[5.0]
    ),
]
_Schedule = Annotated[
    Hours | None, Field(description="When frames are expected; null: always.", examples=[None])
]


class CameraAbout(Input):
    """What an operator says of a camera; it replaces what was said before."""

    name: _Name = ""
    site: _Site = ""
    expected_fps: _ExpectedFps = None
    schedule: _Schedule = None

    @property
    def about(self) -> About:
        """The record."""
        schedule = None if self.schedule is None else self.schedule.schedule
        return About(self.name, self.site, self.expected_fps, schedule)


class NewName(Input):
    """A camera's new name."""

    id: Annotated[CameraId, Field(description="The new id.", examples=["belt-2"])]
    merge: Annotated[
        bool,
        Field(
            description="Whether to add the counts to those of a camera that has this id already, for good. "
            "Description and report of that camera stay.",
            strict=True,
            examples=[False],
        ),
    ] = False


_Count = Annotated[int, Field(ge=0, le=MAX_COUNT, strict=True), WHOLE]
Sampled = Annotated[_Count, Field(description="Frames sampled by gateways.", examples=[3602])]
SentOn = Annotated[_Count, Field(description="Of those, accepted by the server.", examples=[3600])]
Spooled = Annotated[_Count, Field(description="Of those, waiting on the gateway's disk.", examples=[0])]
Skipped = Annotated[_Count, Field(description="Of those, skipped: nearly equal to the last.", examples=[2])]
Dropped = Annotated[_Count, Field(description="Of those, dropped: no room, or too old.", examples=[0])]
Refused = Annotated[_Count, Field(description="Of those, rejected by the server.", examples=[0])]


class HourCounts(Input):
    """A gateway's counts of one camera's frames that were captured in one hour."""

    hour: Annotated[
        Moment,
        Field(description="A time in the hour of capture.", examples=["2026-01-31T07:00:00Z"]),
    ]
    sampled: Sampled
    accepted: SentOn
    spooled: Spooled
    skipped: Skipped
    dropped: Dropped
    refused: Refused


class CameraReport(Input):
    """A gateway's report of one of its cameras. Counts are absolute: a report may be sent again."""

    gateway: Annotated[
        str,
        Field(description="Id of the gateway.", pattern="^[0-9a-f]{8,32}$", examples=["c3a1f09b5d7e2468"]),
    ]
    site: _Site = ""
    detail: Annotated[
        str,
        Field(
            description="What the stream is, or why there is none.",
            max_length=500,
            examples=["h264 1920x1080"],
        ),
    ] = ""
    silent_after: Annotated[
        float,
        Field(description="Seconds without a frame after which the camera is silent.", gt=0, examples=[15.0]),
    ]
    last_frame_at: Annotated[
        Moment | None,
        Field(description="Capture of the last sampled frame.", examples=["2026-01-31T07:15:00Z"]),
    ] = None
    oldest_spooled_at: Annotated[
        Moment | None, Field(description="Capture of the oldest frame that waits.", examples=[None])
    ] = None
    spooled: Annotated[_Count, Field(description="Frames that wait.", examples=[0])]
    ended: Annotated[
        bool,
        Field(
            description="Whether the whole file that stands for the camera is read.",
            strict=True,
            examples=[False],
        ),
    ] = False
    hours: Annotated[
        list[HourCounts],
        Field(
            description="Counts of hours that have changed.",
            max_length=MAX_HOURS,
            examples=[
                [
                    {
                        "hour": "2026-01-31T07:00:00Z",
                        "sampled": 3602,
                        "accepted": 3600,
                        "spooled": 0,
                        "skipped": 2,
                        "dropped": 0,
                        "refused": 0,
                    }
                ]
            ],
        ),
    ]

    def report(self, now_ms: int) -> Report:
        """Return the record of a report that has just come."""
        return Report(
            gateway=self.gateway,
            site=self.site,
            detail=self.detail,
            silent_after=self.silent_after,
            last_frame_ms=_ms(self.last_frame_at),
            oldest_spooled_ms=_ms(self.oldest_spooled_at),
            spooled=self.spooled,
            reported_ms=now_ms,
            ended=self.ended,
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts by hour of the ledger."""
        return {hour_of(each.hour): each.model_dump(exclude={"hour"}) for each in self.hours}


class Reported(Output):
    """Receipt of a report."""

    camera: Annotated[str, Field(description="Camera.", examples=["belt-1"])]
    hours: Annotated[int, Field(description="Hours whose counts were taken.", examples=[1])]


class CameraOutput(Output):
    """A camera: as it is described, and how its gateway sees it."""

    id: Annotated[str, Field(description="Its id.", examples=["belt-1"])]
    name: _Name
    site: _Site
    expected_fps: _ExpectedFps
    schedule: _Schedule
    state: Annotated[
        Literal["live", "backfilling", "silent", "off", "ended"] | None,
        Field(
            description="`live`; `backfilling`: live, and frames of a minute ago or more wait; `silent`: no "
            "frame for longer than there should be none, or its gateway is away; `off`: silent outside "
            "its schedule; `ended`: its file is read and sent. Null for a camera that no gateway reports.",
            examples=["live"],
        ),
    ]
    detail: Annotated[
        str,
        Field(description="What the stream is, or why there is none.", examples=["h264 1920x1080"]),
    ]
    last_frame_at: Annotated[
        Timestamp | None, Field(description="Capture of the last frame that its gateway sampled.")
    ]
    reported_at: Annotated[Timestamp | None, Field(description="When its gateway reported last.")]
    spooled: Annotated[int, Field(description="Frames that wait on its gateway's disk.", examples=[0])]
    received: Annotated[int, Field(description="Images accepted, ever.", examples=[86400])]

    @classmethod
    def of(cls, camera: str, status: CameraStatus, received: int, now: float) -> Self:
        """Return a camera at a time, seconds since 1970."""
        about, report = status.about, status.report
        return cls(
            id=camera,
            name=about.name,
            site=about.site or (report.site if report else ""),
            expected_fps=about.expected_fps,
            schedule=None if about.schedule is None else Hours.of(about.schedule),
            state=status.state(now),
            detail=report.detail if report else "",
            last_frame_at=optional_timestamp(report.last_frame_ms) if report else None,
            reported_at=timestamp(report.reported_ms) if report else None,
            spooled=report.spooled if report else 0,
            received=received,
        )


class Cameras(Output):
    """All cameras."""

    cameras: Annotated[list[CameraOutput], Field(description="By id.")]


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"

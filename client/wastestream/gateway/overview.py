"""Overview of a gateway: what `status` shows, and its metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wastestream.gateway.camera import State
from wastestream.gateway.counts import Row, total
from wastestream.gateway.gateway import Gateway

METRICS: Final = {
    "wastestream_camera_frames_total": ("counter", "Sampled frames by camera and what became of them."),
    "wastestream_camera_spooled_frames": (
        "gauge",
        "Frames of a camera on disk that the server has not accepted.",
    ),
    "wastestream_camera_spooled_seconds": (
        "gauge",
        "Seconds since the capture of a camera's oldest spooled frame.",
    ),
    "wastestream_camera_up": ("gauge", "Whether frames of a camera come (1) or not (0)."),
    "wastestream_camera_restarts_total": ("counter", "Starts of a camera's source after the first."),
    "wastestream_camera_last_frame_timestamp_seconds": (
        "gauge",
        "Time of capture of a camera's last sampled frame.",
    ),
    "wastestream_gateway_spool_bytes": ("gauge", "Bytes of the frames on disk."),
    "wastestream_gateway_spool_limit_bytes": ("gauge", "Bytes at which the oldest frames are dropped."),
    "wastestream_gateway_spool_writable": ("gauge", "Whether the disk takes frames (1) or not (0)."),
    "wastestream_gateway_server_up": ("gauge", "Whether the server takes frames (1) or not (0)."),
    "wastestream_gateway_clock_skew_seconds": (
        "gauge",
        "Seconds that the machine's clock is ahead of the server's.",
    ),
}
"""Names of the metrics, with type and meaning."""


_HEAD: Final = (
    f"{'camera':20} {'state':9} {'last frame':>12} {'sampled':>9} {'accepted':>9} {'spooled':>8} "
    f"{'skipped':>8} {'dropped':>8} {'refused':>8}  detail"
)


@dataclass(frozen=True)
class CameraOverview:
    """One camera.

    Attributes:
        id: its id.
        state: `starting`, `live`, `silent` or `ended`.
        detail: what the stream is, or why there is none, or why the server takes no frames of it.
        last_frame_at: capture of the last sampled frame, seconds since 1970; None if there is none.
        restarts: starts of its source after the first.
        counts: of all hours that are kept.
        oldest: seconds since the capture of the oldest spooled frame.
    """

    id: str
    state: str
    detail: str
    last_frame_at: float | None
    restarts: int
    counts: Mapping[str, int]
    oldest: float


@dataclass(frozen=True)
class Overview:
    """A gateway at one moment."""

    server: str
    server_trouble: str | None
    spool_trouble: str | None
    spool_bytes: int
    spool_limit: int
    clock_skew: float
    cameras: tuple[CameraOverview, ...]

    def to_metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return "".join(_text(self._samples()))

    def _samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for camera in self.cameras:
            labels = {"camera": camera.id}
            for name, number in camera.counts.items():
                if name not in {"sampled", "spooled"}:
                    yield "wastestream_camera_frames_total", {**labels, "fate": name}, number
            yield "wastestream_camera_spooled_frames", labels, camera.counts["spooled"]
            yield "wastestream_camera_spooled_seconds", labels, camera.oldest
            yield "wastestream_camera_up", labels, float(camera.state == State.LIVE.value)
            yield "wastestream_camera_restarts_total", labels, camera.restarts
            if camera.last_frame_at is not None:
                yield "wastestream_camera_last_frame_timestamp_seconds", labels, camera.last_frame_at
        yield "wastestream_gateway_spool_bytes", {}, self.spool_bytes
        yield "wastestream_gateway_spool_limit_bytes", {}, self.spool_limit
        yield "wastestream_gateway_spool_writable", {}, float(self.spool_trouble is None)
        yield "wastestream_gateway_server_up", {}, float(self.server_trouble is None)
        yield "wastestream_gateway_clock_skew_seconds", {}, self.clock_skew


def overview(gateway: Gateway) -> Overview:
    """Return the overview of a gateway."""
    rows = gateway.spool.rows()
    oldest = gateway.spool.oldest()
    held = gateway.sender.held()
    return Overview(
        server=gateway.config.server,
        server_trouble=gateway.sender.trouble,
        spool_trouble=gateway.spool.trouble,
        spool_bytes=gateway.spool.bytes,
        spool_limit=gateway.spool.limits.max_bytes,
        clock_skew=gateway.clock.skew(),
        cameras=tuple(
            CameraOverview(
                id=name,
                state=camera.health.state.value,
                detail=held.get(name, camera.health.detail),
                last_frame_at=camera.health.last_frame_at,
                restarts=camera.health.restarts,
                counts=total(_rows_of(name, rows)),
                oldest=oldest.get(name, 0.0),
            )
            for name, camera in sorted(gateway.cameras.items())
        ),
    )


def to_text(document: Mapping[str, Any]) -> str:
    """Return the lines that `status` shows for an overview as JSON."""
    used, limit = document["spool_bytes"] / 1e6, document["spool_limit"] / 1e6
    lines = [
        f"server  {document['server']}: {document['server_trouble'] or 'takes frames'}",
        f"spool   {used:,.1f} of {limit:,.0f} MB: {document['spool_trouble'] or 'takes frames'}",
        "",
        _HEAD,
        *map(_line, document["cameras"]),
    ]
    return "\n".join(lines)


def _line(camera: Mapping[str, Any]) -> str:
    counts, last = camera["counts"], camera["last_frame_at"]
    ago = "never" if last is None else f"{max(0.0, time.time() - last):,.0f} s ago"
    return (
        f"{camera['id']:20} {camera['state']:9} {ago:>12} {counts['sampled']:>9,} {counts['accepted']:>9,} "
        f"{counts['spooled']:>8,} {counts['skipped']:>8,} {counts['dropped']:>8,} {counts['refused']:>8,}  "
        f"{camera['detail']}"
    )


def _rows_of(camera: str, rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row.camera == camera)


def _text(samples: Iterable[tuple[str, dict[str, str], float]]) -> Iterator[str]:
    by_name: dict[str, list[str]] = {name: [] for name in METRICS}
    for name, labels, value in samples:
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        by_name[name].append(f"{name}{{{inner}}} {value:.15g}\n" if inner else f"{name} {value:.15g}\n")
    for name, (kind, meaning) in METRICS.items():
        yield f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"
        yield from by_name[name]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

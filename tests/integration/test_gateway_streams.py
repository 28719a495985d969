"""Streams of real cameras, good and bad ones, read by one gateway whose server is away."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import PIL.Image
import psutil
import pytest

from infra.lab.soak.clock_pictures import read_picture
from tests.support.cameras import MjpegCamera, mjpeg_camera, rtsp_camera, write_clip
from tests.support.gateways import NOWHERE, GatewayProcess, gateway
from tests.support.servers import free_port, wait_until
from wastestream.gateway.frames import Frame

PASSWORD = "geheim-4711"  # noqa: S105 - of cameras that the tests run


@dataclass
class Hall:
    """Cameras and the gateway that reads them.

    Attributes:
        mjpeg: the camera that sends MJPEG by HTTP.
        gateway: reads all.
        hung: the process of a camera, which did nothing any more.
    """

    mjpeg: MjpegCamera
    gateway: GatewayProcess
    hung: psutil.Process


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """All cameras at once, for some seconds, with everything that happens to them."""
    folder = tmp_path_factory.mktemp("hall")
    write_clip(folder / "clip.mkv")
    with ExitStack() as stack:
        changing = stack.enter_context(rtsp_camera(password=PASSWORD))
        frozen = stack.enter_context(rtsp_camera())
        fast = stack.enter_context(rtsp_camera(codec="mjpeg", fps=60))
        mjpeg = stack.enter_context(mjpeg_camera())
        hung = stack.enter_context(mjpeg_camera())
        wrong = changing.url.replace(PASSWORD, f"{PASSWORD}-wrong")
        running = stack.enter_context(
            gateway(
                folder,
                NOWHERE,
                camera("changing", changing.url),
                camera("frozen", frozen.url, silent_after=2),
                camera("fast", fast.url),
                camera("hung", hung.url("/video"), silent_after=2),
                camera("mjpeg", mjpeg.url("/video")),
                camera(
                    "bare", mjpeg.url("/bare"), crop={"x": 0, "y": 0, "width": 160, "height": 240}, rotate=90
                ),
                camera("still", mjpeg.url("/still"), skip_similar={"difference": 60, "every": 5}),
                camera("garbage", mjpeg.url("/garbage"), silent_after=2),
                camera("silent", mjpeg.url("/silent"), silent_after=2),
                camera("private", mjpeg.url("/private")),
                camera("wrong", wrong),
                camera("absent", f"rtsp://user:{PASSWORD}@127.0.0.1:{free_port()}/{PASSWORD}"),
                camera(
                    "too-large", mjpeg.url("/video"), crop={"x": 300, "y": 0, "width": 160, "height": 160}
                ),
                camera("clip", "clip.mkv", fps=2),
                camera("none", "none.mkv"),
                camera("triggered", mjpeg.url("/video"), fps=0),
            )
        )
        good = ["changing", "frozen", "fast", "mjpeg", "bare", "still", "hung"]
        wait_until(lambda: all(sampled(running, name) >= 5 for name in good), "all cameras to send", 120)
        process = reader_of(running, hung)
        process.suspend()
        frozen.freeze()
        changing.tell("size 640x480")
        wait_until(lambda: running.camera("frozen")["restarts"] > 0, "the frozen camera to be started again")
        frozen.thaw()
        wait_until(lambda: running.camera("hung")["restarts"] > 0, "the hung process to be started again")
        for name in ("frozen", "hung"):
            seen = sampled(running, name)
            wait_until(lambda name=name, seen=seen: sampled(running, name) > seen + 3, f"{name} to come back")  # type: ignore[misc]
        wait_until(lambda: "640x480" in running.camera("changing")["detail"], "the other size")
        wait_until(lambda: running.camera("clip")["state"] == "ended", "the file to end")
        yield Hall(mjpeg, running, process)


@pytest.fixture(scope="module")
def frames(hall: Hall) -> dict[str, list[Frame]]:
    """The frames of each camera, when the gateway has ended; tests of its status run before."""
    assert hall.gateway.stop() == 0
    by_camera: dict[str, list[Frame]] = {}
    for frame in hall.gateway.frames():
        by_camera.setdefault(frame.camera, []).append(frame)
    return by_camera


def sampled(running: GatewayProcess, name: str) -> int:
    """Return how many frames of a camera were sampled."""
    return int(running.camera(name)["counts"]["sampled"])


def reader_of(running: GatewayProcess, mjpeg: MjpegCamera) -> psutil.Process:
    """Return the process that reads a camera."""
    assert running.process is not None
    children = psutil.Process(running.process.pid).children()
    (reader,) = (process for process in children if is_connected(process, mjpeg.port))
    return reader


def is_connected(process: psutil.Process, port: int) -> bool:
    """Return whether a process, which may have ended, has a connection to a port."""
    with suppress(psutil.NoSuchProcess):
        return any(line.raddr and line.raddr.port == port for line in process.net_connections())
    return False


def camera(name: str, source: str, **members: Any) -> dict[str, Any]:
    """Return a camera of the configuration."""
    return {"id": name, "source": source, "fps": 5, **members}


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("garbage", "sends no frames; it is started again"),
        ("silent", "does not answer; check the cable, the power and the address"),
        ("private", "asks for a name and password, or rejects them; put them into the address"),
        ("wrong", "asks for a name and password, or rejects them; put them into the address"),
        ("absent", "refuses connections; check that the camera is on, and the port"),
        ("too-large", "The region of 160x160 pixels at 300,0 is not within the camera's picture of 320x240"),
        ("none", "none.mkv is not there"),
    ],
)
def test_a_source_that_cannot_be_read_says_why(hall: Hall, name: str, detail: str) -> None:
    """In the status and the log; the others are not disturbed."""
    wait_until(lambda: detail in hall.gateway.camera(name)["detail"], f"{name}: {detail}")
    assert detail in hall.gateway.log
    assert hall.gateway.camera(name)["counts"]["sampled"] == 0


def test_a_process_that_hangs_is_started_again(hall: Hall) -> None:
    """As FFmpeg may hang in any call."""
    assert hall.gateway.camera("hung")["state"] == "live"
    assert not hall.hung.is_running()


def test_a_trigger_takes_a_frame_at_once(hall: Hall) -> None:
    """It is safe when the call returns; a camera without frames answers so."""
    assert hall.gateway.camera("triggered")["counts"]["sampled"] == 0
    assert '"frame": "' in (hall.gateway.get("/trigger?camera=triggered", "POST") or "")
    assert hall.gateway.camera("triggered")["counts"]["spooled"] == 1
    assert "sends no frames now" in (hall.gateway.get("/trigger?camera=absent", "POST") or "")
    assert "no camera 'x'" in (hall.gateway.get("/trigger?camera=x", "POST") or "")
    assert "Name one camera" in (hall.gateway.get("/trigger", "POST") or "")


def test_metrics_and_status_know_every_camera(hall: Hall) -> None:
    """And that the server is away."""
    metrics = hall.gateway.get("/metrics") or ""
    assert 'wastestream_camera_up{camera="changing"} 1' in metrics
    assert 'wastestream_camera_up{camera="absent"} 0' in metrics
    assert 'wastestream_camera_frames_total{camera="still",fate="skipped"} ' in metrics
    assert "wastestream_gateway_server_up 0" in metrics
    assert "is unreachable (no connection)" in hall.gateway.log


def test_passwords_are_nowhere(hall: Hall) -> None:
    """Not in the log, the metrics or the status."""
    assert PASSWORD not in hall.gateway.log
    assert PASSWORD not in (hall.gateway.get("/metrics") or "")
    assert PASSWORD not in (hall.gateway.get("/status") or "")


def test_times_of_capture_are_those_of_the_pictures(frames: dict[str, list[Frame]]) -> None:
    """Though the camera was silent, its server frozen, or its pictures changed.

    The first frames of an RTSP stream, before its first sender report, are late on a busy machine.
    """
    limits = {"changing": 1.5, "frozen": 1.5, "fast": 1.5, "mjpeg": 1.0}
    for name, limit in limits.items():
        errors = [abs(frame.stamp.wall - read_picture(frame.data)) for frame in frames[name]]
        assert median(errors) < 0.5, (name, errors)
        assert max(errors) < limit, (name, errors)


def test_frames_are_sampled_at_their_rate(frames: dict[str, list[Frame]]) -> None:
    """Of 60 frames a second, 5."""
    times = [read_picture(frame.data) for frame in frames["fast"]]
    assert (len(times) - 1) / (times[-1] - times[0]) == pytest.approx(5, rel=0.15)


def test_a_change_of_size_goes_on(frames: dict[str, list[Frame]]) -> None:
    """Frames of both sizes are whole."""
    assert {size_of(frame) for frame in frames["changing"]} == {(320, 240), (640, 480)}


def test_mjpeg_passes_untouched(hall: Hall, frames: dict[str, list[Frame]]) -> None:
    """Byte for byte; but where tables are missing, or a region is cut out and turned."""
    assert {frame.data for frame in frames["mjpeg"]} <= hall.mjpeg.sent
    assert {size_of(frame) for frame in frames["bare"]} == {(240, 160)}


def test_frames_that_nearly_equal_the_last_are_skipped(frames: dict[str, list[Frame]]) -> None:
    """But every fifth of them is kept."""
    times = [read_picture(frame.data) for frame in frames["still"]]
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.4


def test_a_video_file_is_read_once(frames: dict[str, list[Frame]]) -> None:
    """As fast as it goes, sampled by its own clock."""
    assert [round(read_picture(frame.data)) for frame in frames["clip"]] == [0, 5, 10, 15, 20, 25, 30, 35]
    begin = frames["clip"][0].stamp.wall
    assert [frame.stamp.wall - begin for frame in frames["clip"]] == pytest.approx(
        [n / 2 for n in range(8)], abs=0.11
    )
    assert abs(begin - time.time()) < 120


def size_of(frame: Frame) -> tuple[int, int]:
    """Return width and height."""
    return PIL.Image.open(io.BytesIO(frame.data)).size


def test_videos_of_a_folder_are_sampled_once(tmp_path: Path) -> None:
    """By a gateway that is killed in between too, with times by the file; one that still grows waits."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "long.mkv", seconds=30)
    ended = time.time() - 500
    os.utime(folder / "long.mkv", (ended, ended))
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:60,\nlong.mkv\n")
    os.utime(folder / "playlist.mp4", (ended + 1, ended + 1))
    write_clip(folder / "growing.mkv")
    with gateway(tmp_path, NOWHERE, camera("nvr", f"{folder}/", done="move")) as it:
        wait_until(lambda: sampled(it, "nvr") > 20, it.log)
        it.kill()
        it.start()
        wait_until(lambda: "playlist.mp4 cannot be read" in it.log, it.log)
        counts = it.camera("nvr")["counts"]
        assert (counts["sampled"], counts["spooled"], counts["refused"]) == (151, 150, 1)
        assert it.stop() == 0
    frames = it.frames()
    assert [round(read_picture(frame.data)) for frame in frames] == [*range(0, 300, 2)]
    times = [ended - 30 + number / 5 for number in range(150)]
    assert [frame.stamp.wall for frame in frames] == pytest.approx(times, abs=0.2)
    assert sorted(path.name for path in folder.iterdir()) == ["done", "growing.mkv", "playlist.mp4"]


def test_a_process_that_grows_is_started_again(tmp_path: Path) -> None:
    """Its pictures, of 12 million pixels, do not fit into the memory that it may have."""
    with mjpeg_camera() as mjpeg:
        large = camera("large", mjpeg.url("/large"), rotate=90, max_memory_mb=100)
        with gateway(tmp_path, NOWHERE, large) as it:
            wait_until(lambda: it.camera("large")["restarts"] > 0, it.log)
            assert "its process has more than 100 MB; it is started again" in it.log

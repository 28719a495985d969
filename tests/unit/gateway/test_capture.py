"""Sampling, times and pictures of streams, however the camera's clock and its JPEG are."""

from __future__ import annotations

import io
import itertools

import PIL.Image
import pytest

from wastestream.gateway.capture.jpeg import complete
from wastestream.gateway.capture.sampler import Sampler
from wastestream.gateway.capture.timeline import Timeline

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("stream_fps", "fps", "expected"),
    [(25, 5, 50), (60, 5, 50), (30, 7, 70), (10, 10, 100), (5, 25, 50), (25, 0, 0), (25, 1 / 5, 2)],
)
def test_the_rate_of_sampling_is_exact(stream_fps: int, fps: float, expected: int) -> None:
    """In 10 seconds, and with time stamps that are a little uneven."""
    sampler = Sampler(fps)
    jitter = itertools.cycle([0.0, 0.004, -0.003, 0.002])
    positions = [number / stream_fps + next(jitter) for number in range(10 * stream_fps)]
    assert sum(map(sampler.wants, positions)) == pytest.approx(expected, abs=1)


def test_sampled_frames_are_even() -> None:
    """Of 25 frames a second at 5, every fifth is taken."""
    sampler = Sampler(5)
    taken = [number for number in range(250) if sampler.wants(number / 25)]
    assert taken == list(range(0, 250, 5))


def test_after_a_pause_nothing_is_caught_up() -> None:
    """One frame is taken, then the next in its time."""
    sampler = Sampler(5)
    positions = [0.0, 0.1, 100.0, 100.04, 100.08, 100.2, 100.24]
    assert [sampler.wants(position) for position in positions] == [
        True,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_burst_has_the_times_of_capture() -> None:
    """The network holds frames back for 3 seconds, then they come at once."""
    timeline = Timeline(NOW)
    errors = []
    for number in range(500):
        captured = number / 25
        arrival = 13.0 if 10.0 < captured < 13.0 else captured
        place = timeline.place(captured + 77, None, NOW + arrival + 0.05)
        errors.append(place.captured_at - (NOW + captured))
    assert errors == pytest.approx([0.05] * 500, abs=0.001)


def test_frames_that_a_server_had_kept_are_not_fresh() -> None:
    """At the begin it sends the frames since the last key frame at once."""
    timeline = Timeline(NOW)
    places = [timeline.place(number / 25, None, NOW + 0.01 * number) for number in range(50)]
    places += [timeline.place(2 + number / 25, None, NOW + 0.5 + number / 25) for number in range(5)]
    assert [place.fresh for place in places] == [False] * 51 + [True] * 4


def test_the_first_frame_of_an_idle_stream_is_fresh() -> None:
    """Nobody had kept it."""
    assert Timeline(NOW).place(0.0, None, NOW + 1800).fresh


def test_without_time_stamps_a_burst_after_a_stall_is_not_fresh() -> None:
    """Nobody knows when its frames were captured; nor when the first one after a pause was."""
    timeline = Timeline(NOW)
    arrivals = [number / 10 for number in range(50)]
    arrivals += [8.0 + number / 1000 for number in range(30)]
    arrivals += [8.13 + number / 10 for number in range(20)]
    fresh = [timeline.place(None, None, NOW + arrival).fresh for arrival in arrivals]
    assert fresh == [False] + [True] * 49 + [False] * 30 + [True] * 20


def test_a_slow_stream_without_time_stamps_is_fresh() -> None:
    """A frame an hour is no stall, as soon as that is known."""
    timeline = Timeline(NOW)
    assert [timeline.place(None, None, NOW + 3600 * n).fresh for n in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("pts", [None, 5.0])
def test_without_time_stamps_or_with_still_ones_arrival_counts(pts: float | None) -> None:
    """Frames are sampled by the clock then."""
    timeline = Timeline(NOW)
    places = [timeline.place(pts, None, NOW + number / 25) for number in range(100)]
    assert places[-1].position == pytest.approx(99 / 25)
    assert places[-1].captured_at == pytest.approx(NOW + 99 / 25)


@pytest.mark.parametrize("jump", [-1000.0, 1000.0])
def test_time_stamps_that_jump_change_neither_pace_nor_times(jump: float) -> None:
    """A camera that restarts its clock goes on."""
    timeline = Timeline(NOW)
    for number in range(500):
        pts = number / 25 + (jump if number >= 250 else 0.0)
        place = timeline.place(pts, None, NOW + number / 25)
    assert place.position == pytest.approx(499 / 25, abs=0.1)
    assert place.captured_at == pytest.approx(NOW + 499 / 25, abs=0.1)


def test_a_camera_that_lies_about_its_rate_is_found_out() -> None:
    """It says 25 frames a second and sends 12.5."""
    timeline = Timeline(NOW)
    for number in range(1000):
        place = timeline.place(number / 25, None, NOW + number / 12.5)
    assert place.captured_at == pytest.approx(NOW + 999 / 12.5, abs=1.0)


def test_the_camera_tells_the_time_if_that_can_be_true() -> None:
    """By RTCP; its clock is believed within seconds, and not in 1970."""
    right, wrong = Timeline(NOW), Timeline(NOW)
    assert right.place(0.0, NOW - 0.3, NOW).captured_at == NOW - 0.3
    assert right.camera_skew == 0.0
    assert wrong.place(0.0, 1000.0, NOW).captured_at == NOW
    assert wrong.camera_skew == pytest.approx(1000.0 - NOW)


def jpeg() -> bytes:
    """Return a JPEG file with the standard Huffman tables."""
    stream = io.BytesIO()
    PIL.Image.radial_gradient("L").convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


def without_tables(data: bytes) -> bytes:
    """Return a JPEG file without its Huffman tables, as many USB cameras send it."""
    at, kept = 2, [data[:2]]
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def test_a_whole_jpeg_stays_untouched() -> None:
    """Byte for byte."""
    assert complete(jpeg()) == jpeg()


def test_missing_huffman_tables_are_added() -> None:
    """And the picture is the same."""
    bare = without_tables(jpeg())
    whole = complete(bare)
    assert whole is not None
    assert len(whole) == len(bare) + 420
    assert PIL.Image.open(io.BytesIO(whole)).tobytes() == PIL.Image.open(io.BytesIO(jpeg())).tobytes()


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff\xd8",
        b"garbage",
        jpeg()[:-2],
        jpeg()[2:],
        b"\xff\xd8\xff\xff\xff\xd9",
        b"\xff\xd8ab\xff\xd9",
    ],
)
def test_what_is_no_whole_jpeg_is_none(packet: bytes) -> None:
    """Garbage is never sent."""
    assert complete(packet) is None


def test_filling_after_the_end_is_cut_off() -> None:
    """Some cameras fill packets with zeros."""
    assert complete(jpeg() + bytes(100)) == jpeg()

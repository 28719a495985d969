"""The gateway and a real stack: every frame arrives once, whatever happens in between."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.redis.api_keys import KeyStore, Scope
from infra.lab.soak.clock_pictures import make_picture, to_jpeg
from infra.lab.stack import Stack
from tests.support.cameras import mjpeg_camera, write_clip
from tests.support.gateways import NOWHERE, GatewayProcess, gateway
from tests.support.servers import free_port, run_module, wait_until
from wastestream import Client


@pytest.fixture
def name() -> str:
    """Id of a camera that no other test has."""
    return f"belt-{uuid.uuid4().hex[:12]}"


def camera(name: str, source: str | Path, **members: Any) -> dict[str, Any]:
    """Return a camera of the configuration."""
    return {"id": name, "source": str(source), "fps": 5, **members}


def received(stack: Stack, name: str) -> tuple[int, int]:
    """Return how many images of a camera the ledger has, and how many were sent again."""
    with Client(stack.url) as client:
        counts = client.ledger(camera=name).sum
    return counts.received, counts.duplicates


def counts(running: GatewayProcess, name: str) -> dict[str, int]:
    """Return the gateway's counts of a camera."""
    return dict(running.camera(name)["counts"])


def put(folder: Path, name: str, data: bytes, *, age: float = 0.0) -> Path:
    """Write a file as somebody else would have, some seconds ago."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def frame(number: float = 0.0) -> bytes:
    """Return a JPEG file of its own."""
    return to_jpeg(make_picture(time.time() + number))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A watched folder."""
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def test_killed_again_and_again_it_sends_every_frame_once(stack: Stack, name: str, tmp_path: Path) -> None:
    """The server is away, then there; the gateway is killed in both times."""
    with (
        mjpeg_camera(fps=20) as mjpeg,
        gateway(tmp_path, NOWHERE, camera(name, mjpeg.url("/video"), fps=10)) as running,
    ):
        for server in (NOWHERE, stack.url, stack.url):
            running.config["server"] = server
            enough = counts(running, name)["sampled"] + 5
            wait_until(lambda enough=enough: counts(running, name)["sampled"] >= enough, running.log)  # type: ignore[misc]
            running.kill()
            running.start()
        running.config["cameras"] = [camera(name, mjpeg.url("/none"), fps=0)]
        running.reload()
        wait_until(lambda: "was read again" in running.log, running.log)
        wait_until(lambda: counts(running, name)["spooled"] == 0, f"the spool to empty: {running.log}")
        sums = counts(running, name)
        assert sums["sampled"] == sums["accepted"] == received(stack, name)[0]
        assert running.stop() == 0
    with Client(stack.url) as client:
        reported = client.ledger(camera=name).gateway
    assert reported is not None
    assert (reported.sampled, reported.accepted) == (sums["sampled"], sums["accepted"])


def test_times_of_capture_arrive(stack: Stack, name: str, folder: Path, tmp_path: Path) -> None:
    """Those of the backlog too; the newest of it goes first."""
    for number in range(3):
        put(folder, f"{number}.jpg", frame(number), age=1000 - 100 * number)
    with gateway(tmp_path, stack.url, camera(name, f"{folder}/")) as running:
        wait_until(lambda: received(stack, name)[0] == 3, running.log)
    with Client(stack.url) as client:
        times = sorted(job.captured_at.timestamp() for job in client.jobs(camera=name) if job.captured_at)
    assert times == pytest.approx([time.time() - age for age in (1000, 900, 800)], abs=60)
    assert times[1] - times[0] == pytest.approx(100, abs=0.01)


def test_of_a_folder_complete_pictures_are_taken(
    stack: Stack, name: str, folder: Path, tmp_path: Path
) -> None:
    """Half-written, empty, huge and foreign files stay; broken ones count when nobody writes any more."""
    whole = frame()
    put(folder, "deep/er/whole.jpg", whole)
    growing = put(folder, "growing.jpg", whole[:500])
    put(folder, "broken.jpg", whole[:500], age=100)
    put(folder, "empty.png", b"", age=100)
    put(folder, "huge.jpg", whole + bytes(11_000_000) + b"\xff\xd9", age=100)
    put(folder, "notes.txt", b"foreign, and no picture", age=100)
    put(folder, ".hidden.jpg", whole)
    with gateway(tmp_path, stack.url, camera(name, f"{folder}/", done="move")) as running:
        wait_until(lambda: counts(running, name)["refused"] == 3, running.log)
        wait_until(lambda: received(stack, name)[0] == 1, running.log)
        growing.write_bytes(whole)
        wait_until(lambda: received(stack, name)[0] == 2, running.log)
        late = put(folder, "late.jpg", frame(1))
        wait_until(lambda: not late.exists(), running.log)
        assert counts(running, name)["sampled"] == 6
        log = running.log
    assert "notes.txt is no picture (JPEG, PNG or WebP), nor is its name that of a video" in log
    assert "huge.jpg has more than 10,485,760 bytes" in log
    assert "broken.jpg is empty, or its end is missing" in log
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    done = {"done/deep/er/whole.jpg", "done/growing.jpg", "done/late.jpg"}
    assert left == done | {"broken.jpg", "empty.png", "huge.jpg", "notes.txt", ".hidden.jpg"}


def test_files_that_stay_are_sent_once(stack: Stack, name: str, folder: Path, tmp_path: Path) -> None:
    """Also by a gateway that is started again; a file that is written anew is another picture."""
    first = put(folder, "camera.jpg", frame(), age=50)
    with gateway(tmp_path, stack.url, camera(name, f"{folder}/")) as running:
        wait_until(lambda: counts(running, name)["accepted"] == 1, running.log)
        running.kill()
        running.start()
        first.write_bytes(frame(5))
        wait_until(lambda: received(stack, name)[0] == 2, running.log)
        assert counts(running, name)["sampled"] == 2
    assert received(stack, name) == (2, 0)


def test_a_file_that_is_sent_has_ended(stack: Stack, name: str, tmp_path: Path) -> None:
    """The server says so too, and does not miss its camera, though its gateway is stopped."""
    write_clip(tmp_path / "clip.mkv", seconds=1)
    with gateway(tmp_path, stack.url, camera(name, "clip.mkv")) as running, Client(stack.url) as client:
        wait_until(lambda: running.camera(name)["state"] == "ended", running.log)
        wait_until(lambda: counts(running, name)["accepted"] == 5, running.log)
        assert running.stop() == 0
        assert {each.id: each.state for each in client.cameras()}[name] == "ended"


def test_a_renamed_camera_does_not_come_back(stack: Stack, name: str, folder: Path, tmp_path: Path) -> None:
    """Once its id is corrected, a gateway that is started again does not report the wrong one any more."""
    wrong = f"{name}-wrong"
    put(folder, "a.jpg", frame())
    with (
        gateway(tmp_path, stack.url, camera(wrong, f"{folder}/", done="delete")) as running,
        Client(stack.url) as client,
    ):
        wait_until(lambda: counts(running, wrong)["accepted"] == 1, running.log)
        assert running.stop() == 0
        wait_until(lambda: client.ledger(camera=wrong).sum.pending == 0, "the image to be classified")
        assert client.rename_camera(wrong, name).received == 1
        running.config["cameras"] = [camera(name, f"{folder}/")]
        running.start()
        assert running.stop() == 0
        assert wrong not in {each.id for each in client.cameras()}
        sampled = client.ledger(camera=name).gateway
    assert sampled is not None
    assert (sampled.sampled, sampled.accepted) == (1, 1)


def test_a_configuration_is_read_again(stack: Stack, name: str, folder: Path, tmp_path: Path) -> None:
    """A mistake in it changes nothing; cameras that are the same go on."""
    put(folder, "a.jpg", frame())
    other = f"{name}-other"
    with mjpeg_camera() as mjpeg, gateway(tmp_path, stack.url, camera(other, mjpeg.url("/video"))) as running:
        wait_until(lambda: counts(running, other)["sampled"] > 0, running.log)
        running.config["cameras"] = [camera(other, mjpeg.url("/video"))] * 2
        running.reload()
        wait_until(lambda: f"two cameras have the id '{other}'" in running.log, running.log)
        running.config["cameras"] = [camera(other, mjpeg.url("/video")), camera(name, f"{folder}/")]
        running.reload()
        wait_until(lambda: received(stack, name)[0] == 1, running.log)
        assert running.camera(other)["restarts"] == 0
        assert running.log.count(f'"event": "Frames come.", "camera": "{other}"') == 1


def test_a_key_that_may_not_send_for_a_camera(
    locked_stack: Stack, name: str, folder: Path, tmp_path: Path
) -> None:
    """Its frames wait for the operator, and those of other cameras go."""
    key = KeyStore(locked_stack.redis()).create(name, [Scope.INGEST], cameras=[name])[1]
    put(folder, "a.jpg", frame())
    other = tmp_path / "other"
    put(other, "b.jpg", frame())
    cameras = camera(name, f"{folder}/"), camera("forbidden", f"{other}/")
    (tmp_path / "key").write_text("wrong")
    with gateway(tmp_path, locked_stack.url, *cameras, key_file="key") as running:
        wait_until(lambda: "the API key is rejected" in running.log, running.log)
        assert counts(running, name)["spooled"] == 1
        running.stop()
        (tmp_path / "key").write_text(f"{key}\n")
        running.start()
        wait_until(lambda: counts(running, name)["accepted"] == 1, running.log)
        wait_until(lambda: "key" in running.camera("forbidden")["detail"], running.log)
        assert counts(running, "forbidden")["spooled"] == 1
        assert key not in running.log


def test_frames_wait_when_the_address_is_of_something_else(
    stack: Stack, name: str, folder: Path, tmp_path: Path
) -> None:
    """What is not the image's fault refuses no image."""
    put(folder, "a.jpg", frame())
    with gateway(tmp_path, f"{stack.url}/elsewhere", camera(name, f"{folder}/")) as running:
        wait_until(lambda: "takes no frames of this camera: There is no" in running.log, running.log)
        assert counts(running, name)["spooled"] == 1
        running.stop()
        running.config["server"] = stack.url
        running.start()
        wait_until(lambda: received(stack, name) == (1, 0), running.log)


@pytest.fixture
def busy() -> Iterator[tuple[str, list[float]]]:
    """A server that answers 429 with `Retry-After: 2`; its address, and the times of its calls."""
    calls: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            calls.append(time.monotonic())
            self.send_response(HTTPStatus.TOO_MANY_REQUESTS)
            self.send_header("Retry-After", "2")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", calls
        server.shutdown()
        thread.join()


def test_retry_after_is_obeyed(
    busy: tuple[str, list[float]], name: str, folder: Path, tmp_path: Path
) -> None:
    """By live frames and the backlog together."""
    url, calls = busy
    for number in range(4):
        put(folder, f"{number}.jpg", frame(number), age=1000 * (number % 2))
    with gateway(tmp_path, url, camera(name, f"{folder}/")) as running:
        wait_until(lambda: bool(calls) and calls[-1] > calls[0] + 0.5, running.log)
    bursts = [call for call in calls if call > calls[0] + 0.5]
    assert min(bursts) - calls[0] >= 2


def test_half_a_camera_is_no_configuration(tmp_path: Path) -> None:
    """Exit code 2 for wrong options, 1 for a spool or address in use, with a sentence."""
    one_camera = ("--id", "a", "--source", "x")
    with gateway(tmp_path, NOWHERE, camera("one", "none.mkv")) as running, ThreadPoolExecutor() as pool:
        at = f"127.0.0.1:{running.port}"
        arguments = (
            ("--id", "belt-1"),
            (*one_camera, "--spool", running.spool, "--listen", "127.0.0.1:0"),
            (*one_camera, "--listen", at),
            ("status", "--listen", at),
            ("status", "--listen", f"127.0.0.1:{free_port()}"),
        )
        run = partial(run_module, "wastestream.gateway", cwd=tmp_path)
        wrong, second, third, shown, missing = pool.map(lambda each: run(*each), arguments)
    assert wrong.returncode == 2
    assert "Name a camera with --id and --source, or a file with --config." in wrong.stderr
    assert second.returncode == 1
    assert "Another gateway uses the spool" in second.stderr
    assert third.returncode == 1
    assert "cannot be used (Address already in use)" in third.stderr
    assert "one" in shown.stdout
    assert "takes frames" in shown.stdout
    assert (missing.returncode, missing.stderr[:18]) == (1, "Error: No gateway ")

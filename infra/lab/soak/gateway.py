"""The soak of the camera gateway: everything that can fail fails, and every frame is looked at in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import httpx

from infra.lab.soak.clock_camera import ClockCameras, clock_cameras
from infra.lab.soak.clock_pictures import read_picture
from infra.lab.soak.network import Network
from infra.lab.stack import Stack, wait_for
from infra.local.checkout import REPOSITORY
from infra.local.errors import StackError
from infra.local.ports import free_ports
from wastestream import Client

CUT: Final = 1 / 6
"""Part of the time for which the network is cut."""

MAX_BACKFILL: Final = 180.0
"""Promised seconds from the network's return until every frame has arrived."""

MAX_TIME_ERROR: Final = 1.0
"""Promised seconds between a frame's time of capture and the truth."""

_WITH_RESTARTS: Final = 60.0
"""Seconds from which on the stack is restarted too, which takes some itself."""

_STREAM_FPS: Final = 10.0
_OUTAGE: Final = 1 / 20  # part of the time for which a camera is frozen, or the disk full
_LONGEST_OUTAGE: Final = 30.0
_DISK: Final = "256m"
_READY: Final = 60.0  # seconds
_FRAMES: Final = 5  # of all cameras, in each life of the gateway

Say = Callable[[str], None]


@dataclass(frozen=True)
class GatewaySoakResult:
    """Result of a soak of the gateway.

    Attributes:
        seconds: duration of the workload.
        cameras: number of cameras.
        faults: name of each fault to its number.
        sampled: frames that the gateway sampled, as the ledger says; so the next ones.
        accepted: of those, accepted by the server.
        spooled: waiting at the end.
        skipped: nearly equal to the last.
        dropped: given up.
        refused: rejected by the server.
        received: images that the server has.
        doubled: pictures that arrived more than once.
        time_error: seconds of the largest difference between a time of capture and the truth.
        backfill: seconds from the network's return until nothing waited; None if that did not happen.
    """

    seconds: float
    cameras: int
    faults: dict[str, int]
    sampled: int
    accepted: int
    spooled: int
    skipped: int
    dropped: int
    refused: int
    received: int
    doubled: int
    time_error: float
    backfill: float | None

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        balanced = self.sampled == self.accepted + self.skipped + self.dropped
        arrived = self.received == self.accepted and self.doubled == 0
        in_time = self.backfill is not None and self.backfill <= MAX_BACKFILL
        return balanced and arrived and in_time and self.time_error <= MAX_TIME_ERROR

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON's types."""
        return {**asdict(self), "good": self.good}

    def to_markdown(self) -> str:
        """Return the result as a table."""
        backfill = "never" if self.backfill is None else f"{self.backfill:.0f}"
        rows = [
            ("minutes of workload", f"{self.seconds / 60:.1f}"),
            ("cameras", str(self.cameras)),
            *((f"faults: {name}", str(number)) for name, number in self.faults.items()),
            ("frames sampled", f"{self.sampled:,}"),
            ("frames accepted", f"{self.accepted:,}"),
            ("frames skipped", f"{self.skipped:,}"),
            ("frames dropped", f"{self.dropped:,}"),
            ("frames refused", f"{self.refused:,}"),
            ("frames still in the spool", f"{self.spooled:,}"),
            ("images that the server received", f"{self.received:,}"),
            ("pictures that arrived twice", f"{self.doubled:,}"),
            ("largest error of a time of capture, s", f"{self.time_error:.2f}"),
            ("backlog worked off after the network's return, s", backfill),
        ]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])


class _Gateway:
    """A gateway as a process, with its cameras."""

    def __init__(self, folder: Path, server: str, cameras: ClockCameras, names: list[str]) -> None:
        self._folder = folder
        self._port = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._before = 0  # frames that were sampled before its latest start
        self._config: dict[str, Any] = {
            "server": server,
            "listen": f"127.0.0.1:{self._port}",
            "spool": {"folder": str(folder / "spool")},
            "cameras": [{"id": name, "source": cameras.url, "fps": 5, "silent_after": 5} for name in names],
        }

    def start(self) -> None:
        file = self._folder / "cameras.yaml"
        file.write_text(json.dumps(self._config), encoding="utf-8")  # JSON is YAML.
        with (self._folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "wastestream.gateway", "--config", str(file)],
                cwd=REPOSITORY,
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not wait_for(lambda: self.status() is not None, _READY):
            raise StackError("The gateway did not start; its log is in the soak's folder.")
        self._before = self._sampled()

    def kill(self) -> None:
        """Kill it when it has sampled some frames since its start: before, there is little to lose."""
        wait_for(lambda: self._sampled() >= self._before + _FRAMES, _READY)
        self.end(signal.SIGKILL)
        self.start()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
            self._process.kill()
            self._process.wait()

    def status(self) -> dict[str, Any] | None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/status", trust_env=False, timeout=20)
            return dict(answer.json())
        except (httpx.HTTPError, ValueError):
            return None

    def spooled(self) -> int | None:
        status = self.status()
        return None if status is None else sum(each["counts"]["spooled"] for each in status["cameras"])

    def _sampled(self) -> int:
        status = self.status()
        return sum(each["counts"]["sampled"] for each in status["cameras"]) if status else 0

    def backlog_seconds(self) -> float:
        status = self.status()
        return max((each["oldest"] for each in status["cameras"]), default=0.0) if status else 1e9


class GatewaySoak:
    """One soak.

    Args:
        folder: an empty folder.
        stack: the server, which is restarted.
        seconds: duration of the workload.
        cameras: number of cameras.
        say: tells what happens.
    """

    def __init__(self, folder: Path, stack: Stack, *, seconds: float, cameras: int, say: Say) -> None:
        self._folder = folder
        self._stack = stack
        self._seconds = seconds
        self._names = [f"soak-{number}" for number in range(1, cameras + 1)]
        self._say = say
        self._faults: dict[str, int] = {}
        self._backfill: float | None = None

    def run(self) -> GatewaySoakResult:
        """Inject the faults, wait until every frame has arrived, and look at each."""
        began = datetime.now(UTC)
        with ExitStack() as stack:
            spool = self._folder / "spool"
            spool.mkdir()
            has_disk = stack.enter_context(_small_disk(spool))
            network = stack.enter_context(Network(self._stack.port))
            cameras = stack.enter_context(clock_cameras(_STREAM_FPS))
            gateway = _Gateway(self._folder, network.url, cameras, self._names)
            gateway.start()
            stack.callback(gateway.end, signal.SIGKILL)
            seconds = self._workload(gateway, network, cameras, spool if has_disk else None)
            cameras.frozen.set()
            self._say("The cameras stop; waiting for the last frames ...")
            wait_for(lambda: gateway.spooled() == 0, MAX_BACKFILL)
            gateway.end()  # It reports its last counts.
        return self._result(began, seconds)

    def _workload(
        self, gateway: _Gateway, network: Network, cameras: ClockCameras, spool: Path | None
    ) -> float:
        """Inject the faults in their time; return the seconds that it took."""
        outage = min(_LONGEST_OUTAGE, self._seconds * _OUTAGE)
        steps: list[tuple[float, str, Callable[[], None]]] = [
            (0.05, "gateway killed", gateway.kill),
            (0.10, "network cut", network.cut),
            (0.17, "gateway killed", gateway.kill),
            (0.10 + CUT, "", lambda: self._mend(network, gateway)),
            (0.45, "camera frozen", lambda: self._freeze(cameras, outage)),
            (0.65, "gateway killed", gateway.kill),
            (0.80, "gateway killed", gateway.kill),
            (0.90, "gateway killed", gateway.kill),
        ]
        if spool is not None:
            steps.append((0.70, "disk full", lambda: _fill(spool, outage)))
        if self._seconds >= _WITH_RESTARTS:
            steps += [(part, "stack restarted", self._stack.restart) for part in (0.55, 0.75)]
        began = time.monotonic()
        for part, name, inject in sorted(steps, key=itemgetter(0)):
            time.sleep(max(0.0, began + part * self._seconds - time.monotonic()))
            if name:
                self._say(f"{name} ...")
                self._faults[name] = self._faults.get(name, 0) + 1
            inject()
        time.sleep(max(0.0, began + self._seconds - time.monotonic()))
        return time.monotonic() - began

    def _mend(self, network: Network, gateway: _Gateway) -> None:
        """Let the network return, and measure how long the backlog takes."""
        network.mend()
        began = time.monotonic()
        self._say("the network is back ...")
        if wait_for(lambda: gateway.backlog_seconds() < time.monotonic() - began, MAX_BACKFILL):
            self._backfill = time.monotonic() - began

    def _freeze(self, cameras: ClockCameras, seconds: float) -> None:
        cameras.frozen.set()
        time.sleep(seconds)
        cameras.frozen.clear()

    def _result(self, began: datetime, seconds: float) -> GatewaySoakResult:
        sums = dict.fromkeys(("sampled", "accepted", "spooled", "skipped", "dropped", "refused"), 0)
        received = doubled = 0
        time_error = 0.0
        with Client(self._stack.url) as client:
            for name in self._names:
                ledger = client.ledger(camera=name, since=began - timedelta(hours=1))
                received += ledger.sum.received
                if ledger.gateway is not None:
                    for counter in sums:
                        sums[counter] += getattr(ledger.gateway, counter)
                shown = list(self._shown(client, name, began))
                doubled += len(shown) - len({truth for truth, _ in shown})
                time_error = max([time_error, *(abs(captured - truth) for truth, captured in shown)])
        return GatewaySoakResult(
            seconds=seconds,
            cameras=len(self._names),
            faults=self._faults,
            **sums,
            received=received,
            doubled=doubled,
            time_error=time_error,
            backfill=self._backfill,
        )

    def _shown(self, client: Client, camera: str, began: datetime) -> Iterator[tuple[float, float]]:
        """Yield the time that each picture shows, and its time of capture."""
        with httpx.Client(base_url=self._stack.url, trust_env=False, timeout=60) as http:
            for job in client.jobs(camera=camera, since=began - timedelta(minutes=1)):
                image = http.get(f"/v1/jobs/{job.id}/image").raise_for_status().content
                captured_at = job.captured_at or datetime.fromtimestamp(0, UTC)
                yield read_picture(image), captured_at.timestamp()


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk on the spool, and say whether that is allowed here."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0  # noqa: S603 - constants
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)  # noqa: S603, S607


def _fill(folder: Path, seconds: float) -> None:
    """Fill the disk of a folder to its last byte for a while."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    time.sleep(seconds)
    filler.unlink()

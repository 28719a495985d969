"""Gateways as processes, for tests that watch, kill and starve them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import REPOSITORY, free_port, wait_until
from wastestream.gateway.frames import Frame
from wastestream.gateway.spool import Limits, Spool

NOWHERE = "http://127.0.0.1:9"
"""A server that is away: every frame stays in the spool."""


@dataclass
class GatewayProcess:
    """A gateway with a folder of its own.

    Attributes:
        folder: of its configuration, log and spool.
        config: its configuration, written when it starts or reloads.
    """

    folder: Path
    config: dict[str, Any]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def spool(self) -> Path:
        """Folder of its spool."""
        return self.folder / "spool"

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def start(self, **environment: str) -> None:
        """Start it, and return when it answers."""
        self.write_config()
        command = [sys.executable, "-m", "wastestream.gateway", "--config", str(self.folder / "cameras.yaml")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=REPOSITORY, env={**_environment(), **environment}
            )
        wait_until(lambda: self.get("/livez") is not None, f"the gateway; its log: {self.log}")

    def write_config(self) -> None:
        """Write its configuration."""
        document = {"listen": f"127.0.0.1:{self.port}", "spool": {"folder": "spool"}, **self.config}
        (self.folder / "cameras.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def reload(self) -> None:
        """Let it read its configuration again."""
        self.write_config()
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def get(self, path: str, method: str = "GET") -> str | None:
        """Return what it answers, an error too; None if it does not."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        except OSError:
            return None

    def camera(self, name: str) -> dict[str, Any]:
        """Return what its status says of a camera."""
        status = json.loads(self.get("/status") or "null")
        return next(dict(camera) for camera in status["cameras"] if camera["id"] == name)

    def frames(self) -> list[Frame]:
        """Return the frames in the spool of a gateway that has ended, oldest first."""
        spool = Spool(self.spool, Limits(10**12, 1e9))
        try:
            frames = spool.take_live(10**6, 10**12) + spool.take_backlog(10**6, 10**12, "oldest")
        finally:
            spool.close()
        return sorted(frames, key=lambda frame: frame.stamp.wall)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'client'}", "PATH": "/usr/bin:/bin"}


@contextmanager
def gateway(folder: Path, server: str, *cameras: dict[str, Any], **config: Any) -> Iterator[GatewayProcess]:
    """Run a gateway."""
    running = GatewayProcess(folder, {"server": server, "cameras": list(cameras), **config})
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.kill()

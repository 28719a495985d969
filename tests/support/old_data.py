"""Makes a data folder by an older version, with waiting jobs: `tests/data/{version}.tar.gz`.

    python -m tests.support.old_data CHECKOUT tests/data/0.2.0.tar.gz

CHECKOUT is the code of that version; that of 0.2.0 is commit 07d66f6. It needs the packages of today's tests.
The folder's secrets are left out: `up` makes new ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Final

from infra.local.ports import free_ports
from tests.support.images import jpeg

CAMERA: Final = "belt (1)"
WAITING: Final = 23
"""Jobs that wait: two single ones, 20 of a bulk upload, and one that has been too old since 2 s later."""

SETTLED: Final = 2
"""Classified jobs; another one was cancelled."""

KEY: Final = "camera-1"
"""Name of an API key."""

_KEPT: Final = ("redis", "objects")


class OldStack:
    """An older version's `up`, by its command line and over HTTP."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self._checkout = checkout
        self._folder = folder
        self._port = free_ports(3)

    def run(self, name: str, *arguments: str) -> None:
        """Run a command to its end."""
        subprocess.run(
            [sys.executable, "-m", "infra.cli", name, *arguments, "--data-dir", str(self._folder)],
            cwd=self._checkout,
            env={**os.environ, "PYTHONPATH": str(self._checkout)},
            stdin=subprocess.DEVNULL,
            check=True,
        )

    def up(self, workers: int) -> None:
        """Start it."""
        self.run("up", "--port", str(self._port), "--workers", str(workers), "--detach")

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> dict[str, Any]:
        """Return the answer to a call; underscores in names of headers stand for hyphens."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            body,
            {name.replace("_", "-"): value for name, value in headers.items()},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def upload(self, seed: int, path: str = "/v1/images", **headers: str) -> str:
        """Upload an image; return its job's id."""
        kind = {"Content_Type": "image/jpeg", "X_Camera_Id": CAMERA}
        return str(self.call("POST", path, jpeg(seed), **{**kind, **headers})["id"])

    def upload_bulk(self, count: int) -> None:
        """Upload images in one call."""
        boundary = uuid.uuid4().hex
        parts = [
            b'--%s\r\nContent-Disposition: form-data; name="i"; filename="%d.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n%s\r\n" % (boundary.encode(), seed, jpeg(seed))
            for seed in range(count)
        ]
        kind = f"multipart/form-data; boundary={boundary}"
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        self.call("POST", "/v1/images/bulk", body, Content_Type=kind, X_Camera_Id="belt-2")


def make(checkout: Path, archive: Path) -> None:
    """Make the archive of a data folder that was stopped by `down`."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "data"
        old = OldStack(checkout, folder)
        old.up(workers=1)
        for seed in range(SETTLED):
            old.upload(seed, "/v1/images?wait=20")
        old.run("down")
        old.up(workers=0)
        old.upload(1)
        old.upload(2, Idempotency_Key="frame-2", X_Captured_At="2026-11-27T12:00:00Z")
        old.upload(3, X_Max_Age="2")
        old.call("DELETE", f"/v1/jobs/{old.upload(4)}")
        old.upload_bulk(20)
        old.run("keys", "create", KEY, "--scope", "ingest")
        old.run("down")
        with tarfile.open(archive, "w:gz") as file:
            for name in _KEPT:
                file.add(folder / name, name, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith("redis.conf") else entry


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())

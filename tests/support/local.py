"""`up`, `status` and `down` on a data folder of its own, as a person uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import psutil

from tests.support.pictures import jpeg
from tests.support.servers import REPOSITORY, three_free_ports, wait_until

_MARK = "STACK_TEST_MARK"


class Local:
    """A data folder, three ports and a mark by which every process started for them is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = three_free_ports()
        self.mark = uuid.uuid4().hex
        self.extra: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the processes started here have in their environment."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, **self.extra, _MARK: self.mark}

    def command(self, name: str, *arguments: str) -> list[str]:
        """Return a command line for this folder."""
        return [sys.executable, "-m", "infra.cli", name, "--data-dir", str(self.folder), *arguments]

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(name, *arguments),
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Start the stack in the background with one worker."""
        return self.run("up", "--port", str(self.port), "--workers", "1", "--detach", *arguments)

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def pids(self) -> dict[str, int]:
        """Return the process id of each process by its name, from the supervisor's own file."""
        state = json.loads((self.folder / "state.json").read_text())
        return {one["name"]: one["pid"] for one in state["processes"]}

    def supervisor(self) -> int:
        """Return the supervisor's process id."""
        return int((self.folder / "supervisor.lock").read_text())

    def alive(self) -> list[psutil.Process]:
        """Return every process that carries the mark, however it was started."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    @staticmethod
    def is_alive(pid: int) -> bool:
        """Return whether a process runs; not one that has ended and waits for its parent."""
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def ledger(self) -> dict[str, Any]:
        """Return the ledger's sum and whether it balances."""
        with urllib.request.urlopen(f"{self.url}/v1/ledger", timeout=20) as response:
            found: dict[str, Any] = json.load(response)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def upload(self) -> str:
        """Upload a picture; return the job's id when it is classified."""
        headers = {"Content-Type": "image/jpeg"}
        request = urllib.request.Request(f"{self.url}/v1/images", data=jpeg(), headers=headers)
        with urllib.request.urlopen(request, timeout=20) as response:
            job_id = str(json.load(response)["id"])
        wait_until(lambda: self.job(job_id)["state"] == "classified", f"job {job_id} to be classified")
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job; an empty one while the API does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/jobs/{job_id}?wait=5", timeout=20) as response:
                found: dict[str, Any] = json.load(response)
        except urllib.error.URLError:
            return {"state": None}
        return found

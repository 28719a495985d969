"""`up`, `status` and `down` on their own data folder, as a person uses them."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import psutil

from infra.lab.stack import Stack
from infra.local.checkout import REPOSITORY
from infra.local.logs import tail
from tests.support.images import jpeg
from tests.support.servers import wait_until


class Mark:
    """A mark in the environment of a command, which identifies every process it starts."""

    name = "STACK_TEST_MARK"

    def __init__(self) -> None:
        self.value = uuid.uuid4().hex
        self.environment = {self.name: self.value}

    def alive(self) -> list[psutil.Process]:
        """Return every process that carries the mark and has not ended."""
        return [process for process in psutil.process_iter() if self._carried_by(process)]

    def _carried_by(self, process: psutil.Process) -> bool:
        try:
            marked = process.environ().get(self.name) == self.value
            return marked and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class Local(Stack):
    """A stack that only commands start and stop."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mark = Mark()
        self.alive = self._mark.alive

    @property
    def command_environment(self) -> dict[str, str]:
        """Environment of the commands."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, **self.environment, **self._mark.environment}

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(name, *arguments),
            cwd=REPOSITORY,
            env=self.command_environment,
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
        """Return the object that `status --json` prints."""
        status: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return status

    def ledger(self) -> dict[str, Any]:
        """Return the ledger's sum and whether it balances."""
        return self._get("/v1/ledger")

    def upload(self) -> str:
        """Upload an image; return the job's id when it is classified."""
        headers = {"Content-Type": "image/jpeg"}
        request = urllib.request.Request(f"{self.url}/v1/images", data=jpeg(), headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                job_id = str(json.load(response)["id"])
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            logs = [line for name in ("up", "api") for line in tail(self.folder.logs / f"{name}.log")]
            raise AssertionError(
                "\n".join([f"The API at {self.url} takes no image: {error}", *logs])
            ) from error
        wait_until(lambda: self.job(job_id)["state"] == "classified", f"job {job_id} to be classified")
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job; an empty one while the API does not answer."""
        try:
            return self._get(f"/v1/jobs/{job_id}?wait=5")
        except urllib.error.URLError:
            return {"state": None}

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

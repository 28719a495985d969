"""The steps of docs/operations.md: update a stack of release 0.2.0, back it up, restore it, recover it."""

from __future__ import annotations

import json
import shutil
import tarfile
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from core.redis.api_keys import KeyStore
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from infra.local.folder import DataFolder
from tests.support.local import Local
from tests.support.old_data import KEY, SETTLED, WAITING
from tests.support.servers import REPOSITORY, wait_until
from tests.support.stream import assert_balanced

OLD = REPOSITORY / "tests" / "data" / "0.2.0.tar.gz"

OUTCOMES = {
    "received": WAITING + SETTLED + 1,
    "classified": WAITING - 1 + SETTLED,
    "expired": 1,
    "cancelled": 1,
}


@pytest.fixture
def stack(tmp_path: Path) -> Local:
    """A stack on the data of 0.2.0, however long ago they were made; nothing runs yet."""
    stack = Local(tmp_path / "data")
    stack.environment |= {
        "WASTESTREAM_IMAGE_RETENTION_HOURS": "876000",
        "WASTESTREAM_LEDGER_RETENTION_DAYS": "36500",
        "WASTESTREAM_ARCHIVE": "off",
    }
    with tarfile.open(OLD) as archive:
        archive.extractall(stack.folder.path, filter="data")
    return stack


def run(stack: Local, name: str, *arguments: str) -> str:
    """Run a command, which must succeed; return what it prints."""
    done = stack.run(name, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(stack: Local, workers: int) -> JobStore:
    """Start the stack; return its jobs."""
    run(stack, "up", "--port", str(stack.port), "--workers", str(workers), "--detach")
    return JobStore(stack.redis())


def outcomes(stack: Local, jobs: JobStore) -> dict[str, int]:
    """The ledger's counts once every job has settled; it must balance."""
    wait_until(lambda: jobs.pending() == 0, f"the jobs of {stack.folder.path} to settle", 60)
    assert_balanced(jobs)
    counts = Ledger(jobs.client).balance().counts
    return {name: counts[name] for name in OUTCOMES}


def read_ledger(stack: Local) -> dict[str, Any]:
    """Return what the API says of the ledger: it opens within two seconds of a recovery."""
    answers: list[dict[str, Any]] = []

    def answered() -> bool:
        with suppress(HTTPError), urllib.request.urlopen(f"{stack.url}/v1/ledger", timeout=20) as response:
            answers.append(json.load(response))
        return bool(answers)

    wait_until(answered, "the API to open")
    return answers[0]


def test_update_back_up_restore_and_recover(stack: Local, tmp_path: Path) -> None:
    """No job of 0.2.0 is lost or counted twice on any of these ways."""
    backup, restored = str(tmp_path / "backup"), tmp_path / "restored"
    try:
        jobs = start(stack, workers=0)
        assert jobs.pending() == WAITING
        assert "23 waiting" in run(stack, "backup", backup)
        run(stack, "down")

        # Update: the new version continues with the old one's messages, objects and ledger.
        jobs = start(stack, workers=1)
        assert outcomes(stack, jobs) == OUTCOMES
        run(stack, "down")

        # Restore: the same jobs from the backup, with the API key of then.
        stack.folder = DataFolder(restored)
        run(stack, "restore", backup)
        jobs = start(stack, workers=1)
        assert outcomes(stack, jobs) == OUTCOMES
        assert [key.name for key in KeyStore(jobs.client).all()] == [KEY]
        run(stack, "down")

        # Recover: Redis is lost. Without an archive, every image that is left becomes a job.
        shutil.rmtree(stack.folder.redis)
        jobs = start(stack, workers=1)
        assert "Redis has lost its data" in stack.run("status").stdout.replace("\n", " ")
        assert f"Recovered {WAITING + SETTLED + 1} jobs" in run(stack, "recover")
        received = outcomes(stack, jobs)
        assert received == {"received": 26, "classified": 26, "expired": 0, "cancelled": 0}
        ledger = read_ledger(stack)
        assert (ledger["balanced"], ledger["system"]["recovered"]) == (True, 26)
    finally:
        stack.run("down")

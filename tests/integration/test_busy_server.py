"""`wastestream classify` against a real API whose queue is full most of the time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.settings import Settings
from tests.conftest import environment_of
from tests.support.images import jpeg
from tests.support.servers import REPOSITORY, Server, free_port
from tests.support.stream import assert_balanced


def test_classify_waits_for_room_and_loses_nothing(
    settings: Settings, jobs: JobStore, start_worker: Callable[..., Server], tmp_path: Path
) -> None:
    """Two groups of 64 for a queue with 90 places: rejected, sent again, and each classified once."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(128):
        (folder / f"{seed}.jpg").write_bytes(jpeg(seed))
    start_worker(
        module="tests.support.faulty_worker", FAULT="slow", SLOW_SECONDS="0.2", MARKER=str(tmp_path / "m")
    )
    port = free_port()
    variables = {"WASTESTREAM_PORT": str(port), "WASTESTREAM_MAX_QUEUED": "100", **environment_of(settings)}
    api = Server([sys.executable, "-m", "api"], tmp_path / "api.log", environment=variables, port=port)
    api.start()
    try:
        command = [sys.executable, "-m", "infra.cli", "classify", str(folder), "--json"]
        done = subprocess.run(
            [*command, "--url", f"http://127.0.0.1:{port}"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        api.stop()
    states = [json.loads(line)["state"] for line in done.stdout.splitlines()]
    assert (done.returncode, states) == (0, ["classified"] * 128), done.stderr
    assert "429: The queue is full" in done.stderr
    assert Ledger(jobs.client).balance().counts["received"] == 128
    assert_balanced(jobs)

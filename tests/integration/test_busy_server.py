"""`wastestream classify` against a real API whose queue is full most of the time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from tests.support.images import jpeg
from tests.support.servers import Server, run_module
from tests.support.stream import assert_balanced


def test_classify_waits_for_room_and_loses_nothing(
    jobs: JobStore, start_worker: Callable[..., Server], start_api: Callable[..., Server], tmp_path: Path
) -> None:
    """Two groups of 64 for a queue with 90 places: rejected, sent again, and each classified once."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(128):
        (folder / f"{seed}.jpg").write_bytes(jpeg(seed))
    start_worker(
        module="tests.support.faulty_worker", FAULT="slow", SLOW_SECONDS="0.2", MARKER=str(tmp_path / "m")
    )
    api = start_api(WASTESTREAM_MAX_QUEUED="100")
    url = f"http://127.0.0.1:{api.port}"
    done = run_module("infra.cli", "classify", folder, "--json", "--url", url, seconds=120)
    states = [json.loads(line)["state"] for line in done.stdout.splitlines()]
    assert (done.returncode, states) == (0, ["classified"] * 128), done.stderr
    assert "429: The queue is full" in done.stderr
    assert Ledger(jobs.client).balance().counts["received"] == 128
    assert_balanced(jobs)

"""What scalers and rolling updates go by: the jobs that have not settled, and what workers can read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from flask.testing import FlaskClient

from api import rollout
from core.messages import FORMAT, QUEUES
from core.redis import keys
from core.redis.job_store import JobStore
from core.redis.pauses import Pauses
from core.redis.workers import WorkerRegistry
from core.settings import Settings
from tests.conftest import environment_of
from tests.support.servers import Server, run_module, wait_until
from tests.support.stream import upload, upload_bulk


def test_lists_are_empty_while_all_jobs_wait(
    client: FlaskClient, jobs: JobStore, start_worker: Callable[..., Server], tmp_path: Path
) -> None:
    """A worker has every message and settled none: `LLEN` would end the last worker, `ZCARD` does not."""
    options = {"MARKER": str(tmp_path / "marker"), "SLOW_SECONDS": "60"}
    start_worker(module="tests.support.faulty_worker", FAULT="slow", **options)
    ids = [*upload_bulk(client, 30), upload(client)]
    wait_until(
        lambda: all(jobs.client.llen(queue) == 0 for queue in QUEUES.values()), "every message to be taken"
    )
    assert sum(jobs.client.zcard(key) for key in keys.PENDING.values()) == len(ids)
    answer = client.get("/readyz").get_json()
    assert answer["pending"] == answer["runnable"] == len(ids)
    assert answer["oldest_seconds"] > 0


def test_without_jobs_nothing_waits(client: FlaskClient) -> None:
    """Both numbers are 0, by which the last worker may end."""
    answer = client.get("/readyz").get_json()
    assert (answer["pending"], answer["runnable"], answer["oldest_seconds"]) == (0, 0, 0)


def test_a_paused_lane_starts_no_workers(client: FlaskClient, jobs: JobStore) -> None:
    """Nor does it keep any: its jobs count in neither number, until it is resumed; the other lane's do."""
    pauses, held = Pauses(jobs.client), len(upload_bulk(client, 30))

    def numbers() -> tuple[int, bool]:
        answer = client.get("/readyz").get_json()
        return answer["runnable"], answer["oldest_seconds"] > 0

    pauses.pause("bulk")
    assert numbers() == (0, False)
    upload(client)
    assert numbers() == (1, True)
    pauses.pause("single")
    assert numbers() == (0, False)
    assert jobs.pending() == held + 1
    pauses.resume("bulk")
    assert numbers() == (held, True)


def test_the_api_waits_for_workers_that_read_its_messages(
    settings: Settings, jobs: JobStore, start_worker: Callable[..., Server]
) -> None:
    """An older one is waited for until it is gone; a worker of this version, or none, is fine."""
    workers = WorkerRegistry(jobs.client)
    assert rollout.wait(workers, 0) == 0
    start_worker("new")
    workers.seen("old@host", {"images": 5.0})  # as version 0.2 reports itself
    assert rollout.wait(workers, 0) == 1
    assert workers.outdated() == ["old@host"]
    timer = threading.Timer(0.5, lambda: workers.gone("old@host"))
    timer.start()
    done = run_module("api.rollout", environment=environment_of(settings))
    timer.join()
    assert done.returncode == 0
    workers.seen("newer@host", {"format": FORMAT + 1})
    assert workers.outdated() == []

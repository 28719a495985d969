"""Logs of real programs: one JSON object a line where they go to no terminal, and text where they do."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.jobs import JobState
from core.redis.job_store import JobStore
from core.storage import ObjectStore
from infra.local.logs import tail
from infra.local.view import View
from tests.conftest import environment_of
from tests.support.images import jpeg
from tests.support.servers import REPOSITORY, Server, wait_until

_MEMBERS = {"time", "level", "logger", "message", "process", "pid"}


def _records(log: Path) -> list[dict[str, Any]]:
    """Every line of a log, which must all be records."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(record.keys() >= _MEMBERS for record in records)
    return records


def _upload(port: int | None, request_id: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/images",
        jpeg(),
        {"Content-Type": "image/jpeg", "X-Request-ID": request_id},
    )
    with urllib.request.urlopen(request) as response:
        return str(json.load(response)["id"])


def test_api_and_worker_name_request_and_job(
    start_api: Callable[..., Server],
    start_worker: Callable[..., Server],
    jobs: JobStore,
    objects: ObjectStore,
    s3_server: Server,
) -> None:
    """Gunicorn's and Celery's lines are records, too; a record about a job or request has its id."""
    api = start_api(WASTESTREAM_ACCESS_LOG="1")
    job_id = _upload(api.port, "request-1")
    job = jobs.read(job_id)
    assert job is not None
    objects.delete_many([job.image_key])
    worker = start_worker()
    wait_until(lambda: jobs.read(job_id).state is JobState.FAILED, "the job to fail")  # type: ignore[union-attr]
    (failed,) = [record for record in _records(worker.log) if record.get("job_id") == job_id]
    assert (failed["level"], failed["process"]) == ("WARNING", "worker")
    s3_server.stop()
    try:
        with pytest.raises(urllib.error.HTTPError):
            _upload(api.port, "request-2")
    finally:
        s3_server.start()
    about = [record for record in _records(api.log) if record.get("request_id") == "request-2"]
    assert {record["logger"] for record in about} == {"api.access", "api.http.problems"}
    assert {"gunicorn.error"} <= {record["logger"] for record in _records(api.log)}
    # What people see of a log is text.
    assert all(line.startswith("20") and '{"' not in line for line in tail(worker.log))


def test_on_a_terminal_logs_are_text(settings: Any) -> None:
    """As before."""
    reader, writer = pty.openpty()
    code = "from core import logs; import logging; logs.set_up('INFO', 'x'); logging.getLogger('a').info('b')"
    subprocess.run(
        [sys.executable, "-c", code],
        stderr=writer,
        env=os.environ | environment_of(settings),
        cwd=REPOSITORY,
        check=True,
    )
    assert os.read(reader, 1000).decode().rstrip().endswith("INFO a: b")
    os.close(reader)
    os.close(writer)


def test_the_supervisor_writes_records(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody watches: what happened to a process."""
    View().event("api ended by signal 9 (SIGKILL); restarting it.")
    record = json.loads(capsys.readouterr().out)
    assert record.keys() >= _MEMBERS
    assert record["message"] == "api ended by signal 9 (SIGKILL); restarting it."
    assert record["process"] == "supervisor"

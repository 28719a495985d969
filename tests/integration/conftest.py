"""Checks and fixtures of this folder.

Every response that a test gets from the application in its process fits the contract.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask, Response, request

from core.archive import RESULTS, Archive
from core.redis.job_store import JobStore
from core.storage import ObjectStore
from tests.support.archive import Hours, new_sink
from tests.support.contract import Seen, contract
from worker.sinks.archive import ArchiveSink


@pytest.fixture(autouse=True)
def _responses_fit_the_contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    process, violations = Flask.process_response, []

    def observe(app: Flask, response: Response) -> Response:
        response = process(app, response)
        if request.endpoint != "pages.static":
            seen = Seen.of(
                request.method, request.path, response.status_code, response.headers, response.get_data()
            )
            violations.extend(contract().violations(seen))
        return response

    monkeypatch.setattr(Flask, "process_response", observe)
    yield
    assert violations == []


@pytest.fixture
def hours(jobs: JobStore) -> Hours:
    """Past hours on the real Redis."""
    return Hours(jobs)


@pytest.fixture
def archive(objects: ObjectStore) -> Archive:
    """An empty archive."""
    for page in list(objects.pages(RESULTS)):
        objects.delete_many(page)
    return Archive(objects)


@pytest.fixture
def sink(jobs: JobStore, objects: ObjectStore, archive: Archive) -> Iterator[ArchiveSink]:
    """The sink."""
    sink = new_sink(jobs, objects)
    yield sink
    sink.close()

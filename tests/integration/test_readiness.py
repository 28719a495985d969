"""What `/readyz` says while dependencies fail."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from api.app import create_app
from api.readiness import MAX_AGE
from core.redis.api_keys import KeyStore, Scope
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.servers import free_port


def test_readiness_names_the_dependency_that_fails(settings: Settings, client: FlaskClient) -> None:
    """200 while all answer; 503 with the one that does not."""
    assert client.get("/livez").status_code == 200
    ready = client.get("/readyz")
    well = {"redis": "ok", "storage": "ok", "installation": "ok"}
    assert (ready.status_code, ready.get_json()["checks"]) == (200, well)
    nowhere = settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    broken = create_app(nowhere).test_client().get("/readyz")
    assert broken.status_code == 503
    assert int(broken.headers["Retry-After"]) > 0
    assert broken.get_json()["checks"]["redis"] == "ok"
    assert "Storage does not answer" in broken.get_json()["checks"]["storage"]


def test_public_readiness_has_only_the_names_of_failing_checks(
    settings: Settings, jobs: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Reasons and figures need the scope `read`; the log has them for the operator."""
    port = free_port()
    update = {"s3_endpoint": f"http://127.0.0.1:{port}", "auth": "required"}
    client = create_app(settings.model_copy(update=update)).test_client()
    store = KeyStore(jobs.client)
    keys = {scope: store.create(scope.value, [scope])[1] for scope in (Scope.INGEST, Scope.READ)}
    for headers in (
        {},
        {"Authorization": "Bearer ws_0_0"},
        {"Authorization": f"Bearer {keys[Scope.INGEST]}"},
    ):
        answer = client.get("/readyz", headers=headers)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        checks = {"redis": "ok", "storage": "fails", "installation": "ok"}
        assert answer.get_json() == {"status": "not ready", "checks": checks, "paused": []}
    readable = client.get("/readyz", headers={"Authorization": f"Bearer {keys[Scope.READ]}"}).get_json()
    assert str(port) in readable["checks"]["storage"]
    assert (readable["workers"], readable["pending"], readable["balanced"]) == (0, 0, True)
    (line,) = [record for record in caplog.records if record.name == "api.readiness"]
    assert (line.levelname, str(port) in line.getMessage()) == ("WARNING", True)


def test_readiness_with_redis_down_is_an_answer_too(settings: Settings) -> None:
    """Though nobody can say who asks."""
    nowhere = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}/0")})
    answer = create_app(nowhere).test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json() == {
        "status": "not ready",
        "checks": {"redis": "fails", "storage": "ok", "installation": "ok"},
    }


def test_readiness_is_asked_for_once_a_second(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is called, by however many at a time."""
    asked: list[float] = []
    deps = client.application.extensions["wastestream"]
    monkeypatch.setattr(deps.objects, "ping", lambda: asked.append(time.monotonic()))
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(client.application.test_client().get, "/readyz") for _ in range(40)]
    assert {call.result().status_code for call in calls} == {200}
    assert 1 <= len(asked) <= 1 + (time.monotonic() - began) / MAX_AGE
    monkeypatch.setattr("time.monotonic", lambda: began + 60)
    assert client.get("/readyz").status_code == 200
    assert asked[-1] == began + 60

"""infra.local.stack: the time that services get to stop, and what other machines are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.__main__ import Server
from core.settings import Settings, load_settings
from infra.lab.bench.closed_loop import WAITING_CLIENTS
from infra.local.credentials import load_credentials
from infra.local.environment import read_variables
from infra.local.folder import DataFolder
from infra.local.stack import StackPlan, make_stack
from worker.batching import STOP_SECONDS


def test_services_have_time_to_finish_their_work(tmp_path: Path) -> None:
    """`up` kills neither the API during its graceful stop nor a worker during its last batch."""
    plan = StackPlan(DataFolder(tmp_path), 20_000, 1, "127.0.0.1", "127.0.0.1")
    stages = make_stack(plan, load_credentials(tmp_path / "credentials.json"))
    services = {service.name: service for stage in stages for service in stage}
    assert services["api"].stop_seconds >= Server(Settings()).cfg.graceful_timeout + 10
    assert services["worker-1"].stop_seconds >= STOP_SECONDS + 10


def test_workers_elsewhere_keep_results_as_long_as_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a shorter retention of their own they would cut the feed for all readers."""
    monkeypatch.setenv("WASTESTREAM_RETENTION_HOURS", "1000.5")
    load_settings.cache_clear()
    folder = DataFolder(tmp_path)
    make_stack(
        StackPlan(folder, 20_000, 1, "127.0.0.1", "127.0.0.1"),
        load_credentials(tmp_path / "credentials.json"),
    )
    monkeypatch.undo()
    load_settings.cache_clear()
    for name, value in read_variables(folder.worker_env).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.retention_hours == 1000.5
    assert (settings.image_retention_hours, settings.ledger_retention_days) == (168, 92)


def test_bench_waits_on_fewer_calls_than_the_api_lets_wait() -> None:
    """Otherwise its clients would measure the retries of an overloaded API."""
    assert Settings().api_waiting > WAITING_CLIENTS

"""Metrics of the whole system: real API processes and workers, some of which are killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from core import metrics
from core.errors import RedisUnavailableError
from core.hours import hour_of
from core.metrics import RECOVERED
from core.redis.client import connect
from core.redis.feed import Cursor, Feed
from core.redis.job_store import JobStore
from core.redis.metrics import MetricStore, Reporter
from core.redis.sinks import SinkStore
from core.redis.workers import WORKER_TTL, WorkerRegistry
from tests.conftest import environment_of, fresh_settings
from tests.support.images import jpeg
from tests.support.metrics import Scrape
from tests.support.programs import run_tool, tool
from tests.support.servers import REPOSITORY, Server, free_port, run_module, wait_until
from wastestream.gateway.overview import METRICS as GATEWAY_METRICS

_ROW = re.compile(r"^\| `(wastestream_\w+)` \| (\w+) \| (.*?) ?\| .+ \|$", flags=re.MULTILINE)
_UPLOAD = {"method": "POST", "route": "/v1/images"}


@dataclass
class System:
    """An API of two processes and a worker, and what they showed while all lived."""

    url: str
    api: Server
    worker: Server
    jobs: JobStore
    scrape: Scrape

    def post(self, data: bytes, **headers: str) -> int:
        """Send an image over a connection of its own; return the status."""
        every = {"Content-Type": "image/jpeg", "X-Camera-Id": "belt", **headers}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{self.url}/v1/images", data, every)
            ) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def post_json(self, path: str, document: object) -> int:
        """Send a document; return the status."""
        body, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", body, headers)) as response:
            return int(response.status)

    def wait(self, name: str, value: float, **labels: str) -> None:
        """Return when a sum has a value; remember the scrape."""

        def has_value() -> bool:
            self.scrape = Scrape.of(self.url)
            return self.scrape.sum(name, **labels) == value

        wait_until(has_value, f"{name} to be {value}")


@pytest.fixture(scope="module")
def system(
    redis_server: Server, s3_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """The system after 21 images, one of them sent twice, one that is none, and a retention sweep."""
    settings = fresh_settings(redis_server, s3_server)
    environment, folder, port = environment_of(settings), tmp_path_factory.mktemp("metrics"), free_port()
    many = {"WASTESTREAM_PORT": str(port), "WASTESTREAM_API_PROCESSES": "2"}
    api = Server([sys.executable, "-m", "api"], folder / "api.log", environment | many, port)
    worker = Server([sys.executable, "-m", "worker", "--name", "counted"], folder / "worker.log", environment)
    jobs = JobStore(connect(settings.redis_url.get_secret_value()))
    system = System(f"http://127.0.0.1:{port}", api, worker, jobs, Scrape(""))
    try:
        api.start()
        worker.start()
        SinkStore(jobs.client, Feed(jobs.client, retention_hours=1)).advance("mqtt", Cursor(0))
        assert run_module("worker.periodic.retention", environment=environment).returncode == 0
        again = {"Idempotency-Key": uuid.uuid4().hex}
        assert [system.post(jpeg(seed)) for seed in range(20)] == [202] * 20
        assert [system.post(jpeg(90), **again) for _ in range(2)] == [202, 202]
        assert system.post(b"no image") == 415
        report = {"gateway": "01234567", "silent_after": 15, "spooled": 0, "hours": []}
        assert system.post_json("/v1/cameras/belt/report", report) == 202
        system.wait("wastestream_http_requests_total", 23, **_UPLOAD)
        system.wait("wastestream_batch_images_sum", 21)
        system.wait("wastestream_retention_images_removed_total", 0)
        yield system
    finally:
        api.stop()
        worker.stop()


def test_what_was_done_is_counted(system: System) -> None:
    """Requests, uploads, waiting times, batches, stages, storage and Redis: each image and call once."""
    seen = system.scrape
    assert seen.sum("wastestream_uploads_total", lane="single", outcome="accepted") == 21
    assert seen.sum("wastestream_uploads_total", lane="single", outcome="known") == 1
    assert seen.sum("wastestream_uploads_total", lane="single", outcome="unsupported-image") == 1
    assert seen.sum("wastestream_http_requests_total", status="202", **_UPLOAD) == 22
    assert seen.sum("wastestream_http_requests_total", status="415", **_UPLOAD) == 1
    assert seen.sum("wastestream_http_request_seconds_count", **_UPLOAD) == 23
    assert seen.sum("wastestream_http_request_seconds_bucket", le="+Inf", **_UPLOAD) == 23
    assert seen.sum("wastestream_queue_wait_seconds_count", lane="single") == 21
    batches = seen.sum("wastestream_batch_seconds_count")
    assert 1 <= batches == seen.sum("wastestream_redis_seconds_count", operation="settle") <= 21
    spent = sum(seen.sum("wastestream_stage_seconds_sum", stage=stage) for stage in ("fetch", "model"))
    assert 0 < spent < seen.sum("wastestream_batch_seconds_sum")
    accepts = seen.sum("wastestream_redis_seconds_count", operation="accept")
    assert 1 <= accepts <= 21
    # The mark of the installation is an object too.
    assert accepts < seen.sum("wastestream_storage_seconds_count", operation="put") <= accepts + 2
    assert seen.sum("wastestream_storage_errors_total") == 0
    assert seen.sum("wastestream_workers") == 1
    assert (
        seen.sum("wastestream_workers_running", engine="int8")
        + seen.sum("wastestream_workers_running", engine="float")
        == 1
    )
    assert seen.sum("wastestream_queue_oldest_seconds") == 0
    assert seen.sum("wastestream_redis_memory_bytes") > 500_000


def test_promtool_finds_no_fault(system: System) -> None:
    """Names, types, units and helps follow Prometheus' conventions, and the text its format."""
    assert run_tool("promtool", "check", "metrics", text=system.scrape.text) == ""


def test_every_metric_is_documented(system: System) -> None:
    """docs/api.md has a row for each, with its type and labels; other pages name none that does not exist."""
    shown = {
        name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for name, family in system.scrape.families.items()
    }
    rows = _ROW.findall((REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8"))
    assert {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows} == shown
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        named = set(re.findall(r"\b(wastestream_[a-z_]+)\b", page.read_text(encoding="utf-8")))
        assert named <= shown.keys() | system.scrape.names | GATEWAY_METRICS.keys() | _NO_METRICS, page


_NO_METRICS = {"wastestream_redis"}
"""Names in the documentation that begin as metrics do."""


def test_kills_take_nothing_along_and_leave_nothing(system: System) -> None:
    """Both API processes and the worker are killed: their sums stay, and others show them once."""
    children = system.api.children()
    assert len(children) == 2
    for child in children:
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: not {*children} & {*system.api.children()}, "new API processes")
    system.worker.kill()
    system.wait("wastestream_http_requests_total", 23, **_UPLOAD)
    system.wait("wastestream_batch_images_sum", 21)
    assert system.post(jpeg(1)) == 202
    system.wait("wastestream_http_requests_total", 24, **_UPLOAD)
    system.wait("wastestream_queue_depth", 1)
    assert system.scrape.sum("wastestream_uploads_total", outcome="accepted") == 22
    # The heartbeats of a worker that was killed grow old; here they do so at once.
    registry = WorkerRegistry(system.jobs.client)
    for name in registry.names():
        system.jobs.client.zincrby("ws:workers", -WORKER_TTL, name)
    system.wait("wastestream_workers", 0)
    assert system.scrape.sum("wastestream_workers_running") == 0
    assert system.scrape.sum("wastestream_queue_oldest_seconds", lane="single") > 0


def test_a_report_is_counted_once(jobs: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is lost, so it is sent again; what was counted meanwhile comes with the next."""
    metrics.take()
    reporter, store = Reporter(jobs.client), MetricStore(jobs.client)
    send = reporter._send

    def lose_the_answer() -> None:
        unsent = dict(reporter._unsent)
        send()
        reporter._unsent = unsent
        raise RedisUnavailableError("cut off")

    RECOVERED.add(by=3)
    monkeypatch.setattr(reporter, "_send", lose_the_answer)
    with pytest.raises(RedisUnavailableError):
        reporter.report()
    RECOVERED.add(by=4)
    monkeypatch.setattr(reporter, "_send", send)
    for expected in (3, 7, 7):
        reporter.report()
        assert store.read()[0][(RECOVERED.name,)] == expected


def test_children_begin_with_nothing() -> None:
    """What a parent has counted and not reported is not counted again by its child."""
    metrics.take()
    RECOVERED.add()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, str(metrics.take()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 100) == b"{}"
    assert metrics.take() == {(RECOVERED.name,): 1}


def test_a_scrape_of_many_cameras_costs_few_calls(client: FlaskClient, jobs: JobStore) -> None:
    """Their number decides neither the number of calls nor, after the first scrape, that of the rows read."""
    now = datetime.now(UTC)
    pipe: Any = jobs.client.pipeline()
    for number in range(300):
        pipe.zadd("ws:cameras", {f"belt-{number}": int(hour_of(now))})
        pipe.hset(f"ws:totals:belt-{number}", mapping={"received": 2, "classified": 1, "cancelled": 1})
        for hours in range(24):
            hour = hour_of(now - timedelta(hours=hours))
            pipe.zadd("ws:ledgers", {f"{hour}:belt-{number}": int(hour)})
            pipe.hset(f"ws:ledger:{hour}:belt-{number}", mapping={"received": 1, "pending": 0})
    pipe.execute()
    client.get("/metrics")

    def calls() -> int:
        return int(jobs.client.info("stats")["total_commands_processed"])

    def commands(name: str) -> int:
        return int(jobs.client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])

    before, rows, scripts = calls(), commands("hget"), commands("evalsha")
    scrape = Scrape(client.get("/metrics").text)
    assert scrape.sum("wastestream_images_received_total") == 600
    assert commands("hget") - rows <= 3 * 300 + 10
    assert commands("evalsha") - scripts < 10
    assert calls() - before < 2_000  # most of them inside scripts


# ---- Alerts and the dashboard ------------------------------------------------------------------


def _alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load((_PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    text = (REPOSITORY / "infra/grafana/dashboard.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _queries() -> list[str]:
    """Every query of the dashboard, with the interval filled in."""
    dashboard = _dashboard()
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    texts = [target["expr"] for target in [*targets, *dashboard["annotations"]["list"]]]
    return [text.replace("$__rate_interval", "1m") for text in texts]


def test_alerts_fire_on_their_fault_only() -> None:
    """By promtool's own unit tests, each alert at least once."""
    run_tool("promtool", "check", "rules", _PROMETHEUS / "alerts.yml")
    run_tool("promtool", "test", "rules", _PROMETHEUS / "alerts_test.yml")
    tests = (_PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8")
    assert [alert["alert"] for alert in _alerts() if alert["alert"] not in tests] == []


def test_stacks_are_kept_apart() -> None:
    """Each metric is asked for with labels of its target: the job in alerts, the stack on the dashboard."""
    for text in (alert["expr"] for alert in _alerts()):
        assert re.findall(r"\b(?:wastestream_\w+|up)\b(?!{job=\"wastestream\"[,}])", text) == []
        assert re.findall(r"\bby \(|\bon \(", text) == []  # they would drop the labels of the target
    for text in _queries():
        assert re.findall(r"\bwastestream_\w+\b(?!{instance=\"\$stack\"[,}])", text) == []
    (stack,) = [each for each in _dashboard()["templating"]["list"] if each["name"] == "stack"]
    assert stack["query"]["query"] == "label_values(wastestream_queue_limit, instance)"


def test_each_alert_has_its_section() -> None:
    """docs/runbooks.md has one for each alert, in their order, and each alert names its own."""
    sections = re.findall(r"^## (\w+)$", (REPOSITORY / "docs/runbooks.md").read_text("utf-8"), re.MULTILINE)
    assert [alert["alert"] for alert in _alerts()] == sections
    for alert in _alerts():
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"


def test_a_real_prometheus_can_answer_every_query(system: System, tmp_path: Path) -> None:
    """With the shipped configuration it reads the API; each alert and panel asks for metrics that exist."""
    texts = [*(alert["expr"] for alert in _alerts()), *_queries()]
    assert len(texts) > 50
    named = {name for text in texts for name in re.findall(r"\bwastestream_\w+", text)}
    assert named <= system.scrape.names | system.scrape.families.keys()
    shown = {name for text in _queries() for name in re.findall(r"\bwastestream_\w+", text)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert system.scrape.families.keys() - families - shown == _NOT_ON_THE_DASHBOARD
    port, key = free_port(), tmp_path / "key"
    key.write_text("none is needed")
    text = (_PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    for old, new in {
        "scrape_interval: 15s": "scrape_interval: 1s",
        "/run/wastestream/prometheus": str(key),
        "api:8000": system.url.removeprefix("http://"),
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(_PROMETHEUS / "alerts.yml", tmp_path)
    run_tool("promtool", "check", "config", tmp_path / "prometheus.yml")
    options = ["--config.file", tmp_path / "prometheus.yml", "--storage.tsdb.path", tmp_path / "data"]
    command = [tool("prometheus"), *map(str, options), "--web.listen-address", f"127.0.0.1:{port}"]
    prometheus = Server(command, tmp_path / "log", port=port)
    prometheus.start()

    def ask(query: str) -> list[Any]:
        text = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{text}") as response:
            return list(json.load(response)["data"]["result"])

    def has_read() -> bool:
        with suppress(urllib.error.HTTPError):  # It is not ready yet.
            return ask('wastestream_ledger_balanced{job="wastestream"}') != []
        return False

    try:
        wait_until(has_read, "Prometheus to read the API")
        for text in texts:
            ask(text)  # An invalid query would be answered 400, which raises.
    finally:
        prometheus.stop()


_PROMETHEUS = REPOSITORY / "infra" / "prometheus"

_NOT_ON_THE_DASHBOARD = {
    "wastestream_images_pending",  # received minus settled, for whoever checks the ledger
    "wastestream_retention_rows_removed_total",
    "wastestream_sink_gaps_total",
}

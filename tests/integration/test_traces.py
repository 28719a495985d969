"""One trace from the client's call to the settled job, as a collector of the test's own receives it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from core.messages import TRACES, Envelope, make_app
from core.settings import Settings
from tests.support.images import jpeg
from tests.support.servers import REPOSITORY, Server, wait_until
from wastestream import Client


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it gets by OTLP over HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Any]] = []  # with the name of the service

    @property
    def settings(self) -> dict[str, str]:
        """Variables of a program that sends its spans here."""
        endpoint = f"http://127.0.0.1:{self.server_port}"
        return {"WASTESTREAM_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def names(self, trace_id: bytes) -> set[tuple[str, str]]:
        """Return service and name of each span of a trace."""
        return {(service, span.name) for service, span in self.spans if span.trace_id == trace_id}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        assert isinstance(self.server, Collector)
        assert self.path == "/v1/traces"
        for resource in request.resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans += [(attributes["service.name"], span) for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


_API = {"storage put", "accept", "POST /v1/images"}
_WORKER = {"queue wait", "batch", "fetch", "decode", "model", "settle"}


def test_one_upload_is_one_trace(
    collector: Collector, start_api: Callable[..., Server], start_worker: Callable[..., Server]
) -> None:
    """Concurrent uploads, which share object and message, have a trace each; one not sampled has none."""
    api = start_api(**collector.settings)
    start_worker(**collector.settings)
    traces = [(secrets.token_bytes(16), secrets.token_bytes(8), flags) for flags in ("01", "01", "00")]

    def upload(trace: bytes, span: bytes, flags: str) -> None:
        headers = {"Content-Type": "image/jpeg", "traceparent": f"00-{trace.hex()}-{span.hex()}-{flags}"}
        request = urllib.request.Request(f"http://127.0.0.1:{api.port}/v1/images?wait=20", jpeg(), headers)
        with urllib.request.urlopen(request) as response:
            assert json.load(response)["state"] == "classified"

    threads = [threading.Thread(target=upload, args=trace) for trace in traces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {("wastestream-api", name) for name in _API} | {
        ("wastestream-worker", name) for name in _WORKER
    }
    for trace_id, parent_id, _ in traces[:2]:
        wait_until(lambda trace_id=trace_id: collector.names(trace_id) == expected, "the trace")  # type: ignore[misc]
        spans = {span.name: span for _, span in collector.spans if span.trace_id == trace_id}
        server, batch = spans["POST /v1/images"], spans["batch"]
        assert server.parent_span_id == parent_id
        assert {spans[name].parent_span_id for name in ("storage put", "accept", "queue wait", "batch")} == {
            server.span_id
        }
        stages = [spans[name] for name in ("fetch", "decode", "model", "settle")]
        assert {stage.parent_span_id for stage in stages} == {batch.span_id}
        times = [time for stage in stages for time in (stage.start_time_unix_nano, stage.end_time_unix_nano)]
        assert batch.start_time_unix_nano <= times[0]
        assert times == sorted(times)
        assert times[-1] <= batch.end_time_unix_nano
        assert server.start_time_unix_nano <= spans["storage put"].start_time_unix_nano
    assert collector.names(traces[2][0]) == set()


def test_a_trace_begins_in_the_client(
    collector: Collector, start_api: Callable[..., Server], start_worker: Callable[..., Server]
) -> None:
    """A program's span is the parent of what its calls cause, also of those in the client's own threads."""
    api = start_api(**collector.settings)
    start_worker(**collector.settings)
    spans = [
        SpanContext(secrets.randbits(128), secrets.randbits(64), is_remote=False, trace_flags=TraceFlags(1))
        for _ in range(2)
    ]
    with Client(f"http://127.0.0.1:{api.port}") as client:
        with use_span(NonRecordingSpan(spans[0])):
            assert client.classify(jpeg()).state == "classified"
        with use_span(NonRecordingSpan(spans[1])):
            assert [outcome.error for outcome in client.classify_many([jpeg()])] == [None]
    for span in spans:
        trace_id = span.trace_id.to_bytes(16, "big")
        wait_until(
            lambda trace_id=trace_id: (  # type: ignore[misc]
                {("wastestream-api", "POST /v1/images"), ("wastestream-worker", "settle")}
                <= collector.names(trace_id)
            ),
            "the trace",
        )
        parents = {each.parent_span_id for _, each in collector.spans if each.trace_id == trace_id}
        assert span.span_id.to_bytes(8, "big") in parents


def test_nothing_is_added_without_an_endpoint(settings: Settings) -> None:
    """The application imports no OpenTelemetry, adds nothing to a request or a message."""
    # redis-py itself imports OpenTelemetry's metrics, where they are installed.
    heavy = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
    code = "import sys, core.settings, api.app; app = api.app.create_app(core.settings.Settings()); "
    code += f"print([name for name in sys.modules if name.startswith({heavy})], "
    code += "'api.http.trace' in str(app.before_request_funcs))"
    assert _python(code).stdout == "[] False\n"
    message = json.loads(Envelope(make_app(settings)).message(["images/x"], "single"))
    assert TRACES not in message["headers"]


@pytest.mark.parametrize("module", ["api", "worker"])
def test_without_the_extra_a_program_says_what_to_install(module: str) -> None:
    """It ends at its start."""
    code = "import sys, runpy; sys.modules['opentelemetry'] = None; sys.argv[1:] = []; "
    code += f"runpy.run_module('{module}', run_name='__main__')"
    done = _python(code, WASTESTREAM_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("WASTESTREAM_OTLP_ENDPOINT needs a package that is not installed here")


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, check=False
    )

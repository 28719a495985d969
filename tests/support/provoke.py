"""One request for each type of problem, on the real API, Redis and S3 server."""

from __future__ import annotations

import contextlib
import socket
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Final
from urllib.parse import urlsplit

from flask.testing import FlaskClient
from PIL import Image

from api.app import create_app
from api.http.problem_types import ProblemType
from core.ids import new_job_id
from core.image_header import MAX_BYTES
from core.jobs import JobState, Outcome
from core.redis import keys
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.webhooks import MAX_WEBHOOKS, WebhookStore
from core.settings import Settings
from core.storage import ObjectStore
from tests.support.contract import Seen
from tests.support.disks import fill, small_disk
from tests.support.images import encoded, jpeg
from tests.support.servers import free_port

_JPEG: Final = {"Content-Type": "image/jpeg"}
_QUERY: Final = "/v1/jobs/query"
_BODIES: Final = 8  # JSON bodies of unknown length that fill a key's share of the memory for bodies


@dataclass(frozen=True)
class Parts:
    """What requests need: settings of the servers."""

    settings: Settings

    @property
    def jobs(self) -> JobStore:
        """The job store."""
        return JobStore(connect(self.settings.redis_url.get_secret_value()))

    def client(self, **settings: Any) -> FlaskClient:
        """Return a client of an application with other settings."""
        return create_app(self.settings.model_copy(update=settings)).test_client()

    def key(self, *scopes: Scope, burst: int | None = None, cameras: Sequence[str] = ()) -> dict[str, str]:
        """Return the header field with a new API key."""
        rate = None if burst is None else 0.001  # images a second: nothing comes back meanwhile
        _, token = KeyStore(self.jobs.client).create("key", scopes, rate=rate, burst=burst, cameras=cameras)
        return {"Authorization": f"Bearer {token}"}


def _seen(response: Any) -> Seen:
    request = response.request
    return Seen.of(request.method, request.path, response.status_code, response.headers, response.data)


def _upload(client: FlaskClient, data: bytes | None = None, **fields: str) -> Any:
    headers = _JPEG | {name.replace("_", "-"): value for name, value in fields.items()}
    return client.post("/v1/images", data=jpeg() if data is None else data, headers=headers)


def _bad_upload(data: bytes | None = None, **fields: str) -> Callable[[Parts], Seen]:
    return lambda parts: _seen(_upload(parts.client(), data, **fields))


def _bad_call(method: str, path: str, **options: Any) -> Callable[[Parts], Seen]:
    return lambda parts: _seen(parts.client().open(path, method=method, **options))


def _huge_png() -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def _insufficient_scope(parts: Parts) -> Seen:
    return _seen(_upload(parts.client(), None, **parts.key(Scope.READ)))


def _camera_forbidden(parts: Parts) -> Seen:
    return _seen(
        _upload(parts.client(), None, X_Camera_Id="belt-2", **parts.key(Scope.INGEST, cameras=["belt-1"]))
    )


def _key_required(parts: Parts) -> Seen:
    return _seen(_upload(parts.client(auth="required")))


def _job_settled(parts: Parts) -> Seen:
    client = parts.client()
    job = _upload(client).get_json()["id"]
    parts.jobs.settle([Outcome(job, JobState.FAILED, error="x")], "m")
    return _seen(client.delete(f"/v1/jobs/{job}"))


def _job_not_retryable(parts: Parts) -> Seen:
    client = parts.client()
    job = _upload(client).get_json()["id"]
    return _seen(client.post(f"/v1/jobs/{job}/retry"))


def _too_many_webhooks(parts: Parts) -> Seen:
    store = WebhookStore(parts.jobs.client)
    for _ in range(MAX_WEBHOOKS):
        store.create("http://127.0.0.1/", ["*"], [JobState.FAILED])
    return _seen(parts.client().post("/v1/webhooks", json={"url": "http://1.1.1.1/"}))


def _camera_busy(parts: Parts) -> Seen:
    client = parts.client()
    _upload(client, X_Camera_Id="belt-1")
    return _seen(client.delete("/v1/cameras/belt-1"))


def _camera_exists(parts: Parts) -> Seen:
    client = parts.client()
    for camera in ("belt-1", "belt-2"):
        client.put(f"/v1/cameras/{camera}", json={})
    return _seen(client.post("/v1/cameras/belt-1/rename", json={"id": "belt-2"}))


def _image_gone(parts: Parts) -> Seen:
    client = parts.client()
    job = parts.jobs.read(_upload(client).get_json()["id"])
    assert job is not None
    ObjectStore(parts.settings).delete_many([job.image_key])
    return _seen(client.get(f"/v1/jobs/{job.id}/image"))


def _unsupported_body(parts: Parts) -> Seen:
    return _seen(parts.client().post("/v1/images/bulk", data=jpeg(), headers=_JPEG))


def _too_many_cameras(parts: Parts) -> Seen:
    client = parts.client(max_cameras=1)
    _upload(client, X_Camera_Id="one")
    return _seen(_upload(client, X_Camera_Id="two"))


def _idempotency_conflict(parts: Parts) -> Seen:
    client = parts.client()
    _upload(client, Idempotency_Key="1")
    return _seen(_upload(client, jpeg(1), Idempotency_Key="1"))


def _queue_full(parts: Parts) -> Seen:
    client = parts.client(max_queued=1)
    _upload(client)
    return _seen(_upload(client))


def _rate_limit_exceeded(parts: Parts) -> Seen:
    client, key = parts.client(), parts.key(Scope.INGEST, burst=1)
    _upload(client, jpeg(), **key)
    return _seen(_upload(client, jpeg(), **key))


def _uploads_off(parts: Parts) -> Seen:
    return _seen(parts.client().post("/v1/uploads/complete", json={"uploads": ["x"]}))


def _of_upload(
    upload_id: str | None = None, stored: bytes | None = None, retention_hours: float = 168.0
) -> Callable[[Parts], dict[str, Any]]:
    """Return a function that completes a direct upload and returns its problem.

    Args:
        upload_id: instead of the id that was announced.
        stored: what is in storage instead of the image, if anything.
        retention_hours: of records, for which an upload can be completed at most.
    """

    def provoke(parts: Parts) -> dict[str, Any]:
        client = parts.client(s3_public_endpoint=parts.settings.s3_endpoint, retention_hours=retention_hours)
        files = [{"size": len(jpeg()), "media_type": "image/jpeg"}]
        (slot,) = client.post("/v1/uploads", json={"files": files}).get_json()["uploads"]
        if stored is not None:
            key = urlsplit(slot["url"]).path.removeprefix(f"/{parts.settings.s3_bucket}/")
            ObjectStore(parts.settings).put(key, stored)
        response = client.post("/v1/uploads/complete", json={"uploads": [upload_id or slot["id"]]})
        problem: dict[str, Any] = response.get_json()["items"][0]["error"]
        return problem

    return provoke


def _server_fault(parts: Parts) -> Seen:
    """Ask for a job whose record a stranger has damaged."""
    client = parts.client()
    job = _upload(client).get_json()["id"]
    parts.jobs.client.hset(keys.job(job), "state", "no such state")
    return _seen(client.get(f"/v1/jobs/{job}"))


def _service_unavailable(parts: Parts) -> Seen:
    return _seen(_upload(parts.client(s3_endpoint=f"http://127.0.0.1:{free_port()}")))


def _disk_full(parts: Parts) -> Seen:
    with small_disk("8m") as disk:
        fill(disk)
        return _seen(_upload(parts.client(disk=disk)))


def _data_lost(parts: Parts) -> Seen:
    client = parts.client()
    _upload(client)
    parts.jobs.client.flushall()
    return _seen(_upload(client))


PROVOKE: Final[Mapping[ProblemType, Callable[[Parts], Seen]]] = {
    ProblemType.INVALID_PARAMETER: _bad_call("GET", "/v1/ledger?camra=belt"),
    ProblemType.INVALID_HEADER: _bad_upload(X_Max_Age="soon"),
    ProblemType.INVALID_CAMERA_ID: _bad_upload(X_Camera_Id="../belt"),
    ProblemType.INVALID_BODY: _bad_call("POST", _QUERY, json={"id": "x"}),
    ProblemType.INVALID_ENCODING: _bad_upload(Content_Encoding="gzip"),
    ProblemType.EMPTY_IMAGE: _bad_upload(b""),
    ProblemType.TOO_MANY_ITEMS: _bad_call("POST", _QUERY, json={"ids": ["x"] * 1001}),
    ProblemType.KEY_REQUIRED: _key_required,
    ProblemType.INVALID_KEY: _bad_call("POST", "/session", json={"key": "ws_wrong"}),
    ProblemType.INSUFFICIENT_SCOPE: _insufficient_scope,
    ProblemType.CAMERA_FORBIDDEN: _camera_forbidden,
    ProblemType.CROSS_SITE_REQUEST: _bad_upload(Origin="https://evil.example"),
    ProblemType.FOREIGN_HOST: _bad_upload(Host="evil.example"),
    ProblemType.ROUTE_NOT_FOUND: _bad_call("GET", "/v2/images"),
    ProblemType.JOB_NOT_FOUND: _bad_call("GET", f"/v1/jobs/{new_job_id()}"),
    ProblemType.METHOD_NOT_ALLOWED: _bad_call("PUT", "/v1/images"),
    ProblemType.CURSOR_EXPIRED: _bad_call("GET", "/v1/results?after=1-0-0"),
    ProblemType.UPLOADS_OFF: _uploads_off,
    ProblemType.WEBHOOK_NOT_FOUND: _bad_call("DELETE", f"/v1/webhooks/{new_job_id()}"),
    ProblemType.CAMERA_NOT_FOUND: _bad_call("DELETE", "/v1/cameras/nowhere"),
    ProblemType.CAMERA_BUSY: _camera_busy,
    ProblemType.CAMERA_EXISTS: _camera_exists,
    ProblemType.TARGET_REFUSED: _bad_call("POST", "/v1/webhooks", json={"url": "http://10.1.2.3/"}),
    ProblemType.TOO_MANY_WEBHOOKS: _too_many_webhooks,
    ProblemType.JOB_NOT_RETRYABLE: _job_not_retryable,
    ProblemType.JOB_SETTLED: _job_settled,
    ProblemType.IMAGE_GONE: _image_gone,
    ProblemType.BODY_TOO_LARGE: _bad_upload(bytes(MAX_BYTES + 1)),
    ProblemType.UNSUPPORTED_IMAGE: _bad_upload(b"hello, I am a text"),
    ProblemType.MEDIA_TYPE_MISMATCH: _bad_upload(Content_Type="image/png"),
    ProblemType.UNSUPPORTED_ENCODING: _bad_upload(b64encode(jpeg())),
    ProblemType.UNSUPPORTED_BODY: _unsupported_body,
    ProblemType.DAMAGED_IMAGE: _bad_upload(jpeg()[:20]),
    ProblemType.IMAGE_TOO_LARGE: _bad_upload(_huge_png(), Content_Type="image/png"),
    ProblemType.INVALID_TIME: _bad_upload(X_Captured_At=(datetime.now(UTC) + timedelta(hours=1)).isoformat()),
    ProblemType.TOO_MANY_CAMERAS: _too_many_cameras,
    ProblemType.IDEMPOTENCY_CONFLICT: _idempotency_conflict,
    ProblemType.QUEUE_FULL: _queue_full,
    ProblemType.RATE_LIMIT_EXCEEDED: _rate_limit_exceeded,
    ProblemType.SERVER_FAULT: _server_fault,
    ProblemType.SERVICE_UNAVAILABLE: _service_unavailable,
    ProblemType.DISK_FULL: _disk_full,
    ProblemType.DATA_LOST: _data_lost,
}
"""Types that the application responds with."""

OF_UPLOADS: Final[Mapping[ProblemType, Callable[[Parts], dict[str, Any]]]] = {
    ProblemType.INVALID_UPLOAD: _of_upload("forged"),
    ProblemType.UPLOAD_MISSING: _of_upload(),
    ProblemType.UPLOAD_EXPIRED: _of_upload(retention_hours=0.0),
    ProblemType.SIZE_MISMATCH: _of_upload(stored=jpeg() + b"x"),
}
"""Types that only a single upload in a response has."""

OF_THE_SERVER: Final = (
    ProblemType.MALFORMED_REQUEST,
    ProblemType.HEADER_TOO_LARGE,
    ProblemType.REQUEST_TOO_SLOW,
    ProblemType.SERVER_BUSY,
)
"""Types that the HTTP server responds with, without the application: see `provoke_the_server`."""


def provoke_the_server(port: int, token: str) -> dict[ProblemType, Seen]:
    """Return a response of each type in `OF_THE_SERVER`. The last two take 10 seconds each, together.

    Args:
        port: of a real API process.
        token: a key that may read.
    """
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
    with ThreadPoolExecutor() as pool:
        answers = {
            ProblemType.MALFORMED_REQUEST: pool.submit(_exchange, port, b"GET /livez HTTP/3.0\r\n\r\n"),
            ProblemType.HEADER_TOO_LARGE: pool.submit(_exchange, port, head + b"X: " + bytes(40_000)),
            ProblemType.REQUEST_TOO_SLOW: pool.submit(_exchange, port, head),
            ProblemType.SERVER_BUSY: pool.submit(_one_body_too_many, port, token),
        }
        return {kind: answer.result() for kind, answer in answers.items()}


def _exchange(port: int, data: bytes) -> Seen:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(data)
        response = HTTPResponse(client)
        response.begin()
        return _read(response, "GET", "/livez")


def _one_body_too_many(port: int, token: str) -> Seen:
    """Begin bodies of unknown length until a key's share of the memory is reserved, and send one more."""
    with contextlib.ExitStack() as opened:
        first = opened.enter_context(contextlib.closing(_begin(port, token)))
        first.send(b'b\r\n{"ids": []}\r\n0\r\n\r\n')
        first.getresponse().read()  # Now the process knows the key, and serves the others in their order.
        for _ in range(_BODIES):
            opened.enter_context(contextlib.closing(_begin(port, token))).send(b"1\r\n[\r\n")
        late = opened.enter_context(contextlib.closing(_begin(port, token)))
        late.send(b"2\r\n{}\r\n0\r\n\r\n")
        return _read(late.getresponse(), "POST", _QUERY)


def _begin(port: int, token: str) -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", _QUERY)
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    return connection


def _read(response: HTTPResponse, method: str, path: str) -> Seen:
    with response:
        return Seen.of(method, path, response.status, response.getheaders(), response.read())

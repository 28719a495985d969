"""Requests to the server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from urllib.parse import quote

from wastestream.images import Image
from wastestream.jobs import Job
from wastestream.transport import Request

MAX_IDS: Final = 1000
"""Ids in one query; the server's limit."""

PAGE: Final = 500
"""Jobs in one answer of a list."""

RESULTS: Final = 1000
"""Results in one answer of the feed; the server's limit."""

EVENT_STREAM: Final = "text/event-stream"

_BOUNDARY: Final = uuid.uuid4().hex
_FORM: Final = f"multipart/form-data; boundary={_BOUNDARY}"
_JSON: Final = "application/json"
_IMAGE: Final = "application/octet-stream"  # The server detects the type.

_IN_HEADERS: Final = " :,()@"
"""Characters of a camera id, beside letters and digits, without percent-encoding in a header."""

Moment = date | datetime
"""A date (midnight UTC), or a time with a zone."""


def upload(image: Image, data: bytes, *, wait: float = 0.0) -> Request:
    """Return the upload of one image; with `wait`, the answer comes when its job has settled."""
    headers = {**_origin(image), "Idempotency-Key": image.idempotency_key or _new_key()}
    return Request(
        "POST",
        "/v1/images",
        parameters={"wait": _seconds(wait)} if wait else {},
        headers={**headers, "Content-Type": _IMAGE},
        chunks=((data,),),
    )


def upload_bulk(images: Sequence[tuple[Image, bytes]]) -> Request:
    """Return the upload of up to 64 images.

    Cameras, times and ages that all images share stand in the call's header, others in its part `metadata`.
    """
    origins = [_origin(image) for image, _ in images]
    alike = all(origin == origins[0] for origin in origins)
    keyless = all(image.idempotency_key is None for image, _ in images)
    headers, parts = {"Content-Type": _FORM}, []
    if alike and keyless:
        headers |= {**origins[0], "Idempotency-Key": _new_key()}
    else:
        files = [_metadata(image) for image, _ in images]
        parts.append((_part("metadata", _JSON), json.dumps({"files": files}).encode(), b"\r\n"))
    # Names are numbers: outcomes come in order, and a real name may not be a valid header.
    parts += [(_part("file", _IMAGE, number), data, b"\r\n") for number, (_, data) in enumerate(images)]
    return Request(
        "POST", "/v1/images/bulk", headers=headers, chunks=(*parts, (f"--{_BOUNDARY}--\r\n".encode(),))
    )


def job(job_id: str, wait: float = 0.0) -> Request:
    """Return the request for a job: as it is, or with `wait` as soon as it settles."""
    return Request("GET", _job_path(job_id), parameters={"wait": _seconds(wait)} if wait else {})


def query(ids: Sequence[str]) -> Request:
    """Return the request for up to `MAX_IDS` jobs."""
    return _json("/v1/jobs/query", {"ids": ids})


def jobs(
    states: Iterable[str], camera: str | None, since: Moment | None, until: Moment | None, after: str | None
) -> Request:
    """Return the request for a page of a list of jobs, the one behind the cursor `after`."""
    parameters = {
        "state": ",".join(states) or None,
        "camera": camera,
        "from": _written(since),
        "to": _written(until),
        "after": after,
        "limit": str(PAGE),
    }
    return Request("GET", "/v1/jobs", parameters=_stated(parameters))


def selection(
    after: str | None, since: Moment | None, camera: str | None, states: Iterable[str]
) -> dict[str, str]:
    """Return the parameters that select results of the feed."""
    parameters = {
        "after": after,
        "from": _written(since),
        "camera": camera,
        "state": ",".join(states) or None,
    }
    return _stated(parameters)


def results(parameters: Mapping[str, str], wait: float = 0.0) -> Request:
    """Return the request for a page of the feed; with `wait`, the answer comes as soon as there is one."""
    waiting = {"wait": _seconds(wait)} if wait else {}
    return Request("GET", "/v1/results", parameters={**parameters, **waiting, "limit": str(RESULTS)})


def events(parameters: Mapping[str, str], last_id: str | None) -> Request:
    """Return the request for a stream of the feed."""
    headers = {"Accept": EVENT_STREAM} | ({"Last-Event-ID": last_id} if last_id else {})
    return Request("GET", "/v1/events", parameters=dict(parameters), headers=headers)


def cancel(job_id: str) -> Request:
    """Return the request that cancels a job."""
    return Request("DELETE", _job_path(job_id))


def retry(job_id: str) -> Request:
    """Return the request that repeats a job."""
    return Request("POST", f"{_job_path(job_id)}/retry")


def retry_all(
    states: Sequence[str], camera: str | None, since: Moment | None, until: Moment | None, after: str | None
) -> Request:
    """Return the request that repeats the jobs of a page of a list, the one behind the cursor `after`."""
    selection = {"camera": camera, "from": _written(since), "to": _written(until), "after": after}
    return _json("/v1/jobs/retry", {"states": states, **_stated(selection)})


def ledger(camera: str | None, since: Moment | None, until: Moment | None) -> Request:
    """Return the request for the ledger."""
    parameters = {"camera": camera, "from": _written(since), "to": _written(until)}
    return Request("GET", "/v1/ledger", parameters=_stated(parameters))


def cameras() -> Request:
    """Return the request for all cameras."""
    return Request("GET", "/v1/cameras")


def rename_camera(camera: str, name: str, *, merge: bool) -> Request:
    """Return the request that renames a camera."""
    return _json(f"{_camera_path(camera)}/rename", {"id": name, "merge": merge})


def delete_camera(camera: str) -> Request:
    """Return the request that deletes a camera."""
    return Request("DELETE", _camera_path(camera))


def report(camera: str, document: Mapping[str, Any]) -> Request:
    """Return a gateway's report of a camera."""
    return _json(f"{_camera_path(camera)}/report", document)


def readiness() -> Request:
    """Return the request for the server's readiness."""
    return Request("GET", "/readyz")


def id_of(job: Job | str) -> str:
    """Return the id of a job or of an id."""
    return job.id if isinstance(job, Job) else job


def _origin(image: Image) -> dict[str, str]:
    headers = {
        "X-Camera-Id": None if image.camera is None else quote(image.camera, safe=_IN_HEADERS),
        "X-Captured-At": _written(image.captured_at),
        "X-Max-Age": None if image.max_age is None else _seconds(image.max_age),
    }
    return _stated(headers)


def _metadata(image: Image) -> dict[str, Any]:
    return {
        "camera": image.camera,
        "captured_at": _written(image.captured_at),
        "max_age": image.max_age,
        "idempotency_key": image.idempotency_key or _new_key(),
    }


def _part(name: str, kind: str, file: int | None = None) -> bytes:
    file_name = "" if file is None else f'; filename="{file}"'
    return (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    ).encode()


def _json(path: str, body: Mapping[str, Any]) -> Request:
    return Request("POST", path, headers={"Content-Type": _JSON}, chunks=((json.dumps(body).encode(),),))


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _camera_path(camera: str) -> str:
    return f"/v1/cameras/{quote(camera, safe='')}"


def _written(moment: Moment | None) -> str | None:
    if isinstance(moment, datetime) and moment.tzinfo is None:
        raise ValueError(
            f"{moment.isoformat()} has no zone; use an aware datetime, such as datetime.now(timezone.utc)."
        )
    return None if moment is None else moment.isoformat()


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _stated(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _new_key() -> str:
    """Return a key that makes all tries of one call a single upload."""
    return str(uuid.uuid4())

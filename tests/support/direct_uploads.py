"""Direct uploads: announcing, storing and completing images as clients do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
from flask.testing import FlaskClient

from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.settings import Settings
from core.storage import ObjectStore
from tests.support.images import jpeg
from tests.support.stream import assert_balanced

CAMERA = "00:1A:2B, Bänd 2 (links)@名"


def public(endpoint: str) -> str:
    """Return the name by which clients know a local S3 server."""
    return endpoint.replace("127.0.0.1", "localhost")


def described(data: bytes, **members: Any) -> dict[str, Any]:
    """Return the announcement of a JPEG."""
    return {"size": len(data), "media_type": "image/jpeg", **members}


def announce(client: FlaskClient, *files: Mapping[str, Any], **headers: str) -> list[dict[str, Any]]:
    """Announce images; return where to put them."""
    response = client.post("/v1/uploads", json={"files": list(files)}, headers=headers)
    assert response.status_code == 201, response.get_data(as_text=True)
    uploads: list[dict[str, Any]] = response.get_json()["uploads"]
    return uploads


def put(slot: Mapping[str, Any], data: bytes, **headers: str) -> int:
    """Put an image into storage as a client does; return the status."""
    return httpx.request(
        slot["method"], slot["url"], content=data, headers={**slot["headers"], **headers}, trust_env=False
    ).status_code


def send(client: FlaskClient, data: bytes, **members: Any) -> str:
    """Announce a JPEG and put it; return the upload's id."""
    (slot,) = announce(client, described(data, **members))
    assert put(slot, data) == 200
    return str(slot["id"])


def send_many(
    client: FlaskClient, settings: Settings, files: Sequence[Mapping[str, Any]], **headers: str
) -> list[str]:
    """Announce images and store `jpeg()` for each; return the uploads' ids."""
    slots = announce(client, *files, **headers)
    ObjectStore(settings).put_many([(object_key(settings, slot), jpeg()) for slot in slots])
    return [slot["id"] for slot in slots]


def complete(client: FlaskClient, ids: Sequence[str], **headers: str) -> list[dict[str, Any]]:
    """Complete uploads; return the outcome of each."""
    response = client.post("/v1/uploads/complete", json={"uploads": list(ids)}, headers=headers)
    assert response.status_code == 202, response.get_data(as_text=True)
    items: list[dict[str, Any]] = response.get_json()["items"]
    assert [item["upload"] for item in items] == list(ids)
    return items


def kinds(items: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Return status and type of each rejected upload; an accepted one has no type."""
    for item in items:
        assert "error" not in item or item["error"]["status"] == item["status"]
    return [(item["status"], item.get("error", {}).get("type", "").rpartition("/")[2]) for item in items]


def received(jobs: JobStore) -> int:
    """Return the number of images that the ledger counts as received, when it balances."""
    assert_balanced(jobs)
    return Ledger(jobs.client).balance().counts["received"]


def object_key(settings: Settings, slot: Mapping[str, Any]) -> str:
    """Return the key of the object that a client is to put."""
    return str(urlsplit(slot["url"]).path.removeprefix(f"/{settings.s3_bucket}/"))

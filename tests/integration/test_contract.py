"""Clients that know nothing but the documents, in front of the whole running stack."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from api.openapi.examples import SERVER
from api.schemas.base import EXAMPLE_ID
from infra.lab.stack import Stack
from tests.support.contract import Seen, contract
from tests.support.guides import GUIDES, NODE_PACKAGES, Guide, install_node_packages, run
from tests.support.servers import REPOSITORY

_EXAMPLES: Final = sorted((REPOSITORY / "docs" / "examples").glob("*.jpg"))

_PRINTED: Final = {
    "send-from-a-script": r'"status":202.*"status":202',
    "send-from-a-plc": '"state":"classified"',
    "send-from-node": "(?s)apple.jpg classified .*can.jpg classified non_biodegradable 0.9",
    "send-from-csharp": '(?s)"state":"classified".*"state":"classified"',
    "generate-a-client": '"problem":"/problems/unsupported-image"',
    "move-from-polling-to-wait": '(?s)("state":"classified".*){3}',
}
"""Guide to a pattern of what its script prints."""

_ELSEWHERE: Final = {
    "receive-webhooks": "tests/integration/test_webhook_guide.py",
    "export-results": "tests/integration/test_export_guide.py",
    **dict.fromkeys(
        ("read-a-camera", "read-a-folder", "trigger-from-a-plc", "connect-several-sites"),
        "tests/unit/gateway/test_documents.py: their configurations",
    ),
    "publish-by-mqtt": "tests/integration/test_mqtt_guide.py",
}
"""Other guides, and where they are run."""

_TARGET: Final = "http://127.0.0.1:9/"  # nobody listens there
_WEBHOOK: Final = "5f2b8c0d9e7a4136"  # in examples

_STREAM: Final = "streamEvents"  # an operation whose response does not end

_PARTS: Final = {
    "deleteCamera": "camera",
    "renameCamera": "camera",
    "cancelJob": "queued",
    "retryJob": "expired",
    "deleteWebhook": "webhook",
    "replayWebhook": "webhook",
}
"""Operation to the fixture with the id that its example takes; others take the id of a classified job."""


@pytest.fixture(scope="module")
def key(locked_stack: Stack) -> str:
    """A key that may do everything."""
    return locked_stack.make_key("contract", "admin")


@pytest.fixture(scope="module")
def api(locked_stack: Stack, key: str) -> Iterator[httpx.Client]:
    """A client with the key."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=locked_stack.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def _upload(api: httpx.Client, path: Path, query: str = "") -> str:
    answer = api.post(f"/v1/images{query}", content=path.read_bytes(), headers={"X-Camera-Id": "belt-1"})
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def jobs(api: httpx.Client) -> list[str]:
    """The ids of classified jobs."""
    return [_upload(api, path, "?wait=30") for path in _EXAMPLES]


def test_schemathesis_finds_no_fault(locked_stack: Stack, jobs: list[str], key: str) -> None:
    """Valid input is accepted, invalid input is rejected, and no response has what is not documented."""
    program = Path(sys.executable).with_name("schemathesis")
    config = REPOSITORY / "tests" / "support" / "schemathesis" / "schemathesis.toml"
    done = subprocess.run(
        [program, "--config-file", config, "run", f"{locked_stack.url}/openapi.json"],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'client'}",
            "API_KEY": key,
            "JOB_IDS": " ".join(jobs),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def queued(api: httpx.Client, locked_stack: Stack) -> Iterator[str]:
    """The id of a job that no worker takes."""
    (worker,) = locked_stack.workers
    locked_stack.signal(worker, signal.SIGSTOP)
    yield _upload(api, _EXAMPLES[0])
    locked_stack.signal(worker, signal.SIGCONT)


@pytest.fixture
def expired(api: httpx.Client) -> str:
    """The id of an expired job."""
    long_ago = {"X-Captured-At": "2026-01-31T07:15:00Z", "X-Max-Age": "1"}
    answer = api.post("/v1/images?wait=30", content=_EXAMPLES[0].read_bytes(), headers=long_ago)
    assert answer.json()["state"] == "expired"
    return str(answer.json()["id"])


@pytest.fixture
def camera(api: httpx.Client) -> str:
    """The id of a camera all of whose jobs have settled; the name that it gets is free."""
    api.delete("/v1/cameras/belt-2")
    return str(api.put("/v1/cameras/belt-1", json={}).json()["id"])


@pytest.fixture
def webhook(api: httpx.Client) -> Iterator[str]:
    """The id of a webhook to which nobody listens."""
    made = api.post("/v1/webhooks", json={"url": _TARGET}).json()["id"]
    yield made
    api.delete(f"/v1/webhooks/{made}")


def _calls() -> list[Any]:
    return [
        pytest.param(path, method, operation, id=operation["operationId"])
        for path, method, operation in contract().operations()
    ]


@pytest.mark.parametrize(("path", "method", "operation"), _calls())
def test_every_example_works(
    request: pytest.FixtureRequest,
    locked_stack: Stack,
    jobs: list[str],
    key: str,
    tmp_path: Path,
    path: str,
    method: str,
    operation: dict[str, Any],
) -> None:
    """The line of curl in the reference gets the first documented status, and a response as documented."""
    (sample,) = operation["x-codeSamples"]
    parts = _PARTS.get(operation["operationId"])
    part = request.getfixturevalue(parts) if parts else jobs[0]
    line = sample["source"].replace(SERVER, locked_stack.url).replace("ws_...", key)
    line = line.replace(EXAMPLE_ID, part).replace(_WEBHOOK, part).replace("https://example.com/", _TARGET)
    line = re.sub("(?<=Idempotency-Key: )[^']+", operation["operationId"], line)
    options = "--silent --show-error --dump-header head --output body --write-out '%{http_code}'"
    (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
    if operation["operationId"] == _STREAM:
        options += " --max-time 2 || true"
    status = int(run(["sh", "-c", f"{line} {options}"], tmp_path, WASTESTREAM_API_KEY=key))
    assert status == int(next(iter(operation["responses"])))
    head = (tmp_path / "head").read_text().strip().splitlines()
    fields = [(name, value) for name, _, value in (field.partition(": ") for field in head[1:])]
    body = tmp_path / "body"
    content = body.read_bytes() if body.exists() else b""
    address = re.sub(r"{\w+_id}", part, path).replace("{slug}", "queue-full")
    assert contract().violations(Seen.of(method.upper(), address, status, fields, content)) == []


@pytest.mark.parametrize("name", _PRINTED)
def test_every_guide_works(locked_stack: Stack, key: str, tmp_path: Path, name: str) -> None:
    """Its code, from top to bottom, does what it says."""
    if name == "send-from-csharp" and shutil.which("mcs") is None:
        if os.environ.get("CI"):
            pytest.fail("No compiler of C# here; CI must run the guide.")
        pytest.skip("no compiler of C# on this machine: mono-mcs")
    if name == "generate-a-client":
        install_node_packages(tmp_path)
    guide = Guide(name, tmp_path, locked_stack.url, key)
    assert re.search(_PRINTED[name], guide.run())
    for response in guide.requests():
        assert response.startswith(b"HTTP/1.1 202 ")
        assert b'"label":"biodegradable"' in response


def test_every_guide_is_run() -> None:
    """One that is added fails here until it is run above, or `_ELSEWHERE` says where."""
    assert _PRINTED.keys() | _ELSEWHERE.keys() == {path.stem for path in GUIDES.glob("*.md")}


def test_node_packages_are_locked_by_hash_and_have_no_address() -> None:
    """The registry is that of the machine."""
    locked = json.loads((NODE_PACKAGES / "package-lock.json").read_text())["packages"]
    packages = [package for name, package in locked.items() if name]
    assert all("integrity" in package and "resolved" not in package for package in packages)

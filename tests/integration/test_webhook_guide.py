"""The receivers in docs/how-to/receive-webhooks.md, as they stand there."""

from __future__ import annotations

import ipaddress
import re
import shutil
import sys
from pathlib import Path

import httpx
import playwright
import pytest

from core.jobs import JobState
from core.redis.job_store import JobStore
from core.redis.webhooks import WebhookStore
from tests.integration.test_feed import accept, settle
from tests.support.feed import recent_of
from tests.support.servers import REPOSITORY, Server, free_port, wait_until
from worker.sinks.webhook_manager import WebhookManager

GUIDE = REPOSITORY / "docs" / "how-to" / "receive-webhooks.md"
NODE = shutil.which("node") or str(Path(playwright.__file__).parent / "driver" / "node")


@pytest.mark.parametrize(
    ("language", "program", "name"), [("python", sys.executable, "a.py"), ("js", NODE, "a.mjs")]
)
def test_a_receiver_prints_what_is_signed(
    jobs: JobStore, tmp_path: Path, language: str, program: str, name: str
) -> None:
    """Every result, and nothing that is not signed, signed with another key or altered."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / name).write_text(code)
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}/"
    webhook = WebhookStore(jobs.client).create(url, ["*"], [JobState.CLASSIFIED])
    other = WebhookStore(jobs.client).create(url, ["*"], [JobState.CLASSIFIED])
    variables = {"WEBHOOK_SECRET": webhook.secret, "PORT": str(port)}
    receiver = Server([program, str(tmp_path / name)], log, variables, port)
    manager = WebhookManager(
        jobs.client, recent_of(jobs), lambda: True, [ipaddress.ip_network("127.0.0.0/8")]
    )
    ids = settle(jobs, accept(jobs, 3, "Bänd"))
    receiver.start()
    manager.start()
    try:

        def failing() -> bool:
            return any(each.id == other.id and each.failing_ms for each in WebhookStore(jobs.client).all())

        wait_until(
            lambda: all(f"{job_id} Bänd classified" in log.read_text() for job_id in ids), "the results"
        )
        wait_until(failing, "the rejection of another key's")
        headers = {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        for sent in (headers, {}):
            assert httpx.post(url, json={"data": {"results": []}}, headers=sent).status_code == 401
    finally:
        manager.stop()
        manager.join()
        receiver.stop()
    assert log.read_text().count(" Bänd classified") == len(ids)

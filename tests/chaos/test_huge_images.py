"""Few bytes, much work: images that are valid, and huge, starve nobody and are not taken for hung ones."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

from flask.testing import FlaskClient
from PIL import Image

from core.ids import accepted_ms
from core.redis.eta import Place
from core.redis.job_store import JobStore
from tests.support.images import encoded
from tests.support.servers import Server, wait_until
from tests.support.stream import finish, states, upload

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"

_HUGE = encoded(Image.new("L", (6_000, 5_000), 7), "PNG", compress_level=9)
"""A PNG of 30 million pixels in 30 kB."""


def _upload_huge(client: FlaskClient, count: int) -> list[str]:
    parts = [(io.BytesIO(_HUGE), f"{number}.png", "image/png") for number in range(count)]
    response = client.post("/v1/images/bulk", data={"i": parts}, headers={"X-Camera-Id": "huge"})
    assert response.status_code == 202, response.get_data(as_text=True)
    return [item["job"]["id"] for item in response.get_json()["items"]]


def test_huge_images_leave_turns_to_others(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Four bulk uploads of them and single images beside: a single one waits for one or two per worker.

    All together take several times as long as a batch may hang; no child is ended and no start counted.
    """
    begun = tmp_path / "begun"
    options = {"FAULT": "none", "MARKER": str(tmp_path / "m"), "BEGUN": str(begun)}
    options["WASTESTREAM_BATCH_TIMEOUT"] = "1"
    workers = [start_worker(name, module=FAULTY, **options) for name in ("first", "second")]
    children = [worker.children() for worker in workers]
    huge = [job_id for _ in range(4) for job_id in _upload_huge(client, 8)]
    single: list[str] = []
    promised: list[tuple[float, Place]] = []
    while states(jobs, huge)["queued"]:
        single.append(upload(client))
        wait_until(lambda: states(jobs, single[-1:])["queued"] == 0, "a single image")
        promised += [(time.time(), place) for place in jobs.places(huge[-1:]) if place is not None]
    finish(jobs, huge + single)
    settled = sorted(job.settled_ms or 0 for job in jobs.read_many(huge) if job is not None)
    waited_for = [
        sum(accepted_ms(job.id) < moment <= (job.settled_ms or 0) for moment in settled)
        for job in jobs.read_many(single)
        if job is not None
    ]
    assert len(waited_for) > 4
    assert max(waited_for) <= 2 * len(workers) + 1
    end = settled[-1] / 1000
    assert all(
        place.eta_seconds is None or place.eta_seconds > (end - moment) / 4 for moment, place in promised[4:]
    )
    assert [worker.children() for worker in workers] == children
    assert not begun.exists()


def test_a_huge_single_image_goes_with_bulk_uploads(client: FlaskClient, jobs: JobStore) -> None:
    """Single images that come after it do not wait for it."""
    response = client.post("/v1/images", data=_HUGE, headers={"Content-Type": "image/png"})
    assert response.status_code == 202
    assert jobs.queue().pending == {"single": 0, "bulk": 1}

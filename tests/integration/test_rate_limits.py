"""Rate limits of API keys: images a second, over all processes."""

from __future__ import annotations

import hashlib
import time

from flask.testing import FlaskClient

from api.app import create_app
from core.redis.api_keys import KeyStore, Scope
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import IMAGES, Shard
from core.storage import ObjectStore
from tests.support.calls import assert_problem, bearer, post_image, post_jpegs
from tests.support.servers import wait_until

SLOW = 0.001  # images a second: nothing comes back while a test runs


def _limited(keys: KeyStore, rate: float, burst: int) -> dict[str, str]:
    return bearer(keys.create("limited", [Scope.INGEST], rate=rate, burst=burst)[1])


def _stored(objects: ObjectStore) -> set[str]:
    """Return the ids of the jobs whose images are stored."""
    shards = [Shard.at(key) for page in objects.pages(IMAGES) for key in page]
    return {job_id for shard in shards if shard is not None for job_id in shard.job_ids}


def test_a_limit_counts_images_over_all_processes(
    settings: Settings, client: FlaskClient, keys: KeyStore, jobs: JobStore, objects: ObjectStore
) -> None:
    """A bulk upload of 9 leaves 1 of 10; the next that finds none is rejected wherever it arrives."""
    limited, before = _limited(keys, SLOW, 10), _stored(objects)
    first = post_jpegs(client, ["a.jpg"] * 9, limited)
    assert first.headers["RateLimit-Policy"] == '"images";q=10;w=10000'
    assert first.headers["RateLimit"] == '"images";r=1;t=9000'
    last = post_image(client, **limited)
    assert (last.status_code, last.headers["RateLimit"]) == (202, '"images";r=0;t=10000')
    for process in (client, create_app(settings).test_client()):
        for response in (post_image(process, **limited), post_jpegs(process, ["b.jpg"] * 2, limited)):
            assert_problem(response, 429, "as many images as it may")
            assert 900 <= int(response.headers["Retry-After"]) <= 1000
            assert response.headers["RateLimit"] == f'"images";r=0;t={response.headers["Retry-After"]}'
    assert jobs.pending() == 10
    assert len(_stored(objects) - before) == 10
    _, free = keys.create("free", [Scope.INGEST])
    wait_until(
        lambda: post_image(client, **bearer(free)).status_code == 202, "a key without a limit to work", 5
    )


def test_a_limit_may_be_overdrawn_once(client: FlaskClient, keys: KeyStore) -> None:
    """A call larger than the burst is taken while an image is left, and paid for by a longer wait."""
    limited = _limited(keys, SLOW, 2)
    assert post_image(client, **limited).status_code == 202
    assert post_jpegs(client, ["a.jpg"] * 32, limited).status_code == 202
    wait = int(post_image(client, **limited).headers["Retry-After"])
    assert 31_900 <= wait <= 32_000  # 33 sent, 2 at once, one must be there again: 32 x 1000 s


def test_waiting_as_told_is_enough(client: FlaskClient, keys: KeyStore) -> None:
    """After Retry-After the next image is taken."""
    limited = _limited(keys, 2.0, 1)
    assert post_image(client, **limited).status_code == 202
    response = post_image(client, **limited)
    assert response.status_code == 429
    time.sleep(int(response.headers["Retry-After"]))
    assert post_image(client, **limited).status_code == 202


def test_a_repeated_upload_is_counted_once(client: FlaskClient, keys: KeyStore) -> None:
    """The same idempotency key takes nothing from the limit again."""
    limited = _limited(keys, SLOW, 2)
    for _ in range(4):
        assert post_image(client, **limited, Idempotency_Key="k").status_code == 202
    assert post_image(client, **limited).headers["RateLimit"].startswith('"images";r=0;')


def test_the_settings_limit_is_each_keys_own(settings: Settings, keys: KeyStore) -> None:
    """WASTESTREAM_KEY_RATE and _BURST hold where a key has none; a key's 0 is no limit."""
    digest = hashlib.sha256(b"from-the-settings").hexdigest()
    limits = {"key_rate": SLOW, "key_burst": 1, "admin_key_sha256": digest}
    client = create_app(settings.model_copy(update=limits)).test_client()
    tokens = [keys.create(name, [Scope.INGEST])[1] for name in ("one", "two")]
    tokens += ["from-the-settings", keys.create("free", [Scope.INGEST], rate=0.0)[1]]
    statuses = [[post_image(client, **bearer(token)).status_code for _ in range(2)] for token in tokens]
    assert statuses == [[202, 429], [202, 429], [202, 429], [202, 202]]

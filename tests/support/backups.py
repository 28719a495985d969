"""Backups and restorations, and what Redis holds before and after."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis import Redis

from api.backup.create import Backup
from api.backup.manifest import Manifest
from api.backup.restore import Restorer
from api.backup.target import Target
from core.archive import RESULTS
from core.messages import QUEUES, keys_in
from core.redis import keys
from core.redis.client import connect
from core.settings import Settings
from core.shards import IMAGES, job_id_of
from core.storage import ObjectStore


def database(settings: Settings, number: int) -> Settings:
    """The same servers with another database of Redis, and a bucket that does not exist."""
    url = settings.redis_url.get_secret_value().removesuffix("/0")
    bucket = f"restored-{uuid.uuid4().hex}"
    return settings.model_copy(update={"redis_url": SecretStr(f"{url}/{number}"), "s3_bucket": bucket})


def remove_earlier(objects: ObjectStore) -> None:
    """Remove the images and results that earlier tests left in the shared bucket."""
    for folder in (IMAGES, RESULTS):
        for page in objects.pages(folder):
            objects.delete_many(page)


def lossless(settings: Settings) -> Redis:
    """A client for snapshots."""
    return connect(settings.redis_url.get_secret_value(), lossless=True)


def make_backup(settings: Settings, place: Path | str) -> Manifest:
    """Back up; the lines for the operator are not looked at."""
    return Backup(settings, Target(str(place), make=True), lambda _: None).run()


def restore(settings: Settings, place: Path | str, *, skip_damaged: bool = False) -> Manifest:
    """Restore as `make_backup`."""
    return Restorer(settings, Target(str(place), make=False), lambda _: None).run(skip_damaged=skip_damaged)


def contents(client: Redis) -> dict[str, Any]:
    """What Redis holds of an installation, without what is about processes and messages."""
    read: dict[str, Callable[[str], Any]] = {
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
        "string": client.get,
    }
    left_out = {keys.INSTALLATION, keys.RECOVERY, keys.WITHDRAWN, keys.PING}
    return {
        key: read[str(client.type(key))](key)
        for key in sorted(client.scan_iter(f"{keys.PREFIX}*"))
        if key not in left_out and not keys.is_passing(key)
    }


def messages_of(client: Redis) -> list[list[str]]:
    """Return the ids in each message, by queue, the next one first."""
    return [
        [job_id_of(key) for key in keys_in(json.loads(message))]
        for queue in QUEUES.values()
        for message in reversed(client.lrange(queue, 0, -1))
    ]

"""What the routes of one API process work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from flask import current_app

from api.auth.key_cache import KeyCache, settings_key
from api.events import Waiters
from api.ingest.admission import Admission
from api.ingest.commit import Commits
from api.integrity import Integrity
from api.readiness import Readiness
from core.disk import Disk
from core.installation import Installation
from core.messages import Envelope, make_app
from core.redis.api_keys import KeyStore
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.redis.server import RedisServer
from core.redis.workers import WorkerRegistry
from core.settings import Settings
from core.storage import ObjectStore

_EXTENSION: Final = "wastestream"


@dataclass(frozen=True)
class Services:
    """The process's own connections; none may be shared across a fork."""

    settings: Settings
    server: RedisServer
    jobs: JobStore
    workers: WorkerRegistry
    ledger: Ledger
    objects: ObjectStore
    commits: Commits
    waiters: Waiters
    admission: Admission
    key_cache: KeyCache
    integrity: Integrity
    readiness: Readiness
    disk: Disk

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Return services that connect at their first use."""
        client = connect(settings.redis_url.get_secret_value())
        jobs = JobStore(
            client,
            retention_hours=settings.retention_hours,
            max_queued=settings.max_queued,
            max_cameras=settings.max_cameras,
            key_cameras=settings.key_cameras,
        )
        server, disk = RedisServer(client), Disk(settings.disk)
        workers, ledger, objects = WorkerRegistry(client), Ledger(client), ObjectStore(settings)
        integrity = Integrity(Installation(client, objects), jobs)
        return cls(
            settings=settings,
            server=server,
            jobs=jobs,
            workers=workers,
            ledger=ledger,
            objects=objects,
            commits=Commits(jobs, objects, Envelope(make_app(settings))),
            waiters=Waiters(client, most=settings.api_waiting),
            admission=Admission(),
            key_cache=KeyCache(KeyStore(client), settings_key(settings)),
            integrity=integrity,
            readiness=Readiness(server, jobs, workers, ledger, objects, integrity=integrity, disk=disk),
            disk=disk,
        )


def services() -> Services:
    """Return the services of the app that handles the current request."""
    return cast(Services, current_app.extensions[_EXTENSION])

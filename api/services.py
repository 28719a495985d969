"""Services that the routes of one API process share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from flask import current_app

from api.auth.key_cache import KeyCache, settings_key
from api.events import JobEvents
from api.ingest.commit import Commits
from api.ingest.gate import Gate
from api.ingest.throttle import Throttle
from api.integrity import Integrity
from api.readiness import ReadinessCheck
from core.disk import Disk
from core.installation import Installation
from core.messages import Envelope, make_app
from core.redis.api_keys import KeyStore
from core.redis.job_store import JobStore, connect
from core.redis.ledger import Ledger
from core.redis.server import RedisServer
from core.settings import Settings
from core.storage import ObjectStore

_EXTENSION: Final = "wastestream"


@dataclass(frozen=True)
class Services:
    """Connections of one process; none may be shared across a fork."""

    settings: Settings
    server: RedisServer
    jobs: JobStore
    ledger: Ledger
    objects: ObjectStore
    commits: Commits
    job_events: JobEvents
    gate: Gate
    key_cache: KeyCache
    throttle: Throttle
    integrity: Integrity
    readiness: ReadinessCheck
    disk: Disk

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Return services that connect when they are first used."""
        client = connect(settings.redis_url.get_secret_value())
        jobs = JobStore(
            client,
            retention_hours=settings.retention_hours,
            max_queued=settings.max_queued,
            max_cameras=settings.max_cameras,
            key_cameras=settings.key_cameras,
        )
        server, disk = RedisServer(client), Disk(settings.disk)
        ledger, objects = Ledger(client), ObjectStore(settings)
        integrity = Integrity(Installation(client, objects), jobs)
        return cls(
            settings=settings,
            server=server,
            jobs=jobs,
            ledger=ledger,
            objects=objects,
            commits=Commits(jobs, objects, Envelope(make_app(settings))),
            job_events=JobEvents(client, max_waiting=settings.api_waiting),
            gate=Gate(),
            key_cache=KeyCache(KeyStore(client), settings_key(settings)),
            throttle=Throttle(),
            integrity=integrity,
            readiness=ReadinessCheck(server, jobs, ledger, objects, integrity=integrity, disk=disk),
            disk=disk,
        )


def services() -> Services:
    """Return the services of the application that handles the current request."""
    return cast(Services, current_app.extensions[_EXTENSION])

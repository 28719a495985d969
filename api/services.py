"""What the routes of one API process work with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

from flask import current_app

from api.commit import Commits
from api.gate import Gate
from api.integrity import Integrity
from api.keyring import Keyring, settings_key
from api.readiness import Readiness
from api.throttle import Throttle
from api.waiters import Waiters
from core.accounts import Accounts
from core.disk import Disk
from core.errors import BusyError
from core.installation import Installation
from core.keys import KeyStore
from core.ledger import JobStore, connect
from core.objects import ObjectStore
from core.queue import Envelope, make_app
from core.redis_server import RedisServer
from core.settings import Settings

_EXTENSION: Final = "wastestream"
_BULK_PLACES: Final = 4
# Of up to 128 MiB each, twice as much where one is decoded, and four shards of 8 MiB on their way to storage.
_BULK_PATIENCE: Final = 20.0  # seconds
_BULK_SHARE: Final = 4  # at most one in so many threads serves bulk uploads, or waits to


@dataclass(frozen=True)
class Services:
    """The process's own connections; none may be shared across a fork."""

    settings: Settings
    server: RedisServer
    jobs: JobStore
    accounts: Accounts
    objects: ObjectStore
    commits: Commits
    waiters: Waiters
    upload_places: threading.BoundedSemaphore
    bulk_places: threading.BoundedSemaphore
    bulk_threads: threading.BoundedSemaphore
    gate: Gate
    keyring: Keyring
    throttle: Throttle
    integrity: Integrity
    readiness: Readiness
    disk: Disk

    @contextmanager
    def bulk_place(self) -> Iterator[None]:
        """Hold one of the places for bulk uploads, each of which is in memory as a whole.

        Raises:
            BusyError: none became free in time, or so many wait for one that others would find no thread.
        """
        with _taken(self.bulk_threads, seconds=0), _taken(self.bulk_places, seconds=_BULK_PATIENCE):
            yield

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
        accounts, objects = Accounts(client), ObjectStore(settings)
        integrity = Integrity(Installation(client, objects), jobs)
        return cls(
            settings=settings,
            server=server,
            jobs=jobs,
            accounts=accounts,
            objects=objects,
            commits=Commits(jobs, objects, Envelope(make_app(settings))),
            waiters=Waiters(client, most=settings.api_waiting),
            upload_places=threading.BoundedSemaphore(settings.api_threads),
            bulk_places=threading.BoundedSemaphore(_BULK_PLACES),
            bulk_threads=threading.BoundedSemaphore(settings.api_threads // _BULK_SHARE),
            gate=Gate(),
            keyring=Keyring(KeyStore(client), settings_key(settings)),
            throttle=Throttle(),
            integrity=integrity,
            readiness=Readiness(server, jobs, accounts, objects, integrity=integrity, disk=disk),
            disk=disk,
        )


@contextmanager
def _taken(places: threading.BoundedSemaphore, *, seconds: float) -> Iterator[None]:
    if not places.acquire(timeout=seconds):
        raise BusyError("All places for bulk uploads are taken; send fewer at a time. Single uploads go on.")
    try:
        yield
    finally:
        places.release()


def services() -> Services:
    """Return the services of the app that handles the current request."""
    return cast(Services, current_app.extensions[_EXTENSION])

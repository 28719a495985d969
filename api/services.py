"""What the routes of one API process work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from flask import current_app

from api.waiters import Waiters
from core.ledger import JobStore, connect
from core.objects import ObjectStore
from core.queue import Envelope, make_app
from core.settings import Settings

_EXTENSION: Final = "wastestream"


@dataclass(frozen=True)
class Services:
    """The process's own connections; none may be shared across a fork."""

    settings: Settings
    jobs: JobStore
    objects: ObjectStore
    envelope: Envelope
    waiters: Waiters

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Return services that connect at their first use."""
        client = connect(settings.redis_url.get_secret_value())
        return cls(
            settings=settings,
            jobs=JobStore(client, retention_hours=settings.retention_hours),
            objects=ObjectStore(settings),
            envelope=Envelope(make_app(settings)),
            waiters=Waiters(client, most=settings.api_threads // 2),
        )


def services() -> Services:
    """Return the services of the app that handles the current request."""
    return cast(Services, current_app.extensions[_EXTENSION])

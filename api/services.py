"""Services that the routes of one API process share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from flask import current_app

from api.auth.key_cache import KeyCache, settings_key
from api.events import JobEvents
from api.ingest.commit import Commits
from api.ingest.direct import DirectUploads
from api.ingest.retries import Retries
from api.ingest.upload import Ingest
from api.integrity import Integrity
from api.readiness import ReadinessCheck
from core.disk import Disk
from core.messages import Envelope, make_app
from core.redis.api_keys import KeyStore
from core.redis.camera_names import CameraNames
from core.redis.camera_reports import CameraReports
from core.redis.client import connect
from core.redis.feed import Feed
from core.redis.installation import Installation
from core.redis.job_index import JobIndex
from core.redis.job_store import JobStore
from core.redis.keys import STREAMS, WAITING
from core.redis.ledger import Ledger
from core.redis.metrics import MetricStore, Reporter
from core.redis.oom import OomTolerantRedis
from core.redis.pauses import Pauses
from core.redis.pending import PendingJobs
from core.redis.recent_results import RecentResults
from core.redis.results import ResultReader
from core.redis.row_pending import RowPending
from core.redis.server import RedisServer
from core.redis.sinks import SinkStore
from core.redis.streams import ProcessCounts
from core.redis.upload_secret import UploadSecret
from core.redis.webhooks import WebhookStore
from core.redis.workers import WorkerRegistry
from core.settings import Settings
from core.storage import ObjectStore

_EXTENSION: Final = "wastestream"
_GATHER_SECONDS: Final = 0.02  # so that a round of all event streams takes the results of many batches


@dataclass(frozen=True)
class Services:
    """Connections of one process; none may be shared across a fork."""

    settings: Settings
    jobs: JobStore
    index: JobIndex
    workers: WorkerRegistry
    ledger: Ledger
    camera_reports: CameraReports
    camera_names: CameraNames
    pending: PendingJobs
    row_pending: RowPending
    feed: Feed
    recent: RecentResults
    streams: ProcessCounts
    waiting: ProcessCounts
    metrics: MetricStore
    reporter: Reporter
    sinks: SinkStore
    webhooks: WebhookStore
    objects: ObjectStore
    ingest: Ingest
    direct_uploads: DirectUploads
    retries: Retries
    job_events: JobEvents
    key_cache: KeyCache
    integrity: Integrity
    readiness: ReadinessCheck
    disk: Disk

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Return services that connect when they are first used."""
        client = connect(settings.redis)
        jobs = JobStore(
            client,
            retention_hours=settings.retention_hours,
            max_queued=settings.max_queued,
            max_cameras=settings.max_cameras,
            key_cameras=settings.key_cameras,
            replicas=settings.redis_replicas,
        )
        feed = Feed(client, retention_hours=settings.retention_hours)
        server, disk = RedisServer(client, jobs.replication), Disk(settings.disk)
        workers, ledger, objects = WorkerRegistry(client), Ledger(client), ObjectStore(settings)
        recent = RecentResults(ResultReader(feed, jobs), gather=_GATHER_SECONDS)
        envelope = Envelope(make_app(settings))
        commits = Commits(jobs, objects, envelope)
        ingest, index = Ingest(jobs, commits, server, disk), JobIndex(client)
        retention = settings.ledger_retention_days * 86_400
        integrity = Integrity(Installation(client, objects), jobs)
        return cls(
            settings=settings,
            jobs=jobs,
            index=index,
            workers=workers,
            ledger=ledger,
            camera_reports=CameraReports(client, max_cameras=settings.max_cameras, retention=retention),
            camera_names=CameraNames(client, retention=retention),
            pending=PendingJobs(client),
            row_pending=RowPending(client),
            feed=feed,
            recent=recent,
            streams=ProcessCounts(client, STREAMS),
            waiting=ProcessCounts(client, WAITING),
            metrics=MetricStore(client),
            reporter=Reporter(connect(settings.redis, kind=OomTolerantRedis)),
            sinks=SinkStore(client, feed),
            webhooks=WebhookStore(client),
            objects=objects,
            ingest=ingest,
            direct_uploads=DirectUploads(
                settings, jobs, objects, envelope, secret=UploadSecret(client), server=server, disk=disk
            ),
            retries=Retries(jobs, index, objects, ingest),
            job_events=JobEvents(client, max_waiting=settings.api_waiting),
            key_cache=KeyCache(KeyStore(client), settings_key(settings)),
            integrity=integrity,
            readiness=ReadinessCheck(
                server,
                jobs,
                workers,
                ledger,
                objects,
                pauses=Pauses(client),
                integrity=integrity,
                disk=disk,
            ),
            disk=disk,
        )


def services() -> Services:
    """Return the services of the application that handles the current request."""
    return cast(Services, current_app.extensions[_EXTENSION])

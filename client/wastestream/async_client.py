"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType

from wastestream import feed
from wastestream.calls import TIMEOUT, Query, Retried
from wastestream.cameras import Camera
from wastestream.connect import connect
from wastestream.feed import selection
from wastestream.images import Content, Image, as_image
from wastestream.jobs import Job, State
from wastestream.ledger import Ledger
from wastestream.many import CONCURRENCY, Images, Outcome, Pipeline
from wastestream.progress import Report
from wastestream.requests import Moment
from wastestream.retry import Retry
from wastestream.transport import AsyncTransport


class AsyncClient:
    """`Client` for asyncio: the same methods, as coroutines and asynchronous iterators.

    Use it in an `async with`. For arguments and errors see `Client`.
    """

    def __init__(
        self, url: str, *, key: str | None = None, camera: str | None = None, retry: Retry | None = None
    ) -> None:
        self._calls = connect(AsyncTransport, url, key, camera, retry or Retry())

    async def __aenter__(self) -> AsyncClient:  # noqa: PYI034 - Python 3.10 has no Self
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        await self._calls.transport.close()

    async def classify(self, image: Image | Content, *, timeout: float = TIMEOUT) -> Job:
        """See `Client.classify`."""
        return await self._calls.classify(as_image(image), timeout)

    def classify_many(
        self, images: Images, *, concurrency: int = CONCURRENCY, progress: Report | bool = False
    ) -> AsyncIterator[Outcome]:
        """See `Client.classify_many`. The iterable may be asynchronous."""
        pipeline = Pipeline(self._calls, images, settle=True, concurrency=concurrency, progress=progress)
        return pipeline.outcomes()

    async def upload(self, image: Image | Content) -> Job:
        """See `Client.upload`."""
        return (await self._calls.upload(as_image(image))).job

    def upload_many(
        self, images: Images, *, concurrency: int = CONCURRENCY, progress: Report | bool = False
    ) -> AsyncIterator[Outcome]:
        """See `Client.upload_many`. The iterable may be asynchronous."""
        pipeline = Pipeline(self._calls, images, settle=False, concurrency=concurrency, progress=progress)
        return pipeline.outcomes()

    async def job(self, job_id: str) -> Job:
        """See `Client.job`."""
        return (await self._calls.peek(job_id)).job

    async def query(self, jobs: Iterable[Job | str]) -> Query:
        """See `Client.query`."""
        return await self._calls.query(jobs)

    def jobs(
        self,
        *,
        state: State | Iterable[State] | None = None,
        camera: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> AsyncIterator[Job]:
        """See `Client.jobs`."""
        return self._calls.jobs(state, camera, since, until)

    def results(
        self,
        *,
        after: str | None = None,
        since: Moment | None = None,
        camera: str | None = None,
        state: State | Iterable[State] | None = None,
        follow: bool = False,
        cursor_file: str | Path | None = None,
    ) -> AsyncIterator[Job]:
        """See `Client.results`."""
        selected = selection(after, since, camera, state)
        return feed.results(self._calls, selected, follow=follow, cursor_file=cursor_file)

    def events(
        self,
        *,
        after: str | None = None,
        since: Moment | None = None,
        camera: str | None = None,
        state: State | Iterable[State] | None = None,
        cursor_file: str | Path | None = None,
    ) -> AsyncIterator[Job]:
        """See `Client.events`."""
        selected = selection(after, since, camera, state)
        return feed.events(self._calls, selected, cursor_file=cursor_file)

    async def wait(self, job: Job | str, *, timeout: float = TIMEOUT) -> Job:
        """See `Client.wait`."""
        return await self._calls.wait(job, timeout)

    async def cancel(self, job: Job | str) -> Job:
        """See `Client.cancel`."""
        return await self._calls.cancel(job)

    async def retry(self, job: Job | str) -> Job:
        """See `Client.retry`."""
        return await self._calls.retry(job)

    def retry_all(
        self,
        *,
        state: State | Iterable[State] = ("failed", "expired"),
        camera: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> AsyncIterator[Retried]:
        """See `Client.retry_all`."""
        return self._calls.retry_all(state, camera, since, until)

    async def ledger(
        self, *, camera: str | None = None, since: Moment | None = None, until: Moment | None = None
    ) -> Ledger:
        """See `Client.ledger`."""
        return await self._calls.ledger(camera, since, until)

    async def cameras(self) -> list[Camera]:
        """See `Client.cameras`."""
        return await self._calls.cameras()

    async def rename_camera(self, camera: str, name: str, *, merge: bool = False) -> Camera:
        """See `Client.rename_camera`."""
        return await self._calls.rename_camera(camera, name, merge=merge)

    async def delete_camera(self, camera: str) -> Camera:
        """See `Client.delete_camera`."""
        return await self._calls.delete_camera(camera)

"""The client for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from wastestream.many import CONCURRENCY, Outcome, Pipeline
from wastestream.progress import Report
from wastestream.requests import Moment
from wastestream.retry import Retry
from wastestream.transport import BlockingTransport, iterate, run


class Client:
    """Calls of one wastestream server. Use it in a `with`, or call `close`. Threads may share it.

    A call is repeated while the server is unreachable, unavailable or busy, for the time that `retry` says;
    the server takes an image once, however often its upload is repeated. Any call may raise `ApiError`,
    `GaveUpError` or `NotWastestreamError`.

    Args:
        url: the server's address, such as `http://127.0.0.1:8000`.
        key: an API key of the server.
        camera: id of the camera of images that name none.
        retry: time limits of retries.

    Raises:
        ValueError: the address or the key cannot be one.
        ProxyError: the environment names an unusable proxy. Addresses of this machine are called directly.
    """

    def __init__(
        self, url: str, *, key: str | None = None, camera: str | None = None, retry: Retry | None = None
    ) -> None:
        self._calls = connect(BlockingTransport, url, key, camera, retry or Retry())

    def __enter__(self) -> Client:  # noqa: PYI034 - Python 3.10 has no Self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        run(self._calls.transport.close())

    def classify(self, image: Image | Content, *, timeout: float = TIMEOUT) -> Job:
        """Send one image and return its job when it has settled, in any terminal state.

        Args:
            image: a path, the bytes of a JPEG, PNG or WebP file, a Pillow image, or one of these as `Image`.
            timeout: seconds to wait for the result.

        Raises:
            ImageError: the image cannot be read, or is too large.
            NotSettledError: the job has not settled in time; it goes on.
        """
        return run(self._calls.classify(as_image(image), timeout))

    def classify_many(
        self,
        images: Iterable[Image | Content],
        *,
        concurrency: int = CONCURRENCY,
        progress: Report | bool = False,
    ) -> Iterator[Outcome]:
        """Send many images and yield the outcome of each as soon as it is known, in any order.

        Images are taken from the iterable when they can be sent, in this thread, and are sent in groups of up
        to 64 images and 16 MiB. At most `concurrency` groups are in memory, and about 1,000 accepted images
        wait for their results at a time. A bad image is an outcome with an error, and the others go on. An
        iterable that waits, perhaps for a camera, delays the outcomes of earlier images: send such images
        with `upload` or `classify`.

        Args:
            images: as `classify` accepts them.
            concurrency: number of uploads at a time.
            progress: called with a `Progress` after each step; True for a bar, which needs the package rich.

        Raises:
            KeyRejectedError: the server rejects the key.
            GaveUpError: the server was unreachable, or settled no image, for too long. Before an error is
                raised, each image that was taken has an outcome.
        """
        pipeline = Pipeline(self._calls, images, settle=True, concurrency=concurrency, progress=progress)
        return iterate(pipeline.outcomes())

    def upload(self, image: Image | Content) -> Job:
        """Send one image and return its job as soon as the image is safe; `wait` has the result later.

        Raises:
            ImageError: the image cannot be read, or is too large.
        """
        return run(self._calls.upload(as_image(image))).job

    def upload_many(
        self,
        images: Iterable[Image | Content],
        *,
        concurrency: int = CONCURRENCY,
        progress: Report | bool = False,
    ) -> Iterator[Outcome]:
        """Send many images as `classify_many` does; yield the outcome of each as soon as it is accepted."""
        pipeline = Pipeline(self._calls, images, settle=False, concurrency=concurrency, progress=progress)
        return iterate(pipeline.outcomes())

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return run(self._calls.peek(job_id)).job

    def query(self, jobs: Iterable[Job | str]) -> Query:
        """Return any number of jobs as they are now, and the ids that the server does not know."""
        return run(self._calls.query(jobs))

    def jobs(
        self,
        *,
        state: State | Iterable[State] | None = None,
        camera: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Iterator[Job]:
        """Yield jobs in the order of their acceptance, oldest first; further ones are fetched as needed.

        Args:
            state: one or more states; None for all.
            camera: of one camera.
            since: first time of acceptance, with a zone, or a date (midnight UTC); None: 24 hours ago.
            until: end of the times of acceptance, itself not included; None: no end.
        """
        return iterate(self._calls.jobs(state, camera, since, until))

    def results(
        self,
        *,
        after: str | None = None,
        since: Moment | None = None,
        camera: str | None = None,
        state: State | Iterable[State] | None = None,
        follow: bool = False,
        cursor_file: str | Path | None = None,
    ) -> Iterator[Job]:
        """Yield settled jobs in the order of settling, each once, for as long as the server keeps them.

        With `cursor_file` a program that is started again goes on where it stopped: the file gets the cursor
        after a page of results when the caller has taken the page and asks for more, so after a crash up to
        1,000 results come again.

        Args:
            after: a cursor; None: begin with the oldest result.
            since: instead of `after`, a time with a zone, or a date (midnight UTC), of settling.
            camera: of one camera.
            state: one or more states; None for all.
            follow: whether to wait for further results at the end, for ever.
            cursor_file: file that keeps the cursor; once it exists it replaces `after` and `since`.

        Raises:
            CursorExpiredError: results after the cursor are no longer kept; `oldest` is where to go on.
        """
        selected = selection(after, since, camera, state)
        return iterate(feed.results(self._calls, selected, follow=follow, cursor_file=cursor_file))

    def events(
        self,
        *,
        after: str | None = None,
        since: Moment | None = None,
        camera: str | None = None,
        state: State | Iterable[State] | None = None,
        cursor_file: str | Path | None = None,
    ) -> Iterator[Job]:
        """Yield jobs as they settle, each once, over one connection; it never ends.

        Without `after` and `since` it begins now. A connection that breaks is opened again and misses
        nothing. `cursor_file` is written about once a second, with the cursor after the last job but the one
        in hand. Arguments and errors are those of `results`.
        """
        selected = selection(after, since, camera, state)
        return iterate(feed.events(self._calls, selected, cursor_file=cursor_file))

    def wait(self, job: Job | str, *, timeout: float = TIMEOUT) -> Job:
        """Return a job when it has settled.

        Raises:
            NotSettledError: it has not after `timeout` seconds; it goes on.
        """
        return run(self._calls.wait(job, timeout))

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job that has not settled; return it."""
        return run(self._calls.cancel(job))

    def retry(self, job: Job | str) -> Job:
        """Classify the image of a `failed` or `expired` job again; return the new job.

        The same call again returns the same new job.
        """
        return run(self._calls.retry(job))

    def retry_all(
        self,
        *,
        state: State | Iterable[State] = ("failed", "expired"),
        camera: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Iterator[Retried]:
        """Classify the images of many jobs again; yield the outcome of each, the oldest first.

        Jobs are repeated page by page, as the outcomes are taken. The same call again has the same new jobs.

        Args:
            state: `failed`, `expired` or both.
            camera: as of `jobs`.
            since: as of `jobs`.
            until: as of `jobs`.
        """
        return iterate(self._calls.retry_all(state, camera, since, until))

    def ledger(
        self, *, camera: str | None = None, since: Moment | None = None, until: Moment | None = None
    ) -> Ledger:
        """Return the counts of whole hours, of one camera or all.

        Args:
            camera: of one camera.
            since: a time with a zone, or a date (midnight UTC), in the first hour; None: 24 hours before.
            until: end of the last hour; None: now.
        """
        return run(self._calls.ledger(camera, since, until))

    def cameras(self) -> list[Camera]:
        """Return the cameras that have sent an image, that a gateway reads, or that are described."""
        return run(self._calls.cameras())

    def rename_camera(self, camera: str, name: str, *, merge: bool = False) -> Camera:
        """Rename a camera in the ledger, which needs the scope `admin`; return it.

        Jobs, results and images keep the old name. Correct the name at the sender first.

        Args:
            camera: its id.
            name: its new id.
            merge: whether to add its counts to those of a camera that has the new id.

        Raises:
            CameraBusyError: jobs of it have not settled.
            CameraExistsError: another camera has the new id, and `merge` is not set.
        """
        return run(self._calls.rename_camera(camera, name, merge=merge))

    def delete_camera(self, camera: str) -> Camera:
        """Delete a camera from the ledger, which needs the scope `admin`; return it as it was.

        Jobs, results and images stay. The next image brings the camera back.

        Raises:
            CameraBusyError: jobs of it have not settled.
        """
        return run(self._calls.delete_camera(camera))

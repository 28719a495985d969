"""Pipeline of many images: uploads a few groups at a time, asks for the results of many jobs at a time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import length_hint
from typing import Any, Final

from wastestream.calls import Calls, Query
from wastestream.errors import GaveUpError, ImageError, JobLostError, WastestreamError
from wastestream.images import Content, Image, as_image
from wastestream.jobs import Job
from wastestream.problems import ApiError, JobNotFoundError, KeyRejectedError
from wastestream.progress import Progress, Report, reporting
from wastestream.requests import MAX_IDS
from wastestream.retry import StallClock
from wastestream.transport import Task

CONCURRENCY: Final = 3
"""Default number of concurrent uploads. With the bytes of one group each, they bound the memory."""

GROUP_FILES: Final = 64
"""Images in one upload; the server's limit."""

GROUP_BYTES: Final = 16 * 1024 * 1024
"""Bytes in one upload, unless it is one image."""

GROUP_SECONDS: Final = 0.5
"""Seconds after its first image when a group is sent, though it is not full: the images come slowly."""

MAX_WAITING: Final = 1000
"""Accepted images not yet settled at which uploads pause."""

_WAIT_SECONDS: Final = 2.0  # A worker that died holds some jobs back; the others are not to wait for them.

_LOST: Final = "The server no longer knows this image's job; send the image again."

Images = Iterable["Image | Content"] | AsyncIterable["Image | Content"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of one of many images.

    Attributes:
        index: its place in the iterable, from 0.
        path: its path; None for an image that is not a file.
        job: its job; None if it was not accepted.
        error: cause of a missing job or result.
    """

    index: int
    path: str | None
    job: Job | None = None
    error: WastestreamError | None = None


@dataclass(frozen=True)
class _Member:
    """An image of a group; its bytes are read when the group is sent."""

    index: int
    image: Image


class Pipeline:
    """Sends the images of one call.

    Args:
        calls: of the server.
        images: the images to send.
        settle: whether to wait for the results.
        concurrency: number of concurrent uploads.
        progress: called after each step; True for a bar.
    """

    def __init__(
        self,
        calls: Calls,
        images: Images,
        *,
        settle: bool,
        concurrency: int,
        progress: Report | bool,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency={concurrency} sends nothing; use 1 or more.")
        self._calls = calls
        self._transport = calls.transport
        self._total = length_hint(images, -1)
        self._members = _members(images)
        self._next: _Member | None = None
        self._settle = settle
        self._concurrency = concurrency
        self._progress = progress
        self._stall = StallClock()
        self._uploads: dict[Task[Any], list[_Member]] = {}
        self._query: Task[Query] | None = None
        self._waiting: dict[str, list[Outcome]] = {}  # by job id, in order of acceptance
        self._failure: WastestreamError | None = None
        self._taken = 0
        self._finished = 0

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """Yield each image's outcome as soon as it is known.

        Raises:
            KeyRejectedError: the server rejects the key.
            GaveUpError: the server was unreachable, or settled no image, for too long.
            NotWastestreamError: another server answers at the address.
        """
        with reporting(self._progress) as report:
            try:
                while self._failure is None and await self._start():
                    for task in await self._transport.first(self._tasks()):
                        for outcome in self._ended(task):
                            self._finished += 1
                            yield outcome
                    if report is not None:
                        report(self._state())
            finally:
                await self._transport.cancel(self._tasks())
        if self._failure is not None:
            for outcome in self._unfinished(self._failure):
                yield outcome
            raise self._failure

    def _tasks(self) -> list[Task[Any]]:
        return [*self._uploads, *([] if self._query is None else [self._query])]

    async def _start(self) -> bool:
        """Start uploads and a query; return whether any is under way."""
        while len(self._uploads) < self._concurrency and len(self._waiting) < MAX_WAITING:
            group = await self._group()
            if not group:
                break
            self._uploads[self._transport.start(self._upload(group))] = group
        if self._waiting and self._query is None:
            # Ask for the older half when the youngest of it has settled: then most of it has.
            oldest = list(islice(self._waiting, min(MAX_IDS, len(self._waiting) // 2 + 1)))
            self._query = self._transport.start(self._ask(oldest))
        return bool(self._uploads or self._query)

    def _ended(self, task: Task[Any]) -> list[Outcome]:
        """Return the final outcomes that a task brings; its failure ends the pipeline."""
        try:
            result = task.result()
        except WastestreamError as error:
            self._failure = error
            return []
        if task is self._query:
            self._query = None
            return self._queried(result)
        del self._uploads[task]
        return [outcome for outcome in result if self._is_final(outcome)]

    def _is_final(self, outcome: Outcome) -> bool:
        """Return whether the outcome is final; otherwise keep it until its job settles."""
        job = outcome.job
        if job is None or job.settled or not self._settle:
            return True
        self._waiting.setdefault(job.id, []).append(outcome)
        return False

    def _queried(self, answer: Query) -> list[Outcome]:
        settled = [
            replace(outcome, job=job)
            for job in answer.jobs
            if job.settled
            for outcome in self._waiting.pop(job.id)
        ]
        lost = [
            replace(outcome, error=JobLostError(_LOST))
            for job_id in answer.unknown
            for outcome in self._waiting.pop(job_id)
        ]
        return settled + lost

    def _unfinished(self, error: WastestreamError) -> Iterator[Outcome]:
        """Yield an outcome for each image that was taken and has none."""
        for outcome in [outcome for outcomes in self._waiting.values() for outcome in outcomes]:
            yield replace(outcome, error=error)
        held = [self._next] if self._next else []
        for member in [member for group in self._uploads.values() for member in group] + held:
            yield Outcome(member.index, member.image.path, error=error)

    async def _group(self) -> list[_Member]:
        """Take the next images that are sent in one call."""
        group: list[_Member] = []
        weight, began = 0, time.monotonic()
        while len(group) < GROUP_FILES and (not group or time.monotonic() - began < GROUP_SECONDS):
            member = self._next or await anext(self._members, None)
            if member is None:
                break
            self._next, weight = member, weight + member.image.size
            if group and weight > GROUP_BYTES:
                break
            group.append(member)
            self._next = None
        self._taken += len(group)
        return group

    async def _upload(self, group: Sequence[_Member]) -> list[Outcome]:
        """Send a group; return the outcome of each image."""
        contents = await self._transport.block(lambda: [_read(member.image) for member in group])
        readable = [
            (member.image, data)
            for member, data in zip(group, contents, strict=True)
            if not isinstance(data, ImageError)
        ]
        sent = iter(await self._send(readable) if readable else ())
        self._stall.restart()
        return [
            _outcome(member, data if isinstance(data, ImageError) else next(sent))
            for member, data in zip(group, contents, strict=True)
        ]

    async def _send(self, images: Sequence[tuple[Image, bytes]]) -> Sequence[Job | ApiError]:
        try:
            if len(images) > 1:
                return await self._calls.upload_bulk(images, self._stall)
            ((image, data),) = images
            return [(await self._calls.upload(image, data, stall=self._stall)).job]
        except KeyRejectedError:
            raise  # It ends the pipeline.
        except ApiError as error:
            return [error] * len(images)

    async def _ask(self, ids: Sequence[str]) -> Query:
        """Wait for the last of these jobs, at most for `_WAIT_SECONDS`; return the outcomes."""
        retry_after = 0.0
        try:
            job, retry_after = await self._calls.peek(ids[-1], _WAIT_SECONDS, self._stall)
        except JobNotFoundError:
            pass  # The query says so too.
        else:
            if job.settled and len(ids) == 1:
                self._stall.restart()
                return Query([job], [])
        await self._transport.sleep(retry_after)
        answer = await self._calls.query(ids, self._stall)
        if answer.unknown or any(job.settled for job in answer.jobs):
            self._stall.restart()
        else:
            await self._check_stall()
        return answer

    async def _check_stall(self) -> None:
        """Give up when no image settles although the server answers.

        Raises:
            GaveUpError: no image has settled for too long.
        """
        limits, waited = self._calls.retry_limits, self._stall.seconds
        if waited < limits.limit(busy=False):
            return
        workers = await self._calls.workers()
        if workers and waited < limits.limit(busy=True):
            return
        reason = f"although {workers} workers run" if workers else "and no worker is running"
        raise GaveUpError(f"No image was settled for {waited:.0f} s, {reason}; given up.")

    def _state(self) -> Progress:
        waiting = sum(map(len, self._waiting.values()))
        return Progress(None if self._total < 0 else self._total, self._taken, waiting, self._finished)


async def _members(images: Images) -> AsyncIterator[_Member]:
    index = 0
    async for image in images if isinstance(images, AsyncIterable) else _each(images):
        yield _Member(index, as_image(image))
        index += 1


async def _each(images: Iterable[Image | Content]) -> AsyncIterator[Image | Content]:
    for image in images:
        yield image


def _read(image: Image) -> bytes | ImageError:
    try:
        return image.read()
    except ImageError as error:
        return error


def _outcome(member: _Member, answer: Job | WastestreamError) -> Outcome:
    if isinstance(answer, Job):
        return Outcome(member.index, member.image.path, answer)
    return Outcome(member.index, member.image.path, error=answer)

"""The calls, written once: with retries, and for either kind of transport."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeVar

import httpx

from wastestream import requests
from wastestream.cameras import Camera, parse_camera
from wastestream.errors import GaveUpError, NotSettledError, NotWastestreamError
from wastestream.images import Image
from wastestream.jobs import Job, State, parse_job
from wastestream.ledger import Ledger, parse_ledger
from wastestream.problems import ApiError, problem_of
from wastestream.requests import EVENT_STREAM, MAX_IDS, Moment, id_of
from wastestream.retry import Attempt, Retry, StallClock
from wastestream.transport import Request, Transport

T = TypeVar("T")

logger = logging.getLogger("wastestream")

WAIT_SECONDS: Final = 20.0
"""Seconds for which the server may hold one call open until a job settles."""

TIMEOUT: Final = 900.0
"""Default seconds to wait for one job: images of other clients may come first."""

_PAUSE: Final = 0.25  # seconds between two answers about a job that did not settle

_TRANSIENT: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,  # possible while a process restarts
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class Query(NamedTuple):
    """Jobs of a query: the known jobs, in the order of the ids, and the unknown ids."""

    jobs: list[Job]
    unknown: list[str]


class Retried(NamedTuple):
    """Outcome of the retry of one job of a list.

    Attributes:
        old_id: id of the job that is repeated.
        job: the new job; None if there is none.
        error: cause of a missing job, such as `ImageGoneError`.
    """

    old_id: str
    job: Job | None
    error: ApiError | None


class Answer(NamedTuple):
    """A job, and the seconds to wait before the next question about it, if the server named them."""

    job: Job
    retry_after: float


class Calls:
    """The calls of one server.

    Args:
        transport: sends them.
        server: the address, for sentences.
        camera: default camera of images.
        retry: time limits of retries.
    """

    def __init__(self, transport: Transport, server: str, camera: str | None, retry: Retry) -> None:
        self.transport = transport
        self.retry_limits = retry
        self._server = server
        self._camera = camera
        self._in_trouble = False
        self.on_answer: Callable[[httpx.Response], None] = _ignore
        """Called with each of the server's answers."""

    async def upload(
        self, image: Image, data: bytes | None = None, *, wait: float = 0.0, stall: StallClock | None = None
    ) -> Answer:
        """Send one image, with `wait` until its job settles or the seconds are over.

        Raises:
            ImageError: the image cannot be read; not with `data`.
        """
        content = await self.transport.block(image.read) if data is None else data
        request = requests.upload(self._with_camera(image), content, wait=wait)
        return await self.call(request, _answer, stall)

    async def upload_bulk(
        self, images: Sequence[tuple[Image, bytes]], stall: StallClock | None = None
    ) -> list[Job | ApiError]:
        """Send up to 64 images; return the outcome of each, in their order."""

        def parse(body: dict[str, Any], _: httpx.Response) -> list[Job | ApiError]:
            items = [_item(item) for item in body["items"]]
            if len(items) != len(images):
                raise ValueError(f"{len(items)} of {len(images)}")
            return items

        request = requests.upload_bulk([(self._with_camera(image), data) for image, data in images])
        return await self.call(request, parse, stall)

    async def classify(self, image: Image, timeout: float) -> Job:
        """Send one image; return its job when it has settled."""
        ends = time.monotonic() + timeout
        answer = await self.upload(image, wait=min(WAIT_SECONDS, timeout))
        return await self._settled(answer, ends, timeout)

    async def wait(self, job: Job | str, timeout: float) -> Job:
        """Return the job when it has settled.

        Raises:
            NotSettledError: it has not after `timeout` seconds.
        """
        ends = time.monotonic() + timeout
        answer = await self.peek(id_of(job), min(WAIT_SECONDS, timeout))
        return await self._settled(answer, ends, timeout)

    async def _settled(self, answer: Answer, ends: float, timeout: float) -> Job:
        while not answer.job.settled:
            left = ends - time.monotonic()
            if left <= 0:
                raise NotSettledError(answer.job, timeout)
            await self.transport.sleep(min(max(_PAUSE, answer.retry_after), left))
            answer = await self.peek(answer.job.id, min(WAIT_SECONDS, left))
        return answer.job

    async def peek(self, job_id: str, wait: float = 0.0, stall: StallClock | None = None) -> Answer:
        """Return the job as soon as it settles, or after `wait` seconds as it is."""
        return await self.call(requests.job(job_id, wait), _answer, stall)

    async def query(self, jobs: Iterable[Job | str], stall: StallClock | None = None) -> Query:
        """Return jobs as they are now."""
        asked = [id_of(job) for job in jobs]
        answer = Query([], [])
        for start in range(0, len(asked), MAX_IDS):
            part = await self.call(requests.query(asked[start : start + MAX_IDS]), _query, stall)
            answer.jobs.extend(part.jobs)
            answer.unknown.extend(part.unknown)
        return answer

    async def jobs(
        self,
        state: State | Iterable[State] | None,
        camera: str | None,
        since: Moment | None,
        until: Moment | None,
    ) -> AsyncIterator[Job]:
        """Yield the jobs of a list, page by page."""
        states = [state] if isinstance(state, str) else list(state or ())
        after: str | None = None
        while True:
            jobs, after = await self.call(requests.jobs(states, camera, since, until, after), _page)
            for job in jobs:
                yield job
            if after is None:
                return

    async def cancel(self, job: Job | str) -> Job:
        """Cancel a job."""
        return await self.call(requests.cancel(id_of(job)), _job)

    async def retry(self, job: Job | str) -> Job:
        """Repeat a job."""
        return await self.call(requests.retry(id_of(job)), _job)

    async def retry_all(
        self,
        state: State | Iterable[State],
        camera: str | None,
        since: Moment | None,
        until: Moment | None,
    ) -> AsyncIterator[Retried]:
        """Repeat the jobs of a list, page by page; yield the outcome of each."""
        states = [state] if isinstance(state, str) else list(state)
        after: str | None = None
        while True:
            outcomes, after = await self.call(
                requests.retry_all(states, camera, since, until, after), _retries
            )
            for outcome in outcomes:
                yield outcome
            if after is None:
                return

    async def ledger(self, camera: str | None, since: Moment | None, until: Moment | None) -> Ledger:
        """Return the ledger."""
        return await self.call(requests.ledger(camera, since, until), lambda body, _: parse_ledger(body))

    async def cameras(self) -> list[Camera]:
        """Return all cameras."""
        return await self.call(
            requests.cameras(), lambda body, _: [parse_camera(camera) for camera in body["cameras"]]
        )

    async def rename_camera(self, camera: str, name: str, *, merge: bool) -> Camera:
        """Rename a camera."""
        return await self.call(requests.rename_camera(camera, name, merge=merge), _camera)

    async def delete_camera(self, camera: str) -> Camera:
        """Delete a camera."""
        return await self.call(requests.delete_camera(camera), _camera)

    async def report(self, camera: str, document: Mapping[str, Any]) -> None:
        """Report a camera, as a gateway does."""
        await self.call(requests.report(camera, document), lambda _, __: None)

    async def workers(self) -> int:
        """Return the number of workers; 0 also if the server does not report it."""
        try:
            response = await self.transport.send(requests.readiness())
            return int(response.json()["workers"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return 0  # Only used in a sentence.

    def _with_camera(self, image: Image) -> Image:
        """Return the image with the client's camera, unless it has its own."""
        return replace(image, camera=self._camera) if image.camera is None and self._camera else image

    async def call(
        self,
        request: Request,
        parse: Callable[[dict[str, Any], httpx.Response], T],
        stall: StallClock | None = None,
    ) -> T:
        """Send a request until it is answered; return the parsed answer.

        Raises:
            ApiError: the server rejects the call, and a retry is useless.
            GaveUpError: the time of `Retry` is over.
            NotWastestreamError: another server answers.
        """
        return self._parsed(await self._answered(request, self.transport.send, stall), parse)

    async def open(self, request: Request) -> httpx.Response:
        """Send a request until it is answered; return the answer, whose body is still to be read.

        Raises as `call`.
        """
        response = await self._answered(request, self.transport.open)
        if response.is_success and response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
            return response
        await self.transport.discard(response)
        raise (
            NotWastestreamError(self._server, response.status_code)
            if response.is_success
            else (self._rejection(response))
        )

    async def _answered(
        self,
        request: Request,
        send: Callable[[Request], Awaitable[httpx.Response]],
        stall: StallClock | None = None,
    ) -> httpx.Response:
        attempt = Attempt(self.retry_limits, stall)
        while True:
            cause: Exception
            retry_after: float | None = None
            busy = False
            try:
                response = await send(request)
            except httpx.TransportError as error:
                # No connection, a broken one, or a time-out: whether the call arrived is unknown, and the
                # idempotency key makes a retry harmless.
                cause = error
                trouble = f"{self._server} is unreachable ({_reason(error)})"
            else:
                if response.status_code not in _TRANSIENT:
                    self._in_trouble = False
                    return response
                cause = _rejection(response)
                trouble = f"{self._server} is not ready ({response.status_code}: {cause})"
                retry_after = _retry_after(response)
                busy = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
            pause, limit = attempt.pause(retry_after, busy=busy), self.retry_limits.limit(busy=busy)
            if pause is None:
                text = f"{trouble}; given up after {limit:.0f} s without progress."
                raise GaveUpError(text, trouble, retry_after) from cause
            self._report(trouble, limit)
            await self.transport.sleep(pause)

    def _parsed(self, response: httpx.Response, parse: Callable[[dict[str, Any], httpx.Response], T]) -> T:
        if not response.is_success:
            raise self._rejection(response)
        try:
            body = response.json()
            self.on_answer(response)
            return parse(body, response)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotWastestreamError(self._server, response.status_code) from error

    def _rejection(self, response: httpx.Response) -> ApiError:
        try:
            body = response.json()
            self.on_answer(response)
            return problem_of(body, response.status_code)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotWastestreamError(self._server, response.status_code) from error

    def _report(self, trouble: str, limit: float) -> None:
        """Log that calls fail, once until one succeeds."""
        if not self._in_trouble:
            self._in_trouble = True
            logger.warning("%s; trying again for up to %.0f s.", trouble, limit)


def _ignore(_: httpx.Response) -> None:
    """Take an answer that nobody asks for."""


def _answer(body: dict[str, Any], response: httpx.Response) -> Answer:
    return Answer(parse_job(body), _retry_after(response) or 0.0)


def _job(body: dict[str, Any], _: httpx.Response) -> Job:
    return parse_job(body)


def _camera(body: dict[str, Any], _: httpx.Response) -> Camera:
    return parse_camera(body)


def _query(body: dict[str, Any], _: httpx.Response) -> Query:
    return Query([parse_job(job) for job in body["jobs"]], body["unknown"])


def _page(body: dict[str, Any], _: httpx.Response) -> tuple[list[Job], str | None]:
    return [parse_job(job) for job in body["jobs"]], body["next"]


def _retries(body: dict[str, Any], _: httpx.Response) -> tuple[list[Retried], str | None]:
    outcomes = [(item["job_id"], _item(item)) for item in body["items"]]
    retried = [
        Retried(old_id, None, outcome) if isinstance(outcome, ApiError) else Retried(old_id, outcome, None)
        for old_id, outcome in outcomes
    ]
    return retried, body["next"]


def _item(item: dict[str, Any]) -> Job | ApiError:
    return parse_job(item["job"]) if "job" in item else problem_of(item["error"], item["status"])


def _rejection(response: httpx.Response) -> ApiError:
    try:
        return problem_of(response.json(), response.status_code)
    except (ValueError, TypeError, AttributeError):  # A proxy answered, not wastestream.
        return ApiError("about:blank", response.reason_phrase, response.status_code, response.reason_phrase)


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "time-out"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy reports: {error}"
    return "no connection" if isinstance(error, httpx.ConnectError) else "the connection broke"


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of the header `Retry-After`, a number or, from a proxy, a time."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:  # none, or nonsense
        return None

"""Calls of the HTTP API, each with retries."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from infra.client.errors import GaveUpError, KeyRejectedError, NotWastestreamError, RejectedError
from infra.client.proxy import proxy_for
from infra.client.retry import Retry

WAIT_SECONDS: Final = 20
"""Seconds for which the server may hold one `GET /v1/jobs/ID` open."""

_IN_HEADERS: Final = " :,()@"
"""Characters of a camera id, beside letters and digits, without percent-encoding in a header."""

_TIMEOUT: Final = httpx.Timeout(60, connect=5, pool=None)

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

_KEY_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class Client:
    """A connection to one wastestream server. Use it in an `async with`."""

    def __init__(
        self,
        url: str,
        *,
        camera: str | None = None,
        key: str | None = None,
        retry: Retry | None = None,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare a client; no call is made yet.

        Args:
            url: the server's address, such as `http://127.0.0.1:8000`.
            camera: camera id of the images.
            key: an API key of the server.
            retry: retry policy.
            on_trouble: called with a sentence when calls start to fail, once until a call succeeds.

        Raises:
            ProxyError: the environment names an unusable proxy.
        """
        proxy = proxy_for(url)
        self.retry = retry or Retry()
        self._server = url if proxy is None else f"{url}, asked through the proxy {proxy},"
        self._origin = {} if camera is None else {"X-Camera-Id": quote(camera, safe=_IN_HEADERS)}
        self._on_trouble = on_trouble
        self._in_trouble = False
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # With a transport, httpx does not choose proxies itself; it would use them for this machine too.
        transport = httpx.AsyncHTTPTransport(proxy=None if proxy is None else proxy.url)
        self._http = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, headers=headers, transport=transport)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def upload(self, data: bytes) -> dict[str, Any]:
        """Send one image and return its job.

        Raises:
            RejectedError: the file is not an image, or is not acceptable.
        """
        headers = {**self._origin, **_new_key(), "Content-Type": "application/octet-stream"}
        return await self._call("POST", "/v1/images", content=data, headers=headers)

    async def upload_bulk(self, contents: Sequence[bytes]) -> list[dict[str, Any]]:
        """Send up to 64 images and return the outcome of each, in their order.

        Raises:
            RejectedError: the server rejects the whole call.
        """
        # Names are numbers: outcomes come in order, and a real name may not be a valid header.
        files = [
            ("file", (str(number), data, "application/octet-stream")) for number, data in enumerate(contents)
        ]
        answer = await self._call(
            "POST", "/v1/images/bulk", files=files, headers={**self._origin, **_new_key()}
        )
        items: list[dict[str, Any]] = answer["items"]
        if len(items) != len(contents):
            raise NotWastestreamError(f"{self._server} answered for {len(items)} of {len(contents)} images.")
        return items

    async def wait(self, job: str) -> dict[str, Any]:
        """Return the job when it settles, or its state after `WAIT_SECONDS`.

        Raises:
            RejectedError: the server does not know the job.
        """
        return await self._call("GET", f"/v1/jobs/{job}", params={"wait": WAIT_SECONDS})

    async def query(self, jobs: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the current state of the jobs with these ids, and the unknown ids."""
        answer = await self._call("POST", "/v1/jobs/query", json={"ids": list(jobs)})
        return answer["jobs"], answer["unknown"]

    async def workers(self) -> int:
        """Return the number of workers; 0 also if the server does not report it."""
        try:
            response = await self._http.get("/readyz")
            return int(response.json()["workers"])
        except (httpx.HTTPError, ValueError, KeyError):
            return 0  # Only used in a sentence.

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        attempt = self.retry.attempt()
        while True:
            retry_after: float | None = None
            busy = False
            try:
                response = await self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                # No connection, a broken one, or a time-out: whether the call arrived is unknown, and the
                # idempotency key makes a retry harmless.
                trouble = f"{self._server} is unreachable ({_reason(error)})"
            else:
                if response.status_code not in _TRANSIENT:
                    self._in_trouble = False
                    return self._answer(response)
                trouble = f"{self._server} is not ready ({response.status_code}: {_detail(response)})"
                retry_after = _retry_after(response)
                busy = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
            pause, seconds = attempt.pause(retry_after, busy=busy), attempt.seconds(busy=busy)
            if pause is None:
                raise GaveUpError(f"{trouble}; given up after {seconds:.0f} s without progress.")
            self._report(trouble, seconds)
            await asyncio.sleep(pause)

    def _answer(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise NotWastestreamError(
                f"{self._server} answers, but is not wastestream ({response.status_code}); check --url."
            )
        if response.is_success:
            return body
        if response.status_code in _KEY_STATUSES:
            detail = body.get("detail") or response.reason_phrase
            raise KeyRejectedError(
                f"{self._server} rejects the call ({response.status_code}). {detail} This command needs a "
                "key with the scopes ingest and read, in WASTESTREAM_API_KEY or --key-file."
            )
        raise RejectedError(body.get("detail") or f"The server answered {response.status_code}.")

    def _report(self, trouble: str, seconds: float) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            self._on_trouble(f"{trouble}; trying again for up to {seconds:.0f} s.")


def _new_key() -> dict[str, str]:
    """Return a header that makes all tries of one call a single upload."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "time-out"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy reports: {error}"
    return "no connection" if isinstance(error, httpx.ConnectError) else "the connection broke"


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase  # A proxy answered, not wastestream.


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isdecimal() else None  # this API sends no dates

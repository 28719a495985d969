"""The calls of the HTTP API that `classify` makes, each retried until retry ends."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from infra.client.errors import GaveUpError, KeyRefusedError, NotWastestreamError, RefusedError
from infra.client.proxy import proxy_for
from infra.client.retry import Retry

WAIT_SECONDS: Final = 20
"""How long the server may hold one `GET /v1/jobs/ID` open."""

_IN_HEADERS: Final = " :,()@"
"""What a camera id may hold besides letters and digits and needs no percent-encoding in a header."""

_TIMEOUT: Final = httpx.Timeout(60, connect=5, pool=None)

_TRANSIENT: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,  # what a part that is just being restarted can cause
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

_KEY_WANTED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


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
        """Prepare a client; nothing is sent yet.

        Args:
            url: the server's address, such as `http://127.0.0.1:8000`.
            camera: the camera that the images are said to come from.
            key: an API key of the server.
            retry: when to give up.
            on_trouble: called with a sentence when calls begin to fail, once until they succeed again.

        Raises:
            ProxyError: the environment names a proxy that cannot be used.
        """
        proxy = proxy_for(url)
        self.retry = retry or Retry()
        self._server = url if proxy is None else f"{url}, asked through the proxy {proxy},"
        self._origin = {} if camera is None else {"X-Camera-Id": quote(camera, safe=_IN_HEADERS)}
        self._on_trouble = on_trouble
        self._in_trouble = False
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # Given a transport, httpx does not look for proxies itself; it would use them for this machine too.
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
            RefusedError: the image is none, or is not acceptable.
        """
        headers = {**self._origin, **_new_key(), "Content-Type": "application/octet-stream"}
        return await self._call("POST", "/v1/images", content=data, headers=headers)

    async def upload_bulk(self, contents: Sequence[bytes]) -> list[dict[str, Any]]:
        """Send up to 64 images and return the outcome of each, in their order.

        Raises:
            RefusedError: the call as a whole is refused.
        """
        # Names are numbers: the outcomes come in order, and a real name may be no valid header.
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
        """Return the job when it settles, or as it is after `WAIT_SECONDS`.

        Raises:
            RefusedError: the server does not know the job.
        """
        return await self._call("GET", f"/v1/jobs/{job}", params={"wait": WAIT_SECONDS})

    async def query(self, jobs: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the jobs with these ids as they are now, and the ids that the server does not know."""
        answer = await self._call("POST", "/v1/jobs/query", json={"ids": list(jobs)})
        return answer["jobs"], answer["unknown"]

    async def workers(self) -> int:
        """Return how many workers the server sees; 0 as well when it cannot say."""
        try:
            response = await self._http.get("/readyz")
            return int(response.json()["workers"])
        except (httpx.HTTPError, ValueError, KeyError):
            return 0  # Only asked for the words of a sentence.

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        attempt = self.retry.attempt()
        while True:
            retry_after: float | None = None
            busy = False
            try:
                response = await self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                # No connection, cut off, or timed out: whether the call arrived is unknown, and the
                # idempotency key makes sending it again harmless.
                trouble = f"{self._server} can't be reached ({_reason(error)})"
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
                f"{self._server} answers, but not as wastestream does ({response.status_code}); check --url."
            )
        if response.is_success:
            return body
        if response.status_code in _KEY_WANTED:
            detail = body.get("detail") or response.reason_phrase
            raise KeyRefusedError(
                f"{self._server} refuses the call ({response.status_code}). {detail} This command takes a "
                "key with the scopes ingest and read from WASTESTREAM_API_KEY or --key-file."
            )
        raise RefusedError(body.get("detail") or f"The server answered {response.status_code}.")

    def _report(self, trouble: str, seconds: float) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            self._on_trouble(f"{trouble}; trying again for up to {seconds:.0f} s.")


def _new_key() -> dict[str, str]:
    """Return a header that makes all tries of one call count as one."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy says: {error}"
    return "no connection" if isinstance(error, httpx.ConnectError) else "the connection broke off"


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase  # A proxy in between answered, not wastestream.


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isdecimal() else None  # never a date from this API

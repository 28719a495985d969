"""A client that costs little: prebuilt requests on kept connections.

It shares the cores with what it measures: a request of 200 kB costs it 0.2 ms.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, Self

from infra.lab.bench.errors import BrokenPipelineError

PATIENCE: Final = 60.0
"""Seconds after which an answer that does not come counts as lost."""

WAIT_SECONDS: Final = 10
"""Seconds that a request waits for its job to settle."""

_COME_BACK: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_PAUSE: Final = 0.5  # seconds until what was refused is sent again
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_IDS: Final = re.compile(rb'"id": ?"([0-9A-Z]{26})"')
_BUFFER: Final = 1 << 20
_BOUNDARY: Final = "wastestream-bench"
_HEAD_END: Final = b"\r\n\r\n"


class Connection:
    """One kept connection to the API; one call at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return cls(sock)

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()

    async def call(self, request: bytes, expected: int) -> bytes:
        """Send a request and return the answer's body.

        Raises:
            BrokenPipelineError: the answer has another status, or there is none.
        """
        status, body = await self._exchange(request)
        if status != expected:
            raise _unexpected(request, status, body, expected)
        return body

    async def upload(self, request: bytes) -> tuple[bytes, int]:
        """Send images until they are accepted; return the answer's body and how often they were refused.

        Refused means that the server says to come back: it is slower than this load, not broken.

        Raises:
            BrokenPipelineError: as `call`, or they were refused for a minute.
        """
        since = time.monotonic()
        for refused in itertools.count():
            status, body = await self._exchange(request)
            if status == HTTPStatus.ACCEPTED:
                return body, refused
            if status not in _COME_BACK or time.monotonic() - since > PATIENCE:
                raise _unexpected(request, status, body, HTTPStatus.ACCEPTED)
            await asyncio.sleep(_PAUSE)
        raise AssertionError("unreachable")

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._loop.sock_sendall(self._socket, request)
                return await self._answer()
        except (OSError, TimeoutError) as error:
            raise BrokenPipelineError(f"The API did not answer {_line(request)} ({error!r}).") from error

    async def _answer(self) -> tuple[int, bytes]:
        data = await self._receive()
        while (end := data.find(_HEAD_END)) < 0:
            data += await self._receive()
        length = _LENGTH.search(data, 0, end)
        if length is None:
            raise OSError("an answer without a length")
        total = end + len(_HEAD_END) + int(length.group(1))
        while len(data) < total:
            data += await self._receive()
        return int(data[9:12]), data[end + len(_HEAD_END) : total]

    async def _receive(self) -> bytes:
        data = await self._loop.sock_recv(self._socket, 1 << 18)
        if not data:
            raise ConnectionResetError("the connection was closed")
        return data


def _unexpected(request: bytes, status: int, body: bytes, expected: int) -> BrokenPipelineError:
    text = body[:300].decode(errors="replace")
    return BrokenPipelineError(
        f"The API answered {_line(request)} with {status} instead of {expected}: {text}"
    )


def _line(request: bytes) -> str:
    return request.partition(b"\r\n")[0].decode()


def upload(frame: bytes, camera: str, *, wait: bool = False) -> bytes:
    """Return the request that uploads one frame; with `wait` it is answered when that has settled."""
    path = f"/v1/images?wait={WAIT_SECONDS}" if wait else "/v1/images"
    return _post(path, "image/jpeg", frame, f"X-Camera-Id: {camera}\r\n")


def bulk_upload(frames: Sequence[bytes], camera: str) -> bytes:
    """Return the request that uploads several frames."""
    parts = b"".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{number}.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + frame
        + b"\r\n"
        for number, frame in enumerate(frames)
    )
    body = parts + f"--{_BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    return _post("/v1/images/bulk", kind, body, f"X-Camera-Id: {camera}\r\n")


def wait_for(job_id: str, seconds: int = WAIT_SECONDS) -> bytes:
    """Return the request that asks for a job; with 0 seconds, as it is now."""
    path = f"/v1/jobs/{job_id}" + (f"?wait={seconds}" if seconds else "")
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def query(job_ids: Sequence[str]) -> bytes:
    """Return the request that asks for many jobs."""
    return _post("/v1/jobs/query", "application/json", json.dumps({"ids": list(job_ids)}).encode())


def ids_in(body: bytes) -> list[str]:
    """Return the ids of the jobs in an upload's answer, without parsing the rest."""
    return [found.decode() for found in _IDS.findall(body)]


def parsed(body: bytes) -> dict[str, Any]:
    """Return an answer's JSON object."""
    found: dict[str, Any] = json.loads(body)
    return found


def _post(path: str, kind: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

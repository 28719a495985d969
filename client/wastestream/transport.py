"""The two ways to send, wait and read files: with asyncio, or blocking in threads.

The calls themselves are coroutines, written once. With `BlockingTransport` they never suspend, because each
of its methods has done its work when it returns. So `run` gets a coroutine's result without an event loop.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Iterator
from concurrent import futures
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

import httpx

from wastestream.proxy import Proxy

try:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # A program without OpenTelemetry has no span that a request could belong to.
    _trace_context = None
else:
    _trace_context = TraceContextTextMapPropagator()

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_TIMEOUT: Final = httpx.Timeout(60, connect=5, pool=None)  # seconds; the server holds a call for less

_CLOSING_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Request:
    """A call: its body is the chunks, one after the other."""

    method: str
    path: str
    parameters: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    chunks: tuple[tuple[bytes, ...], ...] = ()
    """Parts of the body. Those of one chunk are joined when they are sent: the body is never copied whole."""


class Task(Protocol[T_co]):
    """A coroutine under way."""

    def result(self) -> T_co:
        """Return its result, or raise its error."""


class Transport(ABC):
    """Sends requests, waits, reads files and runs coroutines side by side."""

    @abstractmethod
    async def send(self, request: Request) -> httpx.Response:
        """Send a request; return the whole response.

        Raises:
            httpx.TransportError: there is none.
        """

    @abstractmethod
    async def open(self, request: Request) -> httpx.Response:
        """Send a request; return a response whose body is still to be read, but that of a failure.

        Raises:
            httpx.TransportError: there is none.
        """

    @abstractmethod
    def pieces(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body of an open response as it comes.

        Raises:
            httpx.TransportError: it broke, or was silent for too long.
        """

    @abstractmethod
    async def discard(self, response: httpx.Response) -> None:
        """Close an open response."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    async def block(self, function: Callable[[], T]) -> T:
        """Call a function that reads files or computes."""

    @abstractmethod
    def start(self, call: Coroutine[Any, Any, T]) -> Task[T]:
        """Let a coroutine run beside this one."""

    @abstractmethod
    async def first(self, tasks: Collection[Task[T]]) -> set[Task[T]]:
        """Return the tasks that have ended, as soon as one has."""

    @abstractmethod
    async def cancel(self, tasks: Collection[Task[Any]]) -> None:
        """Let tasks send nothing more."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""


class AsyncTransport(Transport):
    """With asyncio."""

    def __init__(self, url: str, headers: dict[str, str], proxy: Proxy | None) -> None:
        # With a transport, httpx does not choose proxies itself; it would use them for this machine too.
        transport = httpx.AsyncHTTPTransport(verify=_verify(url), proxy=_url(proxy))
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)

    async def send(self, request: Request) -> httpx.Response:
        """See `Transport.send`."""
        return await self._http.send(_built(self._http, request))

    async def open(self, request: Request) -> httpx.Response:
        """See `Transport.open`."""
        response = await self._http.send(_built(self._http, request), stream=True)
        if not response.is_success:
            await response.aread()
        return response

    async def pieces(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """See `Transport.pieces`."""
        async for piece in response.aiter_bytes():
            yield piece

    async def discard(self, response: httpx.Response) -> None:
        """See `Transport.discard`."""
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """See `Transport.sleep`."""
        await asyncio.sleep(seconds)

    async def block(self, function: Callable[[], T]) -> T:
        """See `Transport.block`."""
        return await asyncio.to_thread(function)

    def start(self, call: Coroutine[Any, Any, T]) -> Task[T]:
        """See `Transport.start`."""
        return asyncio.create_task(call)

    async def first(self, tasks: Collection[Task[T]]) -> set[Task[T]]:
        """See `Transport.first`."""
        ended, _ = await asyncio.wait(
            cast("Collection[asyncio.Task[T]]", tasks), return_when=asyncio.FIRST_COMPLETED
        )
        return set(ended)

    async def cancel(self, tasks: Collection[Task[Any]]) -> None:
        """See `Transport.cancel`."""
        started = cast("Collection[asyncio.Task[Any]]", tasks)
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._http.aclose()


class BlockingTransport(Transport):
    """In the caller's thread; tasks in threads of their own."""

    def __init__(self, url: str, headers: dict[str, str], proxy: Proxy | None) -> None:
        self._threads: set[_Thread] = set()
        transport = httpx.HTTPTransport(verify=_verify(url), proxy=_url(proxy))
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)

    async def send(self, request: Request) -> httpx.Response:
        """See `Transport.send`."""
        thread = threading.current_thread()
        if isinstance(thread, _Thread) and thread.cancelled.is_set():
            raise futures.CancelledError
        return self._http.send(_built(self._http, request))

    async def open(self, request: Request) -> httpx.Response:
        """See `Transport.open`."""
        response = self._http.send(_built(self._http, request), stream=True)
        if not response.is_success:
            response.read()
        return response

    async def pieces(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """See `Transport.pieces`."""
        for piece in response.iter_bytes():
            yield piece

    async def discard(self, response: httpx.Response) -> None:
        """See `Transport.discard`."""
        response.close()

    async def sleep(self, seconds: float) -> None:
        """See `Transport.sleep`."""
        thread = threading.current_thread()
        if not isinstance(thread, _Thread):
            time.sleep(seconds)  # noqa: ASYNC251 - nothing else could run
        elif thread.cancelled.wait(seconds):
            raise futures.CancelledError

    async def block(self, function: Callable[[], T]) -> T:
        """See `Transport.block`."""
        return function()

    def start(self, call: Coroutine[Any, Any, T]) -> Task[T]:
        """See `Transport.start`."""
        task: _FutureOf[T] = _FutureOf(call)
        self._threads.add(task.thread)
        task.add_done_callback(lambda _: self._threads.discard(task.thread))
        task.thread.start()
        return task

    async def first(self, tasks: Collection[Task[T]]) -> set[Task[T]]:
        """See `Transport.first`."""
        ended, _ = futures.wait(
            cast("Collection[futures.Future[T]]", tasks), return_when=futures.FIRST_COMPLETED
        )
        return set(ended)

    async def cancel(self, tasks: Collection[Task[Any]]) -> None:
        """See `Transport.cancel`. A call under way ends by itself."""
        for task in cast("Collection[_FutureOf[Any]]", tasks):
            task.thread.cancelled.set()

    async def close(self) -> None:
        """See `Transport.close`. Threads get a moment to end their calls, and leave no connection."""
        ends = time.monotonic() + _CLOSING_SECONDS
        threads = list(self._threads)
        for thread in threads:
            thread.cancelled.set()
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        self._http.close()


class _FutureOf(futures.Future[T]):
    """The result of a coroutine that runs in a thread."""

    def __init__(self, call: Coroutine[Any, Any, T]) -> None:
        super().__init__()
        context = copy_context()  # with the caller's span
        self.thread = _Thread(lambda: context.run(self._fulfil, call))

    def _fulfil(self, call: Coroutine[Any, Any, T]) -> None:
        try:
            self.set_result(run(call))
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self.set_exception(error)


class _Thread(threading.Thread):
    """A thread that can be told to send nothing more. It never keeps the program from ending."""

    def __init__(self, target: Callable[[], None]) -> None:
        super().__init__(target=target, name="wastestream", daemon=True)
        self.cancelled = threading.Event()


def run(call: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends."""
    try:
        call.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    call.close()
    raise RuntimeError("A call of the blocking client waited for an event loop.")


def iterate(stream: AsyncIterator[T]) -> Iterator[T]:
    """Yield the items of an asynchronous generator that never suspends."""
    try:
        while True:
            try:
                item = run(cast("Coroutine[Any, Any, T]", stream.__anext__()))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(stream.aclose())  # type: ignore[attr-defined]


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in chunks, for either kind of client; unlike httpx's own, a repeated try can send it again."""

    def __init__(self, chunks: tuple[tuple[bytes, ...], ...]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return map(b"".join, self._chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


def _built(http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    length = sum(len(part) for chunk in request.chunks for part in chunk)
    headers = dict(request.headers)
    if request.chunks:
        headers["Content-Length"] = str(length)
    if _trace_context is not None:
        _trace_context.inject(headers)
    built = http.build_request(
        request.method, request.path, params=request.parameters or None, headers=headers
    )
    if request.chunks:
        built.stream = _Body(request.chunks)
    return built


def _verify(url: str) -> bool | ssl.SSLContext:
    """Return httpx's `verify`. Certificates take 30 ms to load, so they are loaded for https only."""
    return url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which trusts nobody


def _url(proxy: Proxy | None) -> str | None:
    return None if proxy is None else proxy.url

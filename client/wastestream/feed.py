"""Readers of the feed of results, written once for either kind of transport."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from wastestream import requests
from wastestream.calls import WAIT_SECONDS, Calls
from wastestream.jobs import Job, State, parse_job
from wastestream.requests import Moment
from wastestream.transport import Transport

_RETRY_SECONDS: Final = 2.0  # before a stream is opened again, unless the server says how long
_PAUSE: Final = 1.0  # seconds between two empty answers
_SAVE_SECONDS: Final = 1.0  # between two writes of a cursor file while events come


@dataclass(frozen=True)
class Selection:
    """Results to read.

    Attributes:
        after: cursor after which to begin.
        since: or time of settling from which to begin.
        camera: of one camera.
        states: with these states; empty for all.
    """

    after: str | None
    since: Moment | None
    camera: str | None
    states: tuple[State, ...]

    def parameters(self, after: str | None) -> dict[str, str]:
        """Return the parameters of a call that goes on after a cursor, or begins."""
        begin = self.after if after is None else after
        since = self.since if after is None else None
        return requests.selection(begin, since, self.camera, self.states)


def selection(
    after: str | None, since: Moment | None, camera: str | None, state: State | Iterable[State] | None
) -> Selection:
    """Return the selection of a caller's arguments.

    Raises:
        ValueError: both a cursor and a time are given.
    """
    if after is not None and since is not None:
        raise ValueError("Give after or since, not both.")
    return Selection(after, since, camera, (state,) if isinstance(state, str) else tuple(state or ()))


class CursorFile:
    """File with the cursor after the results that the caller has processed.

    Args:
        transport: does the reading and writing.
        path: the file; None for none.
    """

    def __init__(self, transport: Transport, path: str | Path | None) -> None:
        self._transport = transport
        self._path = None if path is None else Path(path)
        self._saved: str | None = None
        self._saved_at = 0.0

    async def read(self) -> str | None:
        """Return the cursor; None without a file."""
        if self._path is not None:
            self._saved = await self._transport.block(self._read)
        return self._saved

    async def save(self, cursor: str | None, *, now: bool = True) -> None:
        """Replace the cursor, in one step; unless `now` only if the last time was a second ago."""
        due = now or time.monotonic() - self._saved_at >= _SAVE_SECONDS
        if self._path is not None and cursor is not None and cursor != self._saved and due:
            await self._transport.block(lambda: self._write(cursor))
            self._saved, self._saved_at = cursor, time.monotonic()

    def _read(self) -> str | None:
        assert self._path is not None  # noqa: S101 - asked by the caller
        try:
            return self._path.read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None

    def _write(self, cursor: str) -> None:
        assert self._path is not None  # noqa: S101 - asked by the caller
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(f"{cursor}\n", encoding="ascii")
        os.replace(new, self._path)  # noqa: PTH105 - as `Path.replace`


class _Page(NamedTuple):
    jobs: list[Job]
    next: str
    end: bool


async def results(
    calls: Calls, selection: Selection, *, follow: bool, cursor_file: str | Path | None
) -> AsyncIterator[Job]:
    """Yield the results, page by page; see `Client.results`."""
    file = CursorFile(calls.transport, cursor_file)
    after = await file.read()
    while True:
        asked = time.monotonic()
        parameters = selection.parameters(after)
        page = await calls.call(requests.results(parameters, WAIT_SECONDS if follow else 0.0), _page)
        for job in page.jobs:
            yield job
        after = page.next
        await file.save(after)
        if page.end and not follow:
            return
        if page.end and not page.jobs and time.monotonic() - asked < _PAUSE:
            await calls.transport.sleep(_PAUSE)  # Too many requests wait at the server already.


async def events(calls: Calls, selection: Selection, *, cursor_file: str | Path | None) -> AsyncIterator[Job]:
    """Yield results as they settle; see `Client.events`."""
    file = CursorFile(calls.transport, cursor_file)
    after = await file.read()
    try:
        while True:
            pause = _RETRY_SECONDS
            async with aclosing(_stream(calls, selection, after)) as stream:
                async for event in stream:
                    pause = pause if event.retry is None else event.retry
                    if event.data is not None:
                        yield parse_job(event.data)
                    after = event.id or after
                    await file.save(after, now=event.data is None)
            await calls.transport.sleep(pause)
    finally:
        await file.save(after)


class Event(NamedTuple):
    """A server-sent event.

    Attributes:
        id: cursor after it; empty if there is none yet.
        data: document of the job; None if only the cursor has moved.
        retry: seconds before the stream is to be opened again.
    """

    id: str
    data: dict[str, Any] | None
    retry: float | None


async def _stream(calls: Calls, selection: Selection, after: str | None) -> AsyncGenerator[Event, None]:
    """Yield the events of one connection, until it ends or breaks."""
    response = await calls.open(requests.events(selection.parameters(after), after))
    decoder = EventDecoder()
    try:
        async with aclosing(calls.transport.pieces(response)) as pieces:
            async for piece in pieces:
                for event in decoder.feed(piece):
                    yield event
    except httpx.TransportError:
        pass  # It broke, or was silent for too long: as if it had ended.
    finally:
        await calls.transport.discard(response)


class EventDecoder:
    """Decodes a stream of events as our server writes it (HTML standard, 9.2.6)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that are complete now."""
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        for block in blocks:
            fields: dict[str, str] = {}
            for line in block.decode().split("\n"):  # not splitlines: JSON may have other ends of lines
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            known = fields.get("event") == "result"  # Later servers may have events of other kinds.
            retry = fields.get("retry", "")
            yield Event(
                fields.get("id", ""),
                json.loads(fields["data"]) if known else None,
                int(retry) / 1000 if retry.isdecimal() else None,
            )


def _page(body: dict[str, Any], _: httpx.Response) -> _Page:
    return _Page([parse_job(job) for job in body["results"]], body["next"], body["end"])

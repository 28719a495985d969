"""`wastestream classify`: images and folders of images, sent to a running server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.cameras import camera_id
from core.errors import CameraIdError, WastestreamError
from infra.cli.options import key_file, read_key
from infra.client.classification import Classification
from infra.client.client import Client
from infra.client.collect import Source, collect
from infra.client.errors import CollectError, ProxyError
from infra.client.results import Result
from infra.client.summary import Tally, table, visible

LONG_WORK: Final = 16
"""Images from which on a progress bar is worth its lines."""

PIPE_WIDTH: Final = 200
"""Columns of the table where there is no terminal to say how wide it is."""

NOT_ALL_CLASSIFIED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


def _camera_id(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    del context, option
    try:
        return None if text is None else camera_id(text)
    except CameraIdError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--url",
    default="http://127.0.0.1:8000",
    envvar="WASTESTREAM_URL",
    show_default=True,
    show_envvar=True,
    help="Address of the server.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, each as soon as it is known."
)
@key_file
@click.option("--camera", callback=_camera_id, metavar="ID", help="Count the images as this camera's.")
def classify(
    paths: tuple[Path, ...], *, url: str, as_json: bool, key_file: Path | None, camera: str | None
) -> None:
    """Classify images and folders of images.

    A folder stands for every .jpg, .jpeg, .png and .webp below it, a .tar archive for those in it; any
    other file is sent whatever it is called. The exit code is 0 when every image was classified, 1 when
    some were not, 2 when the command line is wrong, 130 after Ctrl-C.
    """
    if not _is_address(url):
        raise click.BadParameter("it must be like http://127.0.0.1:8000 or https://host", param_hint="--url")
    key = read_key(key_file)
    try:
        sources = collect(paths)
    except CollectError as error:
        raise click.UsageError(visible(str(error))) from error
    report = _Report(len(sources), as_json=as_json)
    try:
        asyncio.run(_classify(sources, url.rstrip("/"), camera, key, report))
    except ProxyError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        report.interrupted()
        raise SystemExit(INTERRUPTED) from None
    report.end()
    raise SystemExit(0 if report.tally.complete else NOT_ALL_CLASSIFIED)


def _is_address(url: str) -> bool:
    """Return whether requests can be sent to this address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # such as a port beyond 65535
        return False
    host = parts.hostname or ""
    return parts.scheme in {"http", "https"} and bool(host) and not re.search(r"\s", url) and port != 0


async def _classify(
    sources: list[Source], url: str, camera: str | None, key: str | None, report: _Report
) -> None:
    async with Client(url, camera=camera, key=key, on_trouble=report.say) as client:
        work = report.work = Classification(client, sources)
        with report.progress:
            try:
                async for result in work.results():
                    report.add(result)
            except WastestreamError as error:
                report.say(str(error))
                for result in work.unfinished(str(error)):
                    report.add(result)


class _Report:
    """What the command prints: results to standard output, everything else to standard error."""

    def __init__(self, images: int, *, as_json: bool) -> None:
        self.tally = Tally()
        self.work: Classification | None = None
        self._images = images
        self._as_json = as_json
        self._results: list[Result] = []
        self._began = time.monotonic()
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)
        self.progress = Progress(
            TextColumn("classifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._errors,
            transient=True,
            disable=images < LONG_WORK or not self._errors.is_terminal,
            redirect_stdout=not as_json,  # JSON lines are for programs: as they are, at once
        )
        self._bar = self.progress.add_task("", total=images)

    def add(self, result: Result) -> None:
        """Take one result in; with --json print it at once."""
        self.tally.add(result)
        if self._as_json:
            click.echo(json.dumps(result.to_json()))
        else:
            self._results.append(result)
        self.progress.advance(self._bar)

    def say(self, sentence: str) -> None:
        """Print a sentence above the progress bar."""
        self.progress.console.print(visible(sentence), markup=False)

    def end(self) -> None:
        """Print the table and the summary."""
        self._print_table()
        click.echo(self.tally.summary(time.monotonic() - self._began), err=self._as_json)

    def interrupted(self) -> None:
        """Print what is known after Ctrl-C."""
        if self._results:
            self._print_table()
        waiting = self.work.waiting if self.work else 0
        rest = f" {waiting:,} that the server has accepted go on there." if waiting else ""
        self.say(f"Stopped: {self.tally.total:,} of {self._images:,} images were settled.{rest}")

    def _print_table(self) -> None:
        if self._as_json:
            return
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = max(console.width, PIPE_WIDTH)
        console.print(table(self._results))

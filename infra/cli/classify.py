"""`wastestream classify`: sends images and folders of images to a running server."""

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
from infra.client.summary import Summary, table, visible

LONG_WORK: Final = 16
"""Minimum number of images for a progress bar."""

PIPE_WIDTH: Final = 200
"""Columns of the table when the output is not a terminal."""

NOT_ALL_CLASSIFIED: Final = 1
INTERRUPTED: Final = 130  # 128 + SIGINT, the shells' convention


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
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object a line, each as soon as its image is settled.",
)
@key_file
@click.option("--camera", callback=_camera_id, metavar="ID", help="Camera id of the images.")
def classify(
    paths: tuple[Path, ...], *, url: str, as_json: bool, key_file: Path | None, camera: str | None
) -> None:
    """Classify images and folders of images.

    A folder means every .jpg, .jpeg, .png and .webp below it, a .tar archive those inside it; any other file
    is sent whatever its name. Exit code 0: every image was classified. 1: some were not. 2: wrong command
    line. 130: Ctrl-C.
    """
    if not _is_address(url):
        raise click.BadParameter(
            "use an address like http://127.0.0.1:8000 or https://host", param_hint="--url"
        )
    key = read_key(key_file)
    try:
        sources = collect(paths)
    except CollectError as error:
        raise click.UsageError(visible(str(error))) from error
    output = _Output(len(sources), as_json=as_json)
    try:
        asyncio.run(_classify(sources, url.rstrip("/"), camera, key, output))
    except ProxyError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        output.interrupted()
        raise SystemExit(INTERRUPTED) from None
    output.end()
    raise SystemExit(0 if output.summary.complete else NOT_ALL_CLASSIFIED)


def _is_address(url: str) -> bool:
    """Return whether this is a valid address of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # such as a port beyond 65535
        return False
    host = parts.hostname or ""
    return parts.scheme in {"http", "https"} and bool(host) and not re.search(r"\s", url) and port != 0


async def _classify(
    sources: list[Source], url: str, camera: str | None, key: str | None, output: _Output
) -> None:
    async with Client(url, camera=camera, key=key, on_trouble=output.say) as client:
        work = output.work = Classification(client, sources)
        with output.progress:
            try:
                async for result in work.results():
                    output.add(result)
            except WastestreamError as error:
                output.say(str(error))
                for result in work.unfinished(str(error)):
                    output.add(result)


class _Output:
    """The command's output: results to standard output, everything else to standard error."""

    def __init__(self, images: int, *, as_json: bool) -> None:
        self.summary = Summary()
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
            redirect_stdout=not as_json,  # JSON lines are for programs: unchanged and immediate
        )
        self._bar = self.progress.add_task("", total=images)

    def add(self, result: Result) -> None:
        """Record one result; with --json print it."""
        self.summary.add(result)
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
        click.echo(self.summary.line(time.monotonic() - self._began), err=self._as_json)

    def interrupted(self) -> None:
        """Print the results so far after Ctrl-C."""
        if self._results:
            self._print_table()
        waiting = self.work.waiting if self.work else 0
        rest = f" The server goes on with {waiting:,} accepted images." if waiting else ""
        self.say(f"Stopped: {self.summary.total:,} of {self._images:,} images were settled.{rest}")

    def _print_table(self) -> None:
        if self._as_json:
            return
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = max(console.width, PIPE_WIDTH)
        console.print(table(self._results))

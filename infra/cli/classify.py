"""`wastestream classify`: sends images and folders of images to a running server."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.cameras import camera_id
from core.errors import CameraIdError
from infra.cli.collect import CollectError, Source, collect
from infra.cli.options import key_file, read_key
from infra.cli.results import Result, failed, settled, unfinished
from infra.cli.summary import Summary, table, visible
from wastestream import (
    ApiError,
    Client,
    JobLostError,
    KeyRejectedError,
    NotWastestreamError,
    Outcome,
    ProxyError,
    WastestreamError,
)
from wastestream import (
    Progress as Numbers,
)
from wastestream.images import MAX_BYTES

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
    client = _open(url, read_key(key_file), camera)
    try:
        sources = collect(paths)
    except CollectError as error:
        raise click.UsageError(visible(str(error))) from error
    output = _Output(len(sources), as_json=as_json)
    try:
        with client, output.progress:
            _Classification(client, url.rstrip("/"), sources, output).run()
    except KeyboardInterrupt:
        output.interrupted()
        raise SystemExit(INTERRUPTED) from None
    output.end()
    raise SystemExit(0 if output.summary.complete else NOT_ALL_CLASSIFIED)


def _open(url: str, key: str | None, camera: str | None) -> Client:
    try:
        return Client(url, key=key, camera=camera)
    except ProxyError as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error


class _Classification:
    """The images of one command, from files to results."""

    def __init__(self, client: Client, url: str, sources: Sequence[Source], output: _Output) -> None:
        self._client = client
        self._url = url
        self._sources = sources
        self._output = output
        self._sent: list[Source] = []
        self._left = {source.position: source for source in sources}
        self._jobs: dict[int, str] = {}  # of images that were given up, by position

    def run(self) -> None:
        """Send the images; pass each result to the output."""
        sentences, logger = _Sentences(self._output), logging.getLogger("wastestream")
        logger.addHandler(sentences)
        try:
            for outcome in self._client.classify_many(self._contents(), progress=self._output.count):
                self._take(outcome)
        except WastestreamError as error:
            sentence = self._sentence(error)
            self._output.say(sentence)
            for source in list(self._left.values()):
                self._add(unfinished(source, self._jobs.get(source.position), sentence))
        finally:
            logger.removeHandler(sentences)

    def _contents(self) -> Iterator[bytes]:
        """Yield the bytes of each image that can be sent."""
        for source in self._sources:
            data = _read(source)
            if isinstance(data, Result):
                self._add(data)
            else:
                self._sent.append(source)
                yield data

    def _take(self, outcome: Outcome) -> None:
        source, job, error = self._sent[outcome.index], outcome.job, outcome.error
        if error is None and job is not None:
            self._add(settled(source, job))
        elif isinstance(error, JobLostError) or (
            isinstance(error, ApiError) and not isinstance(error, KeyRejectedError)
        ):
            self._add(failed(source, str(error), None if job is None else job.id))
        elif job is not None:
            self._jobs[source.position] = job.id

    def _add(self, result: Result) -> None:
        del self._left[result.position]
        self._output.add(result)

    def _sentence(self, error: WastestreamError) -> str:
        if isinstance(error, NotWastestreamError):
            return f"{error.server} answers, but is not wastestream ({error.status}); check --url."
        if isinstance(error, KeyRejectedError):
            return (
                f"{self._url} rejects the call ({error.status}). {error} This command needs a key with the "
                "scopes ingest and read, in WASTESTREAM_API_KEY or --key-file."
            )
        return str(error)


def _read(source: Source) -> bytes | Result:
    """Return the image's bytes, or the result of an image that cannot be sent."""
    try:
        data = source.read() if source.size <= MAX_BYTES else b""
    except OSError as error:
        return failed(source, f"The file cannot be read: {error.strerror or error}.")
    size = max(source.size, len(data))
    if size > MAX_BYTES:  # the server would reject it
        return failed(source, f"The image has {size:,} bytes; send at most {MAX_BYTES:,} (10 MiB).")
    return data


class _Sentences(logging.Handler):
    """Prints the client's log messages."""

    def __init__(self, output: _Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        self._output.say(record.getMessage())


class _Output:
    """The command's output: results to standard output, everything else to standard error."""

    def __init__(self, images: int, *, as_json: bool) -> None:
        self.summary = Summary()
        self._waiting = 0  # accepted images that have not settled
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

    def count(self, numbers: Numbers) -> None:
        """Show the client's progress."""
        self._waiting = numbers.waiting

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
        rest = f" The server goes on with {self._waiting:,} accepted images." if self._waiting else ""
        self.say(f"Stopped: {self.summary.total:,} of {self._images:,} images were settled.{rest}")

    def _print_table(self) -> None:
        if self._as_json:
            return
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = max(console.width, PIPE_WIDTH)
        console.print(table(self._results))

"""The command line of the gateway."""

from __future__ import annotations

import json
import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
import httpx

from wastestream.errors import WastestreamError
from wastestream.gateway.config import DEFAULT_LISTEN, Config, load_config, make_config
from wastestream.gateway.errors import ConfigError
from wastestream.gateway.gateway import Gateway
from wastestream.gateway.local_api import serving
from wastestream.gateway.log import set_up_logs
from wastestream.gateway.overview import to_text
from wastestream.version import __version__

logger = logging.getLogger(__name__)

_POLL: Final = 0.5  # seconds

_NO_GATEWAY: Final = "No gateway answers at {}; start it, or give its --listen address."


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML file with every setting; SIGHUP reads it again.",
)
@click.option("--id", metavar="ID", help="Id of the camera.")
@click.option(
    "--source", metavar="SOURCE", help="rtsp://, http:// (MJPEG), a video file, /dev/video0, or a folder."
)
@click.option("--fps", help="Frames a second to sample, such as 5 or 1/60 [1].")
@click.option("--server", metavar="URL", help="Address of the server [http://127.0.0.1:8000].")
@click.option("--spool", metavar="DIR", help="Folder for frames [wastestream-spool].")
@click.option("--listen", metavar="HOST:PORT", help=f"Address for status and triggers [{DEFAULT_LISTEN}].")
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def camera(context: click.Context, /, file: Path | None, **given: str | None) -> None:
    """Read cameras, keep their frames on disk until a server has accepted them, and count each.

    One camera: --id belt-1 --source /dev/video0 --fps 5. Several: --config cameras.yaml.

    The API key is in the variable WASTESTREAM_API_KEY, or in the file that key_file names. Other users of
    this machine can read command lines: put addresses with passwords into a file.
    """
    if context.invoked_subcommand is not None:
        return
    options = {option: value for option, value in given.items() if value is not None}
    try:
        config = _config(file, options)
        set_up_logs()
        healthy = _run(config, file)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    context.exit(0 if healthy else 1)


@camera.command()
@click.option("--listen", default=DEFAULT_LISTEN, show_default=True, help="The gateway's address.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(listen: str, *, as_json: bool) -> None:
    """Show a running gateway: its cameras, and what became of their frames."""
    try:
        with httpx.Client(trust_env=False, timeout=10) as client:
            document: dict[str, Any] = client.get(f"http://{listen}/status").raise_for_status().json()
            text = json.dumps(document) if as_json else to_text(document)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        raise click.ClickException(_NO_GATEWAY.format(listen)) from error
    click.echo(text)


def _run(config: Config, file: Path | None) -> bool:
    """Run until a signal comes; return whether nothing failed."""
    gateway, reloading = Gateway(config), threading.Event()
    with gateway.running(), serving(gateway, config.listen) as port:

        def reload(_: int, __: FrameType | None) -> None:
            reloading.set()

        def stop(_: int, __: FrameType | None) -> None:
            gateway.stop()

        signal.signal(signal.SIGHUP, reload)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        cameras = len(config.cameras)
        logger.info("Reading %d cameras for %s; status at http://127.0.0.1:%d.", cameras, config.server, port)
        while not gateway.wait(_POLL):
            if reloading.is_set():
                reloading.clear()
                _reload(gateway, file)
    return gateway.healthy


def _reload(gateway: Gateway, file: Path | None) -> None:
    """Read the file again; with mistakes in it, everything goes on as before."""
    if file is None:
        logger.warning("There is no configuration file to read again.")
        return
    try:
        gateway.reload(load_config(file))
    except ConfigError as error:
        logger.error("The configuration stays as it is. %s", error)  # noqa: TRY400 - a sentence
    else:
        logger.info("The configuration was read again: %d cameras.", len(gateway.cameras))


def _config(file: Path | None, options: dict[str, str]) -> Config:
    """Return the configuration of a file or of one camera's options: not both, and not half of one.

    Raises:
        ConfigError: it has mistakes.
    """
    if file is not None:
        if options:
            name = next(iter(options))
            raise click.UsageError(f"--config and --{name} contradict each other; put it into the file.")
        return load_config(file)
    if not {"id", "source"} <= options.keys():
        raise click.UsageError("Name a camera with --id and --source, or a file with --config.")
    document: dict[str, Any] = {
        "cameras": [{member: options[member] for member in ("id", "source", "fps") if member in options}],
        **{member: options[member] for member in ("server", "listen") if member in options},
    }
    if "spool" in options:
        document["spool"] = {"folder": options["spool"]}
    return make_config(document)

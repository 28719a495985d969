"""The command line of the gateway."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import httpx

from wastestream.gateway.config import DEFAULT_LISTEN, Config, load_config, make_config
from wastestream.gateway.errors import ConfigError, SpoolError
from wastestream.gateway.gateway import Gateway
from wastestream.gateway.local_api import serving
from wastestream.gateway.log import set_up_logs
from wastestream.gateway.overview import to_text
from wastestream.version import __version__

logger = logging.getLogger(__name__)

_DESCRIPTION: Final = """\
Read cameras, keep their frames on disk until a wastestream server has accepted them, and count each.

One camera:      %(prog)s --id belt-1 --source rtsp://10.0.0.5/stream --fps 5
Several:         %(prog)s --config cameras.yaml
A look at it:    %(prog)s status
"""

_EPILOG: Final = """\
The API key is in the variable WASTESTREAM_API_KEY, or in the file that the configuration's key_file names.
Other users of this machine can read command lines: put addresses with passwords into a file.
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code.

    Raises:
        ConfigError: the configuration has mistakes.
    """
    if arguments[:1] == ["status"]:
        return _status(arguments[1:])
    options = _parser().parse_args(arguments)
    config = _config(options)
    set_up_logs()
    try:
        return _run(config, options.config)
    except SpoolError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(config: Config, path: Path | None) -> int:
    gateway = Gateway(config)
    with gateway.running(), serving(gateway, config.listen) as port:

        def reload(_: int, __: FrameType | None) -> None:
            _reload(gateway, path)

        signal.signal(signal.SIGHUP, reload)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _, __: gateway.stop())
        logger.info(
            "Reading %d cameras for %s; status at http://127.0.0.1:%d.",
            len(config.cameras),
            config.server,
            port,
        )
        return 0 if gateway.wait() else 1


def _reload(gateway: Gateway, path: Path | None) -> None:
    """Read the file again; with mistakes in it, everything goes on as before."""
    if path is None:
        logger.warning("There is no configuration file to read again.")
        return
    try:
        gateway.reload(load_config(path))
    except ConfigError as error:
        logger.error("The configuration stays as it is. %s", error)  # noqa: TRY400 - a sentence
    else:
        logger.info("The configuration was read again: %d cameras.", len(gateway.cameras))


def _status(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="wastestream-camera status", description="Show a running gateway.")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, help="its address [%(default)s]")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    url = f"http://{options.listen}/status"
    try:
        with httpx.Client(trust_env=False, timeout=10) as client:
            document: dict[str, Any] = client.get(url).raise_for_status().json()
            text = client.get(url).text if options.json else to_text(document) + "\n"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError):
        sys.stderr.write(f"No gateway answers at {options.listen}; start it, or give its --listen address.\n")
        return 1
    sys.stdout.write(text)
    return 0


def _config(options: argparse.Namespace) -> Config:
    if options.config is not None:
        return load_config(options.config)
    document: dict[str, Any] = {"cameras": [{"id": options.id, "source": options.source}]}
    if options.fps is not None:
        document["cameras"][0]["fps"] = options.fps
    for name in ("server", "listen"):
        if getattr(options, name) is not None:
            document[name] = getattr(options, name)
    if options.spool is not None:
        document["spool"] = {"folder": options.spool}
    return make_config(document)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wastestream-camera",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with every setting; SIGHUP reads it again"
    )
    parser.add_argument("--id", help="id of the camera")
    parser.add_argument("--source", help="rtsp://, http:// (MJPEG), a video file, /dev/video0, or a folder")
    parser.add_argument("--fps", help="frames a second to sample, such as 5 or 1/60 [1]")
    parser.add_argument("--server", metavar="URL", help="address of the server [http://127.0.0.1:8000]")
    parser.add_argument("--spool", metavar="DIR", help="folder for frames [wastestream-spool]")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help=f"address for status and triggers [{DEFAULT_LISTEN}]"
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


class _Parser(argparse.ArgumentParser):
    """Options of one camera, or a file: not both, and not half of one."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse`."""
        options = super().parse_args(args, namespace)
        one = [
            name
            for name in ("id", "source", "fps", "server", "spool", "listen")
            if getattr(options, name) is not None
        ]
        if options.config is not None and one:
            self.error(f"--config and --{one[0]} contradict each other; put it into the file.")
        if options.config is None and (options.id is None or options.source is None):
            self.error("name a camera with --id and --source, or a file with --config.")
        return options

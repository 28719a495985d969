"""`python -m api`: the API under gunicorn."""

from __future__ import annotations

import resource
import socket
import struct
import subprocess
import sys
from typing import Any, Final

from gunicorn.app.base import BaseApplication

from api.access import check_address
from api.app import create_app
from api.body import SILENT_SECONDS
from api.connections import LingeringWorker
from api.installation import LOST
from api.keyring import Keyring, settings_key
from core.errors import SettingsError
from core.keys import KeyStore
from core.ledger import connect
from core.memory import keep_freed_memory
from core.redis_server import log_unfit
from core.settings import Settings, load_settings

_MOST_KEPT: Final = 64 * 1024 * 1024
"""Bytes of freed memory that a process keeps: a bulk upload of frames."""

_MOST_IDLE: Final = 936
"""Connections between two requests that a process keeps; beyond that it closes them after each answer."""

_OTHER_FILES: Final = 100  # libraries, logs, connections to the S3 server

_ACCESS_LINE: Final = (
    '%(t)s %(h)s key=%({wastestream.key}e)s "%(r)s" %(s)s bytes=%(B)s ms=%(M)s request=%({x-request-id}o)s'
)
"""One request's line: no header that the client sent is in it, so no key."""


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with our settings, and without its command line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what to do; it calls this itself."""
        host = self._settings.host
        if ":" in host:  # IPv6
            host = f"[{host}]"
        threads = self._settings.api_threads + self._settings.api_waiting
        _allow_files(_MOST_IDLE + 2 * threads)
        options: dict[str, Any] = {
            "bind": f"{host}:{self._settings.port}",
            "workers": self._settings.api_processes,
            "worker_class": LingeringWorker,
            "threads": threads,
            "worker_connections": _MOST_IDLE + threads,
            "keepalive": 75,  # seconds: cameras send at intervals and should keep their connections
            "timeout": 60,
            "graceful_timeout": 25,  # seconds: with what comes after it, a stop takes less than 30
            "loglevel": self._settings.log_level.lower(),
            "when_ready": _end_silent_connections,
            "post_fork": _keep_freed_memory,
            "post_worker_init": _end_waiting_on_exit,
            "accesslog": "-" if self._settings.access_log else None,
            "access_log_format": _ACCESS_LINE,
            "control_socket_disable": True,  # a socket in the home folder that nothing here uses
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application; gunicorn calls this in each process, after the fork."""
        return create_app(self._settings)


def _allow_files(count: int) -> None:
    """Let the processes have so many connections open, and files besides, if the system lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _end_silent_connections(server: Any) -> None:
    """Let a read from a client that sends nothing more fail, so that it does not hold a thread for ever.

    gunicorn's threads read without a time-out. Accepted sockets take over this one of the socket that listens
    (socket(7)), and unlike Python's own it lasts when gunicorn makes them blocking.
    """
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENT_SECONDS, 0))


def _end_waiting_on_exit(worker: Any) -> None:
    """Let requests that wait for a job answer at once when the process is told to stop."""
    waiters = worker.wsgi.extensions["wastestream"].waiters
    waiters.closing = lambda: not worker.alive


def _keep_freed_memory(_server: Any, _worker: Any) -> None:
    keep_freed_memory(_MOST_KEPT)


def _check_address(settings: Settings) -> None:
    """Ask over a connection of its own: gunicorn's processes are forked later."""
    client = connect(settings.redis_url.get_secret_value())
    try:
        check_address(settings, Keyring(KeyStore(client), settings_key(settings)))
    except SettingsError:
        # Where keys are missing because Redis has lost its data, it must start to say so, and is closed.
        if not _data_lost():
            raise
    finally:
        log_unfit(client)
        client.close()


def _data_lost() -> bool:
    """Ask in a process of its own: the S3 client has threads, which are not there after gunicorn's fork."""
    command = [sys.executable, "-m", "api.installation", "show"]
    return subprocess.run(command, check=False, capture_output=True).returncode == LOST  # noqa: S603 - our own


def main() -> int:
    """Serve until told to stop; return the exit code."""
    try:
        settings = load_settings()
        _check_address(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    Server(settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

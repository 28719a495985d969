"""`python -m api`: the API under gunicorn."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from api.app import create_app
from api.auth.key_cache import KeyCache, settings_key
from api.auth.policy import check_address
from api.installation import LOST
from api.server.gunicorn_worker import GRACEFUL_TIMEOUT, HttpWorker
from api.server.server import raise_file_limit
from core import logs, traces
from core.errors import SettingsError
from core.memory import keep_freed_memory
from core.redis.api_keys import KeyStore
from core.redis.client import connect
from core.redis.server import log_unfit
from core.settings import Settings, load_settings

_MAX_KEPT: Final = 64 * 1024 * 1024
"""Bytes of freed memory that a process keeps for its next bulk upload."""


class _RootLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's messages, in the log of the program."""

    def setup(self, cfg: Any) -> None:
        """Leave the handlers to the root logger."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with our settings and without its command line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Configure gunicorn, which calls this itself."""
        host = self._settings.host
        if ":" in host:  # IPv6
            host = f"[{host}]"
        raise_file_limit()
        options: dict[str, Any] = {
            "bind": f"{host}:{self._settings.port}",
            "workers": self._settings.api_processes,
            "worker_class": HttpWorker,
            "timeout": 60,  # seconds without a heartbeat after which gunicorn replaces a process
            "graceful_timeout": GRACEFUL_TIMEOUT,
            "loglevel": self._settings.log_level.lower(),
            "logger_class": _RootLogger,
            "post_fork": _keep_freed_memory,
            "control_socket_disable": True,  # an unused socket in the home folder
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application; gunicorn calls this in each process, after the fork."""
        return create_app(self._settings)


def _keep_freed_memory(_server: Any, _worker: Any) -> None:
    keep_freed_memory(_MAX_KEPT)


def _check_address(settings: Settings) -> None:
    """Check the address with a Redis connection of its own: gunicorn forks its processes later."""
    client = connect(settings.redis)
    try:
        check_address(settings, KeyCache(KeyStore(client), settings_key(settings)))
    except SettingsError:
        # Keys may be missing because Redis lost its data. Then the API starts closed, and responds so.
        if not _data_lost():
            raise
    finally:
        log_unfit(client)
        client.close()


def _data_lost() -> bool:
    """Ask in a process of its own: the S3 client starts threads, which do not survive gunicorn's fork."""
    command = [sys.executable, "-m", "api.installation", "show"]
    return subprocess.run(command, check=False, capture_output=True).returncode == LOST  # noqa: S603 - our own


def main() -> int:
    """Serve until the process must stop; return the exit code."""
    try:
        settings = load_settings()
        traces.check(settings.otlp_endpoint)
        logs.set_up(settings.log_level, "api")
        _check_address(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    Server(settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

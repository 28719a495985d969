"""`python -m api`: the API under gunicorn."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Final

from gunicorn.app.base import BaseApplication

from api.app import create_app
from api.auth.key_cache import KeyCache, settings_key
from api.auth.policy import check_address
from api.http.server import allow_files
from api.http.worker import HttpWorker
from api.installation import LOST
from core.errors import SettingsError
from core.memory import keep_freed_memory
from core.redis.api_keys import KeyStore
from core.redis.client import connect
from core.redis.server import log_unfit
from core.settings import Settings, load_settings

_MAX_KEPT: Final = 64 * 1024 * 1024
"""Bytes of freed memory that a process keeps: a bulk upload of frames."""


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
        allow_files()
        options: dict[str, Any] = {
            "bind": f"{host}:{self._settings.port}",
            "workers": self._settings.api_processes,
            "worker_class": HttpWorker,
            "timeout": 60,  # seconds without a sign of life after which a process is replaced
            "graceful_timeout": 25,  # seconds: with what comes after it, a stop takes less than 30
            "loglevel": self._settings.log_level.lower(),
            "post_fork": _keep_freed_memory,
            "control_socket_disable": True,  # a socket in the home folder that nothing here uses
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application; gunicorn calls this in each process, after the fork."""
        return create_app(self._settings)


def _keep_freed_memory(_server: Any, _worker: Any) -> None:
    keep_freed_memory(_MAX_KEPT)


def _check_address(settings: Settings) -> None:
    """Ask over a connection of its own: gunicorn's processes are forked later."""
    client = connect(settings.redis_url.get_secret_value())
    try:
        check_address(settings, KeyCache(KeyStore(client), settings_key(settings)))
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

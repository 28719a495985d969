"""`python -m api`: the API under gunicorn."""

from __future__ import annotations

import sys
from typing import Any

from gunicorn.app.base import BaseApplication

from api.app import create_app
from core.errors import SettingsError
from core.settings import Settings, load_settings


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
        options: dict[str, Any] = {
            "bind": f"{host}:{self._settings.port}",
            "workers": self._settings.api_processes,
            "worker_class": "gthread",
            "threads": self._settings.api_threads,
            "keepalive": 75,  # seconds: cameras send at intervals and should keep their connections
            "timeout": 60,
            "graceful_timeout": 30,
            "loglevel": self._settings.log_level.lower(),
            "post_worker_init": _end_waiting_on_exit,
            "control_socket_disable": True,  # a socket in the home folder that nothing here uses
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application; gunicorn calls this in each process, after the fork."""
        return create_app(self._settings)


def _end_waiting_on_exit(worker: Any) -> None:
    """Let requests that wait for a job answer at once when the process is told to stop."""
    waiters = worker.wsgi.extensions["wastestream"].waiters
    waiters.closing = lambda: not worker.alive


def main() -> int:
    """Serve until told to stop; return the exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    Server(settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

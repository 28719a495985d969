"""Questions over TCP and HTTP that tell whether a process is ready.

None waits longer than half a second, unless it is told to.

Without Redis' client, so that `status` does not load it.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

_TIMEOUT: Final = 0.5  # seconds


def listens(host: str, port: int) -> bool:
    """Return whether something accepts connections."""
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT).close()
    except OSError:
        return False
    return True


def api_ready(host: str, port: int) -> bool:
    """Return whether the API and all it depends on are ready, by its own word.

    A full disk does not count: results can be read, and what waits is classified. Nor do lost data: they wait
    for a person, who needs it all running.
    """
    status, health = read_health(host, port)
    failing = {part for part, answer in health.get("checks", {}).items() if answer != "ok"}
    return status == http.client.OK or (failing != set() and failing <= {"disk", "installation"})


def lost_data(health: Mapping[str, Any]) -> str | None:
    """Return the sentence with which the API's `/readyz` says that data were lost, None if it does not."""
    checks = health.get("checks") or {"installation": "ok"}
    said: str = checks.get("installation", "ok")
    return None if said == "ok" else said


def read_health(
    host: str, port: int, key: str | None = None, *, timeout: float = _TIMEOUT
) -> tuple[int, dict[str, Any]]:
    """Return `/readyz`: its status and its JSON; 0 and nothing if the API does not answer.

    Where callers need an API key, one without `key` learns what is ready, but no figures. The API waits for
    what it asks, so to be told what does not answer takes `timeout`, in seconds.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return _get(host, port, "/readyz", headers, timeout=timeout)


def read_session(host: str, port: int) -> dict[str, Any]:
    """Return `/session`, which says whether callers need a key; nothing if the API does not answer."""
    return _get(host, port, "/session")[1]


def _get(
    host: str,
    port: int,
    path: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    timeout: float = _TIMEOUT,
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return 0, {}
    finally:
        connection.close()
    return response.status, body if isinstance(body, dict) else {}

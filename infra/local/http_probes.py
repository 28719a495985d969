"""Readiness probes over TCP and HTTP, with a default timeout of half a second.

Apart from the probes of Redis, so that `status` does not load Redis' client.
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
    """Return whether the API reports itself and its dependencies as ready.

    A full disk does not count: results stay readable, and workers classify pending jobs. Lost data do not
    count either: the person who has to act needs a running stack.
    """
    status, health = read_health(host, port)
    failing = {part for part, answer in health.get("checks", {}).items() if answer != "ok"}
    return status == http.client.OK or (failing != set() and failing <= {"disk", "installation"})


def lost_data(health: Mapping[str, Any]) -> str | None:
    """Return the API's sentence on lost data, None without loss."""
    checks = health.get("checks") or {"installation": "ok"}
    answer: str = checks.get("installation", "ok")
    return None if answer == "ok" else answer


def read_health(
    host: str, port: int, key: str | None = None, *, timeout: float = _TIMEOUT
) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of `/readyz`; 0 and an empty object if the API does not answer.

    If callers need an API key, a call without `key` gets the checks, but no figures. The API itself waits for
    its dependencies: to learn which one hangs, allow it a longer `timeout`, in seconds.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return _get(host, port, "/readyz", headers, timeout=timeout)


def read_session(host: str, port: int) -> dict[str, Any]:
    """Return `/session`: whether callers need a key; an empty object if the API does not answer."""
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

"""Questions over TCP and HTTP that tell whether a process is ready. None waits longer than half a second.

Without Redis' client, so that `status` does not load it.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Final

_PATIENCE: Final = 0.5  # seconds


def listens(host: str, port: int) -> bool:
    """Return whether something accepts connections."""
    try:
        socket.create_connection((host, port), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


def api_ready(host: str, port: int) -> bool:
    """Return whether the API and all it depends on are ready, by its own word."""
    status, _ = read_health(host, port)
    return status == http.client.OK


def read_health(host: str, port: int) -> tuple[int, dict[str, Any]]:
    """Return `/readyz`: its status and its JSON; 0 and nothing if the API does not answer."""
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return 0, {}
    finally:
        connection.close()
    return response.status, body if isinstance(body, dict) else {}

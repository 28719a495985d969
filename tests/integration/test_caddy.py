"""The proxy of the profile `tls`: a real Caddy with the shipped file, before a real API."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.support.images import jpeg
from tests.support.programs import tool
from tests.support.servers import REPOSITORY, Server, free_port, wait_until

_OPTIONS = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"


def test_an_upload_by_https(start_api: Callable[..., Server], tmp_path: Path) -> None:
    """An image is accepted through the proxy; a client's claims about origin and prefix do not count."""
    api, port = start_api(WASTESTREAM_TRUSTED_PROXIES="1", WASTESTREAM_ACCESS_LOG="1"), free_port()
    text = (REPOSITORY / "infra/docker/Caddyfile").read_text().replace("api:8000", f"127.0.0.1:{api.port}")
    (tmp_path / "Caddyfile").write_text(_OPTIONS + text)
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    command = [tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    caddy = Server(command, tmp_path / "log", environment | {"DOMAIN": f"https://localhost:{port}"}, port)
    caddy.start()
    try:
        authority = tmp_path / "caddy/pki/authorities/local/root.crt"
        wait_until(authority.exists, "Caddy's authority")
        spoofed = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Prefix": "/evil"}
        request = urllib.request.Request(
            f"https://localhost:{port}/v1/images", jpeg(), {"Content-Type": "image/jpeg", **spoofed}
        )
        context = ssl.create_default_context(cafile=str(authority))
        wait_until(lambda: _shakes_hands(port, context), "Caddy's certificate")
        with urllib.request.urlopen(request, context=context) as response:
            assert response.status == 202
            job = json.load(response)
            assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
        (line,) = [line for line in api.log.read_text().splitlines() if "POST /v1/images" in line]
        assert json.loads(line)["address"] == "127.0.0.1"
    finally:
        caddy.stop()


def _shakes_hands(port: int, context: ssl.SSLContext) -> bool:
    """Whether the server has a certificate; Caddy listens before it has made one."""
    try:
        with socket.create_connection(("localhost", port), 5) as connection:
            context.wrap_socket(connection, server_hostname="localhost").close()
    except ssl.SSLError:
        return False
    return True

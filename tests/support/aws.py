"""The two services of AWS that give programs credentials: security tokens, and a machine's metadata."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs

IDENTITY: Final = "identity-of-the-pod"
"""Token of the web identity that is known."""

_ROLE: Final = "belts"
_SESSION: Final = "token-of-the-metadata"


class Aws:
    """Answers with these credentials. `asked` are the names of the services that gave them, in order."""

    def __init__(self, access_key: str, secret_key: str) -> None:
        self.keys = (access_key, secret_key)
        self.lifetime = timedelta(hours=1)
        self.asked: list[str] = []

    def credentials(self, service: str) -> dict[str, str]:
        """Return credentials, and note who gave them."""
        self.asked.append(service)
        expires = datetime.now(UTC) + self.lifetime
        return {
            "AccessKeyId": self.keys[0],
            "SecretAccessKey": self.keys[1],
            "Token": f"session-{len(self.asked)}",
            "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


@contextlib.contextmanager
def aws_services(aws: Aws) -> Iterator[str]:
    """Run both services; yields their address."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(_SESSION)

        def do_GET(self) -> None:
            if self.headers["X-aws-ec2-metadata-token"] != _SESSION:
                self.send_error(401)
            elif self.path.endswith("/security-credentials/"):
                self._answer(_ROLE)
            elif self.path.endswith(f"/security-credentials/{_ROLE}"):
                self._answer(json.dumps({"Code": "Success", **aws.credentials("metadata")}))
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if form["Action"] != ["AssumeRoleWithWebIdentity"] or form["WebIdentityToken"] != [IDENTITY]:
                self._answer(_error("InvalidIdentityToken"), 400)
                return
            keys = aws.credentials("tokens")
            keys["SessionToken"] = keys.pop("Token")
            values = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
            self._answer(
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
                f"{values}</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            )

        def _answer(self, text: str, status: int = 200) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml" if text.startswith("<") else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _error(code: str) -> str:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"

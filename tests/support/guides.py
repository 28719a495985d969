"""Runs the code of a guide in docs/how-to as a reader would: in an empty folder, from top to bottom."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.openapi.examples import SERVER
from tests.support.servers import REPOSITORY

GUIDES: Final = REPOSITORY / "docs" / "how-to"

NODE_PACKAGES: Final = REPOSITORY / "tests" / "support" / "typescript"
"""package.json, and a lock file with hashes."""

_BLOCK: Final = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE: Final = REPOSITORY / "docs" / "examples" / "apple.jpg"


@dataclass(frozen=True)
class Guide:
    """A guide, and where and with which key to run it.

    Blocks with a file name are written to that file. Other blocks of `sh` are one script, and those of `http`
    are requests. Blocks of `text` are left out.
    """

    name: str
    folder: Path
    url: str
    key: str

    def run(self) -> str:
        """Return what the script prints; it must succeed."""
        (self.folder / "docs").symlink_to(REPOSITORY / "docs")
        for _, name, code in self._blocks():
            if name:
                (self.folder / name).write_text(code)
        script = "\n".join(code for language, name, code in self._blocks() if language == "sh" and not name)
        return run(["sh", "-eu", "-c", script], self.folder, WASTESTREAM_API_KEY=self.key)

    def requests(self) -> list[bytes]:
        """Send the guide's raw requests, each with a picture as its body; return the responses."""
        return [self._send(code) for language, _, code in self._blocks() if language == "http"]

    def _blocks(self) -> list[tuple[str, str, str]]:
        text = (GUIDES / f"{self.name}.md").read_text(encoding="utf-8")
        assert SERVER in text
        return _BLOCK.findall(text.replace(SERVER, self.url))

    def _send(self, head: str) -> bytes:
        picture = _PICTURE.read_bytes()
        filled = head.replace("$WASTESTREAM_API_KEY", self.key).replace("$SIZE", str(len(picture)))
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(filled.replace("\n", "\r\n").encode() + picture)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a program in a folder, with Node.js and npm on the path; return what it prints. It must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "NO_PROXY": "127.0.0.1", **environment}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install_node_packages(folder: Path) -> None:
    """Install the packages of NODE_PACKAGES into a folder, as the lock file has them."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE_PACKAGES / name, folder)
    run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], folder)

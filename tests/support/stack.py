"""The whole stack, as `up` starts it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import REPOSITORY, three_free_ports

_CLI = [sys.executable, "-m", "infra.cli"]


@dataclass(frozen=True)
class Stack:
    """A stack that `up` started: its address and its data folder."""

    url: str
    folder: Path

    def make_key(self, name: str, *scopes: str) -> str:
        """Make an API key, as a user does."""
        options = [word for scope in scopes for word in ("--scope", scope)]
        command = [*_CLI, "keys", "--data-dir", str(self.folder), "create", name, *options]
        done = subprocess.run(command, check=True, cwd=REPOSITORY, timeout=60, capture_output=True, text=True)
        return done.stdout.strip()


@contextlib.contextmanager
def run_stack(folder: Path) -> Iterator[Stack]:
    """Start a stack with one worker on a new data folder, as a user does, and stop it."""
    port = three_free_ports()
    options = ["--data-dir", str(folder), "--port", str(port), "--workers", "1", "--detach"]
    subprocess.run([*_CLI, "up", *options], check=True, cwd=REPOSITORY, timeout=120)
    yield Stack(f"http://127.0.0.1:{port}", folder)
    subprocess.run([*_CLI, "down", "--data-dir", str(folder)], check=True, cwd=REPOSITORY, timeout=60)

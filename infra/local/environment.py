"""The person's own environment, without what would mislead the stack's processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_NOT_OURS: Final = ("AWS_", "RCLONE_", "WASTESTREAM_API_KEY")
"""Variables for other storage than the stack's (a session token, say, would spoil every signature), and the
person's own API key, which only `classify` needs."""


def read_variables(path: Path) -> dict[str, str]:
    """Read a file of NAME=value lines, such as `worker.env`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def clean_environment(*hosts: str) -> None:
    """Drop what the servers must not see, and keep what goes to `hosts` from being sent through a proxy."""
    for name in [name for name in os.environ if name.startswith(_NOT_OURS)]:
        del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):
        exceptions = [os.environ[name]] if os.environ.get(name) else []
        os.environ[name] = ",".join([*exceptions, *hosts])

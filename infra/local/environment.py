"""Environment of the stack's processes: the person's own, without misleading variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_NOT_OURS: Final = ("AWS_", "RCLONE_", "WASTESTREAM_API_KEY")
"""Prefixes of variables for other storage (a session token would invalidate every signature), and the
person's own API key, which only `classify` needs."""


def read_variables(path: Path) -> dict[str, str]:
    """Read a file of NAME=value lines, such as `worker.env`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def clean_environment(*hosts: str, aws: bool = False) -> None:
    """Remove variables that the servers must not see, and exempt `hosts` from proxies.

    Args:
        hosts: hosts of our own servers.
        aws: whether storage takes its credentials from `AWS_*` variables, which then stay.
    """
    unwanted = tuple(prefix for prefix in _NOT_OURS if not (aws and prefix == "AWS_"))
    for name in [name for name in os.environ if name.startswith(unwanted)]:
        del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):
        exceptions = [os.environ[name]] if os.environ.get(name) else []
        os.environ[name] = ",".join([*exceptions, *hosts])

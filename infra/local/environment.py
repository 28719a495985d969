"""The person's own environment, without what would mislead the stack's processes."""

from __future__ import annotations

import os
from typing import Final

_NOT_OURS: Final = ("AWS_", "RCLONE_")
"""Variables for other storage than the stack's: a session token, say, would spoil every signature."""


def clean_environment(*hosts: str) -> None:
    """Drop settings for other storage, and keep what goes to `hosts` from being sent through a proxy."""
    for name in [name for name in os.environ if name.startswith(_NOT_OURS)]:
        del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):
        exceptions = [os.environ[name]] if os.environ.get(name) else []
        os.environ[name] = ",".join([*exceptions, *hosts])

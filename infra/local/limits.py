"""How many files and connections the stack's processes may have open."""

from __future__ import annotations

import resource
from typing import Final

_WANTED: Final = 65_536
"""More than the API and Redis ever have open. Not more: some programs close every number up to the limit."""

_FEW: Final = 1_024
"""With fewer, the API runs out of connections before it runs out of threads."""


def raise_file_limit() -> str | None:
    """Let this process, and those it starts, open as many files as they need and it may allow.

    Returns:
        A warning if that is few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _WANTED:
        soft = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= _FEW:
        return None
    return (
        f"Warning: a process of this user may open {soft} files only (`ulimit -Hn`), so the API takes fewer "
        f"connections than that. Raise the limit to {_FEW} or more."
    )

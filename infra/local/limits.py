"""Limit of open files, and so of connections, of the stack's processes."""

from __future__ import annotations

import resource
from typing import Final

_WANTED: Final = 65_536
"""More than the API and Redis ever open. Not higher: some programs close every number up to the limit."""

_FEW: Final = 1_024
"""Below this limit, the API runs out of connections before it runs out of threads."""


def raise_file_limit() -> str | None:
    """Raise the limit of this process and its children as far as needed and allowed.

    Returns:
        A warning if the limit stays low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _WANTED:
        soft = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= _FEW:
        return None
    return (
        f"Warning: a process of this user may open only {soft} files (`ulimit -Hn`), so the API accepts "
        f"fewer connections. Raise the limit to {_FEW} or more."
    )

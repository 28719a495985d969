"""An API with a fault built in: `python -m tests.support.faulty_api`, as `python -m api`.

FAULT is "before accept" or "after accept": the process that accepts the first upload kills itself there,
once; MARKER is a file that says whether it has.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from api.__main__ import main
from core.redis.job_store import JobStore

_marker = Path(os.environ["MARKER"])
_accept = JobStore.accept_many


def _die_once() -> None:
    if not _marker.exists():
        _marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _accept_with_fault(self: JobStore, *arguments: Any, **options: Any) -> Any:
    if os.environ["FAULT"] == "before accept":
        _die_once()
    accepted = _accept(self, *arguments, **options)
    _die_once()
    return accepted


JobStore.accept_many = _accept_with_fault  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())

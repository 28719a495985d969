"""Limit on open files of the stack's processes."""

from __future__ import annotations

import subprocess
import sys

from tests.support.servers import REPOSITORY

_SCRIPT = """
import resource, sys
from infra.local.limits import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
warning = raise_file_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], warning)
"""


def _raised(soft: int, hard: int) -> tuple[int, str]:
    """Return the limit, and the warning, after a start with these limits."""
    command = [sys.executable, "-c", _SCRIPT, *map(str, (soft, hard))]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    limit, warning = done.stdout.split(maxsplit=1)
    return int(limit), warning.strip()


def test_the_limit_goes_as_high_as_it_may() -> None:
    """A shell's soft limit is raised; a low hard limit causes a warning."""
    assert _raised(256, 4096) == (4096, "None")
    limit, warning = _raised(128, 256)
    assert limit == 256
    assert "may open only 256 files" in warning

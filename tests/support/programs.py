"""Programs that tests run: beside this Python, or on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY


def tool(name: str, *, in_ci: bool = True) -> str:
    """Return the path of a program; skip without it, or fail in CI if it should be there."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None and in_ci and "CI" in os.environ:
        pytest.fail(f"{name} is not installed")
    return found or pytest.skip(f"{name} is not installed")


def run_tool(name: str, *arguments: str | Path, text: str | None = None) -> str:
    """Run a program in the repository; return what it prints, and fail if it fails."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)],
        cwd=REPOSITORY,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr

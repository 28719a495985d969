"""Programs that tests run: beside this Python, or on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY


def tool(name: str) -> str:
    """Return the path of a program; skip without it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which(name, path=path) or pytest.skip(f"{name} is not installed")


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

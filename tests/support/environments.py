"""Python environments that tests make with uv, which `./wastestream test` installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY


def run_uv(*arguments: str | Path, cwd: Path = REPOSITORY) -> None:
    """Run uv; without it the test is skipped, or fails in CI."""
    uv = shutil.which("uv") or shutil.which("uv", path=REPOSITORY / ".wastestream" / "uv" / "bin")
    if uv is None:
        if os.environ.get("CI"):
            pytest.fail("uv is not installed; run the tests by ./wastestream test")
        pytest.skip("uv is not installed; ./wastestream test installs it")
    subprocess.run([uv, "--quiet", "--no-config", *arguments], cwd=cwd, check=True, timeout=300)


def make_environment(folder: Path, *requirements: str | Path) -> Path:
    """Make a virtual environment with the packages named to `uv pip install`; return its Python."""
    run_uv("venv", "--no-project", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    run_uv("pip", "install", "--python", python, *requirements)
    return python


def clean_variables() -> dict[str, str]:
    """Return the variables without those that lead Python or wastestream back to this checkout."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WASTESTREAM_"))
    }

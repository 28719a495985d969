"""The lowest versions that pyproject.toml states: uploads work on them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.environments import clean_variables, make_environment
from tests.support.servers import REPOSITORY

_LOWEST = REPOSITORY / "requirements" / "lowest.txt"

_TESTS = [f"tests/integration/test_{name}.py" for name in ("api", "bulk", "connections")]
"""Uploads to the application in process, then to a whole stack: gunicorn, workers, the servers."""

_IMPORTS_ALL = """
import importlib, pkgutil, sys
sys.path.append("client")
for package in ("core", "api", "worker", "trainer", "infra", "wastestream"):
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name.partition(".")[0] not in {"tensorflow", "keras"}:
                    raise
"""
"""Imports every module, as far as that is possible without TensorFlow."""


def test_uploads_work_on_the_lowest_versions(tmp_path: Path) -> None:
    """Every version of a package that pyproject.toml permits serves uploads."""
    python = make_environment(tmp_path / "venv", "--require-hashes", "--requirement", _LOWEST)
    for command in (["-c", _IMPORTS_ALL], ["-m", "pytest", "-q", "-p", "no:cacheprovider", *_TESTS]):
        done = subprocess.run(
            [python, *command],
            cwd=REPOSITORY,
            env=clean_variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-5000:]

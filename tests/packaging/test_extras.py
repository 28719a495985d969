"""Each extra installed alone: it imports, and brings nothing that belongs to the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY

_EXTRAS = {
    "api": (
        ["core.redis.job_store", "core.storage", "core.messages", "api.app", "api.__main__"],
        ["ai_edge_litert", "tensorflow"],
    ),
    "worker": (["core.redis.job_store", "worker.app", "worker.__main__"], ["flask", "tensorflow"]),
    "evaluate": (["trainer.evaluate", "trainer.report"], ["celery", "flask", "tensorflow"]),
    # Not trainer.train: without its compiled files TensorFlow takes half a minute to import.
    "trainer": (["core.images", "trainer.config", "trainer.evaluate"], ["celery", "flask", "redis"]),
    "infra": (["infra.cli.main", "infra.cli.status", "infra.cli.down"], ["celery", "flask", "tensorflow"]),
}
"""Extra to the modules that import with it alone, and the packages that it must not bring."""

_SCRIPT = """\
import importlib, importlib.util, sys
imports, absent = (part.split() for part in sys.argv[1:3])
for name in imports:
    importlib.import_module(name)
print(*[name for name in absent if importlib.util.find_spec(name)])
"""


def _uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=REPOSITORY / ".wastestream" / "uv" / "bin")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("uv is not installed; run the tests by ./wastestream test")
        pytest.skip("uv is not installed; ./wastestream test installs it")
    return found


@pytest.mark.parametrize("extra", _EXTRAS)
def test_an_extra_alone(extra: str, tmp_path: Path) -> None:
    """A new environment from the extra's own file runs what is the extra's, and has no more."""
    imports, absent = _EXTRAS[extra]
    python = str(tmp_path / "venv" / "bin" / "python")
    uv = [_uv(), "--quiet", "--no-config"]
    subprocess.run(
        [*uv, "venv", "--no-project", "--python", sys.executable, str(tmp_path / "venv")], check=True
    )
    requirements = str(REPOSITORY / "requirements" / f"{extra}.txt")
    sync = [*uv, "pip", "sync", "--require-hashes", "--python", python, requirements]
    subprocess.run(sync, check=True, timeout=300)
    done = subprocess.run(
        [python, "-c", _SCRIPT, " ".join(imports), " ".join(absent)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []

"""Each dependency group installed alone: it imports, and brings nothing that belongs to the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.environments import make_environment
from tests.support.servers import REPOSITORY

_GROUPS = {
    "api": (
        ["core.redis.job_store", "core.bucket", "core.messages", "api.app", "api.__main__"],
        ["ai_edge_litert", "tensorflow"],
    ),
    "worker": (["core.redis.job_store", "worker.app", "worker.__main__"], ["flask", "tensorflow"]),
    "evaluate": (["trainer.evaluate", "trainer.report"], ["celery", "flask", "tensorflow"]),
    # Not trainer.train: without its compiled files TensorFlow takes half a minute to import.
    "trainer": (["core.images", "trainer.config", "trainer.evaluate"], ["celery", "flask", "redis"]),
    "gateway": (
        ["wastestream.gateway.cli", "wastestream.gateway.capture.__main__"],
        ["flask", "redis", "numpy"],
    ),
    "infra": (["infra.cli.main", "infra.cli.status", "infra.cli.down"], ["celery", "flask", "tensorflow"]),
}
"""Group to the modules that import with it alone, and the packages that it must not bring."""

_SCRIPT = """\
import importlib, importlib.util, sys
imports, absent = (part.split() for part in sys.argv[1:3])
for name in imports:
    importlib.import_module(name)
print(*[name for name in absent if importlib.util.find_spec(name)])
"""


@pytest.mark.parametrize("group", _GROUPS)
def test_a_group_alone(group: str, tmp_path: Path) -> None:
    """A new environment from the group's own file runs the group's modules, and has no other packages."""
    imports, absent = _GROUPS[group]
    requirements = REPOSITORY / "requirements" / f"{group}.txt"
    python = make_environment(tmp_path / "venv", "--require-hashes", "--requirement", requirements)
    done = subprocess.run(
        [python, "-c", _SCRIPT, " ".join(imports), " ".join(absent)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.fspath(REPOSITORY / "client")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []

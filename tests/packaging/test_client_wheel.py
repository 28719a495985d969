"""The client's wheel: used in a clean environment with httpx alone, and its tests on its oldest Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

from infra.lab.stack import Stack
from tests.support.environments import clean_variables, make_environment, run_uv
from tests.support.servers import REPOSITORY

_OLDEST = "3.10"
_PYENV = Path.home() / ".pyenv" / "versions"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built in a copy: setuptools would take what earlier builds left beside pyproject.toml."""
    folder = tmp_path_factory.mktemp("build") / "client"
    shutil.copytree(
        REPOSITORY / "client", folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    )
    run_uv("build", "--wheel", "--out-dir", folder / "dist", folder)
    (made,) = (folder / "dist").glob("*.whl")
    return made


def test_it_holds_the_package_and_no_more(wheel: Path) -> None:
    """With its types and licence; it needs httpx, and has the version of the server."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        fields = message_from_bytes(archive.read(metadata))
    assert {name for name in names if ".dist-info/" not in name} == {
        path.relative_to(REPOSITORY / "client").as_posix()
        for path in (REPOSITORY / "client" / "wastestream").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert fields["Name"] == "wastestream-client"
    assert (
        fields["Version"] == tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    )
    assert fields["License-Expression"] == "Apache-2.0"
    assert (REPOSITORY / "client" / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
    required = [text for text in fields.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert required == ["httpx>=0.28"]


def _oldest_python() -> Path:
    found = shutil.which(f"python{_OLDEST}")
    for python in [*_PYENV.glob(f"{_OLDEST}.*/bin/python"), *([Path(found)] if found else [])]:
        if subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip(f"this machine has no Python {_OLDEST}")


_CLASSIFIES = """
import json, sys, wastestream
url, image = sys.argv[1:]
with wastestream.Client(url) as client:
    print(json.dumps([client.classify(image).state, wastestream.__file__]))
    try:
        next(client.classify_many([image], progress=True))
    except ModuleNotFoundError as error:
        print(error)
"""


def test_it_classifies_with_httpx_alone(stack: Stack, wheel: Path, tmp_path: Path) -> None:
    """In a new environment, far from the checkout; what needs another package names it."""
    python = make_environment(
        tmp_path / "venv", "--constraint", REPOSITORY / "requirements" / "test.txt", wheel
    )
    done = subprocess.run(
        [python, "-c", _CLASSIFIES, stack.url, REPOSITORY / "docs" / "examples" / "apple.jpg"],
        cwd=tmp_path,
        env=clean_variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    classified, missing = done.stdout.splitlines()
    state, file = json.loads(classified)
    assert (state, Path(file).is_relative_to(tmp_path)) == ("classified", True)
    assert missing == "progress=True needs the package rich: pip install rich."


def test_the_gateway_runs_with_its_extra_alone(wheel: Path, tmp_path: Path) -> None:
    """Without the extra, `wastestream-camera` says which one is missing."""
    pinned = ("--constraint", REPOSITORY / "requirements" / "test.txt")
    python = make_environment(tmp_path / "venv", *pinned, wheel)
    program = os.fspath(python.with_name("wastestream-camera"))
    command = [program, "--id", "belt-1", "--source", "none.mkv", "--server", "x"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=clean_variables(), capture_output=True, text=True, check=False
        )

    missing = run()
    assert missing.returncode == 1
    assert "pip install 'wastestream-client[gateway]'" in missing.stderr
    run_uv("pip", "install", "--python", python, *pinned, f"wastestream-client[gateway] @ {wheel.as_uri()}")
    wrong = run()
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "Error: server is no address; write http://HOST:PORT or https://HOST.\n",
    )


def test_its_tests_pass_on_its_oldest_python(wheel: Path, tmp_path: Path) -> None:
    """The lowest version of httpx too. They need nothing of the server's, which wants a newer Python."""
    run_uv("venv", "--no-project", "--python", _oldest_python(), tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run_uv("pip", "install", "--python", python, "--resolution", "lowest-direct", wheel, "pytest>=9")
    for name in ("tests/unit/client", "tests/support"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={**clean_variables(), "PYTHONPATH": os.fspath(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:]

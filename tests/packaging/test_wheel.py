"""The server's wheel, built by way of the source distribution as a release is: files, metadata, main job."""

from __future__ import annotations

import json
import shutil
import subprocess
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

from infra.local.ports import free_ports
from tests.support.environments import clean_variables, make_environment, run_uv
from tests.support.servers import REPOSITORY

_PACKAGES = ("core", "api", "worker", "trainer", "infra", "client/wastestream")
_NOT_SHIPPED = (
    "infra/docker/",
    "infra/grafana/",
    "infra/helm/",
    "infra/prometheus/",
    "infra/systemd/",
)
"""Folders with files for installing from a checkout."""

_BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made of the source distribution, which therefore holds every file that the wheel needs.

    Built in a copy: setuptools would take what earlier builds left beside pyproject.toml.
    """
    folder = tmp_path_factory.mktemp("build")
    for name in _PACKAGES:
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in _BUILT_FROM:
        shutil.copy(REPOSITORY / name, folder)
    run_uv("build", "--out-dir", folder / "dist", folder)  # both; the wheel from the source distribution
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of a new environment with the wheel and its dependencies only."""
    constraints = REPOSITORY / "requirements" / "test.txt"
    python = make_environment(tmp_path_factory.mktemp("plain") / "venv", "--constraint", constraints, wheel)
    return python.with_name("wastestream")


def _run(program: Path, cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=clean_variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Templates, scripts for Redis, the page, the model for CPUs and GPUs; and nothing that is not ours."""
    names = set(ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(REPOSITORY)).removeprefix("client/")
        for package in _PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "egg-info" not in str(path)
    }
    assert {name for name in names if ".dist-info/" not in name} == {
        name for name in ours if not name.startswith(_NOT_SHIPPED)
    }
    assert {f"{package}/py.typed".removeprefix("client/") for package in _PACKAGES} <= names


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Metadata that package indexes show."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_the_metadata_says_what_it_is(wheel: Path, metadata: Message) -> None:
    """Licence, its texts, authors, keywords and the README."""
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert metadata["Author"] == "wastestream contributors"
    assert {"celery", "flask", "waste-sorting"} <= set(metadata["Keywords"].split(","))
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata["Description-Content-Type"] == "text/markdown"
    texts = {Path(name).name for name in ZipFile(wheel).namelist() if "/licenses/" in name}
    assert texts == {"LICENSE", "NOTICE"}


@pytest.fixture
def empty_folder(tmp_path: Path) -> tuple[Path, int]:
    """An empty folder, with the first of three free ports."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder, free_ports(3)


def test_it_classifies_an_image_in_an_empty_folder(
    program: Path, empty_folder: tuple[Path, int], tmp_path: Path
) -> None:
    """`up`, `classify`, `status` and `down`; data lie in the current folder, and none among the packages."""
    folder, port = empty_folder
    image = shutil.copy(REPOSITORY / "docs" / "examples" / "apple.jpg", tmp_path)
    before = _site_packages(program)
    up = _run(program, folder, "up", "--detach", "--port", str(port), "--workers", "1")
    try:
        assert up.returncode == 0, up.stderr
        assert f"Try:   wastestream classify PATH --url http://127.0.0.1:{port}" in up.stdout
        classified = _run(program, folder, "classify", "--json", "--url", f"http://127.0.0.1:{port}", image)
        assert classified.returncode == 0, classified.stderr
        assert json.loads(classified.stdout)["label"] == "biodegradable"
        status = _run(program, folder, "status", "--json")
        assert (status.returncode, json.loads(status.stdout)["ready"]) == (0, True)
    finally:
        down = _run(program, folder, "down")
    assert (down.returncode, down.stdout.splitlines()[-1]) == (0, "Stopped.")
    assert [path.name for path in folder.iterdir()] == ["wastestream-data"]
    assert _site_packages(program) == before


def _site_packages(program: Path) -> set[str]:
    (packages,) = program.parents[1].glob("lib/python3*/site-packages")
    return {path.name for path in packages.iterdir() if path.name != "__pycache__"}


def test_commands_say_which_extra_they_need(program: Path, tmp_path: Path) -> None:
    """Commands without their packages end in a sentence, and commands of a checkout are not offered."""
    train = _run(program, tmp_path, "train", "--data", "x", "--weights", "imagenet", "--out", "y")
    assert (train.returncode, "pip install 'WHEEL[trainer]'" in train.stderr) == (1, True)
    bench = _run(program, tmp_path, "bench", "--short")
    assert (bench.returncode, "pip install 'WHEEL[bench]'" in bench.stderr) == (1, True)
    test = _run(program, tmp_path, "test")
    assert (test.returncode, "No such command 'test'" in test.stderr) == (2, True)
    listed = _run(program, tmp_path, "--help").stdout
    assert "\n  test " not in listed
    assert "[wastestream-data, in the current folder]" in " ".join(
        _run(program, tmp_path, "up", "--help").stdout.split()
    )
    assert list(tmp_path.iterdir()) == []


_RENDERS = """
from pathlib import Path
from core.model.manifest import load_manifest
from trainer.card import render_card
from trainer.config import load_config
import worker
folder = Path(worker.__file__).parent / "model"
load_config(None)
assert render_card(load_manifest(folder, check="saved_model")) == (folder / "MODEL_CARD.md").read_text()
print(folder)
"""


def test_a_training_could_end_and_a_gpu_worker_begin(program: Path, tmp_path: Path) -> None:
    """The card's template and the SavedModel are there; the template gives the shipped model's card."""
    done = subprocess.run(
        [program.with_name("python"), "-c", _RENDERS],
        cwd=tmp_path,
        env=clean_variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not Path(done.stdout.strip()).is_relative_to(REPOSITORY)
